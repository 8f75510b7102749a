#include "store/sqlite_statement.h"

static void read_set(struct sqlite_statement *s, void *out)
{
    struct share_set *set = out;
    sqlite_read_name(s, set->id, sizeof set->id);
    set->scheme.threshold = (uint8_t)sqlite_read_integer(s, 1, SLIP39_SHARES_MAX);
    set->scheme.count = (uint8_t)sqlite_read_integer(s, 1, SLIP39_SHARES_MAX);
    set->scheme.iteration_exponent = (uint8_t)sqlite_read_integer(s, 0, 15);
    set->identifier = (uint16_t)sqlite_read_integer(s, 0, 0x7fff);
    set->passphrase = sqlite_read_bool(s);
    set->created_ms = sqlite_read_time(s);
    sqlite_read_bytes(s, set->fingerprint, sizeof set->fingerprint);
    sqlite_read_bytes(s, set->verifier, sizeof set->verifier);
    set->version = sqlite_read_u64(s);
    sqlite_read_bytes(s, set->tag, sizeof set->tag);
}

static enum sso_code list(struct store_tx *tx, struct share_set **out, size_t *count,
                          struct sso_error *err)
{
    static const char sql[] =
        "SELECT id, threshold, count, iteration_exponent, identifier, passphrase, created_ms,"
        " fingerprints, verifier, version, tag FROM share_sets ORDER BY created_ms, id";
    static const struct sqlite_list rows = {"a share set", sizeof **out, read_set, NULL};
    SQLITE_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sqlite_prepare(tx, sql, &statement, err);
    return rc != SSO_OK ? rc : sqlite_collect(&statement, &rows, out, count, err);
}

static enum sso_code insert(struct store_tx *tx, const struct share_set *set, struct sso_error *err)
{
    static const char sql[] =
        "INSERT INTO share_sets (id, threshold, count, iteration_exponent, identifier, passphrase,"
        " created_ms, fingerprints, verifier, version, tag) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
        "?)";
    SQLITE_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sqlite_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sqlite_bind_text(&statement, set->id);
    sqlite_bind_integer(&statement, set->scheme.threshold);
    sqlite_bind_integer(&statement, set->scheme.count);
    sqlite_bind_integer(&statement, set->scheme.iteration_exponent);
    sqlite_bind_integer(&statement, set->identifier);
    sqlite_bind_integer(&statement, set->passphrase);
    sqlite_bind_integer(&statement, set->created_ms);
    sqlite_bind_bytes(&statement, set->fingerprint, sizeof set->fingerprint);
    sqlite_bind_bytes(&statement, set->verifier, sizeof set->verifier);
    sqlite_bind_u64(&statement, set->version);
    sqlite_bind_bytes(&statement, set->tag, sizeof set->tag);
    rc = sqlite_run(&statement, NULL, err);
    if (rc == SSO_ALREADY_EXISTS)
        return sso_fail(err, rc, "the share set %s is there already", set->id);
    return rc;
}

const struct store_share_set_ops sqlite_share_set_ops = {
    .list = list,
    .insert = insert,
};
