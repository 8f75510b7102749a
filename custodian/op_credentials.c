#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "custodian/application_access.h"
#include "custodian/application_json.h"
#include "custodian/credential_json.h"
#include "custodian/credential_write.h"
#include "custodian/custodian.h"
#include "custodian/events.h"
#include "custodian/operations.h"

#define BATCH_MAX 1000

static enum sso_code principal_check(const char *principal, struct sso_error *err)
{
    if (principal == NULL || !principal_is_valid(principal))
        return sso_fail(err, SSO_BAD_REQUEST,
                        "principal must be 1 to %d bytes of UTF-8 without control characters",
                        PRINCIPAL_BYTES_MAX);
    return SSO_OK;
}

/* May credentials be written to it at all? Asked again in the transaction that writes. */
static enum sso_code application_takes_writes(const struct application *application,
                                              struct sso_error *err)
{
    enum sso_code rc = application_takes_credentials(application, err);
    if (rc == SSO_OK && !application->enabled)
        return sso_fail(err, SSO_APPLICATION_DISABLED,
                        "application %s is disabled: an administrator of it can enable it",
                        application->name);
    return rc;
}

/* --- one --- */

static enum sso_code set_one(struct request *request, const struct application *application,
                             struct credential_item *item, struct sso_error *err)
{
    static const char *const allowed[] = {"external_user", "fields", NULL};
    if (request->body == NULL)
        return sso_fail(err, SSO_BAD_REQUEST, "the request needs a JSON object as its body");
    enum sso_code rc;
    if ((rc = json_only_members(request->body, allowed, err)) != SSO_OK ||
        (rc = application_takes_writes(application, err)) != SSO_OK ||
        (rc = application_takes_principal(application, item->principal, err)) != SSO_OK ||
        (rc = credential_input_read(request->body, application, &item->input, err)) != SSO_OK ||
        (rc = credential_write(request, application, item, 1, err)) != SSO_OK)
        return rc;
    request->audited = item->recorded;
    memcpy(request->audit.row_id, item->row.row_id, sizeof request->audit.row_id);
    request->audit.row_version = item->row.version;
    if (item->problem.code != SSO_OK)
        return sso_fail(err, item->problem.code, "%s", item->problem.detail);
    return SSO_OK;
}

enum sso_code op_credential_set(struct request *request, struct sso_error *err)
{
    const char *principal = request->segment[4];
    bool own = principal_is_own(request, principal);
    struct application application;
    request_target(request, request->segment[2], principal);
    enum sso_code rc;
    if ((rc = application_for_request(request, request->segment[2], own, &application, err)) !=
            SSO_OK ||
        (rc = principal_check(principal, err)) != SSO_OK)
        return rc;
    struct credential_item item = {.principal = principal, .if_match = request->if_match};
    rc = set_one(request, &application, &item, err);
    if (rc != SSO_OK)
        return rc;
    if (!own)
        event_raise(request->custodian->events, EVENT_CREDENTIAL_SET_FOR_OTHER,
                    "%s set the credential of %s for application %s", request->peer.name, principal,
                    application.name);
    request->reply = credential_json(application.name, &item.row, NULL);
    if (json_object_set_new(request->reply, "created", json_boolean(item.created)) != 0)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
    request->status = item.created ? 201 : 200;
    request->etag = item.row.version;
    return SSO_OK;
}

/* --- a batch --- */

/* What can be said of one item without the database goes into its problem. */
static void batch_item_read(const struct application *application, const json_t *object,
                            struct credential_item *item)
{
    static const char *const allowed[] = {"principal", "external_user", "fields", NULL};
    struct sso_error *problem = &item->problem;
    if (!json_is_object(object)) {
        sso_fail(problem, SSO_BAD_REQUEST, "each item must be an object");
        return;
    }
    item->principal = json_string_value(json_object_get(object, "principal"));
    if (principal_check(item->principal, problem) != SSO_OK)
        return;
    if (json_only_members(object, allowed, problem) == SSO_OK &&
        application_takes_principal(application, item->principal, problem) == SSO_OK)
        (void)!credential_input_read(object, application, &item->input, problem);
}

static json_t *batch_item_json(const struct request *request, const struct credential_item *item)
{
    if (item->problem.code != SSO_OK)
        return json_problem(item->problem.code, item->problem.detail, request->request_id);
    return json_pack("{s:s,s:I,s:b}", "principal", item->principal, "version",
                     (json_int_t)item->row.version, "created", item->created);
}

static json_t *batch_json(const struct request *request, const struct credential_item *items,
                          size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < count; i++) {
        if (json_array_append_new(list, batch_item_json(request, &items[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return json_pack("{s:o}", "items", list);
}

/* Items that were refused before the transaction have no record yet. */
static enum sso_code batch_record_refused(struct request *request,
                                          const struct application *application,
                                          const struct credential_item *items, size_t count,
                                          struct sso_error *err)
{
    struct audit_record *records = calloc(count, sizeof *records);
    size_t refused = 0;
    if (records == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for %zu audit records", count);
    for (size_t i = 0; i < count; i++) {
        if (items[i].recorded)
            continue;
        struct audit_record *record = &records[refused++];
        *record = request->audit;
        snprintf(record->operation, sizeof record->operation, "credential.set");
        if (items[i].principal != NULL && principal_is_valid(items[i].principal))
            snprintf(record->target, sizeof record->target, "%s/%s", application->name,
                     items[i].principal);
        snprintf(record->outcome, sizeof record->outcome, "%s",
                 sso_code_facts(items[i].problem.code)->name);
    }
    enum sso_code rc = refused == 0 ? SSO_OK
                                    : committer_run(request->custodian->committer, NULL, NULL,
                                                    records, refused, err);
    free(records);
    return rc;
}

static void batch_event(struct request *request, const struct application *application,
                        const struct credential_item *items, size_t count)
{
    size_t of_others = 0;
    for (size_t i = 0; i < count; i++)
        of_others +=
            items[i].problem.code == SSO_OK && !principal_is_own(request, items[i].principal);
    if (of_others != 0)
        event_raise(request->custodian->events, EVENT_CREDENTIAL_SET_FOR_OTHER,
                    "%s set %zu credentials of others for application %s", request->peer.name,
                    of_others, application->name);
}

static enum sso_code batch_run(struct request *request, const struct application *application,
                               struct sso_error *err)
{
    const json_t *list = json_object_get(request->body, "items");
    size_t count = json_array_size(list);
    struct credential_item *items = calloc(count, sizeof *items);
    if (items == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a batch of %zu items", count);
    for (size_t i = 0; i < count; i++)
        batch_item_read(application, json_array_get(list, i), &items[i]);
    enum sso_code rc = credential_write(request, application, items, count, err);
    if (rc == SSO_OK)
        rc = batch_record_refused(request, application, items, count, err);
    if (rc == SSO_OK) {
        request->audited = true;
        batch_event(request, application, items, count);
        request->reply = batch_json(request, items, count);
        if (request->reply == NULL)
            rc = sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
    }
    free(items);
    return rc;
}

/* For those who may write for any principal. */
enum sso_code op_credential_batch(struct request *request, struct sso_error *err)
{
    static const char *const allowed[] = {"items", NULL};
    struct application application;
    request_target(request, request->segment[2], NULL);
    enum sso_code rc =
        application_for_request(request, request->segment[2], false, &application, err);
    if (rc != SSO_OK)
        return rc;
    if (request->body == NULL)
        return sso_fail(err, SSO_BAD_REQUEST, "the request needs a JSON object as its body");
    if ((rc = json_only_members(request->body, allowed, err)) != SSO_OK ||
        (rc = application_takes_writes(&application, err)) != SSO_OK)
        return rc;
    size_t count = json_array_size(json_object_get(request->body, "items"));
    if (count < 1 || count > BATCH_MAX)
        return sso_fail(err, count == 0 ? SSO_BAD_REQUEST : SSO_TOO_LARGE,
                        "items must be an array of 1 to %d items", BATCH_MAX);
    return batch_run(request, &application, err);
}

/* --- reading and removing --- */

static enum sso_code show_from(struct store_tx *tx, struct request *request,
                               const struct application *application, const char *principal,
                               struct sso_error *err)
{
    struct credential_row row = {0};
    struct mapping mapping = {0};
    enum sso_code rc = store_credential_get(tx, application->id, principal, &row, err);
    if (rc != SSO_OK)
        return rc;
    rc = store_mapping_get(tx, application->id, principal, &mapping, err);
    if (rc == SSO_NOT_FOUND)
        rc = sso_fail(err, SSO_ROW_CORRUPT, "the credential of %s stands without its mapping",
                      principal);
    if (rc == SSO_OK)
        rc = policy_alarm(request->custodian,
                          policy_check_mapping(&request->custodian->policy, &mapping, err), err);
    if (rc == SSO_OK) {
        request->etag = row.version;
        request->reply = credential_json(application->name, &row, NULL);
        if (json_object_set_new(request->reply, "enabled",
                                json_boolean(mapping.state == MAPPING_ENABLED)) != 0)
            rc = sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
    }
    credential_row_free(&row);
    return rc;
}

enum sso_code op_credential_show(struct request *request, struct sso_error *err)
{
    const char *principal = request->segment[4];
    struct application application;
    request_target(request, request->segment[2], principal);
    enum sso_code rc = application_for_request(
        request, request->segment[2], principal_is_own(request, principal), &application, err);
    STORE_TX_AUTO tx = NULL;
    if (rc != SSO_OK || (rc = principal_check(principal, err)) != SSO_OK ||
        (rc = application_takes_credentials(&application, err)) != SSO_OK ||
        (rc = store_begin(request->custodian->store, STORE_READ, &tx, err)) != SSO_OK)
        return rc;
    return show_from(tx, request, &application, principal, err);
}

struct deletion {
    uint8_t application_id[APPLICATION_ID_BYTES];
    const char *principal;
    uint64_t version; /* 0: any */
    struct audit_record *record;
};

static enum sso_code write_deletion(struct store_tx *tx, void *context, struct sso_error *err)
{
    struct deletion *deletion = context;
    struct credential_row row = {0};
    enum sso_code rc =
        store_credential_get(tx, deletion->application_id, deletion->principal, &row, err);
    if (rc == SSO_OK) {
        memcpy(deletion->record->row_id, row.row_id, sizeof deletion->record->row_id);
        deletion->record->row_version = row.version;
    }
    credential_row_free(&row);
    /* A row that cannot even be read must still be removable. */
    if (rc != SSO_OK && rc != SSO_ROW_CORRUPT)
        return rc;
    return store_credential_delete(tx, deletion->application_id, deletion->principal,
                                   deletion->version, err);
}

/* The mapping stays: what an administrator disabled is not enabled by a new credential. */
enum sso_code op_credential_delete(struct request *request, struct sso_error *err)
{
    const char *principal = request->segment[4];
    struct application application;
    request_target(request, request->segment[2], principal);
    enum sso_code rc;
    if ((rc = application_for_request(request, request->segment[2],
                                      principal_is_own(request, principal), &application, err)) !=
            SSO_OK ||
        (rc = principal_check(principal, err)) != SSO_OK ||
        (rc = application_takes_credentials(&application, err)) != SSO_OK)
        return rc;
    struct deletion deletion = {
        .principal = principal, .version = request->if_match, .record = &request->audit};
    memcpy(deletion.application_id, application.id, sizeof deletion.application_id);
    request->audited = true;
    rc = committer_run(request->custodian->committer, write_deletion, &deletion, &request->audit, 1,
                       err);
    if (rc != SSO_OK)
        return rc;
    row_key_cache_remove(request->custodian->cache, request->audit.row_id);
    request->status = 204;
    return SSO_OK;
}

/* --- the list --- */

/* A mapping that is missing or not to be trusted is unknown: null. */
static json_t *enabled_json(struct request *request, const struct mapping *mapping)
{
    if (mapping->state == 0)
        return json_null();
    struct sso_error problem = {0};
    enum sso_code rc = policy_check_mapping(&request->custodian->policy, mapping, &problem);
    if (policy_alarm(request->custodian, rc, &problem) != SSO_OK)
        return json_null();
    return json_boolean(mapping->state == MAPPING_ENABLED);
}

static json_t *page_json(struct request *request, const struct application *application,
                         const struct credential_page *page, size_t limit)
{
    json_t *list = json_array();
    size_t count = page->count < limit ? page->count : limit;
    for (size_t i = 0; list != NULL && i < count; i++) {
        json_t *item = credential_json(application->name, &page->row[i], NULL);
        json_object_set_new(item, "enabled", enabled_json(request, &page->mapping[i]));
        if (json_array_append_new(list, item) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    json_t *next = page->count > limit ? json_string(page->row[limit - 1].principal) : json_null();
    return json_pack("{s:o,s:o}", "credentials", list, "next", next);
}

enum sso_code op_credential_list(struct request *request, struct sso_error *err)
{
    struct application application;
    struct list_query query;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = application_for_list(request, &application, &query, err);
    if (rc != SSO_OK)
        return rc;
    struct credential_page page = {0};
    if ((rc = store_begin(request->custodian->store, STORE_READ, &tx, err)) != SSO_OK ||
        (rc = store_credential_page(tx, application.id, query.after, query.limit + 1, &page,
                                    err)) != SSO_OK)
        return rc;
    request->reply = page_json(request, &application, &page, query.limit);
    credential_page_free(&page);
    return request->reply != NULL ? SSO_OK
                                  : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}
