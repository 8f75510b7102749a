/* sso-hsm bench: all workers of a pool at the same time. */
#include <stdlib.h>

#include "common/clock.h"
#include "pkcs11/pool.h"

/* Opening sessions and making keys, before anything is measured. */
#define STARTS 6

struct bench_call {
    struct hsm *hsm;
    struct lane *lane;
    struct control control;
    pthread_t thread;
    bool started;
};

static void *ask(void *arg)
{
    struct bench_call *call = arg;
    (void)control_run(call->hsm, call->lane, &call->control);
    return NULL;
}

static enum sso_code add_rates(struct bench_call *call, struct hsm_rates *out,
                               struct sso_error *err)
{
    struct decoder reply = {.next = call->control.reply.data,
                            .left_bytes = call->control.reply.length_bytes};
    if (call->control.code != SSO_OK)
        return sso_fail(err, call->control.code, "%s", call->control.err.detail);
    out->releases += (double)decode_u64(&reply);
    out->rewraps += (double)decode_u64(&reply);
    return decode_end(&reply, "bench reply", err);
}

/* A pool is ready with its first worker. */
static void wait_for_all(struct hsm *hsm)
{
    int64_t until = boot_clock_ms() + (int64_t)STARTS * hsm->section->deadline_ms;
    pthread_mutex_lock(&hsm->mutex);
    while (hsm->ready < hsm->lane_count && !hsm->stopping && pool_wait(hsm, &hsm->changed, until))
        ;
    pthread_mutex_unlock(&hsm->mutex);
}

enum sso_code hsm_bench(struct hsm *hsm, const struct hsm_bench *bench, struct hsm_rates *out,
                        struct sso_error *err)
{
    ENCODER_AUTO body = {0};
    struct bench_call *calls = calloc(hsm->lane_count, sizeof *calls);
    enum sso_code code = SSO_OK;
    *out = (struct hsm_rates){0};
    if (calls == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory to measure the token");
    encode_u8(&body, (uint8_t)bench->suite);
    encode_u32(&body, bench->sessions);
    encode_u32(&body, bench->milliseconds);
    wait_for_all(hsm);
    pthread_mutex_lock(&hsm->control_mutex);
    for (unsigned i = 0; i < hsm->lane_count; i++) {
        calls[i] = (struct bench_call){
            .hsm = hsm,
            .lane = &hsm->lanes[i],
            .control = {.kind = FRAME_BENCH,
                        .deadline_ms = STARTS * hsm->section->deadline_ms + 2 * bench->milliseconds,
                        .body = &body}};
        calls[i].started = pthread_create(&calls[i].thread, NULL, ask, &calls[i]) == 0;
    }
    for (unsigned i = 0; i < hsm->lane_count; i++) {
        if (calls[i].started)
            pthread_join(calls[i].thread, NULL);
        else if (code == SSO_OK)
            code = sso_fail(err, SSO_NO_MEMORY, "no thread to measure the token");
        if (code == SSO_OK)
            code = add_rates(&calls[i], out, err);
        encoder_free(&calls[i].control.reply);
    }
    pthread_mutex_unlock(&hsm->control_mutex);
    free(calls);
    return code;
}
