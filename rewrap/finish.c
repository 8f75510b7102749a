/* The end of a rotation: counted under the locks, in the transaction that retires. */
#include "rewrap/engine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/fault.h"

/* After so many passes that moved nothing although rows are below, more would not help. */
#define FRUITLESS_PASSES_MAX 3

/* What stands below the target, read under the exclusive locks of all generations below. */
struct stock {
    struct generation *generation;
    size_t generation_count;
    struct generation_rows *rows;
    size_t rows_count;
    uint64_t credentials, sealed_keys;
    uint64_t astray;  /* rows and sealed keys that name a generation above the target */
    uint64_t unknown; /* of those below: that name none of ours */
    bool movable;     /* a credential that is not in quarantine */
};

static enum sso_code hold_below(struct engine *engine, struct store_tx *tx, struct stock *stock,
                                struct sso_error *err)
{
    uint32_t to = engine->job->rotation.to;
    enum sso_code rc = store_generation_list(tx, &stock->generation, &stock->generation_count, err);
    for (size_t i = 0; rc == SSO_OK && i < stock->generation_count; i++) {
        struct generation *generation = &stock->generation[i];
        uint32_t number = generation->number;
        struct sso_error problem = {0};
        if (number > to || number == 0)
            continue;
        rc = store_generation_hold(tx, number, number < to ? STORE_EXCLUSIVE : STORE_SHARED,
                                   generation, &problem);
        if (rc == SSO_OK)
            rc = policy_check_generation(engine->job->policy, generation, &problem);
        if (rc == SSO_POLICY_TAMPERED && number < to) {
            generation_distrust(generation);
            rc = SSO_OK;
        }
        if (rc != SSO_OK)
            return sso_fail(err, rc, "%s", problem.detail);
        if (number == to && generation->state != GENERATION_ACTIVE)
            rc = sso_fail(err, SSO_IN_USE, "generation %" PRIu32 " is no longer active", to);
    }
    return rc;
}

static bool is_ours(const struct stock *stock, uint32_t number)
{
    for (size_t i = 0; i < stock->generation_count; i++)
        if (stock->generation[i].number == number && stock->generation[i].state != 0)
            return true;
    return false;
}

static enum sso_code count_below(struct store_tx *tx, uint32_t to, struct stock *stock,
                                 struct sso_error *err)
{
    struct scan_options options = {.below = to, .skip_quarantined = true, .limit = 1};
    struct scan_position position = {0};
    struct credential_row row = {0};
    size_t count = 0;
    enum sso_code rc = store_count_by_generation(tx, &stock->rows, &stock->rows_count, err);
    for (size_t i = 0; rc == SSO_OK && i < stock->rows_count; i++) {
        const struct generation_rows *rows = &stock->rows[i];
        if (rows->generation > to)
            stock->astray += rows->credentials + rows->sealed_keys;
        if (rows->generation >= to)
            continue;
        stock->credentials += rows->credentials;
        stock->sealed_keys += rows->sealed_keys;
        if (!is_ours(stock, rows->generation))
            stock->unknown += rows->credentials + rows->sealed_keys;
    }
    if (rc != SSO_OK || stock->credentials == 0)
        return rc;
    rc = store_credential_scan(tx, &options, &position, &row, &count, err);
    stock->movable = rc == SSO_OK && count != 0;
    credential_row_free(&row);
    return rc;
}

static bool holds_nothing(const struct stock *stock, uint32_t number)
{
    for (size_t i = 0; i < stock->rows_count; i++)
        if (stock->rows[i].generation == number &&
            stock->rows[i].credentials + stock->rows[i].sealed_keys != 0)
            return false;
    return true;
}

static enum sso_code retire_empty(struct engine *engine, struct store_tx *tx, struct stock *stock,
                                  struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    for (size_t i = 0; rc == SSO_OK && i < stock->generation_count; i++) {
        struct generation *generation = &stock->generation[i];
        if (generation->number >= engine->job->rotation.to ||
            generation->state != GENERATION_RETIRING || !holds_nothing(stock, generation->number))
            continue;
        generation->state = GENERATION_RETIRED;
        generation->retired_ms = wall_clock_ms();
        generation->version++;
        policy_tag_generation(engine->job->policy, generation);
        rc = store_generation_update(tx, generation, err);
    }
    return rc;
}

static void complete(struct rotation *next, bool with_errors)
{
    next->state = with_errors ? ROTATION_COMPLETED_WITH_ERRORS : ROTATION_COMPLETED;
    next->phase = PHASE_FINISH;
    next->finished_ms = wall_clock_ms();
    /* Rows that their owners wrote anew or deleted before the engine came to them. */
    if (next->total > next->done + next->failed)
        next->skipped = next->total - next->done - next->failed;
    else
        next->total = next->done + next->skipped + next->failed;
}

/* Nothing is ever written above the active generation, or under one that does not exist: somebody
 * changed those rows, and their keys may be wrapped under any of those below. So none of them
 * retires. */
static void tell_astray(struct rotation *next, const struct stock *stock)
{
    snprintf(next->error, sizeof next->error,
             "%" PRIu64 " rows name a generation above %" PRIu32
             " or one that is not ours: they were changed outside this program, and no generation "
             "is retired over them; see sso-hsm db check --open",
             stock->astray + stock->unknown, next->to);
}

static enum sso_code write_finish(struct engine *engine, struct store_tx *tx, struct rotation *next,
                                  void *context, struct sso_error *err)
{
    bool *again = context;
    struct stock stock = {0};
    bool clean;
    *again = false;
    enum sso_code rc = hold_below(engine, tx, &stock, err);
    if (rc == SSO_OK)
        rc = store_quarantine_prune(tx, next->to, err);
    if (rc == SSO_OK)
        rc = count_below(tx, next->to, &stock, err);
    if (rc == SSO_OK && (stock.movable || stock.sealed_keys != 0)) {
        *again = true;
    } else if (rc == SSO_OK) {
        clean = stock.credentials + stock.astray == 0;
        next->failed = stock.credentials + stock.astray;
        complete(next, !clean);
        if (stock.astray + stock.unknown == 0)
            rc = retire_empty(engine, tx, &stock, err);
        else
            tell_astray(next, &stock);
        if (rc == SSO_OK)
            engine_audit(engine, "rotation.finish", clean ? "ok" : "completed_with_errors");
    }
    free(stock.generation);
    free(stock.rows);
    return rc;
}

static enum sso_code write_end_of_dry_run(struct engine *engine, struct store_tx *tx,
                                          struct rotation *next, void *context,
                                          struct sso_error *err)
{
    (void)tx;
    (void)context;
    (void)err;
    complete(next, next->failed != 0);
    engine_audit(engine, "rotation.finish", next->failed != 0 ? "completed_with_errors" : "ok");
    return SSO_OK;
}

/* Rows were found below: back to streaming, but not for ever. */
static enum sso_code stream_again(struct engine *engine, struct sso_error *err)
{
    struct rotation *rotation = &engine->job->rotation;
    uint64_t settled = rotation->done + rotation->failed;
    engine->fruitless_passes = settled == engine->settled_before ? engine->fruitless_passes + 1 : 0;
    engine->settled_before = settled;
    if (engine->fruitless_passes >= FRUITLESS_PASSES_MAX)
        return sso_fail(err, SSO_ROW_CORRUPT,
                        "rows stand below generation %" PRIu32
                        " that can be neither moved nor put into quarantine: see sso-hsm db check "
                        "--open, then sso-hsm rotate resume",
                        rotation->to);
    rotation->phase = PHASE_STREAM;
    engine_publish(engine);
    return SSO_OK;
}

enum sso_code phase_finish(struct engine *engine, struct sso_error *err)
{
    bool again = false;
    if (fault_point("rotation.before-finish"))
        return sso_fail(err, SSO_DATABASE_UNAVAILABLE, "fault point rotation.before-finish");
    enum sso_code rc = engine_commit(
        engine, engine->job->rotation.dry_run ? write_end_of_dry_run : write_finish, &again, err);
    if (rc != SSO_OK)
        return rc;
    if (again)
        return stream_again(engine, err);
    (void)fault_point("rotation.after-finish");
    if (engine->job->states_changed != NULL && !engine->job->rotation.dry_run)
        engine->job->states_changed(engine->job->context);
    return SSO_OK;
}
