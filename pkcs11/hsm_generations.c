/* Which generations a pool's workers have open. */
#include <string.h>

#include "pkcs11/pool.h"

static struct generation_key *find(struct hsm *hsm, uint32_t number)
{
    for (size_t i = 0; i < hsm->open_count; i++)
        if (hsm->open[i].number == number)
            return &hsm->open[i];
    return NULL;
}

/* True: the pool knew nothing, or another key, by this number. */
static enum sso_code add(struct hsm *hsm, const struct generation_key *key, bool *added,
                         struct generation_key *former, bool *had_former, struct sso_error *err)
{
    enum sso_code code = SSO_OK;
    pthread_mutex_lock(&hsm->mutex);
    struct generation_key *place = find(hsm, key->number);
    *added = *had_former = false;
    if (place != NULL && memcmp(place, key, sizeof *key) != 0) {
        *former = *place;
        *had_former = true;
    }
    if (place == NULL && hsm->open_count == GENERATIONS_MAX)
        code = sso_fail(err, SSO_TOO_LARGE, "more than %d generations are open", GENERATIONS_MAX);
    else if (place == NULL)
        place = &hsm->open[hsm->open_count++];
    else if (!*had_former)
        place = NULL; /* the very same */
    if (code == SSO_OK && place != NULL) {
        *place = *key;
        *added = true;
        hsm->open_edition++;
    }
    pthread_mutex_unlock(&hsm->mutex);
    return code;
}

static void take_back(struct hsm *hsm, uint32_t number, const struct generation_key *former)
{
    pthread_mutex_lock(&hsm->mutex);
    struct generation_key *place = find(hsm, number);
    if (place != NULL && former != NULL)
        *place = *former;
    else if (place != NULL)
        *place = hsm->open[--hsm->open_count];
    hsm->open_edition++;
    pthread_mutex_unlock(&hsm->mutex);
}

static void forget_in_workers(struct hsm *hsm, uint32_t number)
{
    ENCODER_AUTO body = {0};
    encode_u32(&body, number);
    for (unsigned i = 0; i < hsm->lane_count; i++) {
        struct control control = {
            .kind = FRAME_FORGET, .deadline_ms = hsm->section->deadline_ms, .body = &body};
        (void)control_run(hsm, &hsm->lanes[i], &control);
        encoder_free(&control.reply);
    }
}

/* Every worker that is up; one that comes up meanwhile opens it by itself. */
static enum sso_code open_in_workers(struct hsm *hsm, const struct generation_key *key,
                                     struct sso_error *err)
{
    ENCODER_AUTO body = {0};
    unsigned opened = 0;
    frame_put_generation(&body, key);
    for (unsigned i = 0; i < hsm->lane_count; i++) {
        struct control control = {
            .kind = FRAME_OPEN, .deadline_ms = hsm->section->deadline_ms, .body = &body};
        enum sso_code code = control_run(hsm, &hsm->lanes[i], &control);
        encoder_free(&control.reply);
        if (code != SSO_OK && !control.died)
            return sso_fail(err, code, "%s", control.err.detail);
        opened += code == SSO_OK;
    }
    if (opened > 0)
        return SSO_OK;
    struct control control = {
        .kind = FRAME_OPEN, .deadline_ms = hsm->section->deadline_ms, .body = &body};
    enum sso_code code = control_run_any(hsm, &control, NULL, err);
    encoder_free(&control.reply);
    return code;
}

enum sso_code hsm_open_generation(struct hsm *hsm, const struct generation_key *key, bool fresh,
                                  struct sso_error *err)
{
    struct generation_key former, exact;
    bool added = false, had_former = false;
    /* A copy without what lies between members: keys are compared as bytes. */
    memset(&exact, 0, sizeof exact);
    memcpy(exact.system_id, key->system_id, sizeof exact.system_id);
    memcpy(exact.secret_id, key->secret_id, sizeof exact.secret_id);
    exact.number = key->number;
    exact.suite = key->suite;
    memcpy(&exact.canary, &key->canary, sizeof exact.canary);
    pthread_mutex_lock(&hsm->control_mutex);
    enum sso_code code = fresh ? replace_workers(hsm, NULL, err) : SSO_OK;
    if (code == SSO_OK)
        code = add(hsm, &exact, &added, &former, &had_former, err);
    if (code == SSO_OK) {
        code = open_in_workers(hsm, &exact, err);
        if (code != SSO_OK && added) {
            take_back(hsm, key->number, had_former ? &former : NULL);
            if (!had_former)
                forget_in_workers(hsm, key->number);
        }
    }
    if (code == SSO_OK)
        auto_measure(hsm);
    pthread_mutex_unlock(&hsm->control_mutex);
    return code;
}

void hsm_forget_generation(struct hsm *hsm, uint32_t number)
{
    pthread_mutex_lock(&hsm->control_mutex);
    take_back(hsm, number, NULL);
    forget_in_workers(hsm, number);
    pthread_mutex_unlock(&hsm->control_mutex);
}

void hsm_end_generation(struct hsm *hsm, uint32_t number)
{
    pthread_mutex_lock(&hsm->control_mutex);
    take_back(hsm, number, NULL);
    forget_in_workers(hsm, number);
    (void)!replace_workers(hsm, NULL, NULL);
    pthread_mutex_unlock(&hsm->control_mutex);
}
