/* How a batch of rows comes from its generations to the target. */
#include "rewrap/engine.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>

#include "common/clock.h"
#include "common/fault.h"

/* A call shall neither wait long behind others nor be so short that its way costs more than its
 * work. */
#define SLOW_CALL_MS 2000
#define QUICK_CALL_MS 500
#define BATCH_ROWS_MIN 8

void outcome_bad(struct batch *batch, size_t i, enum sso_code code, const char *format, ...)
{
    struct row_outcome *outcome = &batch->outcome[i];
    va_list arguments;
    outcome->fate = FATE_BAD;
    outcome->code = code;
    va_start(arguments, format);
    vsnprintf(outcome->reason, sizeof outcome->reason, format, arguments);
    va_end(arguments);
}

/* What no HSM need be asked about. */
static void screen_row(const struct engine *engine, struct batch *batch, size_t i)
{
    const struct credential_row *row = &batch->row[i];
    const struct generation *generation = engine_generation(engine, row->generation);
    if (row->format != ROW_FORMAT)
        outcome_bad(batch, i, SSO_ROW_CORRUPT, "the row's bytes cannot be a row of ours");
    else if (generation == NULL)
        outcome_bad(batch, i, SSO_ROW_CORRUPT, "generation %" PRIu32 " does not exist",
                    row->generation);
    else if (generation->state == 0)
        outcome_bad(batch, i, SSO_POLICY_TAMPERED,
                    "the row of generation %" PRIu32 " in the database was changed by another hand",
                    row->generation);
    else if (generation->state == GENERATION_DESTROYED ||
             generation->state == GENERATION_DESTROYING || generation->state == GENERATION_PENDING)
        outcome_bad(batch, i, SSO_ROW_CORRUPT, "generation %" PRIu32 " is %s: no row can be on it",
                    row->generation, generation_state_name(generation->state));
    else if (!suite_wrapped_fits(generation->suite, row->wrapped.length_bytes))
        outcome_bad(batch, i, SSO_ROW_CORRUPT,
                    "the wrapped row key has %u bytes, which %s never makes (generation %" PRIu32
                    ")",
                    row->wrapped.length_bytes, suite_name(generation->suite), row->generation);
}

/* Key wrap (RFC 3394) has no additional data: between two such generations a digest for each row
 * would be made for nobody. */
static bool needs_binding(const struct engine *engine, const struct credential_row *row)
{
    const struct generation *from = engine_generation(engine, row->generation);
    return engine->target->suite != SUITE_AES256_KW || from == NULL ||
           from->suite != SUITE_AES256_KW;
}

/* Fills the mover's items with rows that still wait for the HSM: all that may go together (those to
 * be renewed by themselves), else one of those that go alone. */
static void gather(struct mover *mover, const struct batch *batch)
{
    const struct engine *engine = mover->engine;
    mover->item_count = 0;
    for (enum fate fate = FATE_WAITING; fate <= FATE_WAITING_ALONE; fate++) {
        for (size_t i = 0; i < batch->count; i++) {
            if (batch->outcome[i].fate != fate)
                continue;
            bool renews = engine_renews(engine, &batch->row[i]);
            if (mover->item_count == 0)
                mover->renewing = renews;
            else if (renews != mover->renewing)
                continue;
            size_t k = mover->item_count++;
            mover->index[k] = i;
            mover->item[k] = (struct key_item){.generation = batch->row[i].generation,
                                               .wrapped = batch->row[i].wrapped,
                                               .row_key = mover->row_keys + k * ROW_KEY_BYTES};
            if (needs_binding(engine, &batch->row[i]))
                row_binding_digest(engine->job->policy->system_id, &batch->row[i],
                                   mover->item[k].binding);
            if (fate == FATE_WAITING_ALONE)
                return;
        }
        if (mover->item_count != 0)
            return;
    }
}

static bool is_missing(enum sso_code code)
{
    return code == SSO_HSM_UNAVAILABLE || code == SSO_NO_MASTER_SECRET;
}

/* The token says that it holds no key. That of the row's generation, or the target's? Asked once
 * for all rows of a generation. */
static bool is_lost(struct mover *mover, const struct batch *batch, size_t k)
{
    const struct credential_row *row = &batch->row[mover->index[k]];
    if (mover->lost == row->generation)
        return true;
    struct key_item item = {
        .generation = row->generation, .wrapped = row->wrapped, .row_key = mover->spare_key};
    row_binding_digest(mover->engine->job->policy->system_id, row, item.binding);
    enum sso_code rc =
        keyring_unwrap(mover->engine->job->keyring, HSM_BULK, &item, 1, hsm_deadline_ms(), NULL);
    bool lost = rc == SSO_NO_MASTER_SECRET || (rc == SSO_OK && item.code == SSO_NO_MASTER_SECRET);
    OPENSSL_cleanse(mover->spare_key, ROW_KEY_BYTES);
    if (lost)
        mover->lost = row->generation;
    return lost;
}

/* What the HSM said of item k. SSO_OK: the row's fate is decided, or it goes again by itself. */
static enum sso_code settle(struct mover *mover, struct batch *batch, size_t k,
                            struct sso_error *err)
{
    const struct key_item *item = &mover->item[k];
    size_t i = mover->index[k];
    struct row_outcome *outcome = &batch->outcome[i];
    switch (item->code) {
    case SSO_OK:
        batch->fresh[i] = item->wrapped;
        outcome->fate = FATE_MOVED;
        return SSO_OK;
    case SSO_ROW_CORRUPT:
        outcome_bad(batch, i, item->code,
                    "the wrapped row key does not open under generation %" PRIu32,
                    batch->row[i].generation);
        return SSO_OK;
    case SSO_ROW_KILLS_WORKER:
        /* It may only have been near when workers died for another reason. */
        if (outcome->fate == FATE_WAITING)
            outcome->fate = FATE_WAITING_ALONE;
        else
            outcome_bad(batch, i, item->code,
                        "workers of the token died each time they were given this wrapped row key");
        return SSO_OK;
    default:
        if (item->code == SSO_NO_MASTER_SECRET && is_lost(mover, batch, k)) {
            outcome_bad(batch, i, item->code,
                        "the token does not hold the key of generation %" PRIu32
                        ": see sso-hsm key list, and sso-hsm key restore",
                        batch->row[i].generation);
            return SSO_OK;
        }
        /* Nobody knows when it will be: a generation that is in no token must not hold up all
         * others. It is tried again with `retry-quarantined`. */
        if (is_missing(item->code) &&
            !keyring_has(mover->engine->job->keyring, batch->row[i].generation)) {
            outcome_bad(batch, i, item->code,
                        "generation %" PRIu32 " is open in no token: see sso-hsm key list",
                        batch->row[i].generation);
            return SSO_OK;
        }
        return sso_fail(err, item->code,
                        "the token could not take up a row key of generation %" PRIu32,
                        batch->row[i].generation);
    }
}

static void fit_batches_to_token(struct engine *engine, size_t items, int64_t milliseconds)
{
    unsigned rows = atomic_load(&engine->batch_rows);
    if (milliseconds > SLOW_CALL_MS && rows > BATCH_ROWS_MIN)
        atomic_store(&engine->batch_rows, rows / 2);
    else if (milliseconds < QUICK_CALL_MS && items >= rows && rows < BATCH_ROWS)
        atomic_store(&engine->batch_rows, rows * 2 < BATCH_ROWS ? rows * 2 : BATCH_ROWS);
}

static enum sso_code call_hsm(struct mover *mover, struct sso_error *err)
{
    struct engine *engine = mover->engine;
    const struct rewrap_job *job = engine->job;
    int64_t begun = boot_clock_ms();
    enum sso_code rc;
    if (job->rotation.dry_run || mover->renewing) {
        rc = keyring_unwrap(job->keyring, HSM_BULK, mover->item, mover->item_count,
                            hsm_deadline_ms(), err);
    } else {
        rc = wrap_budget_take(job->budget, engine->target->number, engine->target->suite,
                              mover->item_count, err);
        if (rc == SSO_OK)
            rc = keyring_rewrap(job->keyring, HSM_BULK, engine->target->number, mover->item,
                                mover->item_count, hsm_deadline_ms(), err);
    }
    fit_batches_to_token(engine, mover->item_count, boot_clock_ms() - begun);
    return rc;
}

/* In a dry run with verify full each row whose key opened is opened as it stands. */
static enum sso_code open_as_they_stand(struct mover *mover, struct batch *batch,
                                        struct sso_error *err)
{
    for (size_t k = 0; k < mover->item_count; k++) {
        size_t i = mover->index[k];
        if (batch->outcome[i].fate != FATE_MOVED)
            continue;
        enum sso_code rc = open_seal(mover->engine, &batch->row[i], mover->item[k].row_key, err);
        if (rc == SSO_ROW_CORRUPT) {
            outcome_bad(batch, i, rc, "its key opens, but the row does not open with it");
        } else if (rc != SSO_OK) {
            batch->outcome[i].fate = FATE_WAITING;
            return rc;
        }
    }
    return SSO_OK;
}

/* Until no row of the batch waits. A row for which the token has a code of its own that is not the
 * row's fault goes on waiting. */
static enum sso_code move_waiting_rows(struct mover *mover, struct batch *batch,
                                       struct sso_error *err)
{
    const struct rotation *rotation = &mover->engine->job->rotation;
    enum sso_code rc = SSO_OK;
    for (gather(mover, batch); rc == SSO_OK && mover->item_count != 0; gather(mover, batch)) {
        rc = call_hsm(mover, err);
        for (size_t k = 0, count = rc == SSO_OK ? mover->item_count : 0; k < count; k++) {
            enum sso_code settled = settle(mover, batch, k, err);
            if (settled != SSO_OK)
                rc = settled;
        }
        if (rc == SSO_OK && rotation->dry_run && rotation->verify == VERIFY_FULL)
            rc = open_as_they_stand(mover, batch, err);
        if (mover->renewing && rc == SSO_OK)
            rc = renew_rows(mover, batch, err);
        else if (mover->renewing)
            hand_back(mover, batch);
    }
    return rc;
}

static enum sso_code move_once(struct mover *mover, struct batch *batch, struct sso_error *err)
{
    enum sso_code rc = move_waiting_rows(mover, batch, err);
    if (rc == SSO_OK && !mover->engine->job->rotation.dry_run)
        rc = check_batch(mover, batch, err);
    if (rc == SSO_OK && fault_point("rotation.batch-moved"))
        rc = sso_fail(err, SSO_HSM_UNAVAILABLE, "fault point rotation.batch-moved");
    return rc;
}

void move_batch(struct mover *mover, struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++)
        screen_row(mover->engine, batch, i);
    for (;;) {
        struct sso_error trouble = {0};
        enum sso_code rc = move_once(mover, batch, &trouble);
        if (rc == SSO_OK) {
            patience_over(&mover->patience);
            return;
        }
        if (!failure_is_transient(rc))
            engine_fail(mover->engine, &trouble);
        if (!patience_wait(&mover->patience, &trouble)) {
            batch->abandoned = true;
            return;
        }
    }
}
