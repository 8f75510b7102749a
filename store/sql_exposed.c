#include "store/sql_statement.h"

static enum sso_code put(struct store_tx *tx, const struct exposed_row *row, struct sso_error *err)
{
    static const char sql[] =
        "INSERT INTO exposed (row_id, born, since_ms) VALUES (?, ?, ?)"
        " ON CONFLICT (row_id) DO UPDATE SET born = CASE WHEN"
        " excluded.born < exposed.born THEN excluded.born ELSE exposed.born END";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, row->row_id, sizeof row->row_id);
    sql_bind_integer(&statement, row->born);
    sql_bind_integer(&statement, row->renewed_ms);
    return sql_run(&statement, NULL, err);
}

/* A damaged row of the table is exposed all the same. */
static void read_row(struct sql_statement *s, void *out)
{
    struct exposed_row *row = out;
    sql_read_bytes(s, row->row_id, sizeof row->row_id);
    row->born = sql_read_u32(s);
    row->renewed_ms = sql_read_time(s);
    sql_read_note(s, row->application, sizeof row->application);
    sql_read_note(s, row->principal, sizeof row->principal);
    s->damaged = false;
}

static enum sso_code list(struct store_tx *tx, uint32_t number, const uint8_t *after, size_t limit,
                          struct exposed_row **out, size_t *count, struct sso_error *err)
{
    static const char sql[] =
        "SELECT c.row_id, CASE WHEN e.born < c.born THEN e.born ELSE c.born END, "
        "coalesce(e.since_ms, 0),"
        " coalesce(a.name, ''), c.principal FROM credentials AS c"
        " LEFT JOIN exposed AS e ON e.row_id = c.row_id"
        " LEFT JOIN applications AS a ON a.id = c.application_id"
        " WHERE c.row_id > ?2 AND (c.born <= ?1 OR e.born <= ?1) ORDER BY c.row_id LIMIT ?3";
    static const struct sql_list rows = {"an exposed row", sizeof **out, read_row, NULL};
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_integer(&statement, number);
    sql_bind_bytes(&statement, after != NULL ? after : (const uint8_t *)"",
                   after != NULL ? ROW_ID_BYTES : 0);
    sql_bind_u64(&statement, limit);
    return sql_collect(&statement, &rows, out, count, err);
}

static enum sso_code count_entries(struct store_tx *tx, uint64_t *count, struct sso_error *err)
{
    static const char sql[] = "SELECT count(*) FROM exposed";
    SQL_STATEMENT_AUTO statement = {0};
    bool row = false;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc == SSO_OK)
        rc = sql_step(&statement, &row, err);
    if (rc == SSO_OK)
        *count = sql_read_u64(&statement);
    return rc;
}

const struct store_exposed_ops sql_exposed_ops = {
    .put = put,
    .list = list,
    .count = count_entries,
};
