#include "custodian/application_access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "custodian/application_json.h"
#include "custodian/custodian.h"
#include "custodian/events.h"

#define PAGE_DEFAULT 100
#define PAGE_MAX 1000

enum sso_code policy_alarm(struct custodian *custodian, enum sso_code code,
                           const struct sso_error *err)
{
    if (code == SSO_POLICY_TAMPERED)
        event_raise(custodian->events, EVENT_POLICY_TAMPERED, "%s", err != NULL ? err->detail : "");
    return code;
}

enum sso_code application_authorise(struct request *request, enum sso_code found,
                                    const struct application *application, bool own,
                                    struct sso_error *err)
{
    if (found == SSO_NOT_FOUND) {
        struct sso_error refusal = {0};
        enum sso_code rc = request_authorise(request, NULL, own, &refusal);
        return rc == SSO_OK ? SSO_NOT_FOUND : sso_fail(err, rc, "%s", refusal.detail);
    }
    if (found != SSO_OK)
        return found;
    struct sso_error tampered = {0};
    enum sso_code rc =
        policy_check_application(&request->custodian->policy, application, &tampered);
    if (rc != SSO_OK) {
        policy_alarm(request->custodian, rc, &tampered);
        return sso_fail(err, rc, "%s", tampered.detail);
    }
    return request_authorise(request, application, own, err);
}

enum sso_code application_for_request(struct request *request, const char *name, bool own,
                                      struct application *out, struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(request->custodian->store, STORE_READ, &tx, err);
    if (rc != SSO_OK)
        return rc;
    rc = store_application_get(tx, name, out, err);
    /* A user's name may also be that of a group, whose credential is nobody's own. */
    own = own && !(rc == SSO_OK && out->type == APPLICATION_GROUP);
    return application_authorise(request, rc, out, own, err);
}

bool application_is_administered(struct request *request, const struct application *application)
{
    unsigned roles = request->peer.roles | request_roles(request, application);
    return (roles & (ROLE_SSO_ADMIN | ROLE_AFFILIATE_ADMIN | ROLE_APP_ADMIN)) != 0;
}

enum sso_code application_takes_credentials(const struct application *application,
                                            struct sso_error *err)
{
    if (application->type != APPLICATION_CONFIG)
        return SSO_OK;
    return sso_fail(err, SSO_BAD_REQUEST,
                    "application %s holds configuration, not credentials: see /config",
                    application->name);
}

enum sso_code application_for_list(struct request *request, struct application *out,
                                   struct list_query *query, struct sso_error *err)
{
    enum sso_code rc = application_for_request(request, request->segment[2], false, out, err);
    *query = (struct list_query){0};
    if (rc != SSO_OK || (rc = application_takes_credentials(out, err)) != SSO_OK ||
        (rc = request_query_number(request, "limit", PAGE_DEFAULT, PAGE_MAX, &query->limit, err)) !=
            SSO_OK)
        return rc;
    if (query->limit == 0)
        return sso_fail(err, SSO_BAD_REQUEST, "limit must be 1 to %d", PAGE_MAX);
    request_query(request, "after", query->after, sizeof query->after);
    return SSO_OK;
}

enum sso_code application_takes_configuration(const struct application *application,
                                              struct sso_error *err)
{
    if (application->type == APPLICATION_CONFIG)
        return SSO_OK;
    return sso_fail(err, SSO_BAD_REQUEST,
                    "application %s holds credentials, not configuration: it is of type %s",
                    application->name, application_type_name(application->type));
}

enum sso_code application_takes_principal(const struct application *application,
                                          const char *principal, struct sso_error *err)
{
    enum sso_code rc = application_takes_credentials(application, err);
    if (rc != SSO_OK || application->type != APPLICATION_GROUP)
        return rc;
    for (size_t i = 0; i < application->user_group_count; i++) {
        if (strcmp(application->users[i], principal) == 0)
            return SSO_OK;
    }
    return sso_fail(err, SSO_BAD_REQUEST,
                    "application %s is of type group: the principal must be one of its user groups",
                    application->name);
}

bool principal_is_own(const struct request *request, const char *principal)
{
    return principal[0] != '\0' && strcmp(principal, request->peer.principal) == 0;
}

void request_target(struct request *request, const char *application, const char *principal)
{
    char *target = request->audit.target;
    size_t size = sizeof request->audit.target;
    bool named = application_name_is_valid(application);
    if (!named)
        target[0] = '\0';
    else if (principal == NULL || !principal_is_valid(principal))
        snprintf(target, size, "%s", application);
    else
        snprintf(target, size, "%s/%s", application, principal);
}

enum sso_code system_enabled_check(const struct policy *policy, const struct setting *setting,
                                   struct sso_error *err)
{
    enum sso_code rc = policy_check_setting(policy, setting, err);
    if (rc != SSO_OK)
        return rc;
    if (strcmp(setting->value, "yes") != 0)
        return sso_fail(err, SSO_SYSTEM_DISABLED,
                        "the system is disabled (setting %s): an SSO administrator can enable it",
                        SETTING_SYSTEM_ENABLED);
    return SSO_OK;
}

enum sso_code system_enabled_read(struct store_tx *tx, const struct policy *policy,
                                  struct sso_error *err)
{
    struct setting *settings = NULL;
    size_t count = 0;
    enum sso_code rc = store_setting_list(tx, &settings, &count, err);
    if (rc != SSO_OK)
        return rc;
    rc = sso_fail(err, SSO_POLICY_TAMPERED, "the setting %s is missing from the database",
                  SETTING_SYSTEM_ENABLED);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(settings[i].name, SETTING_SYSTEM_ENABLED) == 0)
            rc = system_enabled_check(policy, &settings[i], err);
    }
    free(settings);
    return rc;
}

enum sso_code ticket_members_allowed(const struct request *request, const json_t *body,
                                     struct sso_error *err)
{
    static const struct {
        const char *name;
        unsigned roles;
        const char *whose;
    } members[] = {
        {"allow_tickets", ROLE_SSO_ADMIN | ROLE_AFFILIATE_ADMIN, "SSO and affiliate"},
        {"validate_tickets", ROLE_SSO_ADMIN | ROLE_AFFILIATE_ADMIN, "SSO and affiliate"},
        {"ticket_lifetime_minutes", ROLE_SSO_ADMIN, "SSO"},
    };
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        if (json_object_get(body, members[i].name) != NULL &&
            !(request->peer.roles & members[i].roles))
            return sso_fail(err, SSO_FORBIDDEN, "%s is for %s administrators", members[i].name,
                            members[i].whose);
    }
    return SSO_OK;
}
