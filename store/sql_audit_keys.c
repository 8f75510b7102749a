/* Public audit keys, and what they signed. */
#include <string.h>

#include "common/encode.h"
#include "store/sql_statement.h"

#define HEADS_BYTES_MAX (AUDIT_HEADS_MAX * (sizeof(struct audit_head) + 16) + 16)

static enum sso_code insert(struct store_tx *tx, const struct audit_key *key, struct sso_error *err)
{
    static const char sql[] =
        "INSERT INTO audit_keys (id, token, serial, manufacturer, model, node,"
        " public_key, since_ms, tag) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, key->id, sizeof key->id);
    sql_bind_text(&statement, key->token.token);
    sql_bind_text(&statement, key->token.serial);
    sql_bind_text(&statement, key->token.manufacturer);
    sql_bind_text(&statement, key->token.model);
    sql_bind_text(&statement, key->node);
    sql_bind_bytes(&statement, key->public_key, sizeof key->public_key);
    sql_bind_integer(&statement, key->since_ms);
    sql_bind_bytes(&statement, key->tag, sizeof key->tag);
    return sql_insert(&statement, err);
}

static void read_key(struct sql_statement *s, void *out)
{
    struct audit_key *key = out;
    sql_read_bytes(s, key->id, sizeof key->id);
    sql_read_text(s, key->token.token, sizeof key->token.token);
    sql_read_text(s, key->token.serial, sizeof key->token.serial);
    sql_read_text(s, key->token.manufacturer, sizeof key->token.manufacturer);
    sql_read_text(s, key->token.model, sizeof key->token.model);
    sql_read_text(s, key->node, sizeof key->node);
    sql_read_bytes(s, key->public_key, sizeof key->public_key);
    key->since_ms = sql_read_time(s);
    sql_read_bytes(s, key->tag, sizeof key->tag);
}

static void distrust_key(void *element)
{
    struct audit_key *key = element, empty = {0};
    memcpy(empty.id, key->id, sizeof empty.id);
    *key = empty;
}

static enum sso_code list(struct store_tx *tx, struct audit_key **out, size_t *count,
                          struct sso_error *err)
{
    static const char sql[] = "SELECT id, token, serial, manufacturer, model, node, public_key,"
                              " since_ms, tag FROM audit_keys ORDER BY since_ms, id";
    static const struct sql_list rows = {"an audit key", sizeof **out, read_key, distrust_key};
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    return rc != SSO_OK ? rc : sql_collect(&statement, &rows, out, count, err);
}

/* --- signatures --- */

static void encode_heads(struct encoder *out, const struct audit_signature *signature)
{
    encode_u32(out, (uint32_t)signature->head_count);
    for (size_t i = 0; i < signature->head_count && i < AUDIT_HEADS_MAX; i++) {
        encode_text(out, signature->head[i].node);
        encode_u64(out, signature->head[i].number);
        encode_fixed(out, signature->head[i].hash, sizeof signature->head[i].hash);
    }
}

static bool decode_heads(const void *bytes, size_t count, struct audit_signature *out)
{
    struct decoder in = {.next = bytes, .left_bytes = count};
    out->head_count = decode_u32(&in);
    if (out->head_count > AUDIT_HEADS_MAX)
        return false;
    for (size_t i = 0; i < out->head_count; i++) {
        decode_text(&in, out->head[i].node, sizeof out->head[i].node);
        out->head[i].number = decode_u64(&in);
        decode_fixed(&in, out->head[i].hash, sizeof out->head[i].hash);
    }
    return decode_end(&in, "heads", NULL) == SSO_OK;
}

static enum sso_code read_signature(struct sql_statement *s, struct audit_signature *out,
                                    struct sso_error *err)
{
    bool found = false;
    *out = (struct audit_signature){0};
    enum sso_code rc = sql_step(s, &found, err);
    if (rc != SSO_OK || !found)
        return rc;
    size_t count = 0;
    uint64_t number = (uint64_t)sql_read_integer(s, INT64_MIN, INT64_MAX);
    out->time_ms = sql_read_integer(s, INT64_MIN, INT64_MAX);
    sql_read_bytes(s, out->key_id, sizeof out->key_id);
    const void *heads = sql_view_bytes(s, HEADS_BYTES_MAX, &count);
    bool whole = heads != NULL && decode_heads(heads, count, out);
    sql_read_bytes(s, out->signature, sizeof out->signature);
    if (!whole || s->damaged)
        *out = (struct audit_signature){0};
    s->damaged = false;
    out->number = number;
    return SSO_OK;
}

#define COLUMNS "SELECT number, time_ms, key_id, heads, signature FROM audit_signatures"

static enum sso_code signature_latest(struct store_tx *tx, struct audit_signature *out,
                                      struct sso_error *err)
{
    static const char sql[] = COLUMNS " ORDER BY number DESC LIMIT 1";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    return rc != SSO_OK ? rc : read_signature(&statement, out, err);
}

static enum sso_code signature_next(struct store_tx *tx, uint64_t after,
                                    struct audit_signature *out, struct sso_error *err)
{
    static const char sql[] = COLUMNS " WHERE number > ? ORDER BY number LIMIT 1";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_u64(&statement, after < INT64_MAX ? after : INT64_MAX);
    return read_signature(&statement, out, err);
}

static enum sso_code signature_insert(struct store_tx *tx, const struct audit_signature *signature,
                                      struct sso_error *err)
{
    static const char sql[] =
        "INSERT INTO audit_signatures (number, time_ms, key_id, heads, signature)"
        " SELECT ?1, ?2, ?3, ?4, ?5"
        " WHERE ?1 = 1 + coalesce((SELECT max(number) FROM audit_signatures), 0)";
    ENCODER_AUTO heads = {0}; /* bound, so it outlives the statement */
    SQL_STATEMENT_AUTO statement = {0};
    uint64_t changed = 0;
    encode_heads(&heads, signature);
    if (heads.failed)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the heads of the audit");
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_u64(&statement, signature->number);
    sql_bind_integer(&statement, signature->time_ms);
    sql_bind_bytes(&statement, signature->key_id, sizeof signature->key_id);
    sql_bind_bytes(&statement, heads.data, heads.length_bytes);
    sql_bind_bytes(&statement, signature->signature, sizeof signature->signature);
    rc = sql_run(&statement, &changed, err);
    if (rc == SSO_OK && changed != 1)
        return sso_fail(err, SSO_VERSION_CONFLICT, "another program signed the audit meanwhile");
    return rc;
}

const struct store_audit_key_ops sql_audit_key_ops = {
    .insert = insert,
    .list = list,
    .signature_latest = signature_latest,
    .signature_insert = signature_insert,
    .signature_next = signature_next,
};
