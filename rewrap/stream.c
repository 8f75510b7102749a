/* One pass over what stands below the target: a reader, movers, and the writer (write.c). */
#include "rewrap/engine.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define MOVERS_MAX 64
/* Ciphertexts in one batch. Where they are not read they still bound what a commit may have to
 * write: a row of another length is written anew, whole. */
#define BATCH_CIPHERTEXT_BYTES ((size_t)256 * 1024)
/* Batches beside those of the movers: for what is read ahead and what waits for a commit. */
#define BATCHES_WAITING 24
#define BATCHES_WAITING_WHOLE 4

/* --- the totals --- */

static enum sso_code count_anew(struct engine *engine, struct store_tx *tx, struct rotation *next,
                                void *context, struct sso_error *err)
{
    (void)engine;
    (void)context;
    struct generation_rows *rows = NULL;
    size_t count = 0;
    uint64_t below = 0;
    struct quarantine_count quarantine = {0};
    enum sso_code rc = store_count_by_generation(tx, &rows, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++)
        if (rows[i].generation < next->to)
            below += rows[i].credentials;
    free(rows);
    if (rc == SSO_OK && !next->dry_run)
        rc = store_quarantine_count(tx, &quarantine, err);
    if (rc != SSO_OK)
        return rc;
    if (next->dry_run) {
        /* Nothing in the rows tells how far a dry run came: it begins anew. */
        next->done = next->skipped = 0;
        next->error[0] = '\0';
    }
    next->state = ROTATION_RUNNING;
    next->phase = PHASE_STREAM;
    next->failed = quarantine.rows - quarantine.to_retry;
    next->total = next->done + next->skipped + (below > next->failed ? below : next->failed);
    return SSO_OK;
}

static enum sso_code load_generations(struct engine *engine, struct sso_error *err)
{
    struct rewrap_job *job = engine->job;
    STORE_TX_AUTO tx = NULL;
    free(engine->generation);
    engine->generation = NULL;
    engine->generation_count = 0;
    engine->exposed_born = 0;
    enum sso_code rc = store_begin(job->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_generation_list(tx, &engine->generation, &engine->generation_count, err);
    for (size_t i = 0; rc == SSO_OK && i < engine->generation_count; i++) {
        struct generation *generation = &engine->generation[i];
        struct sso_error problem = {0};
        keyring_know(job->keyring, &generation->number, 1);
        if (generation->compromised && generation->number < job->rotation.to &&
            generation->number > engine->exposed_born)
            engine->exposed_born = generation->number;
        if (policy_check_generation(job->policy, generation, &problem) == SSO_OK)
            continue;
        if (generation->number == job->rotation.to)
            rc = sso_fail(err, problem.code, "%s", problem.detail);
        generation_distrust(generation);
    }
    if (rc != SSO_OK)
        return rc;
    engine->renew_born = engine->exposed_born > job->rotation.renew_born ? engine->exposed_born
                                                                         : job->rotation.renew_born;
    if (job->rotation.dry_run)
        engine->renew_born = 0; /* it writes nothing */
    engine->target = engine_generation(engine, job->rotation.to);
    return engine->target != NULL
               ? SSO_OK
               : sso_fail(err, SSO_INTERNAL, "generation %u is gone from the database",
                          job->rotation.to);
}

/* --- the reader --- */

static enum sso_code read_batch(struct engine *engine, size_t limit, struct scan_position *position,
                                struct batch *batch, struct sso_error *err)
{
    const struct rotation *rotation = &engine->job->rotation;
    struct scan_options options = {.below = rotation->to,
                                   .with_ciphertext = rotation->verify == VERIFY_FULL,
                                   .ciphertext_born = engine->renew_born,
                                   .skip_quarantined = !rotation->dry_run,
                                   .limit = limit,
                                   .limit_bytes = BATCH_CIPHERTEXT_BYTES};
    /* A short transaction for each batch: a long one would keep the database from clearing its
     * log of what the writer does. */
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(engine->job->store, STORE_READ, &tx, err);
    return rc == SSO_OK
               ? store_credential_scan(tx, &options, position, batch->row, &batch->count, err)
               : rc;
}

/* Reads until there is something to pass on. False at the end of the rows, or of the job. */
static bool fill_batch(struct throttle *throttle, struct scan_position *position,
                       struct batch *batch)
{
    struct engine *engine = throttle->engine;
    struct patience patience = {.engine = engine};
    struct sso_error trouble = {0};
    for (;;) {
        struct scan_position here = *position;
        enum sso_code rc =
            read_batch(engine, throttle_batch_rows(throttle), &here, batch, &trouble);
        if (rc == SSO_OK) {
            patience_over(&patience);
            *position = here;
            return batch->count != 0 && throttle_wait(throttle, batch->count);
        }
        batch->count = 0;
        if (!failure_is_transient(rc))
            engine_fail(engine, &trouble);
        if (!patience_wait(&patience, &trouble))
            return false;
    }
}

static void *reader_main(void *argument)
{
    struct engine *engine = argument;
    struct throttle throttle = {.engine = engine};
    struct scan_position position = {0};
    bool more = true;
    while (more && !engine_is_ending(engine)) {
        bool ended;
        struct batch *batch = queue_pop(&engine->idle, 100, &ended);
        if (batch == NULL)
            continue;
        more = fill_batch(&throttle, &position, batch);
        if (!more)
            batch_clear(batch);
        queue_push(more ? &engine->to_move : &engine->idle, batch);
    }
    queue_close(&engine->to_move);
    return NULL;
}

/* --- the movers --- */

static void mover_gone(struct engine *engine)
{
    if (atomic_fetch_sub(&engine->movers_running, 1) == 1)
        queue_close(&engine->moved);
}

static void *mover_main(void *argument)
{
    struct mover *mover = argument;
    struct engine *engine = mover->engine;
    struct batch *batch;
    bool ended;
    while ((batch = queue_pop(&engine->to_move, -1, &ended)) != NULL) {
        if (engine_is_ending(engine))
            batch->abandoned = true;
        else
            move_batch(mover, batch);
        queue_push(&engine->moved, batch);
    }
    mover_gone(engine);
    return NULL;
}

/* Two for each worker of the pools that hold a generation concerned, and one more: while one checks
 * what it moved, or takes its batch over, another's batch waits so that no worker does. (With one
 * for each worker and one more, two workers of SoftHSM stood still for 7 % of the time.) */
static unsigned movers_wanted(struct engine *engine)
{
    struct hsm *seen[CONFIG_HSM_MAX];
    size_t seen_count = 0;
    unsigned workers = 0;
    for (size_t i = 0; i < engine->generation_count; i++) {
        struct hsm *pool = keyring_pool(engine->job->keyring, engine->generation[i].number);
        bool known = pool == NULL || seen_count == CONFIG_HSM_MAX;
        for (size_t k = 0; k < seen_count && !known; k++)
            known = seen[k] == pool;
        if (known || engine->generation[i].number > engine->target->number)
            continue;
        struct hsm_status status;
        hsm_status(pool, &status);
        workers += status.workers_wanted;
        seen[seen_count++] = pool;
    }
    return 2 * workers + 1 < MOVERS_MAX ? 2 * workers + 1 : MOVERS_MAX;
}

/* --- the pass --- */

struct pass {
    struct engine *engine;
    struct mover *mover[MOVERS_MAX];
    pthread_t thread[MOVERS_MAX];
    unsigned mover_count;
    pthread_t reader;
    bool has_reader;
};

static void mover_free(struct mover *mover)
{
    secret_dealloc(mover->row_keys);
    secret_dealloc(mover->new_keys);
    free(mover);
}

static struct mover *mover_new(struct engine *engine)
{
    struct mover *mover = calloc(1, sizeof *mover);
    if (mover == NULL)
        return NULL;
    mover->engine = engine;
    mover->patience.engine = engine;
    mover->row_keys = secret_alloc((size_t)(BATCH_ROWS + 1) * ROW_KEY_BYTES);
    if (engine->renew_born != 0)
        mover->new_keys = secret_alloc((size_t)BATCH_ROWS * ROW_KEY_BYTES);
    if (mover->row_keys == NULL || (mover->new_keys == NULL && engine->renew_born != 0)) {
        mover_free(mover);
        return NULL;
    }
    mover->spare_key = mover->row_keys + (size_t)BATCH_ROWS * ROW_KEY_BYTES;
    return mover;
}

/* Fewer than wanted will do; none will not. */
static enum sso_code start_movers(struct pass *pass, unsigned wanted, struct sso_error *err)
{
    struct engine *engine = pass->engine;
    atomic_store(&engine->movers_running, 1); /* this thread, until all are started */
    while (pass->mover_count < wanted) {
        struct mover *mover = mover_new(engine);
        if (mover == NULL)
            break;
        atomic_fetch_add(&engine->movers_running, 1);
        if (pthread_create(&pass->thread[pass->mover_count], NULL, mover_main, mover) != 0) {
            atomic_fetch_sub(&engine->movers_running, 1);
            mover_free(mover);
            break;
        }
        pass->mover[pass->mover_count++] = mover;
    }
    mover_gone(engine);
    return pass->mover_count != 0
               ? SSO_OK
               : sso_fail(err, SSO_NO_MEMORY,
                          "no memory or no locked memory for the threads of the rotation");
}

static enum sso_code fill_idle(struct pass *pass, struct sso_error *err)
{
    struct engine *engine = pass->engine;
    bool renewing = engine->renew_born != 0;
    bool whole = renewing || engine->job->rotation.verify == VERIFY_FULL;
    unsigned wanted =
        (whole ? 1 : 2) * pass->mover_count + (whole ? BATCHES_WAITING_WHOLE : BATCHES_WAITING);
    for (unsigned i = 0; i < wanted; i++) {
        struct batch *batch = batch_new(renewing);
        if (batch == NULL && i < pass->mover_count + 1)
            return sso_fail(err, SSO_NO_MEMORY, "no memory for the rows of the rotation");
        if (batch != NULL)
            queue_push(&engine->idle, batch);
    }
    return SSO_OK;
}

/* The threads leave all signals to the rest of the program. */
static enum sso_code start_threads(struct pass *pass, struct sso_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    enum sso_code rc = start_movers(pass, movers_wanted(pass->engine), err);
    if (rc == SSO_OK)
        rc = fill_idle(pass, err);
    if (rc == SSO_OK) {
        int failed = pthread_create(&pass->reader, NULL, reader_main, pass->engine);
        pass->has_reader = failed == 0;
        if (failed != 0)
            rc = sso_fail_errno(err, SSO_NO_MEMORY, failed, "a thread of the rotation");
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static enum sso_code run_pass(struct engine *engine, struct sso_error *err)
{
    struct pass pass = {.engine = engine};
    enum sso_code rc = start_threads(&pass, err);
    if (rc == SSO_OK)
        write_moved_batches(engine);
    else
        queue_close(&engine->to_move);
    if (pass.has_reader)
        pthread_join(pass.reader, NULL);
    for (unsigned i = 0; i < pass.mover_count; i++) {
        pthread_join(pass.thread[i], NULL);
        mover_free(pass.mover[i]);
    }
    if (rc == SSO_OK && atomic_load(&engine->failing))
        rc = sso_fail(err, engine->failure.code, "%s", engine->failure.detail);
    return rc;
}

static enum sso_code stream_credentials(struct engine *engine, struct sso_error *err)
{
    enum sso_code rc = queue_init(&engine->idle, err);
    if (rc != SSO_OK)
        return rc;
    if ((rc = queue_init(&engine->to_move, err)) != SSO_OK)
        goto destroy_idle;
    if ((rc = queue_init(&engine->moved, err)) != SSO_OK)
        goto destroy_to_move;
    rc = run_pass(engine, err);
    queue_destroy(&engine->moved);
destroy_to_move:
    queue_destroy(&engine->to_move);
destroy_idle:
    queue_destroy(&engine->idle);
    return rc;
}

enum sso_code phase_stream(struct engine *engine, struct sso_error *err)
{
    struct rewrap_job *job = engine->job;
    enum sso_code rc = SSO_OK;
    if (job->open_target != NULL && !keyring_has(job->keyring, job->rotation.to))
        rc = job->open_target(job->context, job->rotation.to, err);
    if (rc == SSO_OK)
        rc = load_generations(engine, err);
    if (rc == SSO_OK && !engine->counted)
        rc = engine_commit(engine, count_anew, NULL, err);
    engine->counted = engine->counted || rc == SSO_OK;
    if (rc == SSO_OK && !job->rotation.dry_run)
        rc = move_sealed_keys(engine, err);
    if (rc == SSO_OK)
        rc = stream_credentials(engine, err);
    if (rc == SSO_OK && !engine_is_ending(engine)) {
        job->rotation.phase = PHASE_FINISH;
        engine_publish(engine);
    }
    return rc;
}
