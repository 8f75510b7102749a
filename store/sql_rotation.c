#include "store/sql_statement.h"

#define COLUMNS                                                                                    \
    "id, state, phase, to_generation, from_generations, total, done, skipped, failed, rate,"       \
    " dry_run, reencrypt, full_speed, verify, without_nodes, renew_born, started_ms, finished_ms," \
    " error, error_code"

static void read_rotation(struct sql_statement *s, struct rotation *out)
{
    char code[64];
    out->id = sql_read_u64(s);
    out->state = (enum rotation_state)sql_read_integer(s, ROTATION_PREPARING, ROTATION_FAILED);
    out->phase = (enum rotation_phase)sql_read_integer(s, PHASE_PREPARE, PHASE_VERIFY);
    out->to = sql_read_u32(s);
    sql_read_text(s, out->from, sizeof out->from);
    out->total = sql_read_u64(s);
    out->done = sql_read_u64(s);
    out->skipped = sql_read_u64(s);
    out->failed = sql_read_u64(s);
    out->rate = sql_read_u64(s);
    out->dry_run = sql_read_bool(s);
    out->reencrypt = sql_read_bool(s);
    out->full_speed = sql_read_bool(s);
    out->verify = (enum rotation_verify)sql_read_integer(s, VERIFY_SAMPLE, VERIFY_FULL);
    sql_read_text(s, out->without, sizeof out->without);
    out->renew_born = sql_read_u32(s);
    out->started_ms = sql_read_time(s);
    out->finished_ms = sql_read_time(s);
    sql_read_note(s, out->error, sizeof out->error);
    sql_read_note(s, code, sizeof code);
    out->error_code = code[0] != '\0' ? sso_code_from_name(code) : SSO_OK;
}

static enum sso_code latest(struct store_tx *tx, struct rotation *out, struct sso_error *err)
{
    static const char sql[] =
        "SELECT " COLUMNS " FROM rotations WHERE id BETWEEN 1 AND ? ORDER BY id DESC LIMIT 1";
    SQL_STATEMENT_AUTO statement = {0};
    struct rotation rotation = {0};
    bool found = false;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    out->id = 0;
    if (rc != SSO_OK)
        return rc;
    sql_bind_u64(&statement, ROTATION_ID_MAX);
    if ((rc = sql_step(&statement, &found, err)) != SSO_OK)
        return rc;
    if (!found)
        return sso_fail(err, SSO_NOT_FOUND, "there never was a rotation");
    read_rotation(&statement, &rotation);
    out->id = rotation.id;
    if (statement.damaged)
        return sso_fail(err, SSO_NOT_FOUND,
                        "the row of rotation %llu was changed by another hand and cannot be read; "
                        "a new rotation can be started",
                        (unsigned long long)rotation.id);
    *out = rotation;
    return SSO_OK;
}

static enum sso_code run_with_row(struct store_tx *tx, const char *sql,
                                  const struct rotation *rotation, uint64_t *changed,
                                  struct sso_error *err)
{
    SQL_STATEMENT_AUTO s = {0};
    enum sso_code rc = sql_prepare(tx, sql, &s, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_u64(&s, rotation->id);
    sql_bind_integer(&s, rotation->state);
    sql_bind_integer(&s, rotation->phase);
    sql_bind_integer(&s, rotation->to);
    sql_bind_text(&s, rotation->from);
    sql_bind_u64(&s, rotation->total);
    sql_bind_u64(&s, rotation->done);
    sql_bind_u64(&s, rotation->skipped);
    sql_bind_u64(&s, rotation->failed);
    sql_bind_u64(&s, rotation->rate);
    sql_bind_integer(&s, rotation->dry_run);
    sql_bind_integer(&s, rotation->reencrypt);
    sql_bind_integer(&s, rotation->full_speed);
    sql_bind_integer(&s, rotation->verify);
    sql_bind_text(&s, rotation->without);
    sql_bind_integer(&s, rotation->renew_born);
    sql_bind_integer(&s, rotation->started_ms);
    sql_bind_integer(&s, rotation->finished_ms);
    sql_bind_text(&s, rotation->error);
    sql_bind_text(&s,
                  rotation->error_code == SSO_OK ? "" : sso_code_facts(rotation->error_code)->name);
    return sql_run(&s, changed, err);
}

static enum sso_code insert(struct store_tx *tx, struct rotation *rotation, struct sso_error *err)
{
    static const char sql[] =
        "INSERT INTO rotations (" COLUMNS ")"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    static const struct sql_lock one = {"rotation", NULL, 0, STORE_EXCLUSIVE};
    struct rotation last = {0};
    enum sso_code rc = sql_lock(tx, &one, err);
    if (rc == SSO_OK)
        rc = latest(tx, &last, NULL);
    if (rc != SSO_OK && rc != SSO_NOT_FOUND)
        return latest(tx, &last, err); /* again, for its text */
    if (last.state == ROTATION_PREPARING || last.state == ROTATION_RUNNING ||
        last.state == ROTATION_PAUSED)
        return sso_fail(err, SSO_ROTATION_IN_PROGRESS, "rotation %llu to generation %u is %s",
                        (unsigned long long)last.id, last.to, rotation_state_name(last.state));
    if (last.id == ROTATION_ID_MAX)
        return sso_fail(err, SSO_POLICY_TAMPERED,
                        "rotation %llu is not ours: delete its row from the database",
                        (unsigned long long)last.id);
    rotation->id = last.id + 1;
    return run_with_row(tx, sql, rotation, NULL, err);
}

static enum sso_code update(struct store_tx *tx, const struct rotation *rotation,
                            struct sso_error *err)
{
    static const char sql[] =
        "UPDATE rotations SET state = ?2, phase = ?3, to_generation = ?4, from_generations = ?5,"
        " total = ?6, done = ?7, skipped = ?8, failed = ?9, rate = ?10, dry_run = ?11,"
        " reencrypt = ?12, full_speed = ?13, verify = ?14, without_nodes = ?15, renew_born = ?16,"
        " started_ms = ?17, finished_ms = ?18, error = ?19, error_code = ?20 WHERE id = ?1";
    uint64_t changed = 0;
    enum sso_code rc = run_with_row(tx, sql, rotation, &changed, err);
    if (rc == SSO_OK && changed != 1)
        return sso_fail(err, SSO_NOT_FOUND, "rotation %llu does not exist",
                        (unsigned long long)rotation->id);
    return rc;
}

static enum sso_code renewed(struct store_tx *tx, uint32_t *born, struct sso_error *err)
{
    static const char sql[] =
        "SELECT coalesce(max(renew_born), 0) FROM rotations WHERE state = ? AND dry_run = 0";
    SQL_STATEMENT_AUTO statement = {0};
    bool found = false;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_integer(&statement, ROTATION_COMPLETED);
    rc = sql_step(&statement, &found, err);
    if (rc == SSO_OK)
        *born = sql_read_u32(&statement);
    return rc;
}

const struct store_rotation_ops sql_rotation_ops = {
    .latest = latest,
    .insert = insert,
    .update = update,
    .renewed = renewed,
};
