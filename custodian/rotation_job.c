#include "custodian/rotation_job.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "custodian/custodian.h"
#include "custodian/live_latency.h"
#include "custodian/rotation_events.h"
#include "custodian/rotation_generation.h"
#include "custodian/row_counts.h"

struct rotation_job {
    struct custodian *custodian;
    struct live_latency *latency;
    pthread_t thread;
    bool has_thread; /* to be joined */

    pthread_mutex_t lock; /* running, begun */
    pthread_cond_t ended; /* CLOCK_MONOTONIC */
    bool running;
    struct rotation begun; /* as it was when the engine took it; engine.rotation is the engine's */

    struct rewrap_job engine;
    struct audit_record starter; /* actor, how, request id */
};

/* --- what the engine asks of the custodian --- */

static void live_requests(void *context, bool slowest, struct live_requests *out)
{
    struct rotation_job *job = context;
    atomic_store(&job->latency->beside, !slowest);
    out->any = live_latency_percent(job->latency, &out->percent);
    out->count = atomic_load(&job->latency->count);
}

static enum sso_code open_target(void *context, uint32_t number, struct sso_error *err)
{
    struct rotation_job *job = context;
    return rotation_generation_open(job->custodian, number, err);
}

static void states_changed(void *context)
{
    struct rotation_job *job = context;
    struct sso_error problem = {0};
    row_counts_outdated(job->custodian->counts);
    if (installation_refresh(job->custodian, &problem) != SSO_OK)
        log_line(LOG_LEVEL_WARNING, "generations not read after a change of the rotation", "reason",
                 problem.detail, NULL);
}

static enum sso_code write_rows(void *context, rewrap_write run, void *run_context,
                                struct audit_record *record, struct sso_error *err)
{
    struct rotation_job *job = context;
    return committer_run(job->custodian->committer, run, run_context, record, 1, err);
}

static void audit_actor(void *context, struct audit_record *record)
{
    const struct rotation_job *job = context;
    const struct audit_record *starter = &job->starter;
    memcpy(record->actor, starter->actor, sizeof record->actor);
    memcpy(record->how, starter->how, sizeof record->how);
    memcpy(record->request_id, starter->request_id, sizeof record->request_id);
}

/* --- the thread --- */

static void *run(void *context)
{
    struct rotation_job *job = context;
    struct sso_error problem = {0};
    if (rewrap_run(&job->engine, &problem) != SSO_OK)
        log_line(LOG_LEVEL_ERROR, "the rotation stopped", "reason", problem.detail, NULL);
    rotation_events_refresh(job->custodian);
    atomic_store(&job->latency->beside, false);
    pthread_mutex_lock(&job->lock);
    job->running = false;
    pthread_cond_broadcast(&job->ended);
    pthread_mutex_unlock(&job->lock);
    return NULL;
}

static void job_prepare(struct rotation_job *job, const struct rotation *rotation)
{
    struct rewrap_job *engine = &job->engine;
    struct custodian *custodian = job->custodian;
    memset(engine, 0, sizeof *engine);
    engine->store = custodian->store;
    engine->keyring = custodian->keyring;
    engine->policy = &custodian->policy;
    engine->budget = custodian->budget;
    snprintf(engine->node, sizeof engine->node, "%s", custodian->node);
    engine->rotation = *rotation;
    engine->live_requests = live_requests;
    engine->open_target = open_target;
    engine->states_changed = states_changed;
    engine->write = write_rows;
    engine->audit_actor = audit_actor;
    engine->context = job;
    atomic_init(&engine->request, REWRAP_GO);
    atomic_init(&engine->rate, (unsigned)rotation->rate);
    atomic_init(&engine->done, rotation->done);
    atomic_init(&engine->skipped, rotation->skipped);
    atomic_init(&engine->failed, rotation->failed);
    atomic_init(&engine->total, rotation->total);
    atomic_init(&engine->rows_per_second, 0);
    atomic_init(&engine->phase, rotation->phase);
    atomic_init(&engine->state, rotation->state);
}

/* The thread that ended is joined before the next one begins. Signals are for the main thread. */
enum sso_code rotation_job_begin(struct rotation_job *job, const struct rotation *rotation,
                                 const struct audit_record *starter, struct sso_error *err)
{
    sigset_t all, before;
    if (job->has_thread) {
        pthread_join(job->thread, NULL);
        job->has_thread = false;
    }
    job_prepare(job, rotation);
    job->starter = *starter;
    sigfillset(&all);
    pthread_mutex_lock(&job->lock);
    job->begun = *rotation;
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&job->thread, NULL, run, job);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    job->has_thread = job->running = failure == 0;
    pthread_mutex_unlock(&job->lock);
    if (failure != 0)
        return sso_fail_errno(err, SSO_NO_MEMORY, failure,
                              "no thread for rotation %llu, which goes on when there is one",
                              (unsigned long long)rotation->id);
    return SSO_OK;
}

bool rotation_job_running(struct rotation_job *job)
{
    pthread_mutex_lock(&job->lock);
    bool running = job->running;
    pthread_mutex_unlock(&job->lock);
    return running;
}

bool rotation_job_wait(struct rotation_job *job, int64_t deadline_ms)
{
    int64_t left_ms = deadline_ms - boot_clock_ms();
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    if (left_ms > 0) {
        until.tv_sec += left_ms / 1000;
        until.tv_nsec += left_ms % 1000 * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
    }
    pthread_mutex_lock(&job->lock);
    while (job->running && pthread_cond_timedwait(&job->ended, &job->lock, &until) != ETIMEDOUT)
        ;
    bool ended = !job->running;
    pthread_mutex_unlock(&job->lock);
    return ended;
}

bool rotation_job_progress(struct rotation_job *job, struct rotation *out,
                           uint64_t *rows_per_second)
{
    struct rewrap_job *engine = &job->engine;
    pthread_mutex_lock(&job->lock);
    bool running = job->running;
    if (running) {
        *out = job->begun;
        out->state = (enum rotation_state)atomic_load(&engine->state);
        out->phase = (enum rotation_phase)atomic_load(&engine->phase);
        out->total = atomic_load(&engine->total);
        out->done = atomic_load(&engine->done);
        out->skipped = atomic_load(&engine->skipped);
        out->failed = atomic_load(&engine->failed);
        out->rate = atomic_load(&engine->rate);
        *rows_per_second = atomic_load(&engine->rows_per_second);
    }
    pthread_mutex_unlock(&job->lock);
    return running && (out->state == ROTATION_PREPARING || out->state == ROTATION_RUNNING);
}

void rotation_job_tell(struct rotation_job *job, enum rewrap_request request)
{
    atomic_store(&job->engine.request, request);
}

enum rewrap_request rotation_job_told(struct rotation_job *job)
{
    return (enum rewrap_request)atomic_load(&job->engine.request);
}

void rotation_job_rate(struct rotation_job *job, uint64_t rows_per_second)
{
    atomic_store(&job->engine.rate, (unsigned)rows_per_second);
}

enum sso_code rotation_job_new(struct custodian *custodian, struct live_latency *latency,
                               struct rotation_job **out, struct sso_error *err)
{
    struct rotation_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the rotation job");
    monotonic_condition_init(&job->ended);
    pthread_mutex_init(&job->lock, NULL);
    job->custodian = custodian;
    job->latency = latency;
    *out = job;
    return SSO_OK;
}

void rotation_job_free(struct rotation_job **job)
{
    struct rotation_job *gone = *job;
    if (gone == NULL)
        return;
    *job = NULL;
    rotation_job_tell(gone, REWRAP_STOP);
    if (gone->has_thread)
        pthread_join(gone->thread, NULL);
    pthread_cond_destroy(&gone->ended);
    pthread_mutex_destroy(&gone->lock);
    free(gone);
}
