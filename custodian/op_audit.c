#include <stdlib.h>
#include <string.h>

#include "common/encode.h"
#include "common/json.h"
#include "custodian/custodian.h"
#include "custodian/operations.h"

#define RECORDS_DEFAULT 100
#define RECORDS_MAX 1000

/* The row's id in the form of everywhere else, null where the record is not about a row. */
static json_t *row_json(const struct audit_record *record)
{
    static const uint8_t none[sizeof record->row_id];
    if (memcmp(record->row_id, none, sizeof none) == 0)
        return json_null();
    char id[UUID_TEXT_SIZE];
    uuid_text(record->row_id, id);
    return json_string(id);
}

static json_t *record_json(const struct audit_record *record)
{
    json_t *version =
        record->row_version != 0 ? json_integer((json_int_t)record->row_version) : json_null();
    return json_pack("{s:s,s:I,s:o,s:s,s:s,s:s,s:o,s:s,s:o,s:o,s:o,s:o}", "node", record->node,
                     "number", (json_int_t)record->number, "time", json_time(record->time_ms),
                     "actor", record->actor, "how", record->how, "operation", record->operation,
                     "target", json_text_or_null(record->target), "outcome", record->outcome,
                     "request_id", json_hex(record->request_id, sizeof record->request_id), "row",
                     row_json(record), "row_version", version, "hash",
                     json_hex(record->hash, sizeof record->hash));
}

/* The number after which the last `last` records of a node come. Its head is there: what is pruned
 * is never a chain's end. */
static enum sso_code after_of_last(struct store_tx *tx, const char *node, uint64_t last,
                                   uint64_t *after, struct sso_error *err)
{
    struct audit_head *head = NULL;
    size_t count = 0;
    enum sso_code rc = store_audit_heads(tx, &head, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        if (strcmp(head[i].node, node) == 0)
            *after = head[i].number > last ? head[i].number - last : 0;
    }
    free(head);
    return rc;
}

enum sso_code op_audit_list(struct request *request, struct sso_error *err)
{
    struct custodian *custodian = request->custodian;
    char node[sizeof custodian->node];
    uint64_t after, limit, last;
    struct audit_record *records = NULL;
    size_t count = 0;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc;
    /* Numbers are of one node, so a page is too. */
    if (!request_query(request, "node", node, sizeof node))
        memcpy(node, custodian->node, sizeof node);
    if ((rc = request_query_number(request, "after", 0, INT64_MAX, &after, err)) != SSO_OK ||
        (rc = request_query_number(request, "limit", RECORDS_DEFAULT, RECORDS_MAX, &limit, err)) !=
            SSO_OK ||
        (rc = request_query_number(request, "last", 0, RECORDS_MAX, &last, err)) != SSO_OK)
        return rc;
    if (last > 0)
        limit = last;
    if (limit == 0)
        return sso_fail(err, SSO_BAD_REQUEST, "limit takes a number from 1 to %d", RECORDS_MAX);
    if ((rc = store_begin(custodian->store, STORE_READ, &tx, err)) != SSO_OK ||
        (last > 0 && (rc = after_of_last(tx, node, last, &after, err)) != SSO_OK) ||
        (rc = store_audit_list(tx, node, after, (size_t)limit, &records, &count, err)) != SSO_OK)
        return rc;
    if (count == 0 && after == 0) {
        free(records);
        return sso_fail(err, SSO_NOT_FOUND, "there is no record of a node %s", node);
    }
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, record_json(&records[i]));
    json_t *next =
        count == limit ? json_integer((json_int_t)records[count - 1].number) : json_null();
    request->reply = json_pack("{s:o,s:o}", "records", list, "next", next);
    free(records);
    return request->reply != NULL ? SSO_OK
                                  : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}
