/*
 * sessions_per_worker = auto: measured once for a token's serial, kept in the state directory, and
 * lowered where the token pushes back. A token that computes here (SoftHSM) holds a lock over all
 * its threads and wants one session in each worker; one that is waited for wants many.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "pkcs11/pool.h"

/* At each number of sessions: so long, and so many operations in each session, but not longer. */
#define MEASURE_MS 40
#define MEASURE_TIMES 12
#define MEASURE_MS_MAX 1000
#define MEASURE_ROUNDS 2
#define MEASURE_OPERATIONS 4096
#define FIRST_LOOK_OPERATIONS 16
/* Twice the sessions must give so much more, or they are not worth having; what else the machine
 * does may hide it once. */
#define WORTH_IT 1.5
#define DISAPPOINTMENTS 2

static bool is_auto(const struct hsm *hsm)
{
    return hsm->section->sessions_per_worker == CONFIG_AUTO;
}

enum sso_code auto_init(struct hsm *hsm, const char *state_directory, struct sso_error *err)
{
    hsm->sessions_per_worker = is_auto(hsm) ? 1 : hsm->section->sessions_per_worker;
    if (!is_auto(hsm))
        return SSO_OK;
    if (asprintf(&hsm->auto_path, "%s/sessions%s%s", state_directory,
                 hsm_name(hsm)[0] != '\0' ? "-" : "", hsm_name(hsm)) < 0) {
        hsm->auto_path = NULL;
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a token's pool");
    }
    FILE *file = fopen(hsm->auto_path, "re");
    unsigned sessions = 0;
    if (file == NULL)
        return SSO_OK; /* not measured yet */
    if (fscanf(file, "sessions %u\nserial %32[^\n]", &sessions, hsm->auto_serial) == 2 &&
        sessions >= 1 && sessions <= AUTO_SESSIONS_MAX) {
        hsm->sessions_per_worker = sessions;
        hsm->measured = true;
    }
    fclose(file);
    return SSO_OK;
}

/* A lost file costs one more measurement: what goes wrong here is only told. */
static void keep(struct hsm *hsm, const char *serial, unsigned sessions)
{
    char fresh[4096];
    snprintf(fresh, sizeof fresh, "%s.new", hsm->auto_path);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    bool kept = file != NULL && fprintf(file, "sessions %u\nserial %s\n", sessions, serial) > 0;
    kept = file != NULL && fclose(file) == 0 && kept && rename(fresh, hsm->auto_path) == 0;
    if (!kept)
        log_line(LOG_LEVEL_WARNING, "the measured number of sessions is not kept", "file",
                 hsm->auto_path, "reason", strerror(errno), NULL);
}

void auto_see_token(struct hsm *hsm, const struct token_identity *token)
{
    if (!is_auto(hsm) || strcmp(hsm->auto_serial, token->serial) == 0)
        return;
    snprintf(hsm->auto_serial, sizeof hsm->auto_serial, "%s", token->serial);
    hsm->sessions_per_worker = 1;
    hsm->measured = false;
}

void auto_push_back(struct lane *lane)
{
    struct hsm *hsm = lane->hsm;
    if (!is_auto(hsm) || lane->sessions >= lane->wanted_sessions)
        return;
    lane->wanted_sessions = lane->sessions;
    if (lane->sessions < hsm->sessions_per_worker) {
        hsm->sessions_per_worker = lane->sessions;
        keep(hsm, hsm->auto_serial, lane->sessions);
    }
}

struct trial {
    uint32_t generation, milliseconds;
    uint32_t given;    /* sessions */
    double per_second; /* the better of some rounds */
};

static enum sso_code measure(struct hsm *hsm, const struct trial *trial, uint32_t sessions,
                             uint32_t operations, struct measurement *out, struct sso_error *err)
{
    ENCODER_AUTO body = {0};
    encode_u32(&body, trial->generation);
    encode_u32(&body, sessions);
    encode_u32(&body, trial->milliseconds);
    encode_u32(&body, operations);
    struct control control = {
        .kind = FRAME_MEASURE, .deadline_ms = hsm->section->deadline_ms, .body = &body};
    enum sso_code code = control_run_any(hsm, &control, NULL, err);
    struct decoder reply = {.next = control.reply.data, .left_bytes = control.reply.length_bytes};
    if (code == SSO_OK && (!frame_get_measurement(&reply, out) || out->operations == 0))
        code = sso_fail(err, SSO_HSM_UNAVAILABLE, "a measurement came to nothing");
    encoder_free(&control.reply);
    return code;
}

static enum sso_code rate(struct hsm *hsm, struct trial *trial, uint32_t sessions,
                          struct sso_error *err)
{
    enum sso_code code = SSO_OK;
    trial->per_second = 0;
    for (unsigned round = 0; round < MEASURE_ROUNDS && code == SSO_OK; round++) {
        struct measurement done = {0};
        code = measure(hsm, trial, sessions, MEASURE_OPERATIONS, &done, err);
        if (code != SSO_OK)
            break;
        double here = 1e6 * done.operations / (done.wall_microseconds + 1.0);
        trial->per_second = here > trial->per_second ? here : trial->per_second;
        trial->given = done.sessions;
    }
    return code;
}

/* Doubles as long as it pays. */
static enum sso_code climb(struct hsm *hsm, struct trial *trial, unsigned *out,
                           struct sso_error *err)
{
    unsigned disappointments = 0;
    enum sso_code code = rate(hsm, trial, 1, err);
    double wanted = trial->per_second * WORTH_IT;
    for (unsigned sessions = 2; code == SSO_OK && sessions <= AUTO_SESSIONS_MAX; sessions *= 2) {
        code = rate(hsm, trial, sessions, err);
        if (code == SSO_OK && trial->per_second >= wanted) {
            *out = trial->given;
            disappointments = 0;
            wanted = trial->per_second * WORTH_IT;
        } else {
            wanted *= WORTH_IT;
            disappointments++;
        }
        if (disappointments == DISAPPOINTMENTS || trial->given < sessions)
            break;
    }
    return code;
}

static enum sso_code find_sessions(struct hsm *hsm, uint32_t generation, unsigned *out,
                                   struct sso_error *err)
{
    struct measurement look = {0};
    struct trial trial = {.generation = generation, .milliseconds = MEASURE_MS};
    *out = 1;
    enum sso_code code = measure(hsm, &trial, 1, FIRST_LOOK_OPERATIONS, &look, err);
    /* At work more than half of the time: it computes here. */
    if (code != SSO_OK ||
        2.0 * look.cpu_microseconds / look.operations >= (double)look.best_microseconds)
        return code;
    uint32_t fit = look.best_microseconds / 1000 * MEASURE_TIMES;
    fit = fit < MEASURE_MS_MAX ? fit : MEASURE_MS_MAX;
    trial.milliseconds = fit > MEASURE_MS ? fit : MEASURE_MS;
    return climb(hsm, &trial, out, err);
}

void auto_measure(struct hsm *hsm)
{
    unsigned sessions = 1;
    struct sso_error err = {0};
    pthread_mutex_lock(&hsm->mutex);
    bool wanted = is_auto(hsm) && hsm->measures && !hsm->measured && hsm->open_count > 0;
    uint32_t generation = wanted ? hsm->open[0].number : 0;
    pthread_mutex_unlock(&hsm->mutex);
    if (!wanted)
        return;
    if (find_sessions(hsm, generation, &sessions, &err) != SSO_OK) {
        log_line(LOG_LEVEL_WARNING, "the token could not be measured", "token", hsm_name(hsm),
                 "reason", err.detail, NULL);
        return; /* at the next generation that is opened */
    }
    char text[16];
    snprintf(text, sizeof text, "%u", sessions);
    log_line(LOG_LEVEL_INFO, "the token was measured", "token", hsm_name(hsm),
             "sessions_per_worker", text, NULL);
    pthread_mutex_lock(&hsm->mutex);
    bool changed = hsm->sessions_per_worker != sessions;
    hsm->sessions_per_worker = sessions;
    hsm->measured = true;
    keep(hsm, hsm->auto_serial, sessions);
    pthread_mutex_unlock(&hsm->mutex);
    if (changed)
        (void)!replace_workers(hsm, NULL, NULL);
}
