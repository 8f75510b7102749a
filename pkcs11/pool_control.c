/* Frames for one particular worker, and the replacement of workers. */
#include "common/clock.h"
#include "pkcs11/pool.h"

/* A worker starts in tens of milliseconds here; a network HSM may take its whole deadline for each
 * of hello, login and canary. */
#define STARTS_PER_WAIT 4

enum sso_code control_run(struct hsm *hsm, struct lane *lane, struct control *control)
{
    pthread_mutex_lock(&hsm->mutex);
    if (!lane->up || hsm->stopping) {
        control->died = true;
        control->code = sso_fail(&control->err, SSO_HSM_UNAVAILABLE, "the worker is not up");
    } else {
        control->done = false;
        lane->control = control;
        lane_wake(lane);
        while (!control->done)
            pool_wait(hsm, &hsm->changed, INT64_MAX);
    }
    pthread_mutex_unlock(&hsm->mutex);
    return control->code;
}

static struct lane *wait_for_lane(struct hsm *hsm, struct sso_error *err)
{
    struct lane *found = NULL;
    int64_t until = boot_clock_ms() + (int64_t)STARTS_PER_WAIT * hsm->section->deadline_ms;
    pthread_mutex_lock(&hsm->mutex);
    while (found == NULL && !hsm->stopping) {
        for (unsigned i = 0; i < hsm->lane_count && found == NULL; i++)
            if (hsm->lanes[i].up)
                found = &hsm->lanes[i];
        if (found != NULL || (hsm->state != HSM_STARTING && hsm->state != HSM_READY) ||
            !pool_wait(hsm, &hsm->changed, until))
            break;
    }
    if (found == NULL)
        pool_refusal(hsm, err);
    pthread_mutex_unlock(&hsm->mutex);
    return found;
}

enum sso_code control_run_any(struct hsm *hsm, struct control *control, struct lane **out_lane,
                              struct sso_error *err)
{
    struct sso_error refusal = {.code = SSO_HSM_UNAVAILABLE};
    struct lane *lane = wait_for_lane(hsm, &refusal);
    if (lane == NULL) {
        control->died = false; /* nothing was begun */
        return sso_fail(err, refusal.code, "%s", refusal.detail);
    }
    if (out_lane != NULL)
        *out_lane = lane;
    enum sso_code code = control_run(hsm, lane, control);
    return code == SSO_OK ? code : sso_fail(err, code, "%s", control->err.detail);
}

static enum sso_code replace_worker(struct hsm *hsm, struct lane *lane, struct sso_error *err)
{
    enum sso_code code = SSO_OK;
    int64_t until = boot_clock_ms() + (int64_t)STARTS_PER_WAIT * hsm->section->deadline_ms;
    pthread_mutex_lock(&hsm->mutex);
    if (lane->up) {
        unsigned incarnation = lane->incarnation;
        lane->replace = true;
        lane_wake(lane);
        while (!hsm->stopping && lane->incarnation == incarnation && code == SSO_OK)
            if (!pool_wait(hsm, &hsm->changed, until))
                code = sso_fail(err, SSO_HSM_UNAVAILABLE, "a worker could not be replaced in time");
    }
    pthread_mutex_unlock(&hsm->mutex);
    return code;
}

enum sso_code replace_workers(struct hsm *hsm, const struct lane *except, struct sso_error *err)
{
    enum sso_code code = SSO_OK;
    for (unsigned i = 0; i < hsm->lane_count && code == SSO_OK; i++)
        if (&hsm->lanes[i] != except)
            code = replace_worker(hsm, &hsm->lanes[i], err);
    return code;
}
