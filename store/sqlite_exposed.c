#include "store/sqlite_statement.h"

static enum sso_code put(struct store_tx *tx, const struct exposed_row *row, struct sso_error *err)
{
    static const char sql[] = "INSERT INTO exposed (row_id, born, since_ms) VALUES (?, ?, ?)"
                              " ON CONFLICT (row_id) DO UPDATE SET born = min(born, excluded.born)";
    SQLITE_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sqlite_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sqlite_bind_bytes(&statement, row->row_id, sizeof row->row_id);
    sqlite_bind_integer(&statement, row->born);
    sqlite_bind_integer(&statement, row->renewed_ms);
    return sqlite_run(&statement, NULL, err);
}

/* A damaged row of the table is exposed all the same. */
static void read_row(struct sqlite_statement *s, void *out)
{
    struct exposed_row *row = out;
    sqlite_read_bytes(s, row->row_id, sizeof row->row_id);
    row->born = sqlite_read_u32(s);
    row->renewed_ms = sqlite_read_time(s);
    sqlite_read_note(s, row->application, sizeof row->application);
    sqlite_read_note(s, row->principal, sizeof row->principal);
    s->damaged = false;
}

static enum sso_code list(struct store_tx *tx, uint32_t number, const uint8_t *after, size_t limit,
                          struct exposed_row **out, size_t *count, struct sso_error *err)
{
    static const char sql[] =
        "SELECT c.row_id, coalesce(min(e.born, c.born), c.born), coalesce(e.since_ms, 0),"
        " coalesce(a.name, ''), c.principal FROM credentials AS c"
        " LEFT JOIN exposed AS e ON e.row_id = c.row_id"
        " LEFT JOIN applications AS a ON a.id = c.application_id"
        " WHERE c.row_id > ?2 AND (c.born <= ?1 OR e.born <= ?1) ORDER BY c.row_id LIMIT ?3";
    static const struct sqlite_list rows = {"an exposed row", sizeof **out, read_row, NULL};
    SQLITE_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sqlite_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sqlite_bind_integer(&statement, number);
    sqlite_bind_bytes(&statement, after != NULL ? after : (const uint8_t *)"",
                      after != NULL ? ROW_ID_BYTES : 0);
    sqlite_bind_u64(&statement, limit);
    return sqlite_collect(&statement, &rows, out, count, err);
}

static enum sso_code count_entries(struct store_tx *tx, uint64_t *count, struct sso_error *err)
{
    static const char sql[] = "SELECT count(*) FROM exposed";
    SQLITE_STATEMENT_AUTO statement = {0};
    bool row = false;
    enum sso_code rc = sqlite_prepare(tx, sql, &statement, err);
    if (rc == SSO_OK)
        rc = sqlite_step(&statement, &row, err);
    if (rc == SSO_OK)
        *count = sqlite_read_u64(&statement);
    return rc;
}

const struct store_exposed_ops sqlite_exposed_ops = {
    .put = put,
    .list = list,
    .count = count_entries,
};
