/*
 * The master lease as this node sees it (DESIGN §9). A thread of its own renews the lease where
 * this node holds it, and watches it where another does; it touches the database and, before it
 * takes over, the tokens.
 *
 * Who holds it may act until two thirds of the lease after it sent the last renewal that succeeded,
 * by the boot clock. A node that can takes it over after it has itself seen the row unchanged for a
 * whole lease; at once where the row says that this very node held it, from this very state
 * directory, whose lock says that the former process is dead.
 *
 * What is a master's write, and so holds the lease (master_hold) in its transaction: everything
 * that the committer writes for a request or a rotation writes for itself, and the reservation of
 * wraps. Audit records alone are not; nor is what a ceremony of sso-hsm writes.
 */
#ifndef SSO_CUSTODIAN_MASTER_H
#define SSO_CUSTODIAN_MASTER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "store/store.h"

struct custodian;
struct master;

enum sso_code master_new(struct custodian *custodian, struct master **out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Its thread. */
enum sso_code master_start(struct master *master, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Ends the thread: the lease is renewed no more. Safe on NULL. */
void master_stop(struct master *master);
/* Gives the lease back, so that another need not wait for its end: nothing is written after that.
 * Safe on NULL. */
void master_free(struct master **master);

/* From the settings. */
void master_use_settings(struct master *master, unsigned lease_ms, bool automatic);
/* Looks now: returns when the lease was taken, renewed or seen to be another's. Not in a write
 * transaction, nor from installation_refresh. */
void master_look(struct master *master);

/* --- may this node act as the master? --- */

/* SSO_OK, and *epoch (unless NULL) to be given to master_still. While a planned move is under way,
 * or a renewal is late, it waits for the end of that, a second at most: for request threads.
 * SSO_MASTER_UNAVAILABLE, with a text that says who is the master; SSO_DATABASE_UNAVAILABLE where
 * it holds the lease and could not renew it. */
enum sso_code master_may_act(struct master *master, uint64_t *epoch, struct sso_error *err)
    __attribute__((warn_unused_result));
/* The same without waiting. */
bool master_is(struct master *master);
/* Another node was the last that took it: this one stands by. */
bool master_is_elsewhere(struct master *master);
/* After a call to the HSM, and before what it gave leaves: does that epoch still last? */
bool master_still(struct master *master, uint64_t epoch);
/* In a write transaction, before its first write: SSO_OK where this node holds the lease until the
 * transaction ends. `master` is a struct master (committer_guard, wrap_budget_guard). Never waits
 * for a move. */
enum sso_code master_hold(void *master, struct store_tx *tx, struct sso_error *err)
    __attribute__((warn_unused_result));

/* --- who is the master? --- */

struct master_view {
    /* As last seen. Free or never held: node "" where nobody ever was, else who was the last. */
    struct master_lease lease;
    bool me;         /* this node may act as the master now */
    int64_t left_ms; /* me: for so long without a further renewal */
    bool alive;      /* another: the row changed within the last lease */
    bool automatic;  /* fail-over */
};
void master_view(struct master *master, struct master_view *out);
/* The nodes that stand by and live, as far as this one knows, this one too; *out from malloc. */
enum sso_code master_standbys(struct master *master, struct standby **out, size_t *count,
                              struct sso_error *err) __attribute__((warn_unused_result));
uint64_t master_changes(struct master *master); /* how often it took or lost it */

/* --- what an operator asks for --- */

/* This node becomes the master. SSO_OK where it is already. SSO_IN_USE: another lives;
 * SSO_NO_MASTER_SECRET: names the generation that does not open here; SSO_MASTER_UNAVAILABLE: not
 * known by `deadline_ms` whether the other lives. */
enum sso_code master_promote(struct master *master, int64_t deadline_ms, struct sso_error *err)
    __attribute__((warn_unused_result));
/* The mastership goes from this node to another, which is asked first whether it can. */
enum sso_code master_move(struct master *master, const char *node, int64_t deadline_ms,
                          struct sso_error *err) __attribute__((warn_unused_result));

#endif
