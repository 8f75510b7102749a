/* From a process that was just spawned to a worker that may serve: hello, login, canaries. */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "pkcs11/pool.h"

#define FAILURES_BEFORE_INCOMPLETE 3
#define INCOMPLETE_MS 4000
#define INCOMPLETE_DOUBLINGS_MAX 6

static enum sso_code read_greeting(struct lane *lane, struct hello_reply *token, bool *died,
                                   struct sso_error *err)
{
    struct decoder reply;
    enum sso_code code =
        worker_process_greeting(&lane->process, lane->hsm->section->deadline_ms, &reply, died, err);
    if (code == SSO_OK && !frame_get_hello_reply(&reply, token))
        code = sso_fail(err, SSO_HSM_UNAVAILABLE, "a worker answered with a damaged frame");
    return code;
}

static enum pin_outcome pin_outcome(enum sso_code code, bool died, uint8_t flags)
{
    if (code == SSO_OK)
        return PIN_WORKED;
    if (died)
        return PIN_UNKNOWN;
    if ((flags & REPLY_LOGIN_WORKED) != 0)
        return PIN_WORKED;
    if ((flags & REPLY_LOGIN_DOUBTFUL) != 0)
        return PIN_DOUBTFUL;
    return code == SSO_PIN_REFUSED ? PIN_WAS_REFUSED : PIN_NOT_TRIED;
}

/* One login at a time, and none after a refusal. */
static enum sso_code log_in(struct lane *lane, const struct hello_reply *token, unsigned *sessions,
                            bool *died, struct sso_error *err)
{
    struct hsm *hsm = lane->hsm;
    struct decoder reply;
    ENCODER_AUTO body = {0};
    encode_u32(&body, *sessions);
    unsigned asked = *sessions;
    pthread_mutex_lock(&hsm->login_mutex);
    enum sso_code code = pin_guard_enter(&hsm->guard, token, err);
    if (code == SSO_OK) {
        code = worker_process_call(&lane->process, FRAME_LOGIN, &body, hsm->section->deadline_ms,
                                   &reply, died, err);
        pin_guard_leave(&hsm->guard, token, pin_outcome(code, *died, lane->process.reply_flags));
    }
    pthread_mutex_unlock(&hsm->login_mutex);
    if (code != SSO_OK)
        return code;
    *sessions = decode_u32(&reply);
    if (decode_end(&reply, "login reply", NULL) != SSO_OK || *sessions == 0 || *sessions > asked)
        return sso_fail(err, SSO_HSM_UNAVAILABLE, "a worker answered with a damaged frame");
    return SSO_OK;
}

/* The key is not there, or not what it should be: to try again makes no difference. */
static bool is_final(enum sso_code code)
{
    return code == SSO_NO_MASTER_SECRET || code == SSO_KEY_NOT_ACCEPTABLE;
}

/* May another worker do better? A few times; then the worker serves what it can, and goes for
 * another after a while that doubles. */
static bool try_another_worker(struct lane *lane)
{
    struct hsm *hsm = lane->hsm;
    pthread_mutex_lock(&hsm->mutex);
    bool again = hsm->failures < FAILURES_BEFORE_INCOMPLETE;
    if (!again) {
        lane->incomplete_until_ms = boot_clock_ms() + ((int64_t)INCOMPLETE_MS << hsm->incomplete);
        hsm->incomplete += hsm->incomplete < INCOMPLETE_DOUBLINGS_MAX;
    }
    pthread_mutex_unlock(&hsm->mutex);
    return again;
}

/* SSO_OK where at least one opens, or none is wanted: what does not open is refused row by row,
 * and a token that holds nothing of ours does not serve. */
static enum sso_code open_all(struct lane *lane, const struct generation_key *keys, size_t count,
                              bool *died, struct sso_error *err)
{
    size_t opened = 0;
    for (size_t i = 0; i < count; i++) {
        struct decoder reply;
        struct sso_error why = {0};
        ENCODER_AUTO body = {0};
        frame_put_generation(&body, &keys[i]);
        enum sso_code code = worker_process_call(
            &lane->process, FRAME_OPEN, &body, lane->hsm->section->deadline_ms, &reply, died, &why);
        if (code == SSO_OK) {
            opened++;
            continue;
        }
        if (err != NULL)
            *err = why;
        if (*died || (!is_final(code) && try_another_worker(lane)))
            return code;
        log_line(LOG_LEVEL_ERROR, "a generation does not open", "token", hsm_name(lane->hsm),
                 "reason", why.detail, NULL);
    }
    return opened > 0 || count == 0 ? SSO_OK : err != NULL ? err->code : SSO_HSM_UNAVAILABLE;
}

/* What is to be open changes while we open it: until it holds still. */
static enum sso_code open_generations(struct lane *lane, bool *died, struct sso_error *err)
{
    struct hsm *hsm = lane->hsm;
    struct generation_key *keys = calloc(GENERATIONS_MAX, sizeof *keys);
    if (keys == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory to start a worker");
    enum sso_code code = SSO_OK;
    pthread_mutex_lock(&hsm->mutex);
    for (unsigned edition = hsm->open_edition - 1;
         code == SSO_OK && edition != hsm->open_edition;) {
        edition = hsm->open_edition;
        size_t count = hsm->open_count;
        memcpy(keys, hsm->open, count * sizeof *keys);
        pthread_mutex_unlock(&hsm->mutex);
        code = open_all(lane, keys, count, died, err);
        pthread_mutex_lock(&hsm->mutex);
    }
    if (code == SSO_OK) {
        lane->up = true;
        hsm->ready++;
        if (lane->incomplete_until_ms == 0)
            hsm->incomplete = 0;
    }
    pthread_mutex_unlock(&hsm->mutex);
    free(keys);
    return code;
}

/* What to ask the token for: as many as are wanted, but no more than its own limit leaves to each
 * worker. Mutex held. */
static unsigned share_of_sessions(struct lane *lane, const struct hello_reply *token,
                                  unsigned spawned_with)
{
    struct hsm *hsm = lane->hsm;
    auto_see_token(hsm, &token->token);
    unsigned wanted = hsm->sessions_per_worker;
    lane->wanted_sessions = wanted = wanted < spawned_with ? wanted : spawned_with;
    unsigned share = token->sessions_max / hsm->lane_count;
    if (token->sessions_max > 0 && share < wanted)
        wanted = share > 0 ? share : 1;
    return wanted;
}

enum sso_code lane_start_worker(struct lane *lane, bool *died, struct sso_error *err)
{
    struct hsm *hsm = lane->hsm;
    struct hello_reply token = {0};
    pthread_mutex_lock(&hsm->mutex);
    unsigned sessions = hsm->sessions_per_worker;
    lane->incomplete_until_ms = 0;
    pthread_mutex_unlock(&hsm->mutex);
    enum sso_code code = worker_process_start(&lane->process, hsm->section, sessions, err);
    if (code == SSO_OK)
        code = read_greeting(lane, &token, died, err);
    if (code == SSO_OK) {
        pthread_mutex_lock(&hsm->mutex);
        hsm->token = token.token;
        memcpy(hsm->firmware, token.firmware, sizeof hsm->firmware);
        sessions = share_of_sessions(lane, &token, sessions);
        pthread_mutex_unlock(&hsm->mutex);
        code = log_in(lane, &token, &sessions, died, err);
    }
    if (code == SSO_OK) {
        pthread_mutex_lock(&hsm->mutex);
        lane->sessions = sessions;
        auto_push_back(lane);
        pthread_mutex_unlock(&hsm->mutex);
        code = open_generations(lane, died, err);
    }
    return code;
}
