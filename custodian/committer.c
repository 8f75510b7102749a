#include "custodian/committer_job.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "custodian/kept_head.h"

/* More than these would make those that wait first wait for those that came last. */
#define BATCH_JOBS_MAX 1024
#define POSTED_JOBS_MAX 4096
/* For so long records gather that nobody waits for, unless somebody comes who does wait: a commit
 * costs much the same for one as for hundreds, and empties the caches of all who read. */
#define POSTED_GATHER_MS 50

struct committer {
    struct store *store;
    char node[65];
    char *state_directory;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work, finished;
    struct job *first, **last;
    size_t posted, awaited; /* not yet done; in the queue, and somebody waits */
    bool stopping;
    committer_hold hold; /* NULL: nobody guards */
    void *hold_context;
    struct journal journal;
    struct sso_error health; /* of the last transaction */
    struct sso_error barred; /* why nothing may be changed; SSO_OK: it may */
    struct sso_error chain;  /* is what audit-head knows still there? changed by the thread only */
};

/* On a database that is older than what this node has seen nothing is changed. */
static enum sso_code went_back(struct committer *committer, struct sso_error *err)
{
    pthread_mutex_lock(&committer->lock);
    struct sso_error why = committer->barred, chain = committer->chain;
    pthread_mutex_unlock(&committer->lock);
    if (why.code == SSO_OK && chain.code != SSO_OK)
        sso_fail(&why, SSO_DATABASE_WENT_BACK,
                 "%s: the database is older than what this node has seen; put the right one back, "
                 "or accept this one with sso-hsm db accept-restore",
                 chain.detail);
    return why.code == SSO_OK ? SSO_OK : sso_fail(err, why.code, "%s", why.detail);
}

/* Once for all jobs of a transaction. *refused: why none of them may write. */
static enum sso_code may_jobs_write(struct committer *committer, struct store_tx *tx,
                                    const struct job *jobs, struct sso_error *refused,
                                    struct sso_error *err)
{
    bool writes = false;
    *refused = (struct sso_error){0};
    for (; jobs != NULL; jobs = jobs->next)
        writes = writes || jobs->write != NULL;
    if (!writes || went_back(committer, refused) != SSO_OK || committer->hold == NULL)
        return SSO_OK;
    if (committer->hold(committer->hold_context, tx, refused) != SSO_DATABASE_UNAVAILABLE)
        return SSO_OK;
    return sso_fail(err, refused->code, "%s", refused->detail);
}

static enum sso_code run_write(struct store_tx *tx, struct job *job,
                               const struct sso_error *refused, struct sso_error *err)
{
    job->refused = refused->code != SSO_OK;
    job->error = *refused;
    if (job->refused)
        return SSO_OK;
    enum sso_code rc = store_savepoint(tx, err);
    if (rc != SSO_OK)
        return rc;
    rc = job->write(tx, job->context, &job->error);
    if (rc == SSO_OK) {
        /* What failed on the way there, and was dealt with, is not the outcome. */
        job->error = (struct sso_error){0};
        return store_savepoint_keep(tx, err);
    }
    if (job->error.code != rc)
        sso_fail(&job->error, rc, "%s", sso_code_facts(rc)->title);
    if (rc == SSO_DATABASE_UNAVAILABLE) /* the transaction is lost, not the write alone */
        return sso_fail(err, rc, "%s", job->error.detail);
    job->refused = true;
    return store_savepoint_undo(tx, err);
}

/* Lookups and their records go on whatever it finds. */
static enum sso_code check_chain(struct committer *committer, struct store_tx *tx,
                                 struct sso_error *err)
{
    struct sso_error gone;
    enum sso_code rc = kept_head_check(committer->state_directory, committer->node, tx, &gone, err);
    if (rc != SSO_OK)
        return rc;
    pthread_mutex_lock(&committer->lock);
    committer->chain = gone;
    pthread_mutex_unlock(&committer->lock);
    return SSO_OK;
}

static void check_chain_at_start(struct committer *committer)
{
    struct sso_error problem = {0};
    STORE_TX_AUTO tx = NULL;
    if (store_begin(committer->store, STORE_READ, &tx, &problem) != SSO_OK ||
        check_chain(committer, tx, &problem) != SSO_OK)
        log_line(LOG_LEVEL_WARNING, "the audit chain is not compared before its first record",
                 "reason", problem.detail, NULL);
}

static enum sso_code run_jobs(struct committer *committer, struct store_tx *tx, struct job *jobs,
                              struct chain *chain, struct sso_error *err)
{
    struct sso_error refused;
    enum sso_code rc = check_chain(committer, tx, err);
    if (rc == SSO_OK)
        rc = may_jobs_write(committer, tx, jobs, &refused, err);
    if (rc != SSO_OK)
        return rc;
    for (struct job *job = jobs; job != NULL; job = job->next) {
        job->refused = job->verdict.code != SSO_OK;
        job->error = job->verdict;
        rc = job->write != NULL && !job->refused ? run_write(tx, job, &refused, err) : SSO_OK;
        if (rc != SSO_OK)
            return rc;
    }
    rc = chain_of(committer->node, jobs, chain, err);
    if (rc != SSO_OK || chain->count == 0)
        return rc;
    /* One call for all: the chain's head is read once. */
    rc = store_audit_append(tx, chain->record, chain->count, err);
    return rc != SSO_OK
               ? rc
               : journal_before_commit(&committer->journal, &chain->record[chain->count - 1], err);
}

struct attempt {
    /* Of a failure a job may be to blame, and nothing was done. Else the database is, and no job
     * fares better; or the commit failed, which may have taken place, so that nothing is done
     * again. */
    bool undone;
    bool refused; /* what a job wrote cannot stand: what it belongs to is gone since */
};

static enum sso_code commit_jobs(struct committer *committer, struct job *jobs,
                                 struct attempt *attempt, struct sso_error *err)
{
    struct chain chain = {0};
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(committer->store, STORE_WRITE, &tx, err);
    *attempt = (struct attempt){.undone = rc == SSO_OK};
    if (rc == SSO_OK && (rc = run_jobs(committer, tx, jobs, &chain, err)) == SSO_OK) {
        rc = store_commit(&tx, err);
        attempt->undone = rc != SSO_DATABASE_UNAVAILABLE;
        attempt->refused = rc == SSO_VERSION_CONFLICT;
        if (rc != SSO_OK && chain.count > 0)
            journal_withdraw(&committer->journal, &chain.record[chain.count - 1]);
    }
    for (size_t i = 0; rc == SSO_OK && i < chain.count; i++)
        *chain.origin[i] = chain.record[i];
    if (rc == SSO_OK && chain.count > 0) {
        if (committer_chain(committer, NULL) == SSO_OK)
            kept_head_move(committer->state_directory, &chain.record[chain.count - 1]);
        journal_after_commit(&committer->journal, &chain.record[chain.count - 1]);
    }
    chain_free(&chain);
    return rc;
}

static void fail_jobs(struct job *jobs, const struct sso_error *why)
{
    for (struct job *job = jobs; job != NULL; job = job->next) {
        enum sso_code code = job->write == NULL || why->code == SSO_AUDIT_UNAVAILABLE
                                 ? SSO_AUDIT_UNAVAILABLE
                                 : SSO_DATABASE_UNAVAILABLE;
        sso_fail(&job->error, code, "%s", why->detail);
    }
}

/* Each in a transaction of its own, so that one cannot fail the others. What is refused only at the
 * commit is done again without the write, for its record. */
static void do_each(struct committer *committer, struct job *jobs, struct sso_error *problem)
{
    struct attempt attempt = {.undone = true};
    enum sso_code rc = SSO_OK;
    for (struct job *job = jobs, *next; job != NULL; job = next) {
        next = job->next;
        job->next = NULL;
        if (attempt.undone)
            rc = commit_jobs(committer, job, &attempt, problem);
        if (rc != SSO_OK && attempt.refused) {
            job->verdict = *problem;
            rc = commit_jobs(committer, job, &attempt, problem);
        }
        if (rc != SSO_OK)
            fail_jobs(job, problem);
        job->next = next;
    }
    if (rc == SSO_OK)
        *problem = (struct sso_error){0};
}

/* Together, and where that fails each alone. */
static void do_jobs(struct committer *committer, struct job *jobs)
{
    struct sso_error problem = {0};
    struct attempt attempt;
    enum sso_code rc = commit_jobs(committer, jobs, &attempt, &problem);
    if (rc != SSO_OK && attempt.undone && (jobs->next != NULL || attempt.refused))
        do_each(committer, jobs, &problem);
    else if (rc != SSO_OK)
        fail_jobs(jobs, &problem);
    else
        problem = (struct sso_error){0};
    pthread_mutex_lock(&committer->lock);
    committer->health = problem;
    pthread_mutex_unlock(&committer->lock);
}

/* With the lock held. */
static struct job *take_jobs(struct committer *committer)
{
    struct job *jobs = committer->first, **end = &committer->first;
    for (size_t i = 0; *end != NULL && i < BATCH_JOBS_MAX; i++, end = &(*end)->next)
        committer->awaited -= !(*end)->posted;
    committer->first = *end;
    *end = NULL;
    if (committer->first == NULL)
        committer->last = &committer->first;
    return jobs;
}

/* With the lock held. Wakes those that wait; returns the jobs that nobody waits for. */
static struct job *release_jobs(struct committer *committer, struct job *jobs)
{
    struct job *left = NULL, **end = &left;
    bool any_waits = false;
    for (struct job *job = jobs, *next; job != NULL; job = next) {
        next = job->next; /* a job that is done is its waiter's again */
        if (job->tell == NULL) {
            job->done = any_waits = true;
            continue;
        }
        committer->posted -= job->posted;
        *end = job;
        end = &job->next;
    }
    *end = NULL;
    if (any_waits)
        pthread_cond_broadcast(&committer->finished);
    return left;
}

static void tell_jobs(struct job *jobs)
{
    for (struct job *job = jobs, *next; job != NULL; job = next) {
        next = job->next;
        job->tell(&job->error, job->tell_context);
        free(job);
    }
}

/* With the lock held. */
static void wait_for_jobs(struct committer *committer)
{
    while (committer->first == NULL && !committer->stopping)
        pthread_cond_wait(&committer->work, &committer->lock);
    struct timespec gathered = monotonic_after(POSTED_GATHER_MS);
    int waited = 0;
    while (committer->awaited == 0 && committer->posted < BATCH_JOBS_MAX && !committer->stopping &&
           waited == 0)
        waited = pthread_cond_timedwait(&committer->work, &committer->lock, &gathered);
}

static void *committer_thread(void *argument)
{
    struct committer *committer = argument;
    pthread_mutex_lock(&committer->lock);
    for (;;) {
        wait_for_jobs(committer);
        if (committer->first == NULL)
            break;
        struct job *jobs = take_jobs(committer);
        pthread_mutex_unlock(&committer->lock);
        do_jobs(committer, jobs);
        pthread_mutex_lock(&committer->lock);
        jobs = release_jobs(committer, jobs);
        pthread_mutex_unlock(&committer->lock);
        tell_jobs(jobs);
        pthread_mutex_lock(&committer->lock);
    }
    pthread_mutex_unlock(&committer->lock);
    return NULL;
}

/* With the lock held. */
static void enqueue(struct committer *committer, struct job *job)
{
    bool first = committer->first == NULL;
    *committer->last = job;
    committer->last = &job->next;
    committer->posted += job->posted;
    committer->awaited += !job->posted;
    if (first || (!job->posted && committer->awaited == 1) || committer->posted == BATCH_JOBS_MAX)
        pthread_cond_signal(&committer->work);
}

enum sso_code committer_run(struct committer *committer, committer_write write, void *context,
                            struct audit_record *records, size_t record_count,
                            struct sso_error *err)
{
    struct job job = {
        .write = write, .context = context, .records = records, .record_count = record_count};
    pthread_mutex_lock(&committer->lock);
    enqueue(committer, &job);
    while (!job.done)
        pthread_cond_wait(&committer->finished, &committer->lock);
    pthread_mutex_unlock(&committer->lock);
    if (job.error.code != SSO_OK && err != NULL)
        *err = job.error;
    return job.error.code;
}

enum sso_code committer_submit(struct committer *committer, struct audit_record *record,
                               committer_done done, void *context, struct sso_error *err)
{
    struct job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return sso_fail(err, SSO_AUDIT_UNAVAILABLE, "no memory for an audit record");
    job->records = record;
    job->record_count = 1;
    job->tell = done;
    job->tell_context = context;
    pthread_mutex_lock(&committer->lock);
    enqueue(committer, job);
    pthread_mutex_unlock(&committer->lock);
    return SSO_OK;
}

static void log_lost(const struct audit_record *record, const struct sso_error *why)
{
    log_line(LOG_LEVEL_ERROR, "a relaxed audit record was lost", "operation", record->operation,
             "actor", record->actor, "reason", why->detail, NULL);
}

static void posted_record_ended(const struct sso_error *outcome, void *context)
{
    const struct job *job = context;
    if (outcome->code != SSO_OK)
        log_lost(&job->own, outcome);
}

void committer_post(struct committer *committer, const struct audit_record *record)
{
    struct job *job = calloc(1, sizeof *job);
    pthread_mutex_lock(&committer->lock);
    bool room = job != NULL && committer->posted < POSTED_JOBS_MAX;
    if (room) {
        job->posted = true;
        job->tell = posted_record_ended;
        job->tell_context = job;
        job->own = *record;
        job->records = &job->own;
        job->record_count = 1;
        enqueue(committer, job);
    }
    pthread_mutex_unlock(&committer->lock);
    if (room)
        return;
    free(job);
    struct audit_record waiting = *record;
    struct sso_error problem = {0};
    if (committer_run(committer, NULL, NULL, &waiting, 1, &problem) != SSO_OK)
        log_lost(&waiting, &problem);
}

static enum sso_code tell(struct committer *committer, const struct sso_error *what,
                          struct sso_error *err)
{
    pthread_mutex_lock(&committer->lock);
    struct sso_error told = *what;
    pthread_mutex_unlock(&committer->lock);
    if (told.code != SSO_OK && err != NULL)
        *err = told;
    return told.code;
}

void committer_bar(struct committer *committer, const struct sso_error *why)
{
    pthread_mutex_lock(&committer->lock);
    committer->barred = *why;
    if (why->code == SSO_OK)
        committer->chain = (struct sso_error){0}; /* whoever looked found it whole */
    pthread_mutex_unlock(&committer->lock);
}

void committer_guard(struct committer *committer, committer_hold hold, void *context)
{
    committer->hold_context = context;
    committer->hold = hold;
}

enum sso_code committer_health(struct committer *committer, struct sso_error *err)
{
    return tell(committer, &committer->health, err);
}

struct journal *committer_journal(struct committer *committer)
{
    return &committer->journal;
}

enum sso_code committer_chain(struct committer *committer, struct sso_error *err)
{
    return tell(committer, &committer->chain, err);
}

static void committer_dispose(struct committer *committer)
{
    journal_dispose(&committer->journal);
    pthread_mutex_destroy(&committer->lock);
    pthread_cond_destroy(&committer->work);
    pthread_cond_destroy(&committer->finished);
    free(committer->state_directory);
    free(committer);
}

enum sso_code committer_new(struct store *store, const char *node, const char *state_directory,
                            struct committer **out, struct sso_error *err)
{
    struct committer *committer = calloc(1, sizeof *committer);
    if (committer == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the committer");
    committer->store = store;
    committer->last = &committer->first;
    journal_init(&committer->journal);
    pthread_mutex_init(&committer->lock, NULL);
    monotonic_condition_init(&committer->work);
    pthread_cond_init(&committer->finished, NULL);
    snprintf(committer->node, sizeof committer->node, "%s", node);
    committer->state_directory = strdup(state_directory);
    int why = ENOMEM;
    if (committer->state_directory != NULL) {
        check_chain_at_start(committer);
        why = pthread_create(&committer->thread, NULL, committer_thread, committer);
    }
    if (why != 0) {
        committer_dispose(committer);
        return sso_fail_errno(err, SSO_NO_MEMORY, why, "the committer does not start");
    }
    *out = committer;
    return SSO_OK;
}

void committer_free(struct committer **committer)
{
    struct committer *self = *committer;
    if (self == NULL)
        return;
    pthread_mutex_lock(&self->lock);
    self->stopping = true;
    pthread_cond_signal(&self->work);
    pthread_mutex_unlock(&self->lock);
    pthread_join(self->thread, NULL);
    committer_dispose(self);
    *committer = NULL;
}
