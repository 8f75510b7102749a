#include "pkcs11/hsm.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "pkcs11/pool.h"

static void condition_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    /* pthread knows no CLOCK_BOOTTIME; waits are spans, and the deadline is looked at again. */
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

bool pool_wait(struct hsm *hsm, pthread_cond_t *cond, int64_t deadline_ms)
{
    if (deadline_ms == INT64_MAX) {
        pthread_cond_wait(cond, &hsm->mutex);
        return true;
    }
    int64_t left = deadline_ms - boot_clock_ms();
    if (left <= 0)
        return false;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += left / 1000;
    until.tv_nsec += left % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(cond, &hsm->mutex, &until);
    return true;
}

enum sso_code pool_refusal(const struct hsm *hsm, struct sso_error *err)
{
    enum sso_code code = SSO_HSM_UNAVAILABLE;
    const struct sso_error *why = &hsm->last_error;
    if (why->code == SSO_PIN_REFUSED || why->code == SSO_NO_MASTER_SECRET ||
        why->code == SSO_WRONG_MASTER_SECRET)
        code = why->code;
    return sso_fail(err, code, "%s",
                    why->code != SSO_OK ? why->detail : "no worker serves this token now");
}

const char *hsm_name(const struct hsm *hsm)
{
    return hsm->section->name != NULL ? hsm->section->name : "";
}

static enum sso_code lane_init(struct hsm *hsm, struct lane *lane, struct sso_error *err)
{
    unsigned most = hsm->section->sessions_per_worker;
    most = most == CONFIG_AUTO ? AUTO_SESSIONS_MAX : most;
    lane->hsm = hsm;
    lane->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    lane->frames = calloc(most + 1, sizeof *lane->frames);
    if (lane->wake < 0 || lane->frames == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory or descriptor for a worker");
    return worker_process_init(&lane->process, hsm->spawner, err);
}

static enum sso_code start_lanes(struct hsm *hsm, struct sso_error *err)
{
    enum sso_code code = SSO_OK;
    for (unsigned i = 0; i < hsm->lane_count && code == SSO_OK; i++)
        code = lane_init(hsm, &hsm->lanes[i], err);
    for (unsigned i = 0; i < hsm->lane_count && code == SSO_OK; i++) {
        struct lane *lane = &hsm->lanes[i];
        if (pthread_create(&lane->thread, NULL, lane_main, lane) != 0)
            code = sso_fail(err, SSO_NO_MEMORY, "no thread for a worker");
        else
            lane->thread_started = true;
    }
    return code;
}

static unsigned workers_wanted(const struct config_hsm *section)
{
    long wanted =
        section->workers != CONFIG_AUTO ? (long)section->workers : sysconf(_SC_NPROCESSORS_ONLN);
    if (wanted < 1)
        wanted = 1;
    return wanted < WORKERS_PER_POOL_MAX ? (unsigned)wanted : WORKERS_PER_POOL_MAX;
}

static void pool_free(struct hsm *hsm)
{
    for (unsigned i = 0; hsm->lanes != NULL && i < hsm->lane_count; i++) {
        struct lane *lane = &hsm->lanes[i];
        if (lane->hsm == NULL)
            continue; /* never initialised */
        worker_process_free(&lane->process);
        if (lane->wake >= 0)
            close(lane->wake);
        free(lane->frames);
    }
    pin_guard_free(&hsm->guard);
    pthread_cond_destroy(&hsm->changed);
    pthread_mutex_destroy(&hsm->mutex);
    pthread_mutex_destroy(&hsm->login_mutex);
    pthread_mutex_destroy(&hsm->control_mutex);
    free(hsm->auto_path);
    free(hsm->lanes);
    free(hsm);
}

void hsm_close(struct hsm **pool)
{
    if (pool == NULL || *pool == NULL)
        return;
    struct hsm *hsm = *pool;
    pthread_mutex_lock(&hsm->mutex);
    hsm->stopping = true;
    queue_fail_all(hsm, SSO_HSM_UNAVAILABLE, "the token's pool is closing");
    pthread_cond_broadcast(&hsm->changed);
    for (unsigned i = 0; i < hsm->lane_count; i++)
        if (hsm->lanes[i].thread_started)
            lane_wake(&hsm->lanes[i]);
    pthread_mutex_unlock(&hsm->mutex);
    for (unsigned i = 0; i < hsm->lane_count; i++)
        if (hsm->lanes[i].thread_started)
            pthread_join(hsm->lanes[i].thread, NULL);
    pool_free(hsm);
    *pool = NULL;
}

/* Until the pool serves or is known to fail. */
static enum sso_code wait_for_start(struct hsm *hsm, struct sso_error *err)
{
    enum sso_code code = SSO_OK;
    pthread_mutex_lock(&hsm->mutex);
    while (hsm->state == HSM_STARTING)
        pool_wait(hsm, &hsm->changed, INT64_MAX);
    if (hsm->state != HSM_READY)
        code = sso_fail(err, hsm->last_error.code, "%s", hsm->last_error.detail);
    pthread_mutex_unlock(&hsm->mutex);
    return code;
}

void hsm_await_start(struct hsm *hsm)
{
    (void)!wait_for_start(hsm, NULL);
}

enum sso_code hsm_open_with(const struct config_hsm *section, const struct hsm_options *options,
                            struct hsm **out, struct sso_error *err)
{
    if (section->sessions_per_worker > SESSIONS_MAX)
        return sso_fail(err, SSO_CONFIG_ERROR, "sessions_per_worker is at most %d", SESSIONS_MAX);
    struct hsm *hsm = calloc(1, sizeof *hsm);
    if (hsm == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a token's pool");
    hsm->section = section;
    hsm->spawner = options->spawner;
    pthread_mutex_init(&hsm->mutex, NULL);
    pthread_mutex_init(&hsm->login_mutex, NULL);
    pthread_mutex_init(&hsm->control_mutex, NULL);
    condition_init(&hsm->changed);
    hsm->lane_count = workers_wanted(section);
    hsm->served_ms = boot_clock_ms();
    hsm->lanes = calloc(hsm->lane_count, sizeof *hsm->lanes);
    enum sso_code code = pin_guard_init(&hsm->guard, options->state_directory, options->board, err);
    hsm->guard.forgiving = options->after_reset;
    if (code == SSO_OK && hsm->lanes == NULL)
        code = sso_fail(err, SSO_NO_MEMORY, "no memory for a token's pool");
    hsm->measures = options->keep_trying;
    if (code == SSO_OK)
        code = auto_init(hsm, options->state_directory, err);
    if (code == SSO_OK)
        code = start_lanes(hsm, err);
    if (code == SSO_OK) {
        if (!options->keep_trying)
            code = wait_for_start(hsm, err);
    }
    if (code != SSO_OK)
        hsm_close(&hsm);
    else
        *out = hsm;
    return code;
}

enum sso_code hsm_open(const struct config_hsm *section, const char *state_directory,
                       struct spawner *spawner, bool keep_trying, struct hsm **out,
                       struct sso_error *err)
{
    const struct hsm_options options = {
        .state_directory = state_directory, .spawner = spawner, .keep_trying = keep_trying};
    return hsm_open_with(section, &options, out, err);
}

static const struct {
    const char *name;
    enum frame_kind frame;
} works[] = {
    [HSM_WORK_MAKE] = {"make", FRAME_MAKE},
    [HSM_WORK_WRAP] = {"wrap", FRAME_WRAP},
    [HSM_WORK_UNWRAP] = {"unwrap", FRAME_UNWRAP},
    [HSM_WORK_REWRAP] = {"rewrap", FRAME_REWRAP},
};

const char *hsm_work_name(enum hsm_work work)
{
    return works[work].name;
}

void hsm_status(struct hsm *hsm, struct hsm_status *out)
{
    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&hsm->mutex);
    out->state = hsm->state;
    out->workers_wanted = hsm->lane_count;
    out->workers_ready = hsm->ready;
    for (unsigned i = 0; i < hsm->lane_count; i++)
        if (hsm->lanes[i].up)
            out->sessions += hsm->lanes[i].sessions;
    out->workers_replaced = hsm->replaced;
    out->workers_lost = hsm->lost;
    out->sessions_short = hsm->sessions_short;
    out->token = hsm->token;
    memcpy(out->firmware, hsm->firmware, sizeof out->firmware);
    for (unsigned work = 0; work < HSM_WORK_KINDS; work++) {
        out->work[work].calls = hsm->calls[works[work].frame];
        out->work[work].microseconds = hsm->call_microseconds[works[work].frame];
    }
    out->last_error = hsm->last_error;
    pthread_mutex_unlock(&hsm->mutex);
}

enum sso_code hsm_pin_reset(struct hsm *hsm, struct sso_error *err)
{
    pthread_mutex_lock(&hsm->mutex);
    struct token_identity token = hsm->token;
    pthread_mutex_unlock(&hsm->mutex);
    if (token.token[0] == '\0' && token.serial[0] == '\0')
        return sso_fail(err, SSO_HSM_UNAVAILABLE, "the token has not been seen yet: %s",
                        hsm->last_error.detail);
    pthread_mutex_lock(&hsm->login_mutex);
    enum sso_code code = pin_guard_reset(&hsm->guard, &token, err);
    pthread_mutex_unlock(&hsm->login_mutex);
    pthread_mutex_lock(&hsm->mutex);
    hsm->pokes++;
    hsm->failures = 0;
    pthread_cond_broadcast(&hsm->changed);
    pthread_mutex_unlock(&hsm->mutex);
    return code;
}

/* ---- batches ---- */

static enum sso_code run_batch(struct hsm *hsm, struct batch *batch, int64_t deadline_ms,
                               struct sso_error *err)
{
    struct sso_error refusal;
    enum sso_code code = SSO_OK;
    if (batch->count == 0)
        return SSO_OK;
    batch->left = batch->count;
    condition_init(&batch->finished);
    pthread_mutex_lock(&hsm->mutex);
    if (hsm->stopping || (hsm->state != HSM_READY && hsm->state != HSM_STARTING)) {
        code = pool_refusal(hsm, &refusal);
        sso_fail(err, code, "%s", refusal.detail);
    } else {
        queue_put(hsm, batch);
        while (!batch->done && pool_wait(hsm, &batch->finished, deadline_ms))
            ;
        if (!batch->done) {
            queue_withdraw(hsm, batch);
            code = sso_fail(err, SSO_HSM_UNAVAILABLE,
                            "the token did not answer before the request's deadline%s%s",
                            hsm->last_error.code != SSO_OK ? ": " : "",
                            hsm->last_error.code != SSO_OK ? hsm->last_error.detail : "");
        } else if (batch->code != SSO_OK) {
            code = sso_fail(err, batch->code, "%s", batch->err.detail);
        }
    }
    pthread_mutex_unlock(&hsm->mutex);
    pthread_cond_destroy(&batch->finished);
    free(batch->again);
    free(batch->history);
    return code;
}

enum sso_code hsm_make(struct hsm *hsm, enum hsm_priority priority, struct key_item *items,
                       size_t count, int64_t deadline_ms, struct sso_error *err)
{
    struct batch batch = {.kind = FRAME_MAKE, .priority = priority, .items = items, .count = count};
    return run_batch(hsm, &batch, deadline_ms, err);
}

enum sso_code hsm_wrap(struct hsm *hsm, enum hsm_priority priority, struct key_item *items,
                       size_t count, int64_t deadline_ms, struct sso_error *err)
{
    struct batch batch = {.kind = FRAME_WRAP, .priority = priority, .items = items, .count = count};
    return run_batch(hsm, &batch, deadline_ms, err);
}

enum sso_code hsm_unwrap(struct hsm *hsm, enum hsm_priority priority, struct key_item *items,
                         size_t count, int64_t deadline_ms, struct sso_error *err)
{
    struct batch batch = {
        .kind = FRAME_UNWRAP, .priority = priority, .items = items, .count = count};
    return run_batch(hsm, &batch, deadline_ms, err);
}

enum sso_code hsm_rewrap(struct hsm *hsm, enum hsm_priority priority, uint32_t to,
                         struct key_item *items, size_t count, int64_t deadline_ms,
                         struct sso_error *err)
{
    struct batch batch = {
        .kind = FRAME_REWRAP, .priority = priority, .to = to, .items = items, .count = count};
    return run_batch(hsm, &batch, deadline_ms, err);
}
