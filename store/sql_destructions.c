#include "store/sql_statement.h"

static enum sso_code get(struct store_tx *tx, uint32_t number, struct destruction *out,
                         struct sso_error *err)
{
    static const char sql[] =
        "SELECT generation, asked_by, asked_uid, asked_ms, grace_ms, for_ever, older_backups,"
        " confirmed_by, confirmed_ms, destroying_ms, version, tag FROM destructions"
        " WHERE generation = ?";
    SQL_STATEMENT_AUTO s = {0};
    bool found = false;
    *out = (struct destruction){0};
    enum sso_code rc = sql_prepare(tx, sql, &s, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_integer(&s, number);
    rc = sql_step(&s, &found, err);
    if (rc != SSO_OK || !found)
        return rc;
    struct destruction row = {.number = (uint32_t)sql_read_integer(&s, 1, UINT32_MAX)};
    sql_read_text(&s, row.asked_by, sizeof row.asked_by);
    row.asked_uid = sql_read_u64(&s);
    row.asked_ms = sql_read_time(&s);
    row.grace_ms = sql_read_time(&s);
    row.for_ever = sql_read_bool(&s);
    row.older_backups = sql_read_bool(&s);
    sql_read_text(&s, row.confirmed_by, sizeof row.confirmed_by);
    row.confirmed_ms = sql_read_time(&s);
    row.destroying_ms = sql_read_time(&s);
    row.version = sql_read_u64(&s);
    sql_read_bytes(&s, row.tag, sizeof row.tag);
    rc = sql_check_row(&s, "the destruction of a generation", err);
    if (rc == SSO_OK)
        *out = row;
    return rc;
}

static enum sso_code put(struct store_tx *tx, const struct destruction *row, struct sso_error *err)
{
    static const char insert_sql[] =
        "INSERT INTO destructions (generation, asked_by, asked_uid, asked_ms, grace_ms, for_ever,"
        " older_backups, confirmed_by, confirmed_ms, destroying_ms, version, tag)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING";
    static const char update_sql[] =
        "UPDATE destructions SET asked_by = ?2, asked_uid = ?3, asked_ms = ?4, grace_ms = ?5,"
        " for_ever = ?6, older_backups = ?7, confirmed_by = ?8, confirmed_ms = ?9,"
        " destroying_ms = ?10, version = ?11, tag = ?12 WHERE generation = ?1"
        " AND version = ?11 - 1";
    SQL_STATEMENT_AUTO s = {0};
    uint64_t changed = 0;
    enum sso_code rc = sql_prepare(tx, row->version == 1 ? insert_sql : update_sql, &s, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_integer(&s, row->number);
    sql_bind_text(&s, row->asked_by);
    sql_bind_u64(&s, row->asked_uid);
    sql_bind_integer(&s, row->asked_ms);
    sql_bind_integer(&s, row->grace_ms);
    sql_bind_integer(&s, row->for_ever);
    sql_bind_integer(&s, row->older_backups);
    sql_bind_text(&s, row->confirmed_by);
    sql_bind_integer(&s, row->confirmed_ms);
    sql_bind_integer(&s, row->destroying_ms);
    sql_bind_u64(&s, row->version);
    sql_bind_bytes(&s, row->tag, sizeof row->tag);
    rc = sql_run(&s, &changed, err);
    if (rc == SSO_OK && changed != 1)
        return sso_fail(err, SSO_VERSION_CONFLICT,
                        "somebody else is at the destruction of generation %u", row->number);
    return rc;
}

const struct store_destruction_ops sql_destruction_ops = {
    .get = get,
    .put = put,
};
