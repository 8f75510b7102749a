#include "store/sql_rows.h"

void sql_read_generation(struct sql_statement *s, void *out)
{
    struct generation *generation = out;
    generation->number = (uint32_t)sql_read_integer(s, 1, UINT32_MAX);
    sql_read_bytes(s, generation->secret_id, sizeof generation->secret_id);
    generation->suite = (enum suite_id)sql_read_integer(s, SUITE_AES256_KW, SUITE_AES256_GCM);
    generation->state =
        (enum generation_state)sql_read_integer(s, GENERATION_PENDING, GENERATION_DESTROYED);
    generation->compromised = sql_read_bool(s);
    generation->no_backup = sql_read_bool(s);
    generation->closed = sql_read_bool(s);
    generation->created_ms = sql_read_time(s);
    generation->backed_up_ms = sql_read_time(s);
    generation->last_drill_ms = sql_read_time(s);
    generation->retired_ms = sql_read_time(s);
    generation->going_ms = sql_read_time(s);
    sql_read_text(s, generation->share_set, sizeof generation->share_set);
    sql_read_wrapped(s, &generation->canary.wrapped);
    sql_read_bytes(s, generation->canary.mac, sizeof generation->canary.mac);
    generation->version = sql_read_u64(s);
    sql_read_bytes(s, generation->tag, sizeof generation->tag);
    generation->wraps = sql_read_u64(s);
}

static enum sso_code no_such_generation(uint32_t number, struct sso_error *err)
{
    return sso_fail(err, SSO_NOT_FOUND, "generation %u does not exist", number);
}

/* First the lock, then in a statement of its own the state: what is read was committed before the
 * lock was taken, and changes only under the exclusive one. */
static enum sso_code hold(struct store_tx *tx, uint32_t number, enum store_lock lock,
                          struct generation *out, struct sso_error *err)
{
    static const char sql[] =
        "SELECT " GENERATION_COLUMNS " FROM generations AS g WHERE g.number = ?";
    SQL_STATEMENT_AUTO statement = {0};
    struct generation generation = {0};
    bool found = false;
    const struct sql_lock held = {"generation", &number, sizeof number, lock};
    enum sso_code rc = tx->access == STORE_WRITE ? sql_lock(tx, &held, err) : SSO_OK;
    if (rc == SSO_OK)
        rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_integer(&statement, number);
    rc = sql_step(&statement, &found, err);
    if (rc != SSO_OK)
        return rc;
    if (!found)
        return no_such_generation(number, err);
    sql_read_generation(&statement, &generation);
    if ((rc = sql_check_row(&statement, "the row of a generation", err)) == SSO_OK)
        *out = generation;
    return rc;
}

static void distrust_generation(void *element)
{
    struct generation *generation = element;
    *generation = (struct generation){.number = generation->number};
}

static enum sso_code list(struct store_tx *tx, struct generation **out, size_t *count,
                          struct sso_error *err)
{
    static const char sql[] =
        "SELECT " GENERATION_COLUMNS " FROM generations AS g ORDER BY g.number";
    static const struct sql_list rows = {"the row of a generation", sizeof **out,
                                         sql_read_generation, distrust_generation};
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    return rc != SSO_OK ? rc : sql_collect(&statement, &rows, out, count, err);
}

/* What an update changes, then version and number. */
static void bind_changing(struct sql_statement *s, const struct generation *generation)
{
    sql_bind_integer(s, generation->suite);
    sql_bind_integer(s, generation->state);
    sql_bind_integer(s, generation->compromised);
    sql_bind_integer(s, generation->no_backup);
    sql_bind_integer(s, generation->closed);
    sql_bind_integer(s, generation->created_ms);
    sql_bind_integer(s, generation->backed_up_ms);
    sql_bind_integer(s, generation->last_drill_ms);
    sql_bind_integer(s, generation->retired_ms);
    sql_bind_integer(s, generation->going_ms);
    sql_bind_text(s, generation->share_set);
    sql_bind_wrapped(s, &generation->canary.wrapped);
    sql_bind_bytes(s, generation->canary.mac, sizeof generation->canary.mac);
    sql_bind_bytes(s, generation->tag, sizeof generation->tag);
    sql_bind_u64(s, generation->version);
    sql_bind_integer(s, generation->number);
}

static enum sso_code insert(struct store_tx *tx, const struct generation *generation,
                            struct sso_error *err)
{
    static const char sql[] =
        "INSERT INTO generations (suite, state, compromised, no_backup, closed, created_ms,"
        " backed_up_ms, last_drill_ms, retired_ms, going_ms, share_set, canary_wrapped, canary_mac,"
        " tag, version, number, secret_id, wraps)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    bind_changing(&statement, generation);
    sql_bind_bytes(&statement, generation->secret_id, sizeof generation->secret_id);
    sql_bind_u64(&statement, generation->wraps);
    rc = sql_insert(&statement, err);
    if (rc == SSO_ALREADY_EXISTS)
        return sso_fail(err, rc, "generation %u, or its secret id, is in the database already",
                        generation->number);
    return rc;
}

static enum sso_code update(struct store_tx *tx, const struct generation *generation,
                            struct sso_error *err)
{
    static const char sql[] =
        "UPDATE generations SET suite = ?1, state = ?2, compromised = ?3, no_backup = ?4,"
        " closed = ?5, created_ms = ?6, backed_up_ms = ?7, last_drill_ms = ?8, retired_ms = ?9,"
        " going_ms = ?10, share_set = ?11, canary_wrapped = ?12, canary_mac = ?13, tag = ?14,"
        " version = ?15 WHERE number = ?16 AND version = ?15 - 1";
    SQL_STATEMENT_AUTO statement = {0};
    uint64_t changed = 0;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    bind_changing(&statement, generation);
    rc = sql_run(&statement, &changed, err);
    if (rc == SSO_OK && changed != 1)
        return sso_fail(err, SSO_VERSION_CONFLICT, "generation %u has changed meanwhile",
                        generation->number);
    return rc;
}

static enum sso_code read_wraps(struct store_tx *tx, uint32_t number, uint64_t *out,
                                struct sso_error *err)
{
    static const char sql[] = "SELECT wraps FROM generations WHERE number = ?";
    SQL_STATEMENT_AUTO statement = {0};
    bool found = false;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_integer(&statement, number);
    rc = sql_step(&statement, &found, err);
    if (rc != SSO_OK)
        return rc;
    if (!found)
        return no_such_generation(number, err);
    *out = sql_read_u64(&statement);
    return sql_check_row(&statement, "the wrap counter of a generation", err);
}

static enum sso_code write_wraps(struct store_tx *tx, uint32_t number, uint64_t now, uint64_t sum,
                                 bool *written, struct sso_error *err)
{
    static const char sql[] = "UPDATE generations SET wraps = ? WHERE number = ? AND wraps = ?";
    SQL_STATEMENT_AUTO statement = {0};
    uint64_t changed = 0;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_u64(&statement, sum);
    sql_bind_integer(&statement, number);
    sql_bind_u64(&statement, now);
    rc = sql_run(&statement, &changed, err);
    *written = changed == 1;
    return rc;
}

/* Another writer may be quicker; a trigger of another hand may keep the row from being changed. */
#define TRIES 1000

/* Again where another writer was quicker; its transaction is over then. */
static enum sso_code add_wraps(struct store_tx *tx, uint32_t number, uint64_t wraps, uint64_t limit,
                               uint64_t *total, struct sso_error *err)
{
    for (unsigned i = 0; i < TRIES; i++) {
        bool written = false;
        uint64_t now = 0, sum = 0;
        enum sso_code rc = read_wraps(tx, number, &now, err);
        if (rc != SSO_OK)
            return rc;
        if (__builtin_add_overflow(now, wraps, &sum) || sum > INT64_MAX ||
            (limit > 0 && sum > limit))
            return sso_fail(err, SSO_WRAPS_EXHAUSTED,
                            "generation %u has wrapped as many keys as it may: rotate to a new one",
                            number);
        rc = write_wraps(tx, number, now, sum, &written, err);
        if (rc != SSO_OK)
            return rc;
        if (written) {
            *total = sum;
            return SSO_OK;
        }
    }
    return sso_fail(err, SSO_POLICY_TAMPERED,
                    "the wrap counter of generation %u cannot be raised: the database was changed "
                    "by another hand; sso-hsm db check tells more",
                    number);
}

static void read_token(struct sql_statement *s, void *out)
{
    struct generation_token *token = out;
    token->number = (uint32_t)sql_read_integer(s, 1, UINT32_MAX);
    sql_read_text(s, token->token.token, sizeof token->token.token);
    sql_read_text(s, token->token.serial, sizeof token->token.serial);
    sql_read_text(s, token->token.manufacturer, sizeof token->token.manufacturer);
    sql_read_text(s, token->token.model, sizeof token->token.model);
    sql_read_text(s, token->node, sizeof token->node);
    sql_read_text(s, token->evidence, sizeof token->evidence);
    token->weak = sql_read_bool(s);
    token->since_ms = sql_read_time(s);
    token->destroyed_ms = sql_read_time(s);
    token->version = sql_read_u64(s);
    sql_read_bytes(s, token->tag, sizeof token->tag);
}

/* Said to be gone: no key is looked for in it. */
static void distrust_token(void *element)
{
    struct generation_token *token = element;
    *token = (struct generation_token){.number = token->number, .destroyed_ms = 1};
}

static enum sso_code token_list(struct store_tx *tx, struct generation_token **out, size_t *count,
                                struct sso_error *err)
{
    static const char sql[] =
        "SELECT generation, token, serial, manufacturer, model, node, evidence, weak, since_ms,"
        " destroyed_ms, version, tag FROM generation_tokens"
        " ORDER BY generation, since_ms, token, serial, node";
    static const struct sql_list rows = {"a token of a generation", sizeof **out, read_token,
                                         distrust_token};
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    return rc != SSO_OK ? rc : sql_collect(&statement, &rows, out, count, err);
}

static enum sso_code token_put(struct store_tx *tx, const struct generation_token *token,
                               struct sso_error *err)
{
    static const char insert_sql[] =
        "INSERT INTO generation_tokens (generation, token, serial, manufacturer, model, node,"
        " evidence, weak, since_ms, destroyed_ms, version, tag)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING";
    static const char update_sql[] =
        "UPDATE generation_tokens SET evidence = ?7, weak = ?8, since_ms = ?9, destroyed_ms = ?10,"
        " version = ?11, tag = ?12 WHERE generation = ?1 AND token = ?2 AND serial = ?3"
        " AND manufacturer = ?4 AND model = ?5 AND node = ?6 AND version = ?11 - 1";
    SQL_STATEMENT_AUTO statement = {0};
    uint64_t changed = 0;
    enum sso_code rc =
        sql_prepare(tx, token->version == 1 ? insert_sql : update_sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_integer(&statement, token->number);
    sql_bind_text(&statement, token->token.token);
    sql_bind_text(&statement, token->token.serial);
    sql_bind_text(&statement, token->token.manufacturer);
    sql_bind_text(&statement, token->token.model);
    sql_bind_text(&statement, token->node);
    sql_bind_text(&statement, token->evidence);
    sql_bind_integer(&statement, token->weak);
    sql_bind_integer(&statement, token->since_ms);
    sql_bind_integer(&statement, token->destroyed_ms);
    sql_bind_u64(&statement, token->version);
    sql_bind_bytes(&statement, token->tag, sizeof token->tag);
    rc = sql_run(&statement, &changed, err);
    if (rc == SSO_OK && changed != 1)
        return sso_fail(err, SSO_VERSION_CONFLICT,
                        "what is known of token %s and generation %u has changed meanwhile",
                        token->token.token, token->number);
    return rc;
}

const struct store_generation_ops sql_generation_ops = {
    .hold = hold,
    .list = list,
    .insert = insert,
    .update = update,
    .add_wraps = add_wraps,
    .token_list = token_list,
    .token_put = token_put,
};
