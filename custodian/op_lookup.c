#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "custodian/application_access.h"
#include "custodian/application_json.h"
#include "custodian/credential_read.h"
#include "custodian/custodian.h"
#include "custodian/operations.h"

#define BATCH_MAX 1000

/* {"app","principal"?,"refresh"?}; without a principal it is the caller's own. */
static enum sso_code query_read(const json_t *object, struct credential_query *out,
                                struct sso_error *err)
{
    static const char *const allowed[] = {"app", "principal", "refresh", NULL};
    if (!json_is_object(object))
        return sso_fail(err, SSO_BAD_REQUEST, "each item must be an object");
    const json_t *principal = json_object_get(object, "principal");
    const json_t *refresh = json_object_get(object, "refresh");
    enum sso_code rc;
    if ((rc = json_only_members(object, allowed, err)) != SSO_OK ||
        (rc = json_get_text(object, "app", APPLICATION_NAME_BYTES_MAX, &out->application, err)) !=
            SSO_OK)
        return rc;
    if (principal != NULL && !json_is_null(principal) &&
        (rc = json_get_text(object, "principal", PRINCIPAL_BYTES_MAX, &out->principal, err)) !=
            SSO_OK)
        return rc;
    if (refresh != NULL && !json_is_boolean(refresh))
        return sso_fail(err, SSO_BAD_REQUEST, "refresh must be true or false");
    out->refresh = json_is_true(refresh);
    return SSO_OK;
}

/* Its record is the request's own, which operations_run writes before the reply leaves. */
static enum sso_code lookup_one(struct request *request, struct sso_error *err)
{
    struct credential_query query = {0};
    enum sso_code rc = query_read(request->body, &query, err);
    if (rc != SSO_OK)
        return rc;
    request_target(request, query.application, query.principal);
    rc = credential_read(request, &query, 1, err);
    request_target(request, query.application, query.principal);
    if (rc != SSO_OK)
        return rc;
    memcpy(request->audit.row_id, query.row_id, sizeof request->audit.row_id);
    request->audit.row_version = query.row_version;
    if (query.problem.code != SSO_OK)
        return sso_fail(err, query.problem.code, "%s", query.problem.detail);
    request->reply = query.object;
    return SSO_OK;
}

static enum sso_code records_write(struct custodian *custodian, struct audit_record *records,
                                   size_t count, struct sso_error *err)
{
    if (atomic_load(&custodian->lookups_required))
        return committer_run(custodian->committer, NULL, NULL, records, count, err);
    for (size_t i = 0; i < count; i++)
        committer_post(custodian->committer, &records[i]);
    return SSO_OK;
}

static enum sso_code batch_record(struct request *request, const struct credential_query *queries,
                                  size_t count, struct sso_error *err)
{
    struct audit_record *records = calloc(count, sizeof *records);
    if (records == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for %zu audit records", count);
    for (size_t i = 0; i < count; i++) {
        const struct credential_query *query = &queries[i];
        if (query->application != NULL && query->principal != NULL)
            request_target(request, query->application, query->principal);
        records[i] = request->audit;
        memcpy(records[i].row_id, query->row_id, sizeof records[i].row_id);
        records[i].row_version = query->row_version;
        if (query->problem.code != SSO_OK)
            snprintf(records[i].outcome, sizeof records[i].outcome, "%s",
                     sso_code_facts(query->problem.code)->name);
        request->audit.target[0] = '\0';
    }
    enum sso_code rc = records_write(request->custodian, records, count, err);
    free(records);
    return rc;
}

static enum sso_code batch_reply(struct request *request, struct credential_query *queries,
                                 size_t count, struct sso_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < count; i++) {
        struct credential_query *query = &queries[i];
        json_t *item =
            query->problem.code == SSO_OK
                ? json_incref(query->object)
                : json_problem(query->problem.code, query->problem.detail, request->request_id);
        if (json_array_append_new(list, item) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    request->reply = json_pack("{s:o}", "items", list);
    return request->reply != NULL ? SSO_OK
                                  : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}

static enum sso_code batch_run(struct request *request, const json_t *list,
                               struct credential_query *queries, size_t count,
                               struct sso_error *err)
{
    for (size_t i = 0; i < count; i++)
        (void)!query_read(json_array_get(list, i), &queries[i], &queries[i].problem);
    enum sso_code rc;
    if ((rc = credential_read(request, queries, count, err)) != SSO_OK)
        return rc;
    if (!request->authorised) /* then every item was refused */
        return sso_fail(err, queries[0].problem.code, "%s", queries[0].problem.detail);
    if ((rc = batch_record(request, queries, count, err)) != SSO_OK)
        return rc;
    request->audited = true;
    return batch_reply(request, queries, count, err);
}

static enum sso_code lookup_batch(struct request *request, struct sso_error *err)
{
    static const char *const allowed[] = {"items", NULL};
    const json_t *list = json_object_get(request->body, "items");
    size_t count = json_array_size(list);
    enum sso_code rc = json_only_members(request->body, allowed, err);
    if (rc != SSO_OK)
        return rc;
    if (count < 1 || count > BATCH_MAX)
        return sso_fail(err, count == 0 ? SSO_BAD_REQUEST : SSO_TOO_LARGE,
                        "items must be an array of 1 to %d items", BATCH_MAX);
    struct credential_query *queries = calloc(count, sizeof *queries);
    if (queries == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a batch of %zu items", count);
    rc = batch_run(request, list, queries, count, err);
    for (size_t i = 0; i < count; i++)
        json_decref(queries[i].object);
    free(queries);
    return rc;
}

enum sso_code op_lookup(struct request *request, struct sso_error *err)
{
    if (request->body == NULL)
        return sso_fail(err, SSO_BAD_REQUEST, "the request needs a JSON object as its body");
    return json_object_get(request->body, "items") != NULL ? lookup_batch(request, err)
                                                           : lookup_one(request, err);
}
