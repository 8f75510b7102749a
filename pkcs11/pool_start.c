/* How a pool comes up and stays up: which lane may start a worker when, and what a start that
 * failed means for the pool. */
#include <openssl/rand.h>

#include "common/clock.h"
#include "common/log.h"
#include "pkcs11/pool.h"

#define BACK_OFF_FIRST_MS 100
#define BACK_OFF_MAX_MS 2000
/* How long a lane waits that found no session while others serve. */
#define PARK_MS 4000
/* One start that fails may be a fault that has passed: requests wait for the next. */
#define FAILED_STARTS_BEFORE_DOWN 2
/* A start that ends in silence may be a kill from outside; so many in a row are not. */
#define SILENT_STARTS_MAX 4

struct start_failure {
    struct sso_error err;
    bool died, hangs;
    bool no_session; /* the token has none left */
};

static enum hsm_state state_for(enum sso_code code)
{
    switch (code) {
    case SSO_PIN_REFUSED:
        return HSM_PIN_REFUSED;
    case SSO_CONFIG_ERROR:
    case SSO_TOKEN_NOT_FOUND:
    case SSO_TOKEN_AMBIGUOUS:
    case SSO_TOKEN_NOT_SUITABLE:
    case SSO_FORBIDDEN:
    case SSO_NO_MEMORY:
        return HSM_MISCONFIGURED;
    default:
        return HSM_DOWN;
    }
}

void pool_note_state(struct hsm *hsm, enum hsm_state state, const char *reason)
{
    static const char *const names[] = {"starting", "ready", "down", "pin refused",
                                        "misconfigured"};
    if (hsm->state == state)
        return;
    hsm->state = state;
    log_line(state == HSM_READY || state == HSM_STARTING ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR,
             "token pool", "pool", hsm->section->name != NULL ? hsm->section->name : "", "state",
             names[state], "reason", reason, NULL);
}

/* Half of it fixed and half left to chance, so that many do not come back in step. */
static int64_t with_jitter(int64_t most_ms)
{
    uint8_t chance = 0;
    (void)RAND_bytes(&chance, 1);
    return most_ms / 2 + most_ms * chance / 512;
}

static void note_shortage(struct hsm *hsm, bool is_short, const char *reason)
{
    if (hsm->sessions_short == is_short)
        return;
    hsm->sessions_short = is_short;
    log_line(is_short ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
             is_short ? "the token gives fewer sessions than wanted"
                      : "the token gives as many sessions as wanted",
             "token", hsm_name(hsm), "reason", reason, NULL);
}

/* Is it too early to say that the token is down? A worker that ended in silence may have been
 * killed; SoftHSM overlooks a token that another process writes to; and for a session that others
 * have, requests wait as long as for a slow token. */
static bool may_pass(const struct hsm *hsm, const struct start_failure *failure)
{
    enum hsm_state state = state_for(failure->err.code);
    if (failure->no_session)
        return boot_clock_ms() < hsm->served_ms + hsm->section->deadline_ms;
    if (failure->hangs) /* on a busy host a start may take its whole deadline */
        return hsm->failures < FAILED_STARTS_BEFORE_DOWN;
    if (failure->died)
        return hsm->failures < SILENT_STARTS_MAX;
    return (state == HSM_DOWN || failure->err.code == SSO_TOKEN_NOT_FOUND) &&
           hsm->failures < FAILED_STARTS_BEFORE_DOWN;
}

static void start_failed(struct lane *lane, const struct start_failure *failure)
{
    struct hsm *hsm = lane->hsm;
    const struct sso_error *err = &failure->err;
    if (failure->no_session)
        note_shortage(hsm, true, err->detail);
    if (failure->no_session && hsm->ready > 0) {
        lane->parked_until_ms = boot_clock_ms() + with_jitter(PARK_MS);
        return;
    }
    hsm->failures++;
    hsm->last_error = *err;
    if (hsm->ready > 0 || may_pass(hsm, failure))
        return;
    pool_note_state(hsm, state_for(err->code), err->detail);
    struct sso_error refusal;
    enum sso_code code = pool_refusal(hsm, &refusal);
    queue_fail_all(hsm, code, refusal.detail);
}

/* Has every lane what is wanted? */
static void review_sessions(struct hsm *hsm)
{
    bool is_short = false;
    for (unsigned i = 0; i < hsm->lane_count; i++) {
        const struct lane *lane = &hsm->lanes[i];
        is_short = is_short || lane->parked_until_ms != 0 ||
                   (lane->up && lane->sessions < lane->wanted_sessions);
    }
    note_shortage(hsm, is_short, "");
}

static void start_succeeded(struct hsm *hsm, struct lane *lane)
{
    hsm->failures = 0;
    hsm->last_error = (struct sso_error){0};
    lane->replace = false;
    lane->served = false;
    lane->gave_up = false;
    lane->hung = false;
    lane->first_resident_bytes = 0;
    lane->items = 0;
    lane->parked_until_ms = 0;
    lane->up_since_ms = hsm->served_ms = boot_clock_ms();
    review_sessions(hsm);
    pool_note_state(hsm, HSM_READY, "");
}

static int64_t back_off_ms(unsigned failures)
{
    int64_t most = BACK_OFF_FIRST_MS;
    if (failures == 0)
        return 0;
    while (--failures > 0 && most < BACK_OFF_MAX_MS)
        most *= 2;
    return with_jitter(most < BACK_OFF_MAX_MS ? most : BACK_OFF_MAX_MS);
}

bool lane_wait_for_turn(struct lane *lane)
{
    struct hsm *hsm = lane->hsm;
    unsigned pokes = hsm->pokes, failures = hsm->failures;
    int64_t until = boot_clock_ms() + back_off_ms(failures);
    while (!hsm->stopping) {
        if (hsm->failures != failures) {
            failures = hsm->failures;
            until = boot_clock_ms() + back_off_ms(failures);
        }
        if (hsm->pokes == pokes && boot_clock_ms() < until) {
            pool_wait(hsm, &hsm->changed, until);
        } else if (hsm->ready == 0 && hsm->starting > 0) {
            pool_wait(hsm, &hsm->changed, INT64_MAX);
        } else if (hsm->ready > 0 && boot_clock_ms() < lane->parked_until_ms) {
            pool_wait(hsm, &hsm->changed, lane->parked_until_ms);
        } else {
            hsm->starting++;
            return true;
        }
    }
    return false;
}

bool lane_start(struct lane *lane)
{
    struct hsm *hsm = lane->hsm;
    struct start_failure failure = {0};
    enum sso_code code = lane_start_worker(lane, &failure.died, &failure.err);
    failure.hangs = lane->process.hangs;
    failure.no_session = !failure.died && (lane->process.reply_flags & REPLY_NO_SESSION) != 0;
    if (code != SSO_OK)
        worker_process_end(&lane->process, failure.died);
    pthread_mutex_lock(&hsm->mutex);
    hsm->starting--;
    lane->incarnation++;
    if (code == SSO_OK)
        start_succeeded(hsm, lane);
    else
        start_failed(lane, &failure);
    pthread_cond_broadcast(&hsm->changed);
    pthread_mutex_unlock(&hsm->mutex);
    return code == SSO_OK;
}
