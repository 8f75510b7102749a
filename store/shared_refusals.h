/* The board on which the nodes of a system tell each other of refused PINs, in their database. */
#ifndef SSO_STORE_SHARED_REFUSALS_H
#define SSO_STORE_SHARED_REFUSALS_H

#include <stdatomic.h>

#include "common/pin_board.h"
#include "store/store.h"

struct shared_refusals {
    struct pin_board board;      /* for hsm_open_with */
    struct store *_Atomic store; /* NULL: nobody can tell yet */
    char node[PIN_BOARD_NODE_SIZE];
};

/* The struct stays where it is: the board refers to it. */
void shared_refusals_init(struct shared_refusals *refusals, const char *node);
/* Once the database is open, for as long as the board is used. */
void shared_refusals_use(struct shared_refusals *refusals, struct store *store);

#endif
