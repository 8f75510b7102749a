/* What the thread of the master lease does at each look. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "custodian/events.h"
#include "custodian/master_state.h"
#include "custodian/rotation_manager.h"
#include "custodian/supervision.h"

#define NO_DATABASE_MS 250
#define LOOK_MS_MAX 1000u
#define LOOK_MS_MIN 20u
#define SUCCESSOR_LOOK_MS 10u

/* --- seeing the row --- */

static bool same_row(const struct master_lease *a, const struct master_lease *b)
{
    return a->epoch == b->epoch && a->beat == b->beat &&
           memcmp(a->instance, b->instance, sizeof a->instance) == 0;
}

/* With the lock held. */
static void watch_standby(struct master *master, const struct standby *row, int64_t now_ms)
{
    for (size_t i = 0; i < master->standby_count; i++) {
        struct watched_standby *known = &master->standby[i];
        if (strcmp(known->row.node, row->node) != 0)
            continue;
        if (known->row.beat != row->beat) {
            known->changed_ms = now_ms;
            known->beats = true;
        }
        known->row = *row;
        return;
    }
    if (master->standby_count < STANDBYS_WATCHED)
        master->standby[master->standby_count++] =
            (struct watched_standby){.row = *row, .changed_ms = now_ms};
}

/* With the lock held. Those that are gone from the table are forgotten. */
static void watch_standbys(struct master *master, const struct standby *list, size_t count)
{
    int64_t now_ms = boot_clock_ms();
    size_t kept = 0;
    for (size_t i = 0; i < master->standby_count; i++) {
        bool there = false;
        for (size_t k = 0; k < count; k++)
            there = there || strcmp(list[k].node, master->standby[i].row.node) == 0;
        if (there)
            master->standby[kept++] = master->standby[i];
    }
    master->standby_count = kept;
    for (size_t i = 0; i < count; i++)
        watch_standby(master, &list[i], now_ms);
}

static enum sso_code read_rows(struct master *master, struct sso_error *err)
{
    struct master_lease lease;
    struct standby *list = NULL;
    size_t count = 0;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(master->custodian->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_master_lease_read(tx, &lease, err);
    if (rc == SSO_OK)
        rc = store_standby_list(tx, &list, &count, err);
    if (rc != SSO_OK)
        return rc;
    pthread_mutex_lock(&master->lock);
    if (!master->met || !same_row(&lease, &master->seen))
        master->unchanged_ms = boot_clock_ms();
    master->seen = lease;
    master->met = true;
    watch_standbys(master, list, count);
    pthread_cond_broadcast(&master->changed);
    pthread_mutex_unlock(&master->lock);
    free(list);
    return SSO_OK;
}

/* --- what others are told --- */

static void record(struct master *master, const char *operation, const char *text)
{
    struct audit_record record = {.actor = "sso-custodian", .how = "self"};
    snprintf(record.operation, sizeof record.operation, "%s", operation);
    snprintf(record.target, sizeof record.target, "%s", text);
    committer_post(custodian_committer(master->custodian), &record);
}

static void wake_others(struct master *master)
{
    if (master->custodian->supervision != NULL)
        supervision_wake(master->custodian->supervision);
}

/* Who holds SQLite's lock cannot be fenced off, only named. */
static void tell_of_lock(struct master *master, enum sso_code rc)
{
    struct custodian *custodian = master->custodian;
    char path[64], name[64] = "a program";
    int pid = 0;
    if (rc != SSO_DATABASE_UNAVAILABLE || !store_write_holder(custodian->store, &pid) ||
        pid == getpid()) {
        event_clear(custodian->events, EVENT_DATABASE_LOCKED);
        return;
    }
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    FILE *file = fopen(path, "re");
    if (file != NULL && fgets(name, sizeof name, file) != NULL)
        name[strcspn(name, "\n")] = '\0';
    if (file != NULL)
        fclose(file);
    event_raise(custodian->events, EVENT_DATABASE_LOCKED,
                "process %d (%s) holds the write lock of the database", pid, name);
}

static void note_trouble(struct master *master, enum sso_code rc, const struct sso_error *why)
{
    static const struct sso_error none;
    tell_of_lock(master, rc);
    pthread_mutex_lock(&master->lock);
    master->trouble = rc == SSO_OK ? none : *why;
    pthread_mutex_unlock(&master->lock);
}

/* --- losing it --- */

static void step_down(struct master *master, const char *reason)
{
    struct custodian *custodian = master->custodian;
    char text[400];
    pthread_mutex_lock(&master->lock);
    master->holding = false;
    master->changes++;
    snprintf(text, sizeof text, "epoch %llu is over here: %s, epoch %llu; %s",
             (unsigned long long)master->own.epoch, master->seen.node,
             (unsigned long long)master->seen.epoch, reason);
    pthread_cond_broadcast(&master->changed);
    pthread_mutex_unlock(&master->lock);
    event_raise(custodian->events, EVENT_MASTER_TAKEN, "%s", text);
    record(master, "master.lost", text);
    wake_others(master);
}

enum sso_code master_give_back(struct master *master, enum master_move_state moving,
                               struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(master->custodian->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = store_master_lease_give_back(tx, &master->own, err);
    if (rc == SSO_OK)
        rc = store_commit(&tx, err);
    pthread_mutex_lock(&master->lock);
    if (rc == SSO_OK) {
        master->holding = false;
        master->moving = moving;
        master->changes++;
    } else {
        /* It may have taken place: this node acts again once a renewal says that it did not. */
        master->acts_until_ms = 0;
        master->doubted = true;
    }
    pthread_cond_broadcast(&master->changed);
    pthread_mutex_unlock(&master->lock);
    return rc;
}

/* --- keeping it --- */

static enum sso_code send_renewal(struct master *master, struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(master->custodian->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = store_master_lease_renew(tx, &master->own, err);
    return rc == SSO_OK ? store_commit(&tx, err) : rc;
}

static void renew(struct master *master)
{
    struct sso_error problem = {0};
    int64_t sent_ms = boot_clock_ms();
    pthread_mutex_lock(&master->lock);
    bool lapsed = sent_ms >= master->acts_until_ms;
    int64_t late_ms = sent_ms - master->acts_until_ms;
    unsigned lease_ms = master->own.lease_ms = master->lease_ms;
    pthread_mutex_unlock(&master->lock);
    enum sso_code rc = send_renewal(master, &problem);
    if (rc == SSO_MASTER_UNAVAILABLE) {
        char reason[128] = "it was taken over";
        if (lapsed)
            snprintf(reason, sizeof reason,
                     "the lease was not renewed in time, it ended %lld ms before this node looked",
                     (long long)late_ms);
        if (read_rows(master, &problem) == SSO_OK)
            step_down(master, reason);
        return;
    }
    note_trouble(master, rc, &problem);
    if (rc != SSO_OK) {
        master->next_renewal_ms = boot_clock_ms() + LOOK_MS_MIN;
        return;
    }
    master->next_renewal_ms = sent_ms + lease_ms / 3;
    pthread_mutex_lock(&master->lock);
    master->acts_until_ms = sent_ms + lease_ms * 2 / 3;
    pthread_cond_broadcast(&master->changed);
    pthread_mutex_unlock(&master->lock);
    if (lapsed)
        log_line(LOG_LEVEL_WARNING, "the master lease was renewed late; nobody had taken it", NULL);
}

/* --- taking it --- */

static enum sso_code write_take(struct master *master, const struct master_lease *seen,
                                struct master_lease *wanted, struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(master->custodian->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = store_master_lease_take(tx, seen, wanted, err);
    if (rc == SSO_OK)
        rc = store_standby_remove(tx, wanted->node, err);
    return rc == SSO_OK ? store_commit(&tx, err) : rc;
}

static void tell_of_taking(struct master *master, const struct master_lease *before)
{
    struct custodian *custodian = master->custodian;
    char text[400];
    bool own = before->node[0] == '\0' || strcmp(before->node, master->own.node) == 0;
    snprintf(text, sizeof text, "epoch %llu, node %s, after %s%s",
             (unsigned long long)master->own.epoch, master->own.node,
             before->node[0] != '\0' ? before->node : "nobody",
             master_lease_is_free(before) ? "" : ", which did not give it back");
    log_line(LOG_LEVEL_INFO, "this node is the master", "lease", text, NULL);
    if (!own)
        event_raise(custodian->events, EVENT_MASTER_TAKEN, "%s", text);
    record(master, "master.taken", text);
}

static void take(struct master *master, const struct master_lease *seen)
{
    struct sso_error problem = {0};
    int64_t sent_ms = boot_clock_ms();
    struct master_lease wanted = master->own;
    pthread_mutex_lock(&master->lock);
    wanted.lease_ms = master->lease_ms;
    pthread_mutex_unlock(&master->lock);
    enum sso_code rc = write_take(master, seen, &wanted, &problem);
    if (rc == SSO_VERSION_CONFLICT) /* somebody lives, or was faster */
        rc = read_rows(master, &problem);
    else if (rc == SSO_OK) {
        master->next_renewal_ms = sent_ms + wanted.lease_ms / 3;
        pthread_mutex_lock(&master->lock);
        master->own = wanted;
        master->holding = true;
        master->moving = MOVE_NONE;
        master->acts_until_ms = sent_ms + wanted.lease_ms * 2 / 3;
        master->changes++;
        pthread_cond_broadcast(&master->changed);
        pthread_mutex_unlock(&master->lock);
        tell_of_taking(master, seen);
        (void)!read_rows(master, NULL);
        wake_others(master);
    }
    note_trouble(master, rc, &problem);
}

enum taking { TAKE_NOT, TAKE_AS_BEFORE, TAKE_IF_ABLE };

/* With the lock held. */
static enum taking may_take(const struct master *master)
{
    const struct master_lease *seen = &master->seen;
    bool waited = boot_clock_ms() - master->unchanged_ms >= master_patience_ms(master);
    bool free = master_lease_is_free(seen), own = strcmp(seen->node, master->own.node) == 0;
    bool promised_here = strcmp(seen->successor, master->own.node) == 0;
    bool promised_there = seen->successor[0] != '\0' && !promised_here;
    if (master->custodian->config->hsm_count == 0 || master->moving == MOVE_WAITING)
        return TAKE_NOT;
    if (seen->epoch == 0)
        return custodian_database(master->custodian, NULL) == SSO_OK ? TAKE_AS_BEFORE : TAKE_NOT;
    /* The lock on the state directory says that who held it from here is dead. */
    if (own && (free ? !promised_there || waited
                     : memcmp(seen->home, master->own.home, sizeof seen->home) == 0))
        return TAKE_AS_BEFORE;
    if (free && promised_here)
        return TAKE_IF_ABLE;
    if ((waited || (free && !promised_there)) && (master->automatic || master->promoted))
        return TAKE_IF_ABLE;
    return TAKE_NOT;
}

/* The commit of a take got no answer, and took place. */
static bool adopt(struct master *master)
{
    const struct master_lease *seen = &master->seen;
    if (memcmp(seen->instance, master->own.instance, sizeof seen->instance) != 0)
        return false;
    pthread_mutex_lock(&master->lock);
    master->own.epoch = seen->epoch;
    master->holding = true;
    master->acts_until_ms = 0;
    pthread_mutex_unlock(&master->lock);
    renew(master);
    wake_others(master);
    return true;
}

static void consider(struct master *master)
{
    struct sso_error problem = {0};
    pthread_mutex_lock(&master->lock);
    enum taking taking = may_take(master);
    struct master_lease seen = master->seen;
    pthread_mutex_unlock(&master->lock);
    if (taking == TAKE_IF_ABLE && boot_clock_ms() < master->next_ability_ms && !master->promoted)
        return;
    if (taking == TAKE_IF_ABLE && master_ability(master->custodian, true, &problem) != SSO_OK) {
        master->next_ability_ms = boot_clock_ms() + master->lease_ms / 3;
        log_line(LOG_LEVEL_WARNING, "this node cannot become the master", "reason", problem.detail,
                 NULL);
        taking = TAKE_NOT;
    }
    if (taking != TAKE_NOT)
        take(master, &seen);
}

/* --- as a standby --- */

static enum sso_code write_report(struct master *master, const struct standby *row,
                                  struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(master->custodian->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = store_standby_put(tx, row, err);
    return rc == SSO_OK ? store_commit(&tx, err) : rc;
}

/* Asked by a move, it looks anew before it says yes. */
static void report(struct master *master)
{
    struct sso_error missing = {0}, problem = {0};
    struct standby row = {0};
    pthread_mutex_lock(&master->lock);
    const struct master_lease *seen = &master->seen;
    bool asked = strcmp(seen->successor, master->own.node) == 0 && master->ready_for != seen->epoch;
    uint64_t epoch = seen->epoch;
    int64_t lease_ms = master->lease_ms;
    pthread_mutex_unlock(&master->lock);
    if (master->custodian->config->hsm_count == 0)
        return;
    if (!asked && boot_clock_ms() < master->next_report_ms)
        return;
    row.able = master_ability(master->custodian, asked, &missing) == SSO_OK;
    snprintf(row.node, sizeof row.node, "%s", master->own.node);
    snprintf(row.address, sizeof row.address, "%s", master->own.address);
    snprintf(row.missing, sizeof row.missing, "%s", missing.detail);
    row.ready_for = asked ? epoch : master->ready_for;
    enum sso_code rc = write_report(master, &row, &problem);
    note_trouble(master, rc, &problem);
    if (rc != SSO_OK)
        return;
    master->ready_for = row.ready_for;
    master->next_report_ms = boot_clock_ms() + lease_ms / 3;
}

/* --- a look --- */

static void tell_of_master(struct master *master)
{
    struct event_board *events = master->custodian->events;
    struct sso_error why = {0};
    struct master_view view;
    master_view(master, &view);
    bool lost = !view.me && !view.alive && !master->holding && view.lease.epoch != 0 &&
                boot_clock_ms() - master->unchanged_ms >= master_patience_ms(master);
    if (lost && master_may_act(master, NULL, &why) != SSO_OK)
        event_raise(events, EVENT_MASTER_LOST, "%s", why.detail);
    else
        event_clear(events, EVENT_MASTER_LOST);
}

static unsigned pause_ms(const struct master *master)
{
    int64_t left_ms = master->next_renewal_ms - boot_clock_ms();
    if (master->holding)
        return left_ms < LOOK_MS_MIN   ? LOOK_MS_MIN
               : left_ms > LOOK_MS_MAX ? LOOK_MS_MAX
                                       : (unsigned)left_ms;
    unsigned ms = master->lease_ms / 10;
    if (strcmp(master->seen.successor, master->own.node) == 0)
        return SUCCESSOR_LOOK_MS;
    return ms < LOOK_MS_MIN ? LOOK_MS_MIN : ms > LOOK_MS_MAX ? LOOK_MS_MAX : ms;
}

static bool is_doubted(struct master *master)
{
    pthread_mutex_lock(&master->lock);
    bool doubted = master->doubted;
    master->doubted = false;
    pthread_mutex_unlock(&master->lock);
    return doubted;
}

unsigned master_watch(struct master *master)
{
    struct sso_error problem = {0};
    if (custodian_committer(master->custodian) == NULL)
        return NO_DATABASE_MS;
    if (master->holding && (boot_clock_ms() >= master->next_renewal_ms || is_doubted(master)))
        renew(master);
    enum sso_code rc = read_rows(master, &problem);
    if (rc != SSO_OK)
        note_trouble(master, rc, &problem);
    else if (!master->holding && !adopt(master))
        consider(master);
    if (!master->holding && master->custodian->rotation != NULL)
        rotation_manager_leave(master->custodian->rotation);
    if (rc == SSO_OK && !master->holding)
        report(master);
    tell_of_master(master);
    return pause_ms(master);
}
