#include "store/reader_pool.h"

#include "common/clock.h"

void reader_pool_init(struct reader_pool *pool)
{
    *pool = (struct reader_pool){0};
    pthread_mutex_init(&pool->lock, NULL);
    monotonic_condition_init(&pool->returned);
}

void reader_pool_destroy(struct reader_pool *pool)
{
    pthread_cond_destroy(&pool->returned);
    pthread_mutex_destroy(&pool->lock);
}

enum sso_code reader_pool_take(struct reader_pool *pool, const char *name, unsigned timeout_ms,
                               void **connection, struct sso_error *err)
{
    struct timespec deadline = monotonic_after(timeout_ms);
    int waited = 0;
    pthread_mutex_lock(&pool->lock);
    while (pool->idle_count == 0 && pool->made == READERS_MAX && waited == 0)
        waited = pthread_cond_timedwait(&pool->returned, &pool->lock, &deadline);
    *connection = pool->idle_count > 0 ? pool->idle[--pool->idle_count] : NULL;
    bool make = *connection == NULL && pool->made < READERS_MAX;
    if (make)
        pool->made++;
    pthread_mutex_unlock(&pool->lock);
    if (*connection != NULL || make)
        return SSO_OK;
    return sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                    "all %d connections for reading %s have been in use for %u ms", READERS_MAX,
                    name, timeout_ms);
}

void reader_pool_return(struct reader_pool *pool, void *connection)
{
    pthread_mutex_lock(&pool->lock);
    pool->idle[pool->idle_count++] = connection;
    pthread_cond_signal(&pool->returned);
    pthread_mutex_unlock(&pool->lock);
}

void reader_pool_drop(struct reader_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->made--;
    pthread_cond_signal(&pool->returned);
    pthread_mutex_unlock(&pool->lock);
}

void *reader_pool_pop(struct reader_pool *pool)
{
    void *connection = NULL;
    pthread_mutex_lock(&pool->lock);
    if (pool->idle_count > 0) {
        connection = pool->idle[--pool->idle_count];
        pool->made--;
    }
    pthread_mutex_unlock(&pool->lock);
    return connection;
}
