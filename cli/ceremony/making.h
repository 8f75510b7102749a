/* A master secret in the making: journal, key, backup, and the way back. Used by init and by `key
 * generate`. */
#ifndef SSO_CLI_CEREMONY_MAKING_H
#define SSO_CLI_CEREMONY_MAKING_H

#include "cli/ceremony/backing.h"

struct making {
    const char *ceremony; /* "init", "key generate" */
    struct hsm *pool;
    struct journal journal;
    struct backing backing;
    struct made_key made;
    struct signer signer;
    bool key_made;
};

/* Whatever can be refused is, and what an earlier ceremony left is cleaned up; nothing is made. */
enum sso_code making_begin(struct ceremony *ceremony, struct making *making,
                           const struct backing_options *options, struct sso_error *err)
    __attribute__((warn_unused_result));
/* The key, noted in the journal before. SSO_ALREADY_EXISTS: the token holds one of this number. */
enum sso_code making_key(struct ceremony *ceremony, struct making *making, uint32_t number,
                         enum suite_id suite, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Once the policy key is open: a fresh worker has opened the key, the audit signing key is there,
 * shares are with the officers, file and transcript are written, the rows are tagged. */
enum sso_code making_prove(struct ceremony *ceremony, struct making *making, struct sso_error *err)
    __attribute__((warn_unused_result));
/* In the transaction: generation, token, backup, and the signing key where it is new. */
enum sso_code making_store(struct ceremony *ceremony, struct making *making, struct store_tx *tx,
                           struct sso_error *err) __attribute__((warn_unused_result));
/* After the commit. */
void making_done(struct ceremony *ceremony, struct making *making);
/* After a failure that `err` tells of: everything that was made is taken back, or named. Returns
 * err's code. */
enum sso_code making_undo(struct ceremony *ceremony, struct making *making, struct sso_error *err);
/* In any case, last. */
void making_end(struct making *making);

#endif
