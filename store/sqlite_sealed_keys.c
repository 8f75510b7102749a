#include "store/sqlite_statement.h"

static void read_key(struct sqlite_statement *s, void *out)
{
    struct sealed_key *key = out;
    sqlite_read_bytes(s, key->key_id, sizeof key->key_id);
    sqlite_read_name(s, key->purpose, sizeof key->purpose);
    key->generation = (uint32_t)sqlite_read_integer(s, 1, UINT32_MAX);
    key->born = (uint32_t)sqlite_read_integer(s, 1, UINT32_MAX);
    sqlite_read_wrapped(s, &key->wrapped);
}

static enum sso_code list(struct store_tx *tx, struct sealed_key **out, size_t *count,
                          struct sso_error *err)
{
    static const char sql[] = "SELECT key_id, purpose, generation, born, wrapped FROM sealed_keys"
                              " ORDER BY purpose, key_id";
    static const struct sqlite_list rows = {"a sealed key", sizeof **out, read_key};
    SQLITE_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sqlite_prepare(tx, sql, &statement, err);
    return rc != SSO_OK ? rc : sqlite_collect(&statement, &rows, out, count, err);
}

static enum sso_code insert(struct store_tx *tx, const struct sealed_key *key,
                            struct sso_error *err)
{
    static const char sql[] = "INSERT INTO sealed_keys (key_id, purpose, generation, born, wrapped)"
                              " VALUES (?, ?, ?, ?, ?)";
    SQLITE_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sqlite_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sqlite_bind_bytes(&statement, key->key_id, sizeof key->key_id);
    sqlite_bind_text(&statement, key->purpose);
    sqlite_bind_integer(&statement, key->generation);
    sqlite_bind_integer(&statement, key->born);
    sqlite_bind_wrapped(&statement, &key->wrapped);
    rc = sqlite_run(&statement, NULL, err);
    if (rc == SSO_ALREADY_EXISTS)
        return sso_fail(err, rc, "a sealed key with this id (%s) is there already", key->purpose);
    return rc;
}

static enum sso_code swap(struct store_tx *tx, const struct sealed_key *old_key,
                          const struct sealed_key *new_key, bool *swapped, struct sso_error *err)
{
    static const char sql[] = "UPDATE sealed_keys SET generation = ?, wrapped = ?"
                              " WHERE key_id = ? AND generation = ? AND wrapped = ?";
    SQLITE_STATEMENT_AUTO statement = {0};
    uint64_t changed = 0;
    enum sso_code rc = sqlite_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sqlite_bind_integer(&statement, new_key->generation);
    sqlite_bind_wrapped(&statement, &new_key->wrapped);
    sqlite_bind_bytes(&statement, old_key->key_id, sizeof old_key->key_id);
    sqlite_bind_integer(&statement, old_key->generation);
    sqlite_bind_wrapped(&statement, &old_key->wrapped);
    rc = sqlite_run(&statement, &changed, err);
    *swapped = rc == SSO_OK && changed == 1;
    return rc;
}

const struct store_sealed_key_ops sqlite_sealed_key_ops = {
    .list = list,
    .insert = insert,
    .swap = swap,
};
