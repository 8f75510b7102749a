#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/settings.h"
#include "common/ticket.h"
#include "custodian/application_access.h"
#include "custodian/credential_read.h"
#include "custodian/custodian.h"
#include "custodian/operations.h"
#include "custodian/ticket_keys.h"

/* A redeemed ticket is remembered for so long past its end: clocks of nodes differ, and are set. */
#define REMEMBERED_MS (7 * 86400000LL)

struct ticket_settings {
    bool allowed, validate;
    uint64_t lifetime_ms;
};

static const char *value_of(const struct setting *settings, size_t count, const char *name,
                            const struct policy *policy)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(settings[i].name, name) == 0)
            return policy_check_setting(policy, &settings[i], NULL) == SSO_OK ? settings[i].value
                                                                              : NULL;
    }
    return NULL;
}

/* Read from the database each time: switched off means off, on every node. */
static enum sso_code settings_read(struct custodian *custodian, struct store_tx *tx,
                                   struct ticket_settings *out, struct sso_error *err)
{
    struct setting *settings = NULL;
    size_t count = 0;
    enum sso_code rc = store_setting_list(tx, &settings, &count, err);
    if (rc != SSO_OK)
        return rc;
    const struct policy *policy = &custodian->policy;
    const char *allowed = value_of(settings, count, SETTING_TICKETS_ALLOWED, policy);
    const char *validate = value_of(settings, count, SETTING_TICKETS_VALIDATE, policy);
    const char *lifetime = value_of(settings, count, SETTING_TICKETS_LIFETIME, policy);
    if (allowed == NULL || validate == NULL || lifetime == NULL ||
        !parse_duration_ms(lifetime, &out->lifetime_ms))
        rc = sso_fail(err, SSO_POLICY_TAMPERED,
                      "a setting of tickets is missing from the database or was changed in it");
    else if (strcmp(allowed, "yes") != 0)
        rc = sso_fail(err, SSO_TICKETS_DISABLED, "tickets are not allowed (setting %s)",
                      SETTING_TICKETS_ALLOWED);
    out->validate = validate == NULL || strcmp(validate, "no") != 0;
    free(settings);
    return policy_alarm(custodian, rc, err);
}

/* --- issuing --- */

/* Tickets are for those who use an application at all. */
static enum sso_code authorise_user(struct request *request, struct store_tx *tx,
                                    struct sso_error *err)
{
    struct application *applications = NULL;
    size_t count = 0;
    enum sso_code rc = store_application_list(tx, &applications, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count && !request->authorised; i++) {
        if (policy_check_application(&request->custodian->policy, &applications[i], NULL) == SSO_OK)
            (void)!request_authorise(request, &applications[i], true, NULL);
    }
    free(applications);
    if (rc == SSO_OK && !request->authorised)
        rc = request_authorise(request, NULL, false, err);
    return rc;
}

static enum sso_code issue(struct request *request, const struct ticket_settings *settings,
                           struct sso_error *err)
{
    struct custodian *custodian = request->custodian;
    struct ticket_claims claims = {
        .uid = request->peer.uid, .issued_ms = wall_clock_ms(), .validated = settings->validate};
    uint8_t key_id[SEALED_KEY_ID_BYTES];
    char text[TICKET_TEXT_SIZE];
    SECRET_AUTO key = {0};
    claims.expires_ms = claims.issued_ms + (int64_t)settings->lifetime_ms;
    memcpy(claims.name, request->peer.name, sizeof claims.name);
    memcpy(claims.principal, request->peer.principal, sizeof claims.principal);
    enum sso_code rc = random_bytes(claims.id, sizeof claims.id, err);
    if (rc == SSO_OK)
        rc = ticket_keys_current(custodian->tickets, request->deadline_ms, key_id, &key, err);
    if (rc == SSO_OK)
        rc = ticket_seal(custodian->system.id, key_id, key.data, &claims, text, err);
    if (rc != SSO_OK)
        return rc;
    request->reply =
        json_pack("{s:s,s:o}", "ticket", text, "expires", json_time(claims.expires_ms));
    explicit_bzero(text, sizeof text);
    return request->reply != NULL ? SSO_OK
                                  : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}

enum sso_code op_ticket_issue(struct request *request, struct sso_error *err)
{
    struct ticket_settings settings = {0};
    STORE_TX_AUTO tx = NULL;
    if (json_object_size(request->body) != 0)
        return sso_fail(err, SSO_BAD_REQUEST, "a ticket is for the caller: the body is empty");
    enum sso_code rc = store_begin(request->custodian->store, STORE_READ, &tx, err);
    if (rc != SSO_OK || (rc = authorise_user(request, tx, err)) != SSO_OK ||
        (rc = system_enabled_read(tx, &request->custodian->policy, err)) != SSO_OK ||
        (rc = settings_read(request->custodian, tx, &settings, err)) != SSO_OK)
        return rc;
    store_rollback(&tx);
    return issue(request, &settings, err);
}

/* --- redeeming --- */

struct redemption {
    const char *app, *ticket, *sender; /* sender: NULL where none is named */
    struct application application;
    struct ticket_settings settings;
    struct ticket_claims claims;
    struct identity identity;
    struct peer user; /* the ticket's, as the user database knows him now */
};

static enum sso_code redemption_read(const struct request *request, struct redemption *out,
                                     struct sso_error *err)
{
    static const char *const allowed[] = {"app", "ticket", "sender", NULL};
    if (request->body == NULL)
        return sso_fail(err, SSO_BAD_REQUEST, "the request needs a JSON object as its body");
    enum sso_code rc;
    if ((rc = json_only_members(request->body, allowed, err)) != SSO_OK ||
        (rc = json_get_text(request->body, "app", APPLICATION_NAME_BYTES_MAX, &out->app, err)) !=
            SSO_OK ||
        (rc = json_get_text(request->body, "ticket", TICKET_TEXT_SIZE - 1, &out->ticket, err)) !=
            SSO_OK)
        return rc;
    const json_t *sender = json_object_get(request->body, "sender");
    if (sender == NULL || json_is_null(sender))
        return SSO_OK;
    return json_get_text(request->body, "sender", PRINCIPAL_BYTES_MAX, &out->sender, err);
}

static enum sso_code tickets_allowed(struct request *request, struct redemption *redemption,
                                     struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(request->custodian->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = settings_read(request->custodian, tx, &redemption->settings, err);
    if (rc == SSO_OK && !redemption->application.tickets_allowed)
        rc = sso_fail(err, SSO_TICKETS_DISABLED,
                      "tickets are not allowed for application %s (app update --allow-tickets)",
                      redemption->application.name);
    return rc;
}

/* An application's own lifetime counts from when the ticket was issued, in place of the system's.
 * Where it has become longer since, the ticket keeps its end: it may be redeemed and forgotten. */
static int64_t end_of(const struct ticket_claims *claims, const struct application *application)
{
    int64_t own_ms = claims->issued_ms + application->ticket_lifetime_ms;
    if (application->ticket_lifetime_ms == 0 ||
        (own_ms > claims->expires_ms && claims->issued_ms < application->ticket_lifetime_since_ms))
        return claims->expires_ms;
    return own_ms;
}

static enum sso_code open_ticket(struct request *request, struct redemption *redemption,
                                 struct sso_error *err)
{
    struct custodian *custodian = request->custodian;
    uint8_t key_id[SEALED_KEY_ID_BYTES];
    SECRET_AUTO key = {0};
    enum sso_code rc = ticket_key_id(custodian->system.id, redemption->ticket, key_id, err);
    if (rc == SSO_OK)
        rc = ticket_keys_find(custodian->tickets, request->deadline_ms, key_id, &key, err);
    if (rc == SSO_OK)
        rc = ticket_open(custodian->system.id, key.data, redemption->ticket, &redemption->claims,
                         err);
    if (rc != SSO_OK)
        return rc;
    request_target(request, redemption->application.name, redemption->claims.principal);
    if (wall_clock_ms() >= end_of(&redemption->claims, &redemption->application))
        return sso_fail(err, SSO_TICKET_EXPIRED, "the ticket has expired");
    return SSO_OK;
}

/* Who sent the message that the ticket came with must be who the ticket is for. */
static enum sso_code check_sender(const struct redemption *redemption, struct sso_error *err)
{
    bool wanted = redemption->settings.validate || redemption->application.tickets_validated ||
                  redemption->claims.validated;
    if (redemption->sender == NULL && wanted)
        return sso_fail(err, SSO_TICKET_WRONG_SENDER,
                        "the sender must be named to redeem this ticket");
    if (redemption->sender != NULL && strcmp(redemption->sender, redemption->claims.principal) != 0)
        return sso_fail(err, SSO_TICKET_WRONG_SENDER, "the ticket is not the sender's");
    return SSO_OK;
}

/* The user database is asked anew: who lost a group or his account since has no use of a ticket. */
static enum sso_code check_user(struct request *request, struct redemption *redemption,
                                struct sso_error *err)
{
    struct peer_directory *peers = request->custodian->peers;
    const struct ticket_claims *claims = &redemption->claims;
    /* Of a certificate the ticket has the first name, and that alone can give rights here. */
    if (claims->uid == NO_UID)
        identity_of_name(claims->name, &redemption->identity);
    else
        redemption->identity.uid = claims->uid;
    peer_resolve(peers, &redemption->identity, &redemption->user);
    if (strcmp(redemption->user.name, claims->name) != 0 ||
        strcmp(redemption->user.principal, claims->principal) != 0 ||
        !(peer_application_roles(peers, &redemption->user, &redemption->application) &
          ROLE_APP_USER))
        return sso_fail(err, SSO_TICKET_USER_NOT_ALLOWED,
                        "the ticket's user is no user of application %s",
                        redemption->application.name);
    return SSO_OK;
}

static enum sso_code write_redeemed(struct store_tx *tx, void *context, struct sso_error *err)
{
    const struct ticket_claims *claims = context;
    enum sso_code rc = store_ticket_redeem(tx, claims, wall_clock_ms() - REMEMBERED_MS, err);
    return rc == SSO_ALREADY_EXISTS
               ? sso_fail(err, SSO_TICKET_REPLAYED, "the ticket was redeemed before")
               : rc;
}

/* The credential leaves only when it is durable that the ticket is spent, and the record of it. */
static enum sso_code give(struct request *request, struct redemption *redemption,
                          struct sso_error *err)
{
    struct credential_query query = {.application = redemption->application.name,
                                     .on_behalf = &redemption->user};
    enum sso_code rc = credential_read(request, &query, 1, err);
    if (rc == SSO_OK && query.problem.code != SSO_OK)
        rc = sso_fail(err, query.problem.code, "%s", query.problem.detail);
    if (rc != SSO_OK)
        return rc;
    memcpy(request->audit.row_id, query.row_id, sizeof request->audit.row_id);
    request->audit.row_version = query.row_version;
    request->audited = true;
    rc = committer_run(request->custodian->committer, write_redeemed, &redemption->claims,
                       &request->audit, 1, err);
    if (rc == SSO_OK)
        request->reply = query.object;
    else
        json_decref(query.object);
    return rc;
}

enum sso_code op_ticket_redeem(struct request *request, struct sso_error *err)
{
    struct redemption redemption = {0};
    enum sso_code rc = redemption_read(request, &redemption, err);
    if (rc != SSO_OK)
        return rc;
    request_target(request, redemption.app, NULL);
    if ((rc = application_for_request(request, redemption.app, false, &redemption.application,
                                      err)) != SSO_OK ||
        (rc = tickets_allowed(request, &redemption, err)) != SSO_OK ||
        (rc = open_ticket(request, &redemption, err)) != SSO_OK ||
        (rc = check_sender(&redemption, err)) != SSO_OK ||
        (rc = check_user(request, &redemption, err)) != SSO_OK)
        return rc;
    return give(request, &redemption, err);
}
