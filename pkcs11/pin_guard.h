/*
 * Never spends a PIN try twice (DESIGN §4.2). Before a login a stamp is made durable in the state
 * directory, which daemon and CLI share; success removes it, a refusal turns it into one that holds
 * until the PIN source changes or somebody resets it. There is one for each token and source; it
 * tells the source by what a file is and never by what is in it.
 */
#ifndef SSO_PKCS11_PIN_GUARD_H
#define SSO_PKCS11_PIN_GUARD_H

#include "common/generation.h"
#include "common/pin_board.h"
#include "pkcs11/frame.h"

enum pin_stamp_state {
    PIN_STAMP_NONE,
    PIN_STAMP_TRYING,   /* a login was begun, and no outcome was ever written */
    PIN_STAMP_DOUBTFUL, /* the token answered with neither yes nor no */
    PIN_STAMP_REFUSED,
    PIN_STAMP_HELD /* another node was refused, and our source has not changed since we know */
};

struct pin_stamp {
    enum pin_stamp_state state;
    unsigned tries; /* begun and never finished */
    struct pin_source_facts source;
};

struct pin_guard {
    char *folder;                   /* STATE_DIRECTORY/pin-guard */
    const struct pin_board *board;  /* NULL: this node is alone */
    struct pin_source_facts proven; /* the source whose PIN worked last in this process */
    bool forgiving;                 /* the next try is made whatever became of those before it */
    int lock;                       /* held between enter and leave, else -1 */
    struct pin_stamp before;        /* the stamp that the one of this try stands for */
};

/* `board` may be NULL, and must outlive the guard. */
enum sso_code pin_guard_init(struct pin_guard *guard, const char *state_directory,
                             const struct pin_board *board, struct sso_error *err)
    __attribute__((warn_unused_result));
void pin_guard_free(struct pin_guard *guard);

/* May the token be logged in to? Takes a lock that other processes respect; on SSO_OK the caller
 * tries once, then says how it went. SSO_PIN_REFUSED: no, and why. */
enum sso_code pin_guard_enter(struct pin_guard *guard, const struct hello_reply *token,
                              struct sso_error *err) __attribute__((warn_unused_result));

enum pin_outcome {
    PIN_WORKED,
    PIN_WAS_REFUSED,
    PIN_NOT_TRIED, /* it never came to C_Login */
    PIN_DOUBTFUL,  /* C_Login said something else than yes or no */
    PIN_UNKNOWN    /* the worker died over it */
};
void pin_guard_leave(struct pin_guard *guard, const struct hello_reply *token,
                     enum pin_outcome outcome);

/* Forgets what is known of a token's PIN, from whatever source. */
enum sso_code pin_guard_reset(struct pin_guard *guard, const struct token_identity *token,
                              struct sso_error *err);

#endif
