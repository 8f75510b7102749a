#include <string.h>

#include "store/sql_rows.h"

void sql_read_mapping(struct sql_statement *s, void *out)
{
    struct mapping *mapping = out;
    sql_read_bytes(s, mapping->application_id, sizeof mapping->application_id);
    sql_read_name(s, mapping->principal, sizeof mapping->principal);
    sql_read_text(s, mapping->external_user, sizeof mapping->external_user);
    mapping->state =
        (enum mapping_state)sql_read_integer(s, MAPPING_ENABLED, MAPPING_DISABLED_BY_ADMIN);
    mapping->updated_ms = sql_read_time(s);
    mapping->version = sql_read_u64(s);
    sql_read_bytes(s, mapping->tag, sizeof mapping->tag);
}

static enum sso_code no_such_mapping(const char *principal, struct sso_error *err)
{
    return sso_fail(err, SSO_NOT_FOUND, "%s has no mapping in this application", principal);
}

static enum sso_code get(struct store_tx *tx,
                         const uint8_t application_id[static APPLICATION_ID_BYTES],
                         const char *principal, struct mapping *out, struct sso_error *err)
{
    static const char sql[] = "SELECT " MAPPING_COLUMNS " FROM mappings AS m"
                              " WHERE m.application_id = ? AND m.principal = ?";
    SQL_STATEMENT_AUTO statement = {0};
    struct mapping mapping = {0};
    bool found = false;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, application_id, APPLICATION_ID_BYTES);
    sql_bind_text(&statement, principal);
    rc = sql_step(&statement, &found, err);
    if (rc != SSO_OK)
        return rc;
    if (!found)
        return no_such_mapping(principal, err);
    sql_read_mapping(&statement, &mapping);
    if ((rc = sql_check_row(&statement, "a mapping", err)) == SSO_OK)
        *out = mapping;
    return rc;
}

static enum sso_code put(struct store_tx *tx, const struct mapping *mapping, struct sso_error *err)
{
    static const char insert_sql[] =
        "INSERT INTO mappings (application_id, principal, external_user, state, updated_ms, "
        "version,"
        " tag) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING";
    static const char update_sql[] =
        "UPDATE mappings SET external_user = ?3, state = ?4, updated_ms = ?5, version = ?6,"
        " tag = ?7 WHERE application_id = ?1 AND principal = ?2 AND version = ?6 - 1";
    SQL_STATEMENT_AUTO statement = {0};
    uint64_t changed = 0;
    enum sso_code rc =
        sql_prepare(tx, mapping->version == 1 ? insert_sql : update_sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, mapping->application_id, sizeof mapping->application_id);
    sql_bind_text(&statement, mapping->principal);
    sql_bind_text(&statement, mapping->external_user);
    sql_bind_integer(&statement, mapping->state);
    sql_bind_integer(&statement, mapping->updated_ms);
    sql_bind_u64(&statement, mapping->version);
    sql_bind_bytes(&statement, mapping->tag, sizeof mapping->tag);
    rc = sql_run(&statement, &changed, err);
    if (rc == SSO_OK && changed != 1)
        return sso_fail(err, SSO_VERSION_CONFLICT, "the mapping of %s has changed meanwhile",
                        mapping->principal);
    return rc;
}

static enum sso_code delete (struct store_tx *tx,
                             const uint8_t application_id[static APPLICATION_ID_BYTES],
                             const char *principal, struct sso_error *err) {
    static const char sql[] = "DELETE FROM mappings WHERE application_id = ? AND principal = ?";
    SQL_STATEMENT_AUTO statement = {0};
    uint64_t changed = 0;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK) return rc;
    sql_bind_bytes(&statement, application_id, APPLICATION_ID_BYTES);
    sql_bind_text(&statement, principal);
    rc = sql_run(&statement, &changed, err);
    return rc == SSO_OK && changed == 0 ? no_such_mapping(principal, err) : rc;
}

static void read_view(struct sql_statement *s, void *out)
{
    struct mapping_view *view = out;
    sql_read_mapping(s, &view->mapping);
    view->has_credential = !sql_next_is_null(s);
    if (view->has_credential)
        sql_read_text(s, view->external_user, sizeof view->external_user);
    else
        sql_skip(s, 1);
}

static void distrust_view(void *out)
{
    struct mapping_view *view = out;
    view->mapping.state = MAPPING_DISABLED_BY_ADMIN;
    memset(view->mapping.tag, 0, sizeof view->mapping.tag);
}

static enum sso_code page(struct store_tx *tx,
                          const uint8_t application_id[static APPLICATION_ID_BYTES],
                          const char *after, size_t limit, struct mapping_view **out, size_t *count,
                          struct sso_error *err)
{
    static const char sql[] =
        "SELECT " MAPPING_COLUMNS ", c.external_user FROM mappings AS m LEFT JOIN credentials AS c"
        " ON c.application_id = m.application_id AND c.principal = m.principal"
        " WHERE m.application_id = ? AND m.principal > ? ORDER BY m.principal LIMIT ?";
    static const struct sql_list list = {"a mapping", sizeof **out, read_view, distrust_view};
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, application_id, APPLICATION_ID_BYTES);
    sql_bind_text(&statement, after);
    sql_bind_u64(&statement, limit);
    return sql_collect(&statement, &list, out, count, err);
}

const struct store_mapping_ops sql_mapping_ops = {
    .get = get,
    .put = put,
    .delete = delete,
    .page = page,
};
