/* How fast a token opens one thing in so many sessions at once: what `auto` decides by. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "pkcs11/canary.h"
#include "pkcs11/worker.h"

struct measuring {
    struct worker *worker;
    uint32_t generation, milliseconds;
    _Atomic int operations_left;
    _Atomic uint32_t done, best_microseconds;
    _Atomic bool failed;
    int64_t until_us;
};

struct lane_of_measuring {
    struct measuring *measuring;
    struct session session;
    const struct session_key *key;
    pthread_t thread;
};

static int64_t monotonic_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void *measure_main(void *arg)
{
    struct lane_of_measuring *lane = arg;
    struct measuring *measuring = lane->measuring;
    const struct session_key *key = lane->key;
    for (int64_t began = monotonic_us(); began < measuring->until_us;) {
        if (atomic_fetch_sub(&measuring->operations_left, 1) <= 0)
            break;
        if (canary_open(&lane->session, key->handle, key->suite, &key->generation, NULL) !=
            SSO_OK) {
            atomic_store(&measuring->failed, true);
            break;
        }
        int64_t ended = monotonic_us();
        uint32_t took = (uint32_t)(ended - began), best;
        for (best = atomic_load(&measuring->best_microseconds);
             took < best &&
             !atomic_compare_exchange_weak(&measuring->best_microseconds, &best, took);)
            ;
        atomic_fetch_add(&measuring->done, 1);
        began = ended;
    }
    return NULL;
}

/* As many as the token gives, each with the key found. */
static uint32_t open_sessions(struct measuring *measuring, struct lane_of_measuring *lanes,
                              uint32_t wanted, struct sso_error *err)
{
    uint32_t open = 0;
    for (; open < wanted; open++) {
        struct lane_of_measuring *lane = &lanes[open];
        lane->measuring = measuring;
        if (session_open(&lane->session, &measuring->worker->token, &measuring->worker->table,
                         err) != SSO_OK ||
            session_key(&lane->session, measuring->generation, &lane->key, err) != SSO_OK) {
            session_close(&lane->session);
            break;
        }
    }
    return open;
}

static void run(struct measuring *measuring, struct lane_of_measuring *lanes,
                struct measurement *out)
{
    uint32_t started = 0;
    int64_t began = monotonic_us(), cpu_began = cpu_us();
    measuring->until_us = began + (int64_t)measuring->milliseconds * 1000;
    for (; started < out->sessions; started++)
        if (pthread_create(&lanes[started].thread, NULL, measure_main, &lanes[started]) != 0)
            break;
    for (uint32_t i = 0; i < started; i++)
        pthread_join(lanes[i].thread, NULL);
    out->sessions = started;
    out->wall_microseconds = (uint32_t)(monotonic_us() - began);
    out->cpu_microseconds = (uint32_t)(cpu_us() - cpu_began);
    out->operations = atomic_load(&measuring->done);
    out->best_microseconds = atomic_load(&measuring->best_microseconds);
}

enum sso_code worker_measure(struct worker_thread *thread, struct decoder *request,
                             struct sso_error *err)
{
    struct measuring measuring = {.worker = thread->worker, .generation = decode_u32(request)};
    struct measurement out = {.sessions = decode_u32(request)};
    measuring.milliseconds = decode_u32(request);
    atomic_store(&measuring.operations_left, (int)decode_u32(request));
    atomic_store(&measuring.best_microseconds, UINT32_MAX);
    enum sso_code code = decode_end(request, "measure", err);
    if (code == SSO_OK && (out.sessions == 0 || out.sessions > SESSIONS_MAX))
        code = sso_fail(err, SSO_BAD_REQUEST, "a measurement in %u sessions", out.sessions);
    if (code != SSO_OK)
        return code;
    struct lane_of_measuring *lanes = calloc(out.sessions, sizeof *lanes);
    if (lanes == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory to measure the token");
    uint32_t open = out.sessions = open_sessions(&measuring, lanes, out.sessions, err);
    if (open == 0)
        code = sso_fail(err, SSO_HSM_UNAVAILABLE, "no session is left to measure the token in");
    else
        run(&measuring, lanes, &out);
    if (code == SSO_OK && atomic_load(&measuring.failed))
        code = sso_fail(err, SSO_HSM_UNAVAILABLE, "the canary did not open while it was measured");
    for (uint32_t i = 0; i < open; i++)
        session_close(&lanes[i].session);
    free(lanes);
    if (code == SSO_OK)
        frame_put_measurement(&thread->reply, &out);
    return code;
}
