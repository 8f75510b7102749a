/* What pruning leaves of the audit chains, and pruning itself. */
#include "store/sql_statement.h"

static void read_base(struct sql_statement *s, void *out)
{
    struct audit_base *base = out;
    sql_read_text(s, base->last.node, sizeof base->last.node);
    base->last.number = sql_read_u64(s);
    sql_read_bytes(s, base->last.hash, sizeof base->last.hash);
    base->signature = sql_read_u64(s);
    base->time_ms = sql_read_time(s);
    sql_read_bytes(s, base->tag, sizeof base->tag);
}

/* Nothing announces it. */
static void distrust_base(void *element)
{
    *(struct audit_base *)element = (struct audit_base){0};
}

static enum sso_code list(struct store_tx *tx, struct audit_base **out, size_t *count,
                          struct sso_error *err)
{
    static const char sql[] =
        "SELECT node, number, hash, signature, time_ms, tag FROM audit_bases ORDER BY node";
    static const struct sql_list rows = {"a base of the audit", sizeof **out, read_base,
                                         distrust_base};
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    return rc != SSO_OK ? rc : sql_collect(&statement, &rows, out, count, err);
}

static enum sso_code put(struct store_tx *tx, const struct audit_base *base, struct sso_error *err)
{
    static const char sql[] =
        "INSERT INTO audit_bases (node, number, hash, signature, time_ms, tag)"
        " VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (node) DO UPDATE SET number = excluded.number, hash = excluded.hash,"
        " signature = excluded.signature, time_ms = excluded.time_ms, tag = excluded.tag";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_text(&statement, base->last.node);
    sql_bind_u64(&statement, base->last.number);
    sql_bind_bytes(&statement, base->last.hash, sizeof base->last.hash);
    sql_bind_u64(&statement, base->signature);
    sql_bind_integer(&statement, base->time_ms);
    sql_bind_bytes(&statement, base->tag, sizeof base->tag);
    return sql_run(&statement, NULL, err);
}

/* The last record of a chain stays whatever is asked: the next one is numbered after it. */
static enum sso_code prune(struct store_tx *tx, const char *node, uint64_t through, size_t limit,
                           uint64_t *pruned, struct sso_error *err)
{
    static const char sql[] = "DELETE FROM audit WHERE node = ?1 AND number <= ?2 AND number <"
                              " (SELECT min(number) FROM audit WHERE node = ?1) + ?3"
                              " AND number < (SELECT max(number) FROM audit WHERE node = ?1)";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_text(&statement, node);
    sql_bind_u64(&statement, through);
    sql_bind_u64(&statement, limit);
    return sql_run(&statement, pruned, err);
}

static enum sso_code prune_signatures(struct store_tx *tx, uint64_t through, size_t limit,
                                      uint64_t *pruned, struct sso_error *err)
{
    static const char sql[] = "DELETE FROM audit_signatures WHERE number <= ?1 AND number <"
                              " (SELECT min(number) FROM audit_signatures) + ?2";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_u64(&statement, through);
    sql_bind_u64(&statement, limit);
    return sql_run(&statement, pruned, err);
}

const struct store_audit_base_ops sql_audit_base_ops = {
    .list = list,
    .put = put,
    .prune = prune,
    .prune_signatures = prune_signatures,
};
