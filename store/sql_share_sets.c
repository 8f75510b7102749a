#include "store/sql_statement.h"

static void read_set(struct sql_statement *s, void *out)
{
    struct share_set *set = out;
    sql_read_name(s, set->id, sizeof set->id);
    set->scheme.threshold = (uint8_t)sql_read_integer(s, 1, SLIP39_SHARES_MAX);
    set->scheme.count = (uint8_t)sql_read_integer(s, 1, SLIP39_SHARES_MAX);
    set->scheme.iteration_exponent = (uint8_t)sql_read_integer(s, 0, 15);
    set->identifier = (uint16_t)sql_read_integer(s, 0, 0x7fff);
    set->passphrase = sql_read_bool(s);
    set->created_ms = sql_read_time(s);
    sql_read_bytes(s, set->fingerprint, sizeof set->fingerprint);
    sql_read_bytes(s, set->verifier, sizeof set->verifier);
    set->version = sql_read_u64(s);
    sql_read_bytes(s, set->tag, sizeof set->tag);
}

static enum sso_code list(struct store_tx *tx, struct share_set **out, size_t *count,
                          struct sso_error *err)
{
    static const char sql[] =
        "SELECT id, threshold, count, iteration_exponent, identifier, passphrase, created_ms,"
        " fingerprints, verifier, version, tag FROM share_sets ORDER BY created_ms, id";
    static const struct sql_list rows = {"a share set", sizeof **out, read_set, NULL};
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    return rc != SSO_OK ? rc : sql_collect(&statement, &rows, out, count, err);
}

static enum sso_code insert(struct store_tx *tx, const struct share_set *set, struct sso_error *err)
{
    static const char sql[] =
        "INSERT INTO share_sets (id, threshold, count, iteration_exponent, identifier, passphrase,"
        " created_ms, fingerprints, verifier, version, tag)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_text(&statement, set->id);
    sql_bind_integer(&statement, set->scheme.threshold);
    sql_bind_integer(&statement, set->scheme.count);
    sql_bind_integer(&statement, set->scheme.iteration_exponent);
    sql_bind_integer(&statement, set->identifier);
    sql_bind_integer(&statement, set->passphrase);
    sql_bind_integer(&statement, set->created_ms);
    sql_bind_bytes(&statement, set->fingerprint, sizeof set->fingerprint);
    sql_bind_bytes(&statement, set->verifier, sizeof set->verifier);
    sql_bind_u64(&statement, set->version);
    sql_bind_bytes(&statement, set->tag, sizeof set->tag);
    rc = sql_insert(&statement, err);
    if (rc == SSO_ALREADY_EXISTS)
        return sso_fail(err, rc, "the share set %s is there already", set->id);
    return rc;
}

const struct store_share_set_ops sql_share_set_ops = {
    .list = list,
    .insert = insert,
};
