/* Inside the master lease: what master.c, master_watch.c and master_move.c share. */
#ifndef SSO_CUSTODIAN_MASTER_STATE_H
#define SSO_CUSTODIAN_MASTER_STATE_H

#include <pthread.h>

#include "custodian/custodian.h"
#include "custodian/master.h"

#define STANDBYS_WATCHED 64

/* A standby's row, and since when its beat has stood still. */
struct watched_standby {
    struct standby row;
    int64_t changed_ms; /* boot clock */
    bool beats;         /* it has changed while this node watched */
};

enum master_move_state {
    MOVE_NONE,
    MOVE_DRAINING, /* this node gives the lease back: nothing new begins */
    MOVE_WAITING,  /* it is given back: the successor has to take it */
};

struct master {
    struct custodian *custodian;
    pthread_t thread;
    bool has_thread;

    /* One look at a time; of what follows only who looks makes use. */
    pthread_mutex_t turn;
    uint8_t home[LEASE_INSTANCE_BYTES]; /* id of the state directory */
    struct master_lease own;            /* node, address, home, instance; epoch of the last take */
    bool met;                           /* the row was read once */
    int64_t next_report_ms, next_renewal_ms, next_ability_ms; /* boot clock */
    bool promoted;      /* an operator wants this node to take it */
    uint64_t ready_for; /* as last reported */

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    bool stopping, woken;
    bool doubted; /* a write found the row to be another's */
    unsigned lease_ms;
    bool automatic;
    struct master_lease seen; /* the row as last read */
    int64_t unchanged_ms;     /* boot clock: since when */
    bool holding;
    int64_t acts_until_ms; /* boot clock */
    enum master_move_state moving;
    struct sso_error trouble; /* of the database, at the last look; SSO_OK: none */
    struct watched_standby standby[STANDBYS_WATCHED];
    size_t standby_count;
    uint64_t changes;
};

/* How long a row must have stood still. With the lock held. */
int64_t master_patience_ms(const struct master *master);
/* With the lock held. */
bool master_acts(const struct master *master);
/* Waits for a change of the state, `until_ms` at most. With the lock held. */
void master_wait(struct master *master, int64_t until_ms);
/* Makes the thread look. */
void master_wake(struct master *master);

/* --- master_watch.c --- */
/* One look, with the turn taken; returns for how long to sleep. */
unsigned master_watch(struct master *master);
/* Frees the lease: for a planned move, or since the process ends. With the turn taken. */
enum sso_code master_give_back(struct master *master, enum master_move_state moving,
                               struct sso_error *err);

/* --- master_ability.c --- */
/* Can this node become the master? SSO_NO_MASTER_SECRET names the generation that does not open
 * here. `anew`: generations are read and opened again, and the token is asked; else as it is known.
 */
enum sso_code master_ability(struct custodian *custodian, bool anew, struct sso_error *err);

#endif
