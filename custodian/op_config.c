#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "custodian/application_access.h"
#include "custodian/credential_read.h"
#include "custodian/credential_write.h"
#include "custodian/custodian.h"
#include "custodian/operations.h"

/* The configuration store: one row for each configuration application, of the same table, format
 * and row keys as credentials, so that rotation moves it and every check sees it. */

static enum sso_code application_of_path(struct request *request, struct application *application,
                                         struct sso_error *err)
{
    request_target(request, request->segment[2], NULL);
    enum sso_code rc =
        application_for_request(request, request->segment[2], false, application, err);
    return rc == SSO_OK ? application_takes_configuration(application, err) : rc;
}

/* The configuration in the clear, as a credential's object; owned by the caller. */
static enum sso_code config_read(struct request *request, const struct application *application,
                                 bool refresh, json_t **object, struct sso_error *err)
{
    struct credential_query query = {.application = application->name,
                                     .principal = CONFIG_PRINCIPAL,
                                     .configuration = true,
                                     .refresh = refresh};
    enum sso_code rc = credential_read(request, &query, 1, err);
    if (rc != SSO_OK)
        return rc;
    memcpy(request->audit.row_id, query.row_id, sizeof request->audit.row_id);
    request->audit.row_version = query.row_version;
    if (query.problem.code == SSO_NOT_FOUND)
        return sso_fail(err, SSO_NOT_FOUND, "application %s has no configuration yet",
                        application->name);
    if (query.problem.code != SSO_OK)
        return sso_fail(err, query.problem.code, "%s", query.problem.detail);
    *object = query.object;
    return SSO_OK;
}

/* --- reading --- */

/* Those who run the system are not those who use what it keeps (DESIGN 10). */
static bool sees_masked(struct request *request, const struct application *application)
{
    return (request_roles(request, application) & (ROLE_APP_ADMIN | ROLE_APP_USER | ROLE_READER)) !=
           0;
}

static json_t *reply_json(const struct application *application, const json_t *object, bool masked)
{
    json_t *properties = json_object(), *left_out = json_array();
    const json_t *fields = json_object_get(object, "fields");
    for (size_t i = 0; i < application->field_count; i++) {
        const char *label = application->field[i].label;
        json_t *value = json_object_get(fields, label);
        if (value == NULL)
            continue;
        if (application->field[i].masked && !masked)
            json_array_append_new(left_out, json_string(label));
        else
            json_object_set(properties, label, value);
    }
    return json_pack(
        "{s:s,s:o,s:o,s:O,s:O,s:O}", "app", application->name, "properties", properties, "left_out",
        left_out, "version", json_object_get(object, "version"), "generation",
        json_object_get(object, "generation"), "updated", json_object_get(object, "updated"));
}

enum sso_code op_config_get(struct request *request, struct sso_error *err)
{
    struct application application;
    json_t *object = NULL;
    char refresh[8] = "";
    request_query(request, "refresh", refresh, sizeof refresh);
    enum sso_code rc = application_of_path(request, &application, err);
    if (rc == SSO_OK)
        rc = config_read(request, &application, strcmp(refresh, "true") == 0, &object, err);
    if (rc != SSO_OK)
        return rc;
    request->reply = reply_json(&application, object, sees_masked(request, &application));
    request->etag = (uint64_t)json_integer_value(json_object_get(object, "version"));
    json_decref(object);
    return request->reply != NULL ? SSO_OK
                                  : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}

/* --- writing --- */

static enum sso_code properties_of_body(const struct request *request,
                                        const struct application *application, bool all,
                                        const json_t **out, struct sso_error *err)
{
    static const char *const allowed[] = {"properties", NULL};
    if (request->body == NULL)
        return sso_fail(err, SSO_BAD_REQUEST, "the request needs a JSON object as its body");
    enum sso_code rc = json_only_members(request->body, allowed, err);
    if (rc != SSO_OK)
        return rc;
    *out = json_object_get(request->body, "properties");
    if (!all && json_object_size(*out) == 0)
        return sso_fail(err, SSO_BAD_REQUEST, "properties must name at least one property");
    return credential_fields_check(*out, application, all, "properties", err);
}

static enum sso_code config_write(struct request *request, const struct application *application,
                                  const json_t *properties, uint64_t if_match,
                                  struct credential_item *item, struct sso_error *err)
{
    *item = (struct credential_item){.principal = CONFIG_PRINCIPAL,
                                     .if_match = if_match,
                                     .input = {.external_user = "", .fields = properties}};
    if (!application->enabled)
        return sso_fail(err, SSO_APPLICATION_DISABLED,
                        "application %s is disabled: an administrator of it can enable it",
                        application->name);
    enum sso_code rc = credential_write(request, application, item, 1, err);
    if (rc != SSO_OK)
        return rc;
    request->audited = item->recorded;
    memcpy(request->audit.row_id, item->row.row_id, sizeof request->audit.row_id);
    request->audit.row_version = item->row.version;
    return item->problem.code == SSO_OK
               ? SSO_OK
               : sso_fail(err, item->problem.code, "%s", item->problem.detail);
}

static enum sso_code reply_written(struct request *request, const struct application *application,
                                   const struct credential_item *item, struct sso_error *err)
{
    request->status = item->created ? 201 : 200;
    request->etag = item->row.version;
    request->reply =
        json_pack("{s:s,s:I,s:I,s:o,s:b}", "app", application->name, "version",
                  (json_int_t)item->row.version, "generation", (json_int_t)item->row.generation,
                  "updated", json_time(item->row.updated_ms), "created", item->created);
    return request->reply != NULL ? SSO_OK
                                  : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}

enum sso_code op_config_set(struct request *request, struct sso_error *err)
{
    struct application application;
    struct credential_item item;
    const json_t *properties;
    enum sso_code rc = application_of_path(request, &application, err);
    if (rc != SSO_OK ||
        (rc = properties_of_body(request, &application, true, &properties, err)) != SSO_OK ||
        (rc = config_write(request, &application, properties, request->if_match, &item, err)) !=
            SSO_OK)
        return rc;
    return reply_written(request, &application, &item, err);
}

/* What was read with the wanted values put in; written only over the version that was read. */
static enum sso_code update_once(struct request *request, const struct application *application,
                                 const json_t *wanted, struct credential_item *item,
                                 struct sso_error *err)
{
    json_t *object = NULL;
    enum sso_code rc = config_read(request, application, false, &object, err);
    if (rc != SSO_OK)
        return rc;
    uint64_t version = (uint64_t)json_integer_value(json_object_get(object, "version"));
    json_t *fields = json_object_get(object, "fields");
    if (request->if_match != 0 && request->if_match != version)
        rc = sso_fail(err, SSO_VERSION_CONFLICT, "the configuration is at version %llu, not %llu",
                      (unsigned long long)version, (unsigned long long)request->if_match);
    else if (json_object_update(fields, (json_t *)wanted) != 0)
        rc = sso_fail(err, SSO_NO_MEMORY, "no memory for the configuration");
    else
        rc = config_write(request, application, fields, version, item, err);
    json_decref(object);
    return rc;
}

enum sso_code op_config_update(struct request *request, struct sso_error *err)
{
    struct application application;
    struct credential_item item;
    const json_t *wanted;
    enum sso_code rc = application_of_path(request, &application, err);
    if (rc != SSO_OK ||
        (rc = properties_of_body(request, &application, false, &wanted, err)) != SSO_OK)
        return rc;
    do {
        rc = update_once(request, &application, wanted, &item, err);
    } while (rc == SSO_VERSION_CONFLICT && request->if_match == 0 &&
             boot_clock_ms() < request->deadline_ms);
    return rc == SSO_OK ? reply_written(request, &application, &item, err) : rc;
}

/* --- removing --- */

struct removal {
    uint8_t application_id[APPLICATION_ID_BYTES];
    uint64_t version; /* 0: any */
    struct audit_record *record;
};

/* A row that cannot be read can be removed all the same. */
static enum sso_code write_removal(struct store_tx *tx, void *context, struct sso_error *err)
{
    struct removal *removal = context;
    struct credential_row row = {0};
    enum sso_code rc =
        store_credential_get(tx, removal->application_id, CONFIG_PRINCIPAL, &row, err);
    if (rc == SSO_OK) {
        memcpy(removal->record->row_id, row.row_id, sizeof removal->record->row_id);
        removal->record->row_version = row.version;
    }
    credential_row_free(&row);
    if (rc == SSO_NOT_FOUND)
        return sso_fail(err, rc, "the application has no configuration");
    if (rc == SSO_OK || rc == SSO_ROW_CORRUPT)
        rc = store_credential_delete(tx, removal->application_id, CONFIG_PRINCIPAL,
                                     removal->version, err);
    if (rc != SSO_OK)
        return rc;
    rc = store_mapping_delete(tx, removal->application_id, CONFIG_PRINCIPAL, err);
    return rc == SSO_NOT_FOUND ? SSO_OK : rc;
}

enum sso_code op_config_delete(struct request *request, struct sso_error *err)
{
    struct application application;
    enum sso_code rc = application_of_path(request, &application, err);
    if (rc != SSO_OK)
        return rc;
    struct removal removal = {.version = request->if_match, .record = &request->audit};
    memcpy(removal.application_id, application.id, sizeof removal.application_id);
    request->audited = true;
    rc = committer_run(request->custodian->committer, write_removal, &removal, &request->audit, 1,
                       err);
    if (rc != SSO_OK)
        return rc;
    row_key_cache_remove(request->custodian->cache, request->audit.row_id);
    request->status = 204;
    return SSO_OK;
}
