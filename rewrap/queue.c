#include "rewrap/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

struct batch *batch_new(bool renewing)
{
    struct batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL || !renewing)
        return batch;
    batch->renewal = calloc(BATCH_ROWS, sizeof *batch->renewal);
    if (batch->renewal == NULL) {
        free(batch);
        return NULL;
    }
    return batch;
}

void batch_clear(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++)
        if (batch->row[i].ciphertext != NULL)
            credential_row_free(&batch->row[i]);
    for (size_t i = 0; batch->renewal != NULL && i < batch->count; i++) {
        free(batch->renewal[i].ciphertext);
        batch->renewal[i] = (struct row_renewal){0};
    }
    memset(batch->outcome, 0, batch->count * sizeof batch->outcome[0]);
    batch->count = 0;
    batch->abandoned = false;
    batch->next = NULL;
}

struct batch *batch_free(struct batch *batch)
{
    struct batch *next = batch->next;
    batch_clear(batch);
    free(batch->renewal);
    free(batch);
    return next;
}

enum sso_code queue_init(struct queue *queue, struct sso_error *err)
{
    pthread_condattr_t attributes;
    memset(queue, 0, sizeof *queue);
    if (pthread_condattr_init(&attributes) != 0)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a queue of the rotation");
    /* Waits are durations: nobody who moves the wall clock shall lengthen them. */
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    int failed = pthread_mutex_init(&queue->lock, NULL);
    if (failed == 0 && (failed = pthread_cond_init(&queue->changed, &attributes)) != 0)
        pthread_mutex_destroy(&queue->lock);
    pthread_condattr_destroy(&attributes);
    return failed == 0 ? SSO_OK
                       : sso_fail_errno(err, SSO_NO_MEMORY, failed, "a queue of the rotation");
}

void queue_destroy(struct queue *queue)
{
    for (struct batch *batch = queue->first; batch != NULL;)
        batch = batch_free(batch);
    pthread_cond_destroy(&queue->changed);
    pthread_mutex_destroy(&queue->lock);
}

void queue_push(struct queue *queue, struct batch *batch)
{
    batch->next = NULL;
    pthread_mutex_lock(&queue->lock);
    if (queue->last != NULL)
        queue->last->next = batch;
    else
        queue->first = batch;
    queue->last = batch;
    pthread_cond_signal(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
}

void queue_push_first(struct queue *queue, struct batch *batch)
{
    pthread_mutex_lock(&queue->lock);
    batch->next = queue->first;
    queue->first = batch;
    if (queue->last == NULL)
        queue->last = batch;
    pthread_cond_signal(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
}

void queue_close(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
}

struct batch *queue_pop(struct queue *queue, int timeout_ms, bool *ended)
{
    struct timespec until = monotonic_after(timeout_ms < 0 ? 0 : (uint64_t)timeout_ms);
    int waited = 0;
    pthread_mutex_lock(&queue->lock);
    while (queue->first == NULL && !queue->closed && waited != ETIMEDOUT)
        waited = timeout_ms < 0 ? pthread_cond_wait(&queue->changed, &queue->lock)
                                : pthread_cond_timedwait(&queue->changed, &queue->lock, &until);
    struct batch *batch = queue->first;
    if (batch != NULL) {
        queue->first = batch->next;
        if (queue->first == NULL)
            queue->last = NULL;
        batch->next = NULL;
    }
    *ended = batch == NULL && queue->closed;
    pthread_mutex_unlock(&queue->lock);
    return batch;
}
