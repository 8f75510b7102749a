#include "custodian/row_counts.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"

/* Not again before this, and not before so many times as long as it took: a twentieth of one
 * processor at most, and only while somebody asks. */
#define INTERVAL_MS 5000
#define INTERVAL_OF_COST 20
/* An older count is worth waiting for, not for long: other requests need the thread. */
#define OLD_MS 60000
#define WAIT_SECONDS 1

struct row_counts {
    uint64_t exact_up_to;
    pthread_mutex_t lock;
    pthread_cond_t ended; /* a count; CLOCK_MONOTONIC */
    pthread_t thread;
    bool has_thread; /* to be joined */
    bool counting;
    struct store *store;

    /* What was counted last. */
    struct generation_rows *rows;
    size_t count;
    uint64_t total;
    bool known, outdated;
    int64_t counted_ms, took_ms; /* boot clock */
    int64_t counted_wall_ms;
};

enum sso_code row_counts_new(uint64_t exact_up_to, struct row_counts **out, struct sso_error *err)
{
    struct row_counts *counts = calloc(1, sizeof *counts);
    if (counts == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the count of rows");
    monotonic_condition_init(&counts->ended);
    pthread_mutex_init(&counts->lock, NULL);
    counts->exact_up_to = exact_up_to;
    *out = counts;
    return SSO_OK;
}

void row_counts_free(struct row_counts **counts)
{
    struct row_counts *self = *counts;
    if (self == NULL)
        return;
    *counts = NULL;
    if (self->has_thread)
        pthread_join(self->thread, NULL);
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->ended);
    free(self->rows);
    free(self);
}

/* --- counting --- */

struct tally {
    struct generation_rows *rows;
    size_t count;
    int64_t took_ms;
};

static enum sso_code count_now(struct store_tx *tx, struct tally *out, struct sso_error *err)
{
    int64_t begun_ms = boot_clock_ms();
    enum sso_code rc = store_count_by_generation(tx, &out->rows, &out->count, err);
    out->took_ms = boot_clock_ms() - begun_ms;
    return rc;
}

/* With the lock held. Takes the rows. */
static void keep(struct row_counts *self, const struct tally *tally)
{
    free(self->rows);
    self->rows = tally->rows;
    self->count = tally->count;
    self->total = 0;
    for (size_t i = 0; i < tally->count; i++)
        self->total += tally->rows[i].credentials;
    self->known = true;
    self->took_ms = tally->took_ms;
    self->counted_ms = boot_clock_ms();
    self->counted_wall_ms = wall_clock_ms();
}

/* With the lock held. */
static enum sso_code tell(const struct row_counts *self, struct counted_rows *out,
                          struct sso_error *err)
{
    size_t bytes = self->count * sizeof *self->rows;
    out->rows = malloc(bytes + 1);
    if (out->rows == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory to count rows");
    if (bytes != 0)
        memcpy(out->rows, self->rows, bytes);
    out->count = self->count;
    out->counted_ms = self->counted_wall_ms;
    return SSO_OK;
}

static void *count_beside(void *argument)
{
    struct row_counts *self = argument;
    struct tally tally = {0};
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(self->store, STORE_READ, &tx, NULL);
    if (rc == SSO_OK)
        rc = count_now(tx, &tally, NULL);
    pthread_mutex_lock(&self->lock);
    if (rc == SSO_OK)
        keep(self, &tally);
    else
        self->outdated = true;
    self->counting = false;
    pthread_cond_broadcast(&self->ended);
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

/* With the lock held. Where there is no thread now there is one at the next call. */
static void begin_count(struct row_counts *self)
{
    sigset_t all, before;
    if (self->counting)
        return;
    if (self->has_thread)
        pthread_join(self->thread, NULL); /* it has nothing left to do */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    self->counting = pthread_create(&self->thread, NULL, count_beside, self) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    self->has_thread = self->counting;
    self->outdated = self->outdated && !self->counting;
}

/* --- reading --- */

static int64_t interval_ms(const struct row_counts *self)
{
    int64_t of_cost = self->took_ms * INTERVAL_OF_COST;
    return of_cost > INTERVAL_MS ? of_cost : INTERVAL_MS;
}

/* With the lock held. */
static void renew(struct row_counts *self)
{
    int64_t age_ms = boot_clock_ms() - self->counted_ms;
    bool old = self->outdated || age_ms >= OLD_MS;
    if (!self->outdated && age_ms < interval_ms(self))
        return;
    begin_count(self);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WAIT_SECONDS;
    while (old && self->counting && pthread_cond_timedwait(&self->ended, &self->lock, &until) == 0)
        ;
}

enum sso_code row_counts_read(struct row_counts *counts, struct store *store, struct store_tx *tx,
                              struct counted_rows *out, struct sso_error *err)
{
    struct tally tally = {0};
    enum sso_code rc = SSO_OK;
    pthread_mutex_lock(&counts->lock);
    counts->store = store;
    bool kept = counts->known && counts->total > counts->exact_up_to;
    if (kept) {
        renew(counts);
        rc = tell(counts, out, err);
    }
    pthread_mutex_unlock(&counts->lock);
    if (kept || (rc = count_now(tx, &tally, err)) != SSO_OK)
        return rc;
    pthread_mutex_lock(&counts->lock);
    keep(counts, &tally);
    rc = tell(counts, out, err);
    pthread_mutex_unlock(&counts->lock);
    return rc;
}

void row_counts_outdated(struct row_counts *counts)
{
    pthread_mutex_lock(&counts->lock);
    counts->outdated = true;
    pthread_mutex_unlock(&counts->lock);
}
