/* How fast this token is without anything of ours on top: a suite's calls in so many sessions of
 * one process, each with keys of its own that end with it. */
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "pkcs11/ckr.h"
#include "pkcs11/key.h"
#include "pkcs11/worker.h"

enum phase { PHASE_RELEASE, PHASE_REWRAP, PHASES };

struct bench {
    const struct suite *suite;
    uint32_t milliseconds;
    pthread_barrier_t begin; /* all sessions, at each phase */
};

struct bench_lane {
    struct bench *bench;
    struct session session;
    CK_OBJECT_HANDLE from, to;
    struct wrapped_key wrapped;
    struct outcome failed; /* rv CKR_OK: none */
    uint64_t done[PHASES], microseconds[PHASES];
    pthread_t thread;
};

static const uint8_t binding[BINDING_BYTES];

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static struct outcome once(struct bench_lane *lane, enum phase phase)
{
    const struct suite *suite = lane->bench->suite;
    struct session *session = &lane->session;
    struct wrapped_key out;
    if (phase == PHASE_REWRAP && suite->rewrap != NULL)
        return suite->rewrap(session, lane->from, lane->to, &lane->wrapped, &out);
    struct outcome call =
        suite->unwrap(session, lane->from, binding, &lane->wrapped, session->row_key);
    if (phase == PHASE_REWRAP && call.rv == CKR_OK)
        call = suite->wrap(session, lane->to, binding, session->row_key, &out);
    return call;
}

static void *lane_bench(void *arg)
{
    struct bench_lane *lane = arg;
    for (enum phase phase = PHASE_RELEASE; phase < PHASES; phase++) {
        pthread_barrier_wait(&lane->bench->begin);
        int64_t began = now_us(), took = 0;
        for (; took < lane->bench->milliseconds * 1000 && lane->failed.rv == CKR_OK;
             took = now_us() - began) {
            lane->failed = once(lane, phase);
            lane->done[phase] += lane->failed.rv == CKR_OK;
        }
        lane->microseconds[phase] = (uint64_t)took;
    }
    OPENSSL_cleanse(lane->session.row_key, ROW_KEY_BYTES);
    return NULL;
}

static enum sso_code lane_open(struct bench_lane *lane, struct worker *worker,
                               struct sso_error *err)
{
    struct generation_key trial = {.number = 1, .suite = lane->bench->suite->id};
    struct session *session = &lane->session;
    if (RAND_bytes(trial.secret_id, sizeof trial.secret_id) != 1)
        return sso_fail(err, SSO_INTERNAL, "no randomness");
    enum sso_code code = session_open(session, &worker->token, &worker->table, err);
    if (code == SSO_OK)
        code = key_generate_trial(session, &trial, &lane->from, err);
    trial.secret_id[0] ^= 1;
    if (code == SSO_OK)
        code = key_generate_trial(session, &trial, &lane->to, err);
    if (code != SSO_OK)
        return code;
    struct outcome call =
        lane->bench->suite->make(session, lane->from, binding, session->row_key, &lane->wrapped);
    return call.rv == CKR_OK ? SSO_OK : ckr_fail(err, call, "making a row key");
}

/* Sessions that could not all be started must not wait for each other. */
static enum sso_code run(struct bench *bench, struct bench_lane *lanes, uint32_t count,
                         struct sso_error *err)
{
    uint32_t started = 0;
    if (pthread_barrier_init(&bench->begin, NULL, count) != 0)
        return sso_fail(err, SSO_NO_MEMORY, "no memory to measure the token");
    for (; started < count; started++)
        if (pthread_create(&lanes[started].thread, NULL, lane_bench, &lanes[started]) != 0)
            _exit(1); /* the others stand at the barrier; the pool starts another worker */
    for (uint32_t i = 0; i < started; i++)
        pthread_join(lanes[i].thread, NULL);
    pthread_barrier_destroy(&bench->begin);
    for (uint32_t i = 0; i < count; i++)
        if (lanes[i].failed.rv != CKR_OK)
            return ckr_fail(err, lanes[i].failed, "measuring the token");
    return SSO_OK;
}

static void put_rates(struct encoder *out, const struct bench_lane *lanes, uint32_t count)
{
    for (enum phase phase = PHASE_RELEASE; phase < PHASES; phase++) {
        double per_second = 0;
        for (uint32_t i = 0; i < count; i++)
            if (lanes[i].microseconds[phase] > 0)
                per_second +=
                    (double)lanes[i].done[phase] * 1e6 / (double)lanes[i].microseconds[phase];
        encode_u64(out, (uint64_t)per_second);
    }
}

enum sso_code worker_bench(struct worker_thread *thread, struct decoder *request,
                           struct sso_error *err)
{
    struct bench bench = {.suite = suite_by_id((enum suite_id)decode_u8(request))};
    uint32_t wanted = decode_u32(request), open = 0;
    bench.milliseconds = decode_u32(request);
    enum sso_code code = decode_end(request, "bench", err);
    if (code == SSO_OK && (bench.suite == NULL || wanted == 0 || wanted > SESSIONS_MAX))
        code = sso_fail(err, SSO_BAD_REQUEST, "a bench in %u sessions", wanted);
    if (code == SSO_OK)
        code = worker_check_suite(thread, bench.suite, err);
    struct bench_lane *lanes = code == SSO_OK ? calloc(wanted, sizeof *lanes) : NULL;
    if (code == SSO_OK && lanes == NULL)
        code = sso_fail(err, SSO_NO_MEMORY, "no memory to measure the token");
    for (; code == SSO_OK && open < wanted; open++) {
        lanes[open].bench = &bench;
        code = lane_open(&lanes[open], thread->worker, err);
    }
    if (code == SSO_OK)
        code = run(&bench, lanes, wanted, err);
    if (code == SSO_OK)
        put_rates(&thread->reply, lanes, wanted);
    for (uint32_t i = 0; i < open; i++)
        session_close(&lanes[i].session);
    free(lanes);
    return code;
}
