#include "custodian/exchange.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/secret.h"
#include "custodian/custodian.h"
#include "custodian/metrics.h"
#include "custodian/operations.h"

#define LARGE_BODY_BYTES (1u << 20)
/* Those behind them would, where a token is slow, wait longer than clients do. One peer alone, with
 * the connections that it may have, never comes so far. */
/* More than a thousand callers may wait out the replacement of all workers. */
#define WAITING_MAX 1536

enum sso_code exchange_new(struct custodian *custodian, struct exchange **out,
                           struct sso_error *err)
{
    struct exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange != NULL) {
        exchange->request.custodian = custodian;
        exchange->body = evbuffer_new();
        exchange->reply = evbuffer_new();
    }
    if (exchange == NULL || exchange->body == NULL || exchange->reply == NULL) {
        exchange_free(&exchange);
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a request");
    }
    *out = exchange;
    return SSO_OK;
}

void exchange_free(struct exchange **exchange)
{
    if (*exchange == NULL)
        return;
    if ((*exchange)->body != NULL)
        evbuffer_free((*exchange)->body);
    if ((*exchange)->reply != NULL)
        evbuffer_free((*exchange)->reply);
    request_free(&(*exchange)->request);
    free(*exchange);
    *exchange = NULL;
}

static void attach_body(struct exchange *exchange)
{
    struct request *request = &exchange->request;
    size_t count = evbuffer_get_length(exchange->body);
    if (count == 0 || request->malformed.code != SSO_OK)
        return;
    request->raw = (const char *)evbuffer_pullup(exchange->body, -1);
    request->raw_bytes = count;
    if (request->raw == NULL)
        sso_fail(&request->malformed, SSO_NO_MEMORY, "no memory for the body");
}

/* Before the reply waits to be sent. What a large body took in many small pieces would else stay
 * with the allocator of this thread for ever. */
static void release_body(struct exchange *exchange)
{
    struct request *request = &exchange->request;
    bool large = request->raw_bytes >= LARGE_BODY_BYTES;
    request->raw = NULL;
    request->raw_bytes = 0;
    evbuffer_drain(exchange->body, evbuffer_get_length(exchange->body));
    json_decref(request->body);
    request->body = NULL;
    if (large)
        malloc_trim(0);
}

static void free_text(const void *text, size_t count, void *context)
{
    (void)count;
    (void)context;
    wiping_free((void *)(uintptr_t)text);
}

void exchange_render(struct exchange *exchange)
{
    struct request *request = &exchange->request;
    char *text = request->text;
    request->text = NULL;
    if (text == NULL && request->reply != NULL)
        text = json_line(request->reply);
    if (text != NULL &&
        evbuffer_add_reference(exchange->reply, text, strlen(text), free_text, NULL) != 0)
        wiping_free(text);
    if (request->content_type == NULL)
        request->content_type = "application/json";
    if (request->status == 0)
        request->status = evbuffer_get_length(exchange->reply) > 0 ? 200 : 204;
}

struct request_threads {
    pthread_mutex_t lock;
    pthread_cond_t work, all_answered;
    struct exchange *first, **last;
    size_t waiting;    /* in the queue */
    size_t unanswered; /* taken up, and maybe left to the committer */
    unsigned idle;     /* threads that wait for work */
    bool waking;       /* one of them was called and has not come yet */
    bool stopping;
    exchange_done done;
    void *context;
    unsigned count;
    pthread_t thread[];
};

/* Before anything is done for it, so that there is nothing to record. */
static void turn_away(struct request *request, enum sso_code code, const char *why)
{
    request->operation = operation_find(request);
    request->audited = true;
    sso_fail(&request->problem, code, "%s", why);
    request_problem(request, code, why);
}

/* The operation, and the reply in case its record can be written. */
static void exchange_run(struct exchange *exchange)
{
    struct request *request = &exchange->request;
    struct sso_error problem = {0};
    bool late = boot_clock_ms() > request->deadline_ms;
    request->begun_us = metrics_now_microseconds();
    if (random_bytes(request->request_id, sizeof request->request_id, &problem) != SSO_OK) {
        turn_away(request, problem.code, "no request id can be made");
    } else if (late) {
        /* Nobody waits for it any more, and those behind it still do. */
        turn_away(request, SSO_TOO_MANY_REQUESTS,
                  "the request waited too long for its turn: nothing was done, try again");
    } else {
        peer_resolve(request->custodian->peers, &exchange->identity, &request->peer);
        attach_body(exchange);
        operations_run(request);
    }
    release_body(exchange);
    exchange_render(exchange);
}

/* On the committer's thread where there was a record to wait for. */
static void exchange_end(const struct sso_error *recorded, void *context)
{
    struct exchange *exchange = context;
    struct request_threads *threads = exchange->threads;
    if (operations_end(&exchange->request, recorded)) {
        evbuffer_drain(exchange->reply, evbuffer_get_length(exchange->reply));
        exchange_render(exchange);
    }
    threads->done(exchange, threads->context);
    pthread_mutex_lock(&threads->lock);
    if (--threads->unanswered == 0)
        pthread_cond_signal(&threads->all_answered);
    pthread_mutex_unlock(&threads->lock);
}

/* With the lock held. One at a time, and who comes calls the next: a burst of requests would else
 * wake all threads, to find that the first few did everything while they came. */
static void call_one(struct request_threads *threads)
{
    if (threads->first == NULL || threads->idle == 0 || threads->waking)
        return;
    threads->waking = true;
    pthread_cond_signal(&threads->work);
}

static struct exchange *take(struct request_threads *threads)
{
    pthread_mutex_lock(&threads->lock);
    while (threads->first == NULL && !threads->stopping) {
        threads->idle++;
        pthread_cond_wait(&threads->work, &threads->lock);
        threads->idle--;
        threads->waking = false;
    }
    struct exchange *exchange = threads->first;
    if (exchange != NULL) {
        threads->first = exchange->next;
        threads->waiting--;
        threads->unanswered++;
        exchange->next = NULL;
        if (threads->first == NULL)
            threads->last = &threads->first;
    }
    call_one(threads);
    pthread_mutex_unlock(&threads->lock);
    return exchange;
}

static void *request_thread(void *argument)
{
    struct request_threads *threads = argument;
    struct exchange *exchange;
    while ((exchange = take(threads)) != NULL) {
        struct sso_error recorded;
        exchange->threads = threads;
        exchange_run(exchange);
        if (!operations_record(&exchange->request, exchange_end, exchange, &recorded))
            exchange_end(&recorded, exchange);
    }
    return NULL;
}

enum sso_code request_threads_start(unsigned count, exchange_done done, void *context,
                                    struct request_threads **out, struct sso_error *err)
{
    struct request_threads *threads =
        calloc(1, sizeof *threads + count * sizeof threads->thread[0]);
    if (threads == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for request threads");
    pthread_mutex_init(&threads->lock, NULL);
    pthread_cond_init(&threads->work, NULL);
    pthread_cond_init(&threads->all_answered, NULL);
    threads->last = &threads->first;
    threads->done = done;
    threads->context = context;
    for (; threads->count < count; threads->count++) {
        int why = pthread_create(&threads->thread[threads->count], NULL, request_thread, threads);
        if (why != 0) {
            request_threads_stop(&threads);
            return sso_fail_errno(err, SSO_NO_MEMORY, why, "a request thread does not start");
        }
    }
    *out = threads;
    return SSO_OK;
}

enum sso_code request_threads_submit(struct request_threads *threads, struct exchange *exchange,
                                     struct sso_error *err)
{
    pthread_mutex_lock(&threads->lock);
    bool room = threads->waiting < WAITING_MAX;
    if (room) {
        *threads->last = exchange;
        threads->last = &exchange->next;
        threads->waiting++;
        call_one(threads);
    }
    pthread_mutex_unlock(&threads->lock);
    if (room)
        return SSO_OK;
    return sso_fail(err, SSO_TOO_MANY_REQUESTS,
                    "%d requests wait for their turn already: nothing was done, try again",
                    WAITING_MAX);
}

void request_threads_stop(struct request_threads **threads)
{
    struct request_threads *self = *threads;
    if (self == NULL)
        return;
    pthread_mutex_lock(&self->lock);
    self->stopping = true;
    pthread_cond_broadcast(&self->work);
    pthread_mutex_unlock(&self->lock);
    for (unsigned i = 0; i < self->count; i++)
        pthread_join(self->thread[i], NULL);
    pthread_mutex_lock(&self->lock);
    while (self->unanswered > 0)
        pthread_cond_wait(&self->all_answered, &self->lock);
    pthread_mutex_unlock(&self->lock);
    pthread_cond_destroy(&self->all_answered);
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->work);
    free(self);
    *threads = NULL;
}
