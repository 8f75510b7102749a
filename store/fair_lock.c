#include "store/fair_lock.h"

#include <stddef.h>

#include "common/clock.h"

struct fair_lock_waiter {
    pthread_cond_t turn;
    pthread_t thread;
    bool granted;
    struct fair_lock_waiter *next;
};

void fair_lock_init(struct fair_lock *lock)
{
    pthread_mutex_init(&lock->mutex, NULL);
    lock->first = NULL;
    lock->last = &lock->first;
    lock->taken = false;
}

void fair_lock_destroy(struct fair_lock *lock)
{
    pthread_mutex_destroy(&lock->mutex);
}

static void leave_queue(struct fair_lock *lock, struct fair_lock_waiter *waiter)
{
    struct fair_lock_waiter **link = &lock->first;
    while (*link != waiter)
        link = &(*link)->next;
    *link = waiter->next;
    if (lock->last == &waiter->next)
        lock->last = link;
}

static enum fair_lock_result wait_for_turn(struct fair_lock *lock, unsigned timeout_ms)
{
    struct fair_lock_waiter self = {.thread = pthread_self()};
    struct timespec deadline = monotonic_after(timeout_ms);
    monotonic_condition_init(&self.turn);

    *lock->last = &self;
    lock->last = &self.next;
    int failed = 0;
    while (!self.granted && failed == 0)
        failed = pthread_cond_timedwait(&self.turn, &lock->mutex, &deadline);
    if (!self.granted)
        leave_queue(lock, &self);
    pthread_cond_destroy(&self.turn);
    return self.granted ? FAIR_LOCK_TAKEN : FAIR_LOCK_TIMEOUT;
}

enum fair_lock_result fair_lock_take(struct fair_lock *lock, unsigned timeout_ms)
{
    enum fair_lock_result result = FAIR_LOCK_TAKEN;
    pthread_mutex_lock(&lock->mutex);
    if (!lock->taken) {
        lock->taken = true;
        lock->holder = pthread_self();
    } else if (pthread_equal(lock->holder, pthread_self())) {
        result = FAIR_LOCK_OWN;
    } else {
        result = wait_for_turn(lock, timeout_ms);
    }
    pthread_mutex_unlock(&lock->mutex);
    return result;
}

/* The lock goes to the one who waited longest without being free in between. */
void fair_lock_release(struct fair_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
    struct fair_lock_waiter *next = lock->first;
    if (next == NULL) {
        lock->taken = false;
    } else {
        lock->first = next->next;
        if (lock->first == NULL)
            lock->last = &lock->first;
        lock->holder = next->thread;
        next->granted = true;
        pthread_cond_signal(&next->turn);
    }
    pthread_mutex_unlock(&lock->mutex);
}
