/*
 * The generations that this process can use, each with the token pool that holds it. Batches may
 * mix generations: they are sorted to their pools, and a rewrap between two tokens passes this
 * process's locked memory. Thread-safe.
 */
#ifndef SSO_PKCS11_KEYRING_H
#define SSO_PKCS11_KEYRING_H

#include "common/generation.h"
#include "common/policy.h"
#include "pkcs11/hsm.h"

struct keyring;

enum sso_code keyring_new(const uint8_t system_id[static SYSTEM_ID_BYTES], struct keyring **out,
                          struct sso_error *err) __attribute__((warn_unused_result));
void keyring_free(struct keyring **keyring); /* not the pools */
const uint8_t *keyring_system_id(const struct keyring *keyring);
void keyring_add_pool(struct keyring *keyring, struct hsm *hsm);

/* Opens one generation in the first pool whose token is among `tokens` and holds the key.
 * Idempotent; changes nothing for one that is open unless `fresh`. States and number are
 * remembered. */
enum sso_code keyring_open(struct keyring *keyring, const struct generation *generation,
                           const struct generation_token *tokens, size_t token_count, bool fresh,
                           struct sso_error *err) __attribute__((warn_unused_result));
void keyring_forget(struct keyring *keyring, uint32_t number);
/* As keyring_forget, of a generation whose keys are destroyed: where it was open the workers of its
 * pool are replaced one by one, since a session may work with a copy (pkcs11/session_copy.h). */
void keyring_end(struct keyring *keyring, uint32_t number);
bool keyring_has(struct keyring *keyring, uint32_t number);
enum suite_id keyring_suite(struct keyring *keyring,
                            uint32_t number); /* SUITE_NONE where it is not open */
struct hsm *keyring_pool(struct keyring *keyring, uint32_t number); /* NULL where it is not open */

/* As in hsm.h; an item whose generation is not open here gets SSO_ROW_CORRUPT where no such
 * generation exists in the keyring's past or present, and SSO_HSM_UNAVAILABLE where it is known
 * (keyring_know) but its token cannot open it now. */
void keyring_know(struct keyring *keyring, const uint32_t *numbers, size_t count);
enum sso_code keyring_make(struct keyring *keyring, enum hsm_priority priority,
                           struct key_item *items, size_t count, int64_t deadline_ms,
                           struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code keyring_unwrap(struct keyring *keyring, enum hsm_priority priority,
                             struct key_item *items, size_t count, int64_t deadline_ms,
                             struct sso_error *err) __attribute__((warn_unused_result));
/* On success of an item, item->generation is `to`. */
enum sso_code keyring_rewrap(struct keyring *keyring, enum hsm_priority priority, uint32_t to,
                             struct key_item *items, size_t count, int64_t deadline_ms,
                             struct sso_error *err) __attribute__((warn_unused_result));

/* Makes the key of generation `number` in a pool's token (hsm_generate) and fills the rows that
 * describe it, without tags: state pending, versions 1. The caller tags and stores them, and where
 * that fails removes the key again with hsm_destroy_key. */
enum sso_code keyring_generate(struct keyring *keyring, struct hsm *hsm, uint32_t number,
                               enum suite_id suite, const char *node, struct generation *generation,
                               struct generation_token *token, struct evidence *evidence,
                               struct sso_error *err) __attribute__((warn_unused_result));

/* The same with an id that the caller chose (all zero: a random one), and where `backup` is not
 * NULL installed from its own backup (hsm_generate_backed). */
struct key_order {
    uint32_t number;
    uint8_t secret_id[SECRET_ID_BYTES];
    enum suite_id suite;
    const char *node;
    struct hsm_backup *backup;
};
struct made_key {
    struct generation generation;
    struct generation_token token;
    struct evidence evidence;
};
enum sso_code keyring_generate_order(struct keyring *keyring, struct hsm *hsm,
                                     const struct key_order *order, struct made_key *out,
                                     struct sso_error *err) __attribute__((warn_unused_result));
/* The row of a token that holds generation `number`, without a tag. */
void keyring_token_row(struct hsm *hsm, uint32_t number, const char *node,
                       const struct evidence *evidence, struct generation_token *out);

/* What a worker needs to know of a generation. */
void generation_key_of(const uint8_t system_id[static SYSTEM_ID_BYTES],
                       const struct generation *generation, struct generation_key *out);

/* Unwraps the policy key into policy (whose system_id must be set). */
enum sso_code keyring_open_policy(struct keyring *keyring, const struct sealed_key *sealed,
                                  struct policy *policy, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Makes a new sealed key under `generation`; `row_key` gets its ROW_KEY_BYTES. */
enum sso_code keyring_make_sealed(struct keyring *keyring, const char *purpose, uint32_t generation,
                                  struct sealed_key *out, struct secret *key, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
