/* What an operator asks of the master lease: promote, move. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "custodian/master_state.h"
#include "custodian/rotation_manager.h"

#define ASK_PAUSE_US 20000
#define MOVE_PAUSE_US 5000
/* How long a rotation may take to end its batch; then it is fenced off. */
#define DRAIN_MS 300

/* --- promote --- */

static void set_promoted(struct master *master, bool promoted)
{
    pthread_mutex_lock(&master->turn);
    master->promoted = promoted;
    pthread_mutex_unlock(&master->turn);
}

static enum sso_code try_to_take(struct master *master, int64_t deadline_ms, struct sso_error *err)
{
    struct master_view first, now;
    master_look(master);
    master_view(master, &first);
    for (now = first; !now.me; master_view(master, &now)) {
        if (now.lease.epoch != first.lease.epoch || now.lease.beat != first.lease.beat)
            return sso_fail(err, SSO_IN_USE,
                            "%s is the master and lives: sso-hsm master move %s, said there, moves "
                            "it without a failed request",
                            now.lease.node, master->own.node);
        if (boot_clock_ms() >= deadline_ms)
            return sso_fail(err, SSO_MASTER_UNAVAILABLE,
                            "it is not yet sure that the master %s is dead: its lease has not "
                            "ended; try again",
                            now.lease.node);
        usleep(ASK_PAUSE_US);
        master_look(master);
    }
    return SSO_OK;
}

enum sso_code master_promote(struct master *master, int64_t deadline_ms, struct sso_error *err)
{
    if (master_is(master))
        return SSO_OK;
    enum sso_code rc = master_ability(master->custodian, true, err);
    if (rc != SSO_OK)
        return rc;
    set_promoted(master, true);
    rc = try_to_take(master, deadline_ms, err);
    set_promoted(master, false);
    return rc;
}

/* --- move --- */

/* With the lock held. */
static const struct watched_standby *find_standby(const struct master *master, const char *node)
{
    for (size_t i = 0; i < master->standby_count; i++) {
        if (strcmp(master->standby[i].row.node, node) == 0)
            return &master->standby[i];
    }
    return NULL;
}

/* With the lock held. */
static enum sso_code check_standby(const struct master *master, const char *node,
                                   struct sso_error *err)
{
    const struct watched_standby *standby = find_standby(master, node);
    if (standby == NULL)
        return sso_fail(err, SSO_NOT_FOUND,
                        "no node %s with an HSM uses this database: sso-hsm master show lists "
                        "those that could become the master",
                        node);
    if (boot_clock_ms() - standby->changed_ms >= 3 * (int64_t)master->lease_ms)
        return sso_fail(err, SSO_MASTER_UNAVAILABLE, "node %s has not been heard of lately", node);
    if (!standby->row.able)
        return sso_fail(err, SSO_NO_MASTER_SECRET, "node %s cannot become the master: %s", node,
                        standby->row.missing);
    return SSO_OK;
}

static enum sso_code promise(struct master *master, const char *node, struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(master->custodian->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = store_master_lease_promise(tx, &master->own, node, err);
    return rc == SSO_OK ? store_commit(&tx, err) : rc;
}

static enum sso_code promise_in_turn(struct master *master, const char *node, struct sso_error *err)
{
    pthread_mutex_lock(&master->turn);
    enum sso_code rc = promise(master, node, err);
    pthread_mutex_unlock(&master->turn);
    return rc;
}

/* It opens everything anew before it answers. */
static enum sso_code await_answer(struct master *master, const char *node, int64_t deadline_ms,
                                  struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    for (bool answered = false; rc == SSO_OK && !answered; usleep(answered ? 0 : ASK_PAUSE_US)) {
        master_look(master);
        pthread_mutex_lock(&master->lock);
        const struct watched_standby *standby = find_standby(master, node);
        answered = standby != NULL && standby->row.ready_for == master->own.epoch;
        if (!master->holding)
            rc = sso_fail(err, SSO_MASTER_UNAVAILABLE, "this node lost the mastership meanwhile");
        else if (answered)
            rc = check_standby(master, node, err);
        else if (boot_clock_ms() >= deadline_ms)
            rc = sso_fail(err, SSO_MASTER_UNAVAILABLE,
                          "node %s did not answer in time: the mastership stays here", node);
        pthread_mutex_unlock(&master->lock);
    }
    return rc;
}

static void set_moving(struct master *master, enum master_move_state state)
{
    pthread_mutex_lock(&master->lock);
    master->moving = state;
    pthread_cond_broadcast(&master->changed);
    pthread_mutex_unlock(&master->lock);
}

/* Nothing new begins; what has begun ends; then the lease is free for the other. */
static enum sso_code hand_over(struct master *master, struct sso_error *err)
{
    set_moving(master, MOVE_DRAINING);
    if (master->custodian->rotation != NULL)
        rotation_manager_leave_soon(master->custodian->rotation, DRAIN_MS);
    pthread_mutex_lock(&master->turn);
    enum sso_code rc = master_give_back(master, MOVE_WAITING, err);
    pthread_mutex_unlock(&master->turn);
    if (rc != SSO_OK)
        set_moving(master, MOVE_NONE);
    return rc;
}

static enum sso_code await_taking(struct master *master, const char *node, struct sso_error *err)
{
    struct master_view view;
    pthread_mutex_lock(&master->lock);
    uint64_t epoch = master->own.epoch;
    int64_t until_ms = boot_clock_ms() + master->lease_ms / 2;
    pthread_mutex_unlock(&master->lock);
    do {
        usleep(MOVE_PAUSE_US);
        master_look(master);
        master_view(master, &view);
    } while (view.lease.epoch == epoch && boot_clock_ms() < until_ms);
    set_moving(master, MOVE_NONE);
    if (view.lease.epoch != epoch)
        return SSO_OK;
    return sso_fail(err, SSO_MASTER_UNAVAILABLE,
                    "node %s said it was ready and did not take the mastership: this node goes on",
                    node);
}

static enum sso_code begin_move(struct master *master, const char *node, struct sso_error *err)
{
    enum sso_code rc = master_may_act(master, NULL, err);
    if (rc != SSO_OK)
        return rc;
    if (strcmp(node, master->own.node) == 0)
        return sso_fail(err, SSO_BAD_REQUEST, "%s is the master already", node);
    master_look(master);
    pthread_mutex_lock(&master->lock);
    rc = check_standby(master, node, err);
    pthread_mutex_unlock(&master->lock);
    return rc == SSO_OK ? promise_in_turn(master, node, err) : rc;
}

enum sso_code master_move(struct master *master, const char *node, int64_t deadline_ms,
                          struct sso_error *err)
{
    enum sso_code rc = begin_move(master, node, err);
    if (rc != SSO_OK)
        return rc;
    rc = await_answer(master, node, deadline_ms, err);
    if (rc == SSO_OK)
        rc = hand_over(master, err);
    if (rc != SSO_OK) {
        (void)!promise_in_turn(master, "", NULL);
        return rc;
    }
    rc = await_taking(master, node, err);
    master_wake(master);
    return rc;
}
