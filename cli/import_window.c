#include "cli/import_window.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/client.h"
#include "common/json.h"

#define BATCH_ITEMS 1000
#define BATCH_TIMEOUT_MS 120000
#define TRIES 7 /* the last after 16 seconds: a custodian that is started anew is back by then */
#define FIRST_PAUSE_US 250000

struct lane {
    struct import_lanes *lanes;
    unsigned number;
    pthread_t thread;
    struct client *client;
};

struct import_lanes {
    struct lane lane[IMPORT_CONNECTIONS];
    unsigned started;
    size_t batch_bytes;
    pthread_mutex_t lock;
    pthread_cond_t work, finished;
    struct import_window *window;
    uint64_t turn; /* counts windows */
    unsigned busy;
    bool stopping;
    struct sso_error fatal; /* code SSO_OK: none */
};

/* Lines of one lane and one application, no principal twice. */
struct batch {
    struct import_line *line[BATCH_ITEMS];
    size_t count, bytes;
    json_t *principals; /* as a set */
};

void import_line_fail(struct import_line *line, enum sso_code code, const char *detail)
{
    line->outcome = IMPORT_FAILED;
    line->code = code;
    free(line->detail);
    line->detail = strdup(detail);
}

void import_window_clear(struct import_window *window)
{
    for (size_t i = 0; i < window->count; i++) {
        free(window->line[i].app);
        free(window->line[i].detail);
        json_decref(window->line[i].item);
        window->line[i] = (struct import_line){0};
    }
    window->count = window->bytes = 0;
}

static void stop_all(struct import_lanes *lanes, const struct sso_error *why)
{
    pthread_mutex_lock(&lanes->lock);
    if (lanes->fatal.code == SSO_OK)
        lanes->fatal = *why;
    pthread_mutex_unlock(&lanes->lock);
}

static bool is_stopped(struct import_lanes *lanes)
{
    pthread_mutex_lock(&lanes->lock);
    bool stopped = lanes->fatal.code != SSO_OK;
    pthread_mutex_unlock(&lanes->lock);
    return stopped;
}

static void take_answer(struct import_line *line, const json_t *answer)
{
    if (json_is_integer(json_object_get(answer, "version"))) {
        bool created = json_is_true(json_object_get(answer, "created"));
        line->outcome = created ? IMPORT_CREATED : IMPORT_UPDATED;
        return;
    }
    struct sso_error problem = {0};
    enum sso_code code = json_problem_read(answer, &problem);
    import_line_fail(line, code, problem.detail);
}

static enum sso_code call(struct lane *lane, struct import_line *const *lines, size_t count,
                          json_t **reply, struct sso_error *err)
{
    enum sso_code rc = SSO_NO_MEMORY;
    char *path = NULL, *segment = client_escape(lines[0]->app);
    json_t *items = json_array(), *body = json_pack("{s:o}", "items", items);
    for (size_t i = 0; i < count; i++)
        json_array_append(items, lines[i]->item);
    if (segment != NULL && asprintf(&path, "/v1/apps/%s/credentials:batch", segment) < 0)
        path = NULL;
    if (path == NULL || json_array_size(items) != count) {
        sso_fail(err, rc, "no memory for a batch");
        goto out;
    }
    const struct client_call client_call = {
        .method = "POST", .path = path, .body = body, .timeout_ms = BATCH_TIMEOUT_MS};
    useconds_t pause_us = FIRST_PAUSE_US;
    for (unsigned tries = 1;; tries++, pause_us *= 2) {
        rc = client_request(lane->client, &client_call, reply, err);
        /* Setting a credential again is harmless, so what may be over soon is tried again. */
        if (rc == SSO_OK || sso_code_facts(rc)->exit_code != 5 || tries == TRIES)
            break;
        usleep(pause_us);
    }
out:
    json_decref(body);
    free(path);
    free(segment);
    return rc;
}

static void send_lines(struct lane *lane, struct import_line *const *lines, size_t count)
{
    struct sso_error problem = {0};
    json_t *reply = NULL;
    enum sso_code rc = call(lane, lines, count, &reply, &problem);
    const json_t *answers = json_object_get(reply, "items");
    if (rc == SSO_OK && json_array_size(answers) != count)
        rc = sso_fail(&problem, SSO_INTERNAL, "the custodian answered %zu of %zu lines",
                      json_array_size(answers), count);
    if (rc == SSO_OK) {
        for (size_t i = 0; i < count; i++)
            take_answer(lines[i], json_array_get(answers, i));
    } else if (rc == SSO_TOO_LARGE && count > 1) {
        send_lines(lane, lines, count / 2);
        send_lines(lane, lines + count / 2, count - count / 2);
    } else if (sso_code_facts(rc)->exit_code >= 4) {
        stop_all(lane->lanes, &problem);
    } else {
        for (size_t i = 0; i < count; i++)
            import_line_fail(lines[i], rc, problem.detail);
    }
    json_decref(reply);
}

static void flush(struct lane *lane, struct batch *batch)
{
    if (batch->count > 0 && !is_stopped(lane->lanes))
        send_lines(lane, batch->line, batch->count);
    batch->count = batch->bytes = 0;
    json_object_clear(batch->principals);
}

/* The lane's lines of `first`'s application, in their order. */
static void send_application(struct lane *lane, struct import_window *window, size_t first,
                             struct batch *batch)
{
    const char *app = window->line[first].app;
    for (size_t i = first; i < window->count; i++) {
        struct import_line *line = &window->line[i];
        if (line->lane != lane->number || line->taken || line->outcome != IMPORT_NOT_SENT ||
            strcmp(line->app, app) != 0)
            continue;
        const char *principal = json_string_value(json_object_get(line->item, "principal"));
        if (batch->count == BATCH_ITEMS ||
            (batch->count > 0 && batch->bytes + line->bytes > lane->lanes->batch_bytes) ||
            json_object_get(batch->principals, principal) != NULL)
            flush(lane, batch);
        line->taken = true;
        batch->line[batch->count++] = line;
        batch->bytes += line->bytes;
        json_object_set_new(batch->principals, principal, json_null());
    }
    flush(lane, batch);
}

static void send_window(struct lane *lane, struct import_window *window, struct batch *batch)
{
    for (size_t i = 0; i < window->count; i++) {
        const struct import_line *line = &window->line[i];
        if (line->lane == lane->number && !line->taken && line->outcome == IMPORT_NOT_SENT)
            send_application(lane, window, i, batch);
    }
}

static void *run_lane(void *context)
{
    struct lane *lane = context;
    struct import_lanes *lanes = lane->lanes;
    struct batch *batch = calloc(1, sizeof *batch);
    json_t *principals = json_object();
    uint64_t seen = 0;
    pthread_mutex_lock(&lanes->lock);
    if (batch == NULL || principals == NULL)
        sso_fail(&lanes->fatal, SSO_NO_MEMORY, "no memory for an import");
    else
        batch->principals = principals;
    for (;;) {
        while (!lanes->stopping && lanes->turn == seen)
            pthread_cond_wait(&lanes->work, &lanes->lock);
        if (lanes->stopping)
            break;
        seen = lanes->turn;
        struct import_window *window = lanes->window;
        bool able = lanes->fatal.code == SSO_OK;
        pthread_mutex_unlock(&lanes->lock);
        if (able)
            send_window(lane, window, batch);
        pthread_mutex_lock(&lanes->lock);
        if (--lanes->busy == 0)
            pthread_cond_signal(&lanes->finished);
    }
    pthread_mutex_unlock(&lanes->lock);
    json_decref(principals);
    free(batch);
    return NULL;
}

enum sso_code import_lanes_open(const struct config *config, struct import_lanes **out,
                                struct sso_error *err)
{
    struct import_lanes *lanes = calloc(1, sizeof *lanes);
    if (lanes == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for an import");
    pthread_mutex_init(&lanes->lock, NULL);
    pthread_cond_init(&lanes->work, NULL);
    pthread_cond_init(&lanes->finished, NULL);
    lanes->batch_bytes = config->limits.max_body_bytes / 2;
    enum sso_code rc = SSO_OK;
    for (unsigned i = 0; rc == SSO_OK && i < IMPORT_CONNECTIONS; i++) {
        struct lane *lane = &lanes->lane[i];
        lane->lanes = lanes;
        lane->number = i;
        rc = client_open(config, &lane->client, err);
        if (rc != SSO_OK)
            break;
        int failure = pthread_create(&lane->thread, NULL, run_lane, lane);
        if (failure != 0) {
            client_close(&lane->client);
            rc = sso_fail_errno(err, SSO_INTERNAL, failure, "a thread cannot be started");
            break;
        }
        lanes->started++;
    }
    if (rc != SSO_OK)
        import_lanes_close(&lanes);
    else
        *out = lanes;
    return rc;
}

void import_lanes_close(struct import_lanes **lanes)
{
    struct import_lanes *old = *lanes;
    if (old == NULL)
        return;
    pthread_mutex_lock(&old->lock);
    old->stopping = true;
    pthread_cond_broadcast(&old->work);
    pthread_mutex_unlock(&old->lock);
    for (unsigned i = 0; i < old->started; i++) {
        pthread_join(old->lane[i].thread, NULL);
        client_close(&old->lane[i].client);
    }
    pthread_cond_destroy(&old->work);
    pthread_cond_destroy(&old->finished);
    pthread_mutex_destroy(&old->lock);
    free(old);
    *lanes = NULL;
}

void import_lanes_send(struct import_lanes *lanes, struct import_window *window)
{
    pthread_mutex_lock(&lanes->lock);
    lanes->window = window;
    lanes->busy = lanes->started;
    lanes->turn++;
    pthread_cond_broadcast(&lanes->work);
    pthread_mutex_unlock(&lanes->lock);
}

enum sso_code import_lanes_wait(struct import_lanes *lanes, struct sso_error *err)
{
    pthread_mutex_lock(&lanes->lock);
    while (lanes->busy > 0)
        pthread_cond_wait(&lanes->finished, &lanes->lock);
    struct sso_error fatal = lanes->fatal;
    pthread_mutex_unlock(&lanes->lock);
    return fatal.code == SSO_OK ? SSO_OK : sso_fail(err, fatal.code, "%s", fatal.detail);
}
