#include "store/sql_statement.h"

static void read_node(struct sql_statement *s, void *out)
{
    struct node *node = out;
    sql_read_name(s, node->name, sizeof node->name);
    sql_read_text(s, node->address, sizeof node->address);
    sql_read_bytes(s, node->key, sizeof node->key);
    node->approved = sql_read_bool(s);
    sql_read_text(s, node->apps, sizeof node->apps);
    node->release_burst = sql_read_u32(s);
    sql_read_text(s, node->approved_by, sizeof node->approved_by);
    node->joined_ms = sql_read_time(s);
    node->approved_ms = sql_read_time(s);
    node->revocation = sql_read_u64(s);
    node->version = sql_read_u64(s);
    sql_read_bytes(s, node->tag, sizeof node->tag);
}

static void distrust_node(void *out)
{
    struct node *node = out;
    node->approved = false;
}

static enum sso_code list(struct store_tx *tx, struct node **out, size_t *count,
                          struct sso_error *err)
{
    static const char sql[] =
        "SELECT name, address, public_key, approved, apps, release_burst, approved_by, joined_ms,"
        " approved_ms, revocation, version, tag FROM nodes ORDER BY name";
    static const struct sql_list rows = {"a node", sizeof **out, read_node, distrust_node};
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    return rc != SSO_OK ? rc : sql_collect(&statement, &rows, out, count, err);
}

static enum sso_code put(struct store_tx *tx, const struct node *node, struct sso_error *err)
{
    static const char insert_sql[] =
        "INSERT INTO nodes (name, address, public_key, approved, apps, release_burst, approved_by,"
        " joined_ms, approved_ms, revocation, version, tag)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING";
    static const char update_sql[] =
        "UPDATE nodes SET address = ?2, public_key = ?3, approved = ?4, apps = ?5,"
        " release_burst = ?6, approved_by = ?7, joined_ms = ?8, approved_ms = ?9, revocation = ?10,"
        " version = ?11, tag = ?12 WHERE name = ?1 AND version = ?11 - 1";
    SQL_STATEMENT_AUTO s = {0};
    uint64_t changed = 0;
    enum sso_code rc = sql_prepare(tx, node->version == 1 ? insert_sql : update_sql, &s, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_text(&s, node->name);
    sql_bind_text(&s, node->address);
    sql_bind_bytes(&s, node->key, sizeof node->key);
    sql_bind_integer(&s, node->approved);
    sql_bind_text(&s, node->apps);
    sql_bind_integer(&s, node->release_burst);
    sql_bind_text(&s, node->approved_by);
    sql_bind_integer(&s, node->joined_ms);
    sql_bind_integer(&s, node->approved_ms);
    sql_bind_u64(&s, node->revocation);
    sql_bind_u64(&s, node->version);
    sql_bind_bytes(&s, node->tag, sizeof node->tag);
    rc = sql_run(&s, &changed, err);
    if (rc == SSO_OK && changed != 1)
        return sso_fail(err, SSO_VERSION_CONFLICT, "somebody else changed the node %s", node->name);
    return rc;
}

static enum sso_code take_out(struct store_tx *tx, const char *name, struct sso_error *err)
{
    SQL_STATEMENT_AUTO s = {0};
    uint64_t changed = 0;
    enum sso_code rc = sql_prepare(tx, "DELETE FROM nodes WHERE name = ?", &s, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_text(&s, name);
    rc = sql_run(&s, &changed, err);
    return rc == SSO_OK && changed == 0 ? sso_fail(err, SSO_NOT_FOUND, "there is no node %s", name)
                                        : rc;
}

const struct store_node_ops sql_node_ops = {
    .list = list,
    .put = put,
    .remove = take_out,
};
