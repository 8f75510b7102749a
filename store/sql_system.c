#include "store/sql_rows.h"

static enum sso_code get(struct store_tx *tx, struct system_row *out, struct sso_error *err)
{
    static const char sql[] = "SELECT id, name, created_ms FROM system";
    SQL_STATEMENT_AUTO statement = {0};
    bool found = false;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc == SSO_OK)
        rc = sql_step(&statement, &found, err);
    if (rc != SSO_OK)
        return rc;
    if (!found)
        return sso_fail(err, SSO_NOT_FOUND, "%s holds no system yet: run sso-hsm init",
                        sql_name(tx));
    struct system_row row = {0};
    sql_read_bytes(&statement, row.id, sizeof row.id);
    sql_read_name(&statement, row.name, sizeof row.name);
    row.created_ms = sql_read_time(&statement);
    if ((rc = sql_check_row(&statement, "the row of the system", err)) == SSO_OK)
        *out = row;
    return rc;
}

static enum sso_code insert(struct store_tx *tx, const struct system_row *row,
                            struct sso_error *err)
{
    static const char sql[] = "INSERT INTO system (one, id, name, created_ms)"
                              " VALUES (1, ?, ?, ?) ON CONFLICT DO NOTHING";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, row->id, sizeof row->id);
    sql_bind_text(&statement, row->name);
    sql_bind_integer(&statement, row->created_ms);
    rc = sql_insert(&statement, err);
    if (rc == SSO_ALREADY_EXISTS)
        return sso_fail(err, rc, "%s holds a system already", sql_name(tx));
    return rc;
}

void sql_read_setting(struct sql_statement *statement, void *out)
{
    struct setting *setting = out;
    sql_read_name(statement, setting->name, sizeof setting->name);
    sql_read_text(statement, setting->value, sizeof setting->value);
    setting->version = sql_read_u64(statement);
    sql_read_bytes(statement, setting->tag, sizeof setting->tag);
}

static enum sso_code setting_list(struct store_tx *tx, struct setting **out, size_t *count,
                                  struct sso_error *err)
{
    static const char sql[] = "SELECT " SETTING_COLUMNS("s") " FROM settings AS s ORDER BY s.name";
    static const struct sql_list list = {"a setting", sizeof **out, sql_read_setting};
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    return rc != SSO_OK ? rc : sql_collect(&statement, &list, out, count, err);
}

static enum sso_code setting_put(struct store_tx *tx, const struct setting *setting,
                                 struct sso_error *err)
{
    static const char insert_sql[] =
        "INSERT INTO settings (name, value, version, tag) VALUES (?1, ?2, ?3, ?4)"
        " ON CONFLICT DO NOTHING";
    static const char update_sql[] = "UPDATE settings SET value = ?2, version = ?3, tag = ?4"
                                     " WHERE name = ?1 AND version = ?3 - 1";
    SQL_STATEMENT_AUTO statement = {0};
    uint64_t changed = 0;
    enum sso_code rc =
        sql_prepare(tx, setting->version == 1 ? insert_sql : update_sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_text(&statement, setting->name);
    sql_bind_text(&statement, setting->value);
    sql_bind_u64(&statement, setting->version);
    sql_bind_bytes(&statement, setting->tag, sizeof setting->tag);
    rc = sql_run(&statement, &changed, err);
    if (rc == SSO_OK && changed != 1)
        return sso_fail(err, SSO_VERSION_CONFLICT, "the setting %s has changed meanwhile",
                        setting->name);
    return rc;
}

const struct store_system_ops sql_system_ops = {
    .get = get,
    .insert = insert,
    .setting_list = setting_list,
    .setting_put = setting_put,
};
