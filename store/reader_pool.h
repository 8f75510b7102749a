/* Connections for reading: up to READERS_MAX, made when they are needed, the one used last first,
 * since its cache is warm. */
#ifndef SSO_STORE_READER_POOL_H
#define SSO_STORE_READER_POOL_H

#include <pthread.h>
#include <stdbool.h>

#include "common/error.h"

#define READERS_MAX 16

struct reader_pool {
    pthread_mutex_t lock;
    pthread_cond_t returned;
    void *idle[READERS_MAX];
    unsigned idle_count, made;
};

void reader_pool_init(struct reader_pool *pool);
/* None may be left in it. */
void reader_pool_destroy(struct reader_pool *pool);
/* *connection NULL: the caller makes one, and gives it back or calls reader_pool_drop. `name` is
 * the database's, for the text. */
enum sso_code reader_pool_take(struct reader_pool *pool, const char *name, unsigned timeout_ms,
                               void **connection, struct sso_error *err);
void reader_pool_return(struct reader_pool *pool, void *connection);
/* One that was taken is gone. */
void reader_pool_drop(struct reader_pool *pool);
/* NULL where none is idle; it is no longer in the pool. */
void *reader_pool_pop(struct reader_pool *pool);

#endif
