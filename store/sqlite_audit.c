#include <string.h>

#include "store/sqlite_statement.h"

/* --- writing --- */

/* The end of the node's chain: number 0 and 32 zero bytes before its first record. No other
 * program can lengthen it while we hold the write transaction. */
static enum sso_code read_head(struct store_tx *tx, const char *node, struct audit_head *out,
                               struct sso_error *err)
{
    static const char sql[] = "SELECT number, hash FROM audit WHERE node = ?"
                              " ORDER BY number DESC LIMIT 1";
    SQLITE_STATEMENT_AUTO statement = {0};
    bool found = false;
    *out = (struct audit_head){0};
    enum sso_code rc = sqlite_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sqlite_bind_text(&statement, node);
    rc = sqlite_step(&statement, &found, err);
    if (rc != SSO_OK || !found)
        return rc;
    out->number = (uint64_t)sqlite_read_integer(&statement, 1, INT64_MAX - 1);
    sqlite_read_bytes(&statement, out->hash, sizeof out->hash);
    return sqlite_check_row(&statement, "the last audit record", err);
}

static enum sso_code append_one(struct sqlite_statement *s, const struct audit_record *record,
                                struct sso_error *err)
{
    sqlite_bind_text(s, record->node);
    sqlite_bind_u64(s, record->number);
    sqlite_bind_integer(s, record->time_ms);
    sqlite_bind_text(s, record->actor);
    sqlite_bind_text(s, record->how);
    sqlite_bind_text(s, record->operation);
    sqlite_bind_text(s, record->target);
    sqlite_bind_text(s, record->outcome);
    sqlite_bind_bytes(s, record->request_id, sizeof record->request_id);
    sqlite_bind_bytes(s, record->row_id, sizeof record->row_id);
    sqlite_bind_u64(s, record->row_version);
    sqlite_bind_bytes(s, record->hash, sizeof record->hash);
    return sqlite_run(s, NULL, err);
}

static enum sso_code append(struct store_tx *tx, struct audit_record *records, size_t count,
                            struct sso_error *err)
{
    static const char sql[] =
        "INSERT INTO audit (node, number, time_ms, actor, how, operation, target, outcome,"
        " request_id, row_id, row_version, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    SQLITE_STATEMENT_AUTO statement = {0};
    struct audit_head head;
    if (count == 0)
        return SSO_OK;
    enum sso_code rc = read_head(tx, records[0].node, &head, err);
    if (rc == SSO_OK)
        rc = sqlite_prepare(tx, sql, &statement, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        struct audit_record *record = &records[i];
        if (strcmp(record->node, records[0].node) != 0)
            return sso_fail(err, SSO_INTERNAL, "audit records of two nodes in one call");
        record->number = ++head.number;
        audit_record_hash(head.hash, record, record->hash);
        memcpy(head.hash, record->hash, sizeof head.hash);
        rc = append_one(&statement, record, err);
    }
    return rc;
}

/* --- reading --- */

static void read_record(struct sqlite_statement *s, void *out)
{
    struct audit_record *record = out;
    sqlite_read_text(s, record->node, sizeof record->node);
    record->number = sqlite_read_u64(s);
    record->time_ms = sqlite_read_integer(s, INT64_MIN, INT64_MAX);
    sqlite_read_text(s, record->actor, sizeof record->actor);
    sqlite_read_text(s, record->how, sizeof record->how);
    sqlite_read_text(s, record->operation, sizeof record->operation);
    sqlite_read_text(s, record->target, sizeof record->target);
    sqlite_read_text(s, record->outcome, sizeof record->outcome);
    sqlite_read_bytes(s, record->request_id, sizeof record->request_id);
    sqlite_read_bytes(s, record->row_id, sizeof record->row_id);
    record->row_version = sqlite_read_u64(s);
    sqlite_read_bytes(s, record->hash, sizeof record->hash);
    /* What cannot be read reads as empty, so that its hash does not fit: audit verify names the
     * record and goes on to the next. */
    s->damaged = false;
}

#define LIST(condition)                                                                            \
    "SELECT node, number, time_ms, actor, how, operation, target, outcome, request_id, row_id,"    \
    " row_version, hash FROM audit WHERE number > ?1" condition " ORDER BY node, number LIMIT ?2"

static enum sso_code list(struct store_tx *tx, const char *node, uint64_t after, size_t limit,
                          struct audit_record **out, size_t *count, struct sso_error *err)
{
    static const char of_node[] = LIST(" AND node = ?3");
    static const char of_all[] = LIST("");
    static const struct sqlite_list rows = {"an audit record", sizeof **out, read_record};
    SQLITE_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sqlite_prepare(tx, node != NULL ? of_node : of_all, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sqlite_bind_u64(&statement, after < INT64_MAX ? after : INT64_MAX);
    sqlite_bind_u64(&statement, limit < INT64_MAX ? limit : INT64_MAX);
    if (node != NULL)
        sqlite_bind_text(&statement, node);
    return sqlite_collect(&statement, &rows, out, count, err);
}

static enum sso_code of_operation(struct store_tx *tx, const char *operation,
                                  struct audit_record **out, size_t *count, struct sso_error *err)
{
    static const char sql[] =
        "SELECT node, number, time_ms, actor, how, operation, target, outcome, request_id, row_id,"
        " row_version, hash FROM audit WHERE operation = ? ORDER BY node, number";
    static const struct sqlite_list rows = {"an audit record", sizeof **out, read_record};
    SQLITE_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sqlite_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sqlite_bind_text(&statement, operation);
    return sqlite_collect(&statement, &rows, out, count, err);
}

static void read_audit_head(struct sqlite_statement *s, void *out)
{
    struct audit_head *head = out;
    sqlite_read_text(s, head->node, sizeof head->node);
    head->number = sqlite_read_u64(s);
    sqlite_read_bytes(s, head->hash, sizeof head->hash);
}

/* From node to node by the key, since GROUP BY would read all records. */
static enum sso_code heads(struct store_tx *tx, struct audit_head **out, size_t *count,
                           struct sso_error *err)
{
    static const char sql[] =
        "WITH RECURSIVE nodes(node) AS ("
        " SELECT min(node) FROM audit UNION ALL"
        " SELECT (SELECT min(node) FROM audit WHERE audit.node > nodes.node)"
        " FROM nodes WHERE nodes.node IS NOT NULL)"
        " SELECT a.node, a.number, a.hash FROM nodes JOIN audit AS a ON a.node = nodes.node"
        " AND a.number = (SELECT max(number) FROM audit WHERE node = nodes.node) ORDER BY a.node";
    static const struct sqlite_list rows = {"the last audit record", sizeof **out, read_audit_head};
    SQLITE_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sqlite_prepare(tx, sql, &statement, err);
    return rc != SSO_OK ? rc : sqlite_collect(&statement, &rows, out, count, err);
}

const struct store_audit_ops sqlite_audit_ops = {
    .append = append,
    .list = list,
    .of_operation = of_operation,
    .heads = heads,
};
