#include <string.h>

#include "store/sql_statement.h"

/* --- writing --- */

/* The end of the node's chain: number 0 and 32 zero bytes before its first record. No other
 * program can lengthen it until our transaction ends. */
static enum sso_code read_head(struct store_tx *tx, const char *node, struct audit_head *out,
                               struct sso_error *err)
{
    static const char sql[] = "SELECT number, hash FROM audit WHERE node = ?"
                              " ORDER BY number DESC LIMIT 1";
    SQL_STATEMENT_AUTO statement = {0};
    bool found = false;
    const struct sql_lock end = {"audit chain", node, strlen(node), STORE_EXCLUSIVE};
    *out = (struct audit_head){0};
    enum sso_code rc = sql_lock(tx, &end, err);
    if (rc == SSO_OK)
        rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_text(&statement, node);
    rc = sql_step(&statement, &found, err);
    if (rc != SSO_OK || !found)
        return rc;
    out->number = (uint64_t)sql_read_integer(&statement, 1, INT64_MAX - 1);
    sql_read_bytes(&statement, out->hash, sizeof out->hash);
    return sql_check_row(&statement, "the last audit record", err);
}

static enum sso_code append_one(struct sql_statement *s, const struct audit_record *record,
                                struct sso_error *err)
{
    sql_bind_text(s, record->node);
    sql_bind_u64(s, record->number);
    sql_bind_integer(s, record->time_ms);
    sql_bind_text(s, record->actor);
    sql_bind_text(s, record->how);
    sql_bind_text(s, record->operation);
    sql_bind_text(s, record->target);
    sql_bind_text(s, record->outcome);
    sql_bind_bytes(s, record->request_id, sizeof record->request_id);
    sql_bind_bytes(s, record->row_id, sizeof record->row_id);
    sql_bind_u64(s, record->row_version);
    sql_bind_bytes(s, record->hash, sizeof record->hash);
    return sql_run(s, NULL, err);
}

static enum sso_code append(struct store_tx *tx, struct audit_record *records, size_t count,
                            struct sso_error *err)
{
    static const char sql[] =
        "INSERT INTO audit (node, number, time_ms, actor, how, operation, target, outcome,"
        " request_id, row_id, row_version, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    SQL_STATEMENT_AUTO statement = {0};
    struct audit_head head;
    if (count == 0)
        return SSO_OK;
    enum sso_code rc = read_head(tx, records[0].node, &head, err);
    if (rc == SSO_OK)
        rc = sql_prepare(tx, sql, &statement, err);
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

static void read_record(struct sql_statement *s, void *out)
{
    struct audit_record *record = out;
    sql_read_text(s, record->node, sizeof record->node);
    record->number = sql_read_u64(s);
    record->time_ms = sql_read_integer(s, INT64_MIN, INT64_MAX);
    sql_read_text(s, record->actor, sizeof record->actor);
    sql_read_text(s, record->how, sizeof record->how);
    sql_read_text(s, record->operation, sizeof record->operation);
    sql_read_text(s, record->target, sizeof record->target);
    sql_read_text(s, record->outcome, sizeof record->outcome);
    sql_read_bytes(s, record->request_id, sizeof record->request_id);
    sql_read_bytes(s, record->row_id, sizeof record->row_id);
    record->row_version = sql_read_u64(s);
    sql_read_bytes(s, record->hash, sizeof record->hash);
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
    static const struct sql_list rows = {"an audit record", sizeof **out, read_record};
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, node != NULL ? of_node : of_all, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_u64(&statement, after < INT64_MAX ? after : INT64_MAX);
    sql_bind_u64(&statement, limit < INT64_MAX ? limit : INT64_MAX);
    if (node != NULL)
        sql_bind_text(&statement, node);
    return sql_collect(&statement, &rows, out, count, err);
}

static enum sso_code of_operation(struct store_tx *tx, const char *operation,
                                  struct audit_record **out, size_t *count, struct sso_error *err)
{
    static const char sql[] =
        "SELECT node, number, time_ms, actor, how, operation, target, outcome, request_id, row_id,"
        " row_version, hash FROM audit WHERE operation = ? ORDER BY node, number";
    static const struct sql_list rows = {"an audit record", sizeof **out, read_record};
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_text(&statement, operation);
    return sql_collect(&statement, &rows, out, count, err);
}

static void read_audit_head(struct sql_statement *s, void *out)
{
    struct audit_head *head = out;
    sql_read_text(s, head->node, sizeof head->node);
    head->number = sql_read_u64(s);
    sql_read_bytes(s, head->hash, sizeof head->hash);
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
    static const struct sql_list rows = {"the last audit record", sizeof **out, read_audit_head};
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    return rc != SSO_OK ? rc : sql_collect(&statement, &rows, out, count, err);
}

const struct store_audit_ops sql_audit_ops = {
    .append = append,
    .list = list,
    .of_operation = of_operation,
    .heads = heads,
};
