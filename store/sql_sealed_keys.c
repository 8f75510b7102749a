#include "store/sql_statement.h"

static void read_key(struct sql_statement *s, void *out)
{
    struct sealed_key *key = out;
    sql_read_bytes(s, key->key_id, sizeof key->key_id);
    sql_read_name(s, key->purpose, sizeof key->purpose);
    key->generation = (uint32_t)sql_read_integer(s, 1, UINT32_MAX);
    key->born = (uint32_t)sql_read_integer(s, 1, UINT32_MAX);
    sql_read_wrapped(s, &key->wrapped);
}

static enum sso_code list(struct store_tx *tx, struct sealed_key **out, size_t *count,
                          struct sso_error *err)
{
    static const char sql[] = "SELECT key_id, purpose, generation, born, wrapped FROM sealed_keys"
                              " ORDER BY purpose, key_id";
    static const struct sql_list rows = {"a sealed key", sizeof **out, read_key};
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    return rc != SSO_OK ? rc : sql_collect(&statement, &rows, out, count, err);
}

static enum sso_code insert(struct store_tx *tx, const struct sealed_key *key,
                            struct sso_error *err)
{
    static const char sql[] = "INSERT INTO sealed_keys (key_id, purpose, generation, born, wrapped)"
                              " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, key->key_id, sizeof key->key_id);
    sql_bind_text(&statement, key->purpose);
    sql_bind_integer(&statement, key->generation);
    sql_bind_integer(&statement, key->born);
    sql_bind_wrapped(&statement, &key->wrapped);
    rc = sql_insert(&statement, err);
    if (rc == SSO_ALREADY_EXISTS)
        return sso_fail(err, rc, "a sealed key with this id (%s) is there already", key->purpose);
    return rc;
}

static enum sso_code swap(struct store_tx *tx, const struct sealed_key *old_key,
                          const struct sealed_key *new_key, bool *swapped, struct sso_error *err)
{
    static const char sql[] = "UPDATE sealed_keys SET generation = ?, wrapped = ?"
                              " WHERE key_id = ? AND generation = ? AND wrapped = ?";
    SQL_STATEMENT_AUTO statement = {0};
    uint64_t changed = 0;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_integer(&statement, new_key->generation);
    sql_bind_wrapped(&statement, &new_key->wrapped);
    sql_bind_bytes(&statement, old_key->key_id, sizeof old_key->key_id);
    sql_bind_integer(&statement, old_key->generation);
    sql_bind_wrapped(&statement, &old_key->wrapped);
    rc = sql_run(&statement, &changed, err);
    *swapped = rc == SSO_OK && changed == 1;
    return rc;
}

const struct store_sealed_key_ops sql_sealed_key_ops = {
    .list = list,
    .insert = insert,
    .swap = swap,
};
