#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "custodian/application_access.h"
#include "custodian/application_json.h"
#include "custodian/custodian.h"
#include "custodian/events.h"
#include "custodian/operations.h"

static enum sso_code reply_with(struct request *request, json_t *reply, struct sso_error *err)
{
    if (reply == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
    request->reply = reply;
    return SSO_OK;
}

static enum sso_code body_needed(const struct request *request, struct sso_error *err)
{
    if (request->body == NULL)
        return sso_fail(err, SSO_BAD_REQUEST, "the request needs a JSON object as its body");
    return SSO_OK;
}

static bool visible(struct request *request, const struct application *application)
{
    if (request->peer.roles & (ROLE_SSO_ADMIN | ROLE_AFFILIATE_ADMIN))
        return true;
    return (request_roles(request, application) &
            (ROLE_APP_ADMIN | ROLE_APP_USER | ROLE_APP_USER_OWN | ROLE_READER)) != 0;
}

/* An application with a wrong tag is left out of the list: it gives nobody a right, and one row
 * must not hide all others. The event says so. */
static enum sso_code list_visible(struct request *request, const struct application *applications,
                                  size_t count, json_t *list)
{
    for (size_t i = 0; i < count; i++) {
        struct sso_error problem = {0};
        enum sso_code rc =
            policy_check_application(&request->custodian->policy, &applications[i], &problem);
        if (policy_alarm(request->custodian, rc, &problem) != SSO_OK ||
            !visible(request, &applications[i]) ||
            request_authorise(request, &applications[i], true, NULL) != SSO_OK)
            continue;
        if (json_array_append_new(list, application_json(&applications[i])) != 0)
            return SSO_NO_MEMORY;
    }
    return SSO_OK;
}

enum sso_code op_app_list(struct request *request, struct sso_error *err)
{
    struct application *applications = NULL;
    size_t count = 0;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(request->custodian->store, STORE_READ, &tx, err);
    if (rc != SSO_OK || (rc = store_application_list(tx, &applications, &count, err)) != SSO_OK)
        return rc;
    json_t *list = json_array();
    rc = list == NULL ? SSO_NO_MEMORY : list_visible(request, applications, count, list);
    free(applications);
    if (rc == SSO_OK && json_array_size(list) == 0)
        rc = request_authorise(request, NULL, false, err);
    if (rc != SSO_OK) {
        json_decref(list);
        return rc == SSO_NO_MEMORY ? sso_fail(err, rc, "no memory for the reply") : rc;
    }
    return reply_with(request, json_pack("{s:o}", "apps", list), err);
}

static enum sso_code write_new(struct store_tx *tx, void *context, struct sso_error *err)
{
    return store_application_insert(tx, context, err);
}

static enum sso_code write_change(struct store_tx *tx, void *context, struct sso_error *err)
{
    return store_application_update(tx, context, err);
}

/* The write and the request's record, in one transaction. */
static enum sso_code write_audited(struct request *request, committer_write write, void *context,
                                   struct sso_error *err)
{
    request->audited = true;
    return committer_run(request->custodian->committer, write, context, &request->audit, 1, err);
}

enum sso_code op_app_create(struct request *request, struct sso_error *err)
{
    struct application application;
    enum sso_code rc;
    if ((rc = request_authorise(request, NULL, false, err)) != SSO_OK ||
        (rc = body_needed(request, err)) != SSO_OK ||
        (rc = ticket_members_allowed(request, request->body, err)) != SSO_OK ||
        (rc = application_from_json(request->body, &application, err)) != SSO_OK ||
        (rc = random_bytes(application.id, sizeof application.id, err)) != SSO_OK)
        return rc;
    request_target(request, application.name, NULL);
    application.created_ms = application.updated_ms = wall_clock_ms();
    application.version = 1;
    policy_tag_application(&request->custodian->policy, &application);
    rc = write_audited(request, write_new, &application, err);
    if (rc != SSO_OK)
        return rc;
    request->status = 201;
    request->etag = application.version;
    return reply_with(request, application_json(&application), err);
}

enum sso_code op_app_show(struct request *request, struct sso_error *err)
{
    struct application application;
    enum sso_code rc =
        application_for_request(request, request->segment[2], true, &application, err);
    if (rc != SSO_OK)
        return rc;
    request->etag = application.version;
    return reply_with(request, application_json(&application), err);
}

static const char *change_name(const json_t *body)
{
    const json_t *enabled = json_object_get(body, "enabled");
    if (enabled == NULL || json_object_size(body) != 1)
        return "app.update";
    return json_is_true(enabled) ? "app.enable" : "app.disable";
}

enum sso_code op_app_update(struct request *request, struct sso_error *err)
{
    struct application application;
    request_target(request, request->segment[2], NULL);
    enum sso_code rc =
        application_for_request(request, request->segment[2], false, &application, err);
    if (rc != SSO_OK || (rc = body_needed(request, err)) != SSO_OK ||
        (rc = ticket_members_allowed(request, request->body, err)) != SSO_OK ||
        (rc = application_change_from_json(request->body, &application, err)) != SSO_OK)
        return rc;
    if (request->if_match != 0 && request->if_match != application.version)
        return sso_fail(err, SSO_VERSION_CONFLICT, "application %s is at version %llu, not %llu",
                        application.name, (unsigned long long)application.version,
                        (unsigned long long)request->if_match);
    const char *name = change_name(request->body);
    memcpy(request->audit.operation, name, strlen(name) + 1);
    application.updated_ms = wall_clock_ms();
    application.version++;
    policy_tag_application(&request->custodian->policy, &application);
    rc = write_audited(request, write_change, &application, err);
    if (rc != SSO_OK)
        return rc;
    if (!application.cached)
        row_key_cache_remove_application(request->custodian->cache, application.id);
    request->etag = application.version;
    return reply_with(request, application_json(&application), err);
}

struct removal {
    uint8_t application_id[APPLICATION_ID_BYTES];
    bool keep_application;
    uint64_t credentials;
};

static enum sso_code write_removal(struct store_tx *tx, void *context, struct sso_error *err)
{
    struct removal *removal = context;
    return store_application_delete(tx, removal->application_id, removal->keep_application,
                                    &removal->credentials, err);
}

static enum sso_code remove_all(struct request *request, struct removal *removal,
                                struct sso_error *err)
{
    struct application application;
    request_target(request, request->segment[2], NULL);
    enum sso_code rc =
        application_for_request(request, request->segment[2], false, &application, err);
    if (rc != SSO_OK)
        return rc;
    memcpy(removal->application_id, application.id, sizeof removal->application_id);
    rc = write_audited(request, write_removal, removal, err);
    if (rc == SSO_OK)
        row_key_cache_remove_application(request->custodian->cache, application.id);
    return rc;
}

enum sso_code op_app_delete(struct request *request, struct sso_error *err)
{
    struct removal removal = {.keep_application = false};
    enum sso_code rc = remove_all(request, &removal, err);
    if (rc != SSO_OK)
        return rc;
    return reply_with(
        request,
        json_pack("{s:b,s:I}", "deleted", true, "credentials", (json_int_t)removal.credentials),
        err);
}

enum sso_code op_app_purge(struct request *request, struct sso_error *err)
{
    struct removal removal = {.keep_application = true};
    enum sso_code rc = remove_all(request, &removal, err);
    if (rc != SSO_OK)
        return rc;
    return reply_with(request, json_pack("{s:I}", "credentials", (json_int_t)removal.credentials),
                      err);
}
