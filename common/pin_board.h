/* What the nodes of a system tell each other of a token that refused a PIN (DESIGN §4.2). The PIN
 * guard below asks and tells; who owns the database answers (store/shared_refusals.h). */
#ifndef SSO_COMMON_PIN_BOARD_H
#define SSO_COMMON_PIN_BOARD_H

#include "common/generation.h"

#define PIN_BOARD_NODE_SIZE 65

enum pin_board_answer {
    PIN_BOARD_CLEAR,   /* no other node was refused since the last login that worked */
    PIN_BOARD_REFUSED, /* one was */
    PIN_BOARD_UNKNOWN  /* nobody can tell now */
};

/* All of them from any thread, and with no more memory than they are given. */
struct pin_board {
    void *context;
    /* REFUSED: `node` gets the name of the other node. */
    enum pin_board_answer (*ask)(void *context, const struct token_identity *token,
                                 char node[static PIN_BOARD_NODE_SIZE]);
    /* Our own PIN was refused; or (`refused` false) one worked, so whatever was refused before
     * says nothing any more. */
    void (*tell)(void *context, const struct token_identity *token, bool refused);
};

#endif
