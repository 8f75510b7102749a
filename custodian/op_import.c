#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "custodian/application_access.h"
#include "custodian/application_json.h"
#include "custodian/custodian.h"
#include "custodian/operations.h"
#include "custodian/settings_change.h"
#include "custodian/supervision.h"

/* What an installation brings along from another system: applications, mappings and settings, in
 * one transaction, all or nothing (sso-hsm import-entsso). */

#define ITEMS_MAX 10000

struct import {
    struct request *request;
    const struct policy *policy;
    struct application *application;
    size_t application_count;
    const json_t *mappings; /* array or NULL */
    struct settings_change change;
    struct audit_record *record; /* one for each of all these */
    size_t record_count;
};

static enum sso_code bad_item(const char *what, size_t i, struct sso_error *err)
{
    return sso_error_context(err, "%s[%zu]", what, i);
}

static enum sso_code application_read(const json_t *item, struct application *out,
                                      struct sso_error *err)
{
    const json_t *enabled = json_object_get(item, "enabled");
    if (!json_is_object(item) || (enabled != NULL && !json_is_boolean(enabled)))
        return sso_fail(err, SSO_BAD_REQUEST, "must be an object, and enabled true or false");
    json_t *plain = json_copy((json_t *)item);
    if (plain == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for an application");
    json_object_del(plain, "enabled");
    enum sso_code rc = application_from_json(plain, out, err);
    json_decref(plain);
    if (rc == SSO_OK)
        rc = random_bytes(out->id, sizeof out->id, err);
    out->enabled = json_is_true(enabled);
    out->created_ms = out->updated_ms = wall_clock_ms();
    out->version = 1;
    return rc;
}

static enum sso_code mapping_check(const json_t *item, struct sso_error *err)
{
    static const char *const allowed[] = {"app", "principal", "external_user", NULL};
    const char *text;
    enum sso_code rc;
    if (!json_is_object(item))
        return sso_fail(err, SSO_BAD_REQUEST, "must be an object");
    if ((rc = json_only_members(item, allowed, err)) != SSO_OK ||
        (rc = json_get_text(item, "app", APPLICATION_NAME_BYTES_MAX, &text, err)) != SSO_OK ||
        (rc = json_get_text(item, "principal", PRINCIPAL_BYTES_MAX, &text, err)) != SSO_OK)
        return rc;
    return json_get_text(item, "external_user", EXTERNAL_USER_BYTES_MAX, &text, err);
}

static enum sso_code items_read(struct import *import, const json_t *apps, struct sso_error *err)
{
    enum sso_code rc;
    for (size_t i = 0; i < import->application_count; i++) {
        struct application *application = &import->application[i];
        const json_t *item = json_array_get(apps, i);
        if ((rc = ticket_members_allowed(import->request, item, err)) != SSO_OK ||
            (rc = application_read(item, application, err)) != SSO_OK)
            return bad_item("apps", i, err);
        policy_tag_application(import->policy, application);
    }
    for (size_t i = 0; i < json_array_size(import->mappings); i++) {
        if (mapping_check(json_array_get(import->mappings, i), err) != SSO_OK)
            return bad_item("mappings", i, err);
    }
    return SSO_OK;
}

static enum sso_code import_read(struct import *import, struct sso_error *err)
{
    static const char *const allowed[] = {"apps", "mappings", "settings", "dry_run", NULL};
    struct request *request = import->request;
    if (request->body == NULL)
        return sso_fail(err, SSO_BAD_REQUEST, "the request needs a JSON object as its body");
    enum sso_code rc = json_only_members(request->body, allowed, err);
    if (rc != SSO_OK)
        return rc;
    const json_t *apps = json_object_get(request->body, "apps");
    import->mappings = json_object_get(request->body, "mappings");
    import->change.wanted = json_object_get(request->body, "settings");
    import->application_count = json_array_size(apps);
    size_t mappings = json_array_size(import->mappings);
    if ((apps != NULL && !json_is_array(apps)) ||
        (import->mappings != NULL && !json_is_array(import->mappings)) ||
        (import->change.wanted != NULL && !json_is_object(import->change.wanted)))
        return sso_fail(err, SSO_BAD_REQUEST, "apps and mappings are arrays, settings an object");
    if (import->application_count > ITEMS_MAX || mappings > ITEMS_MAX)
        return sso_fail(err, SSO_TOO_LARGE, "at most %d applications and %d mappings at a time",
                        ITEMS_MAX, ITEMS_MAX);
    if (json_object_size(import->change.wanted) != 0 && !(request->peer.roles & ROLE_SSO_ADMIN))
        return sso_fail(err, SSO_FORBIDDEN, "settings are for SSO administrators");
    import->record_count = import->application_count + mappings + 1;
    import->application = calloc(import->application_count + 1, sizeof *import->application);
    import->record = calloc(import->record_count, sizeof *import->record);
    if (import->application == NULL || import->record == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the import");
    return items_read(import, apps, err);
}

/* --- inside the transaction --- */

static void record_begin(const struct import *import, struct audit_record *record,
                         const char *operation)
{
    *record = import->request->audit;
    snprintf(record->operation, sizeof record->operation, "%s", operation);
}

static enum sso_code write_mapping(struct store_tx *tx, const struct import *import,
                                   const json_t *item, struct audit_record *record,
                                   struct sso_error *err)
{
    const char *app = json_string_value(json_object_get(item, "app"));
    const char *principal = json_string_value(json_object_get(item, "principal"));
    const char *external = json_string_value(json_object_get(item, "external_user"));
    struct application application;
    struct mapping mapping = {
        .state = MAPPING_ENABLED, .updated_ms = wall_clock_ms(), .version = 1};
    enum sso_code rc = store_application_get(tx, app, &application, err);
    if (rc == SSO_OK)
        rc = policy_check_application(import->policy, &application, err);
    if (rc == SSO_OK)
        rc = application_takes_principal(&application, principal, err);
    if (rc != SSO_OK)
        return rc;
    memcpy(mapping.application_id, application.id, sizeof mapping.application_id);
    snprintf(mapping.principal, sizeof mapping.principal, "%s", principal);
    snprintf(mapping.external_user, sizeof mapping.external_user, "%s", external);
    policy_tag_mapping(import->policy, &mapping);
    snprintf(record->target, sizeof record->target, "%s/%s", application.name, principal);
    rc = store_mapping_put(tx, &mapping, err);
    return rc == SSO_VERSION_CONFLICT
               ? sso_fail(err, SSO_ALREADY_EXISTS, "%s is mapped to %s already", principal,
                          application.name)
               : rc;
}

static enum sso_code write_import(struct store_tx *tx, void *context, struct sso_error *err)
{
    struct import *import = context;
    struct audit_record *record = import->record;
    for (size_t i = 0; i < import->application_count; i++, record++) {
        record_begin(import, record, "app.create");
        snprintf(record->target, sizeof record->target, "%s", import->application[i].name);
        if (store_application_insert(tx, &import->application[i], err) != SSO_OK)
            return bad_item("apps", i, err);
    }
    for (size_t i = 0; i < json_array_size(import->mappings); i++, record++) {
        record_begin(import, record, "mapping.set");
        if (write_mapping(tx, import, json_array_get(import->mappings, i), record, err) != SSO_OK)
            return bad_item("mappings", i, err);
    }
    record_begin(import, record, "settings.change");
    if (json_object_size(import->change.wanted) == 0) {
        record->operation[0] = '\0';
        return SSO_OK;
    }
    import->change.record = record;
    enum sso_code rc = settings_change_write(tx, &import->change, err);
    if (rc == SSO_OK && import->change.proposed)
        rc = sso_fail(err, SSO_CONFIRMATION_NEEDED,
                      "these settings need a second administrator: set them by themselves");
    return rc;
}

/* All of it is really written, and then not committed. */
static enum sso_code try_import(struct import *import, struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(import->request->custodian->store, STORE_WRITE, &tx, err);
    return rc == SSO_OK ? write_import(tx, import, err) : rc;
}

/* What failed is undone as a whole: then there is one record, of the import. */
static enum sso_code run_import(struct import *import, bool dry_run, struct sso_error *err)
{
    enum sso_code rc = try_import(import, err);
    if (dry_run)
        snprintf(import->request->audit.target, sizeof import->request->audit.target, "dry run");
    if (rc != SSO_OK || dry_run)
        return rc;
    struct custodian *custodian = import->request->custodian;
    import->request->audited = true;
    rc = committer_run(custodian->committer, write_import, import, import->record,
                       import->record_count, err);
    if (rc == SSO_OK)
        supervision_wake(custodian->supervision);
    return rc;
}

enum sso_code op_import(struct request *request, struct sso_error *err)
{
    struct import import = {.request = request, .policy = &request->custodian->policy};
    import.change.policy = import.policy;
    import.change.principal = request->peer.principal;
    const json_t *dry_run = json_object_get(request->body, "dry_run");
    enum sso_code rc = import_read(&import, err);
    if (rc == SSO_OK)
        rc = run_import(&import, json_is_true(dry_run), err);
    if (rc == SSO_OK) {
        request->reply = json_pack(
            "{s:I,s:I,s:I,s:b}", "apps", (json_int_t)import.application_count, "mappings",
            (json_int_t)json_array_size(import.mappings), "settings",
            (json_int_t)json_object_size(import.change.wanted), "dry_run", json_is_true(dry_run));
        if (request->reply == NULL)
            rc = sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
    }
    free(import.application);
    free(import.record);
    free(import.change.row);
    return policy_alarm(request->custodian, rc, err);
}
