#include "custodian/rotation_manager.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "custodian/custodian.h"
#include "custodian/live_latency.h"
#include "custodian/rotation_events.h"
#include "custodian/rotation_generation.h"
#include "custodian/rotation_job.h"
#include "custodian/rotation_status.h"
#include "rewrap/rewrap.h"

/* How long before a request's deadline its answer is due, whatever the engine is doing. */
#define ANSWER_MARGIN_MS 500

struct rotation_manager {
    struct custodian *custodian;
    struct live_latency latency;
    struct rotation_job *job;
    pthread_mutex_t change;            /* one start, change or take-up at a time */
    int64_t review_ms;                 /* boot clock: when the quarantine is looked at next */
    uint64_t settled_id, settled_rows; /* the rotation and count that were taken up for it last */
    atomic_bool closing;
};

/* --- making and freeing --- */

enum sso_code rotation_manager_new(struct custodian *custodian, struct rotation_manager **out,
                                   struct sso_error *err)
{
    struct rotation_manager *manager = calloc(1, sizeof *manager);
    if (manager == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the rotation manager");
    enum sso_code rc = rotation_job_new(custodian, &manager->latency, &manager->job, err);
    if (rc != SSO_OK) {
        free(manager);
        return rc;
    }
    pthread_mutex_init(&manager->change, NULL);
    manager->custodian = custodian;
    *out = manager;
    return SSO_OK;
}

void rotation_manager_free(struct rotation_manager **manager)
{
    struct rotation_manager *gone = *manager;
    if (gone == NULL)
        return;
    *manager = NULL;
    atomic_store(&gone->closing, true);
    /* Whoever starts or changes it finishes first. */
    pthread_mutex_lock(&gone->change);
    rotation_job_free(&gone->job);
    pthread_mutex_unlock(&gone->change);
    pthread_mutex_destroy(&gone->change);
    free(gone);
}

/* --- rows that somebody repaired --- */

struct repair_write {
    const struct policy *policy;
    const struct repaired *repaired;
    struct audit_record *record;
    struct rotation rotation;
};

static enum sso_code write_repaired(struct store_tx *tx, void *context, struct sso_error *err)
{
    struct repair_write *write = context;
    enum sso_code rc =
        rewrap_reopen_repaired(tx, write->policy, write->repaired, &write->rotation, err);
    /* Somebody may have begun another meanwhile, and then nothing is done: no record either. */
    snprintf(write->record->operation, sizeof write->record->operation, "%s",
             write->rotation.state == ROTATION_RUNNING ? "rotation.retry" : "");
    return rc;
}

static enum sso_code take_up_repaired(struct rotation_manager *manager,
                                      const struct repaired *repaired, struct sso_error *err)
{
    struct custodian *custodian = manager->custodian;
    struct audit_record record = {.actor = "sso-custodian", .how = "self"};
    struct repair_write write = {
        .policy = &custodian->policy, .repaired = repaired, .record = &record};
    snprintf(record.node, sizeof record.node, "%s", custodian->node);
    snprintf(record.target, sizeof record.target, "rows repaired");
    snprintf(record.outcome, sizeof record.outcome, "ok");
    enum sso_code rc = committer_run(custodian->committer, write_repaired, &write, &record, 1, err);
    if (rc == SSO_OK && write.rotation.state == ROTATION_RUNNING)
        rc = rotation_job_begin(manager->job, &write.rotation, &record, err);
    return rc;
}

/* Every poll_interval. Rows that do not move although they look repaired come back with another
 * digest or not at all; where only the count of rows fell, once is enough for each count. */
static void review_quarantine(struct rotation_manager *manager, const struct rotation *latest)
{
    struct custodian *custodian = manager->custodian;
    struct repaired repaired = {0};
    struct sso_error problem = {0};
    if (latest->state != ROTATION_COMPLETED_WITH_ERRORS || boot_clock_ms() < manager->review_ms)
        return;
    pthread_rwlock_rdlock(&custodian->lock);
    manager->review_ms = boot_clock_ms() + (int64_t)custodian->poll_interval_ms;
    pthread_rwlock_unlock(&custodian->lock);
    enum sso_code rc = rewrap_find_repaired(custodian->store, custodian->keyring,
                                            &custodian->policy, &repaired, &problem);
    bool fewer = repaired.settled &&
                 (manager->settled_id != latest->id || manager->settled_rows != latest->failed);
    if (rc == SSO_OK && (repaired.count != 0 || fewer)) {
        manager->settled_id = latest->id;
        manager->settled_rows = latest->failed;
        rc = take_up_repaired(manager, &repaired, &problem);
    }
    free(repaired.row_id);
    if (rc != SSO_OK)
        log_line(LOG_LEVEL_WARNING, "the quarantine could not be looked at", "reason",
                 problem.detail, NULL);
}

/* --- starting --- */

void rotation_manager_take_up(struct rotation_manager *manager)
{
    static const struct audit_record itself = {.actor = "sso-custodian", .how = "self"};
    struct rotation rotation;
    struct sso_error problem = {0};
    /* Somebody is starting or changing it: there is a next time. */
    if (pthread_mutex_trylock(&manager->change) != 0)
        return;
    if (!rotation_job_running(manager->job) && !atomic_load(&manager->closing) &&
        rotation_latest(manager->custodian, &rotation, &problem) == SSO_OK) {
        bool unfinished =
            rotation.state == ROTATION_PREPARING || rotation.state == ROTATION_RUNNING;
        if (unfinished && rotation_job_begin(manager->job, &rotation, &itself, &problem) != SSO_OK)
            log_line(LOG_LEVEL_ERROR, "rotation not taken up", "reason", problem.detail, NULL);
        rotation_events_refresh(manager->custodian);
        if (!unfinished)
            review_quarantine(manager, &rotation);
    }
    pthread_mutex_unlock(&manager->change);
}

void rotation_manager_leave(struct rotation_manager *manager)
{
    if (rotation_job_running(manager->job))
        rotation_job_tell(manager->job, REWRAP_STOP);
}

void rotation_manager_leave_soon(struct rotation_manager *manager, unsigned ms)
{
    rotation_manager_leave(manager);
    (void)rotation_job_wait(manager->job, boot_clock_ms() + ms);
}

struct plan_write {
    const struct policy *policy;
    const struct rotation *wanted;
    struct rotation *planned;
};

static enum sso_code write_plan(struct store_tx *tx, void *context, struct sso_error *err)
{
    struct plan_write *plan = context;
    *plan->planned = *plan->wanted;
    return rewrap_plan(tx, plan->policy, plan->planned, err);
}

/* The generation is made where it was not named, and proven in its token before anything changes.
 */
static enum sso_code ready_target(struct request *request, struct rotation_wish *wish, bool made,
                                  struct sso_error *err)
{
    uint32_t *to = &wish->rotation.to;
    enum sso_code rc = SSO_OK;
    if (wish->token != NULL)
        rc = rotation_token_is_another(request->custodian, wish->token, err);
    if (rc == SSO_OK && made)
        rc = rotation_generation_make(request, wish->token, to, err);
    if (rc != SSO_OK)
        return rc;
    snprintf(request->audit.target, sizeof request->audit.target, "generation %u", *to);
    rc = rotation_generation_open(request->custodian, *to, err);
    if (rc == SSO_OK && wish->token != NULL)
        rc = rotation_generation_is_in(request->custodian, *to, wish->token, err);
    return rc;
}

static enum sso_code plan(struct rotation_manager *manager, struct request *request,
                          struct rotation *rotation, struct sso_error *err)
{
    struct rotation wanted = *rotation;
    struct plan_write write = {
        .policy = &manager->custodian->policy, .wanted = &wanted, .planned = rotation};
    request->audited = true;
    return committer_run(manager->custodian->committer, write_plan, &write, &request->audit, 1,
                         err);
}

static enum sso_code start_locked(struct rotation_manager *manager, struct request *request,
                                  struct rotation_wish *wish, struct sso_error *err)
{
    struct rotation *rotation = &wish->rotation;
    bool made = rotation->to == 0;
    if (rotation_job_running(manager->job))
        return sso_fail(err, SSO_ROTATION_IN_PROGRESS,
                        "a rotation is running: see sso-hsm rotate status");
    enum sso_code rc = ready_target(request, wish, made, err);
    if (rc == SSO_OK)
        rc = plan(manager, request, rotation, err);
    if (rc != SSO_OK && made && rotation->to != 0)
        return sso_error_context(err,
                                 "generation %u was made and stays pending, but no rotation to it "
                                 "started",
                                 rotation->to);
    return rc == SSO_OK ? rotation_job_begin(manager->job, rotation, &request->audit, err) : rc;
}

enum sso_code rotation_manager_start(struct rotation_manager *manager, struct request *request,
                                     struct rotation_wish *wish, struct sso_error *err)
{
    pthread_mutex_lock(&manager->change);
    enum sso_code rc = start_locked(manager, request, wish, err);
    pthread_mutex_unlock(&manager->change);
    if (rc == SSO_OK)
        rotation_events_refresh(manager->custodian);
    return rc;
}

/* --- changing --- */

/* The changes of INTERFACE §5. `asked`: what a running engine is told; `write`: what is done to the
 * row while no engine runs. */
typedef enum sso_code (*rotation_write)(struct store_tx *tx, const struct policy *policy,
                                        struct rotation *rotation, struct sso_error *err);

static enum sso_code write_pause(struct store_tx *tx, const struct policy *policy,
                                 struct rotation *rotation, struct sso_error *err)
{
    (void)policy;
    return rewrap_pause(tx, rotation, err);
}

static enum sso_code write_cancel(struct store_tx *tx, const struct policy *policy,
                                  struct rotation *rotation, struct sso_error *err)
{
    (void)policy;
    return rewrap_cancel(tx, rotation, err);
}

static const struct rotation_action {
    const char *name;      /* in the API */
    const char *operation; /* in the audit */
    enum rewrap_request asked;
    rotation_write write;
} actions[] = {
    {"pause", "rotation.pause", REWRAP_PAUSE, write_pause},
    {"cancel", "rotation.cancel", REWRAP_CANCEL, write_cancel},
    {"resume", "rotation.resume", REWRAP_GO, rewrap_reopen},
    {"retry-quarantined", "rotation.retry", REWRAP_GO, rewrap_retry_quarantined},
};

struct change_write {
    const struct policy *policy;
    rotation_write write;
    struct rotation rotation;
};

static enum sso_code write_change(struct store_tx *tx, void *context, struct sso_error *err)
{
    struct change_write *change = context;
    return change->write(tx, change->policy, &change->rotation, err);
}

static enum sso_code record_only(struct rotation_manager *manager, struct request *request,
                                 struct sso_error *err)
{
    request->audited = true;
    return committer_run(manager->custodian->committer, NULL, NULL, &request->audit, 1, err);
}

/* The engine is told, and ends soon; an engine that is told already only needs waiting for. */
static enum sso_code change_running(struct rotation_manager *manager, struct request *request,
                                    const struct rotation_action *action, struct sso_error *err)
{
    enum sso_code rc = record_only(manager, request, err);
    if (rc != SSO_OK)
        return rc;
    rotation_job_tell(manager->job, action->asked);
    rotation_job_wait(manager->job, request->deadline_ms - ANSWER_MARGIN_MS);
    return SSO_OK;
}

static enum sso_code change_stored(struct rotation_manager *manager, struct request *request,
                                   const struct rotation_action *action, struct sso_error *err)
{
    struct change_write change = {.policy = &manager->custodian->policy, .write = action->write};
    request->audited = true;
    enum sso_code rc = committer_run(manager->custodian->committer, write_change, &change,
                                     &request->audit, 1, err);
    if (rc != SSO_OK)
        return rc;
    enum rotation_state state = change.rotation.state;
    if (state == ROTATION_PREPARING || state == ROTATION_RUNNING)
        return rotation_job_begin(manager->job, &change.rotation, &request->audit, err);
    return SSO_OK;
}

static enum sso_code change_locked(struct rotation_manager *manager, struct request *request,
                                   const struct rotation_action *action, struct sso_error *err)
{
    snprintf(request->audit.operation, sizeof request->audit.operation, "%s", action->operation);
    bool running = rotation_job_running(manager->job);
    enum rewrap_request told = rotation_job_told(manager->job);
    if (running && action->asked != REWRAP_GO)
        return change_running(manager, request, action, err);
    if (running && told == REWRAP_GO && action->write == rewrap_reopen)
        return record_only(manager, request, err);
    if (running && told == REWRAP_GO)
        return sso_fail(err, SSO_ROTATION_IN_PROGRESS,
                        "the rotation is running: rows in quarantine are tried again after it has "
                        "ended, or after a pause");
    if (running && !rotation_job_wait(manager->job, request->deadline_ms - ANSWER_MARGIN_MS))
        return sso_fail(err, SSO_ROTATION_IN_PROGRESS,
                        "the rotation has not stopped yet after a pause or cancel: try again");
    return change_stored(manager, request, action, err);
}

enum sso_code rotation_manager_change(struct rotation_manager *manager, struct request *request,
                                      const char *action, struct sso_error *err)
{
    const struct rotation_action *found = NULL;
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        if (strcmp(actions[i].name, action) == 0)
            found = &actions[i];
    }
    if (found == NULL)
        return sso_fail(err, SSO_BAD_REQUEST,
                        "action must be pause, resume, cancel or retry-quarantined");
    pthread_mutex_lock(&manager->change);
    enum sso_code rc = change_locked(manager, request, found, err);
    pthread_mutex_unlock(&manager->change);
    if (rc == SSO_OK)
        rotation_events_refresh(manager->custodian);
    return rc;
}

struct rate_write {
    uint64_t rows_per_second;
};

static enum sso_code write_rate(struct store_tx *tx, void *context, struct sso_error *err)
{
    const struct rate_write *rate = context;
    struct rotation rotation;
    enum sso_code rc = store_rotation_latest(tx, &rotation, err);
    if (rc != SSO_OK)
        return rc;
    rotation.rate = rate->rows_per_second;
    return store_rotation_update(tx, &rotation, err);
}

enum sso_code rotation_manager_rate(struct rotation_manager *manager, struct request *request,
                                    uint64_t rows_per_second, struct sso_error *err)
{
    struct rate_write rate = {.rows_per_second = rows_per_second};
    enum sso_code rc;
    snprintf(request->audit.operation, sizeof request->audit.operation, "rotation.rate");
    request->audited = true;
    pthread_mutex_lock(&manager->change);
    /* While an engine runs only it writes the row; it takes the rate into its next commit. */
    bool running = rotation_job_running(manager->job);
    rc = committer_run(manager->custodian->committer, running ? NULL : write_rate, &rate,
                       &request->audit, 1, err);
    if (rc == SSO_OK && running)
        rotation_job_rate(manager->job, rows_per_second);
    pthread_mutex_unlock(&manager->change);
    return rc;
}

/* --- telling --- */

enum sso_code rotation_manager_status(struct rotation_manager *manager, json_t **out,
                                      struct sso_error *err)
{
    struct rotation rotation = {0};
    uint64_t rows_per_second = 0;
    enum sso_code rc = SSO_OK;
    if (!rotation_job_progress(manager->job, &rotation, &rows_per_second))
        rc = rotation_latest(manager->custodian, &rotation, err);
    if (rc != SSO_OK && rc != SSO_NOT_FOUND)
        return rc;
    *out = rotation_json(rc == SSO_OK ? &rotation : NULL, rows_per_second);
    return *out != NULL ? SSO_OK : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}

bool rotation_manager_running(struct rotation_manager *manager)
{
    return rotation_job_running(manager->job);
}

/* --- what the engine yields to --- */

#define COMPARABLE_MAX 4
#define MICROSECONDS_MAX 1000000000

void rotation_manager_answered(struct rotation_manager *manager, const struct request *request,
                               int64_t microseconds)
{
    size_t count = request->looked_up + request->written;
    if (manager == NULL || count == 0 || count > COMPARABLE_MAX || microseconds < 0)
        return;
    live_latency_add(&manager->latency, request->written > 0 ? LIVE_WRITE : LIVE_LOOKUP,
                     microseconds < MICROSECONDS_MAX ? (unsigned)microseconds : MICROSECONDS_MAX);
}
