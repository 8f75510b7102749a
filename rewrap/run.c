/* A run of a job: from the phase that its row names to its end. */
#include "rewrap/engine.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"

bool engine_is_ending(struct engine *engine)
{
    return atomic_load(&engine->failing) || atomic_load(&engine->job->request) != REWRAP_GO;
}

void engine_fail(struct engine *engine, const struct sso_error *error)
{
    pthread_mutex_lock(&engine->failure_lock);
    if (!atomic_load(&engine->failing)) {
        engine->failure = *error;
        atomic_store(&engine->failing, true);
    }
    pthread_mutex_unlock(&engine->failure_lock);
}

void generation_distrust(struct generation *generation)
{
    *generation = (struct generation){.number = generation->number};
}

const struct generation *engine_generation(const struct engine *engine, uint32_t number)
{
    for (size_t i = 0; i < engine->generation_count; i++)
        if (engine->generation[i].number == number)
            return &engine->generation[i];
    return NULL;
}

static void log_job(enum log_level level, const struct rewrap_job *job, const char *message)
{
    char to[16], done[24], failed[24];
    snprintf(to, sizeof to, "%u", job->rotation.to);
    snprintf(done, sizeof done, "%llu", (unsigned long long)job->rotation.done);
    snprintf(failed, sizeof failed, "%llu", (unsigned long long)job->rotation.failed);
    log_line(level, message, "generation", to, "state", rotation_state_name(job->rotation.state),
             "phase", rotation_phase_name(job->rotation.phase), "done", done, "failed", failed,
             "error", job->rotation.error, NULL);
}

static bool is_going(const struct rotation *rotation)
{
    return rotation->state == ROTATION_PREPARING || rotation->state == ROTATION_RUNNING;
}

static enum sso_code read_row(struct engine *engine, struct sso_error *err)
{
    struct rewrap_job *job = engine->job;
    struct rotation rotation;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(job->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_rotation_latest(tx, &rotation, err);
    if (rc != SSO_OK)
        return rc;
    if (rotation.id != job->rotation.id)
        return sso_fail(err, SSO_INTERNAL, "rotation %llu is not the latest one",
                        (unsigned long long)job->rotation.id);
    engine_take_over(engine, &rotation);
    return SSO_OK;
}

/* Takes the row as the database has it: another process may have run the job meanwhile. */
static enum sso_code take_up(struct engine *engine, struct sso_error *err)
{
    struct rewrap_job *job = engine->job;
    struct patience patience = {.engine = engine, .until_stop = true};
    struct sso_error trouble = {0};
    enum sso_code rc;
    while ((rc = read_row(engine, &trouble)) != SSO_OK)
        if (!failure_is_transient(rc) || !patience_wait(&patience, &trouble))
            return sso_fail(err, rc, "%s", trouble.detail);
    patience_over(&patience);
    if (!is_going(&job->rotation))
        return sso_fail(err, SSO_BAD_REQUEST, "rotation %llu is %s: resume it first",
                        (unsigned long long)job->rotation.id,
                        rotation_state_name(job->rotation.state));
    /* Each is cheap to enter again; what finish or switch needs, the one before it provides. */
    job->rotation.phase = job->rotation.phase >= PHASE_STREAM ? PHASE_STREAM : PHASE_PREPARE;
    unsigned none = 0;
    atomic_compare_exchange_strong(&job->rate, &none, (unsigned)job->rotation.rate);
    engine_publish(engine);
    return SSO_OK;
}

static enum sso_code run_phase(struct engine *engine, struct sso_error *err)
{
    switch (engine->job->rotation.phase) {
    case PHASE_STREAM:
        return phase_stream(engine, err);
    case PHASE_FINISH:
        return phase_finish(engine, err);
    case PHASE_SWITCH:
        return phase_switch(engine, err);
    default:
        return phase_prepare(engine, err);
    }
}

/* SSO_OK when the job is over or was asked to end. */
static enum sso_code run_phases(struct engine *engine, struct sso_error *err)
{
    struct rewrap_job *job = engine->job;
    struct patience patience = {.engine = engine};
    while (is_going(&job->rotation) && atomic_load(&job->request) == REWRAP_GO) {
        struct sso_error trouble = {0};
        enum sso_code rc = run_phase(engine, &trouble);
        if (rc == SSO_OK)
            patience_over(&patience);
        else if (!failure_is_transient(rc) ||
                 (atomic_load(&engine->failing) && atomic_load(&job->request) != REWRAP_STOP))
            return sso_fail(err, rc, "%s", trouble.detail);
        else
            (void)patience_wait(&patience, &trouble);
    }
    return SSO_OK;
}

static enum sso_code write_failed(struct engine *engine, struct store_tx *tx, struct rotation *next,
                                  void *context, struct sso_error *err)
{
    const struct sso_error *why = context;
    (void)tx;
    (void)err;
    next->state = ROTATION_FAILED;
    next->finished_ms = wall_clock_ms();
    snprintf(next->error, sizeof next->error, "%s", why->detail);
    next->error_code = why->code;
    engine_audit(engine, "rotation.failed", sso_code_facts(why->code)->name);
    return SSO_OK;
}

static enum sso_code write_request(struct engine *engine, struct store_tx *tx,
                                   struct rotation *next, void *context, struct sso_error *err)
{
    (void)engine;
    (void)tx;
    (void)err;
    const enum rewrap_request *request = context;
    next->state = *request == REWRAP_PAUSE ? ROTATION_PAUSED : ROTATION_CANCELLED;
    if (*request == REWRAP_CANCEL)
        next->finished_ms = wall_clock_ms();
    return SSO_OK;
}

static enum sso_code end_run(struct engine *engine, enum sso_code rc, struct sso_error *err)
{
    struct rewrap_job *job = engine->job;
    struct sso_error trouble = {0};
    if (rc != SSO_OK) {
        enum sso_code written = engine_commit(engine, write_failed, err, &trouble);
        if (written != SSO_OK)
            sso_error_context(err, "the failure could not be written to the database (%s)",
                              trouble.detail);
        return rc;
    }
    enum rewrap_request request = (enum rewrap_request)atomic_load(&job->request);
    if (is_going(&job->rotation) && (request == REWRAP_PAUSE || request == REWRAP_CANCEL))
        rc = engine_commit(engine, write_request, &request, err);
    return rc;
}

static enum sso_code run_job(struct engine *engine, struct sso_error *err)
{
    enum sso_code rc = take_up(engine, err);
    if (rc != SSO_OK)
        return rc;
    log_job(LOG_LEVEL_INFO, engine->job, "rotation runs");
    rc = run_phases(engine, err);
    rc = end_run(engine, rc, err);
    log_job(rc == SSO_OK ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR, engine->job, "rotation ends its run");
    return rc;
}

enum sso_code rewrap_run(struct rewrap_job *job, struct sso_error *err)
{
    struct sso_error own = {0}; /* the failure's text goes into the database even if err is NULL */
    struct engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the rotation");
    engine->job = job;
    atomic_store(&engine->batch_rows, BATCH_ROWS);
    pthread_mutex_init(&engine->opening_row, NULL);
    pthread_mutex_init(&engine->failure_lock, NULL);
    enum sso_code rc = run_job(engine, err != NULL ? err : &own);
    atomic_store(&job->rows_per_second, 0);
    pthread_mutex_destroy(&engine->failure_lock);
    pthread_mutex_destroy(&engine->opening_row);
    free(engine->generation);
    free(engine);
    return rc;
}
