/* A lock that is handed over in the order of arrival, so that of two threads that write all the
 * time neither starves: an ordinary mutex is usually taken again by the thread that freed it. */
#ifndef SSO_STORE_FAIR_LOCK_H
#define SSO_STORE_FAIR_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

struct fair_lock_waiter;

struct fair_lock {
    pthread_mutex_t mutex;
    struct fair_lock_waiter *first, **last;
    bool taken;
    pthread_t holder; /* while taken */
};

enum fair_lock_result { FAIR_LOCK_TAKEN, FAIR_LOCK_TIMEOUT, FAIR_LOCK_OWN };

void fair_lock_init(struct fair_lock *lock);
void fair_lock_destroy(struct fair_lock *lock);
/* FAIR_LOCK_OWN: this thread holds it already and would wait for itself. */
enum fair_lock_result fair_lock_take(struct fair_lock *lock, unsigned timeout_ms);
void fair_lock_release(struct fair_lock *lock);

#endif
