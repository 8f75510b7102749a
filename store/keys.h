/* Generations, the tokens that hold them, sealed keys. A part of store/store.h. */
#ifndef SSO_STORE_KEYS_H
#define SSO_STORE_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/generation.h"
#include "common/share_set.h"

struct store_tx;

/* Takes the generation's lock, held to the end of the transaction, then reads the row in a
 * statement of its own (DESIGN §5.1). */
enum store_lock { STORE_SHARED, STORE_EXCLUSIVE };
enum sso_code store_generation_hold(struct store_tx *tx, uint32_t number, enum store_lock lock,
                                    struct generation *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* A row whose bytes cannot be one comes back with its number, where that can be read, and nothing
 * else: state 0, and a tag that never fits. */
enum sso_code store_generation_list(struct store_tx *tx, struct generation **out, size_t *count,
                                    struct sso_error *err)
    __attribute__((warn_unused_result)); /* by number */
enum sso_code store_generation_insert(struct store_tx *tx, const struct generation *generation,
                                      struct sso_error *err) __attribute__((warn_unused_result));
/* All but number, secret id, wraps; replaces version - 1: else SSO_VERSION_CONFLICT. */
enum sso_code store_generation_update(struct store_tx *tx, const struct generation *generation,
                                      struct sso_error *err) __attribute__((warn_unused_result));
/* Adds to the wrap counter and gives its new value. SSO_WRAPS_EXHAUSTED where it would pass `limit`
 * (0: none); unchanged then. */
enum sso_code store_generation_add_wraps(struct store_tx *tx, uint32_t number, uint64_t wraps,
                                         uint64_t limit, uint64_t *total, struct sso_error *err)
    __attribute__((warn_unused_result));

/* A damaged row as above; it is said to be destroyed. */
enum sso_code store_generation_token_list(struct store_tx *tx, struct generation_token **out,
                                          size_t *count, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code store_generation_token_put(struct store_tx *tx, const struct generation_token *token,
                                         struct sso_error *err)
    __attribute__((warn_unused_result)); /* as setting_put; key: number, token, node */

/* By age. A damaged row fails the list: SSO_POLICY_TAMPERED. */
enum sso_code store_share_set_list(struct store_tx *tx, struct share_set **out, size_t *count,
                                   struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code store_share_set_insert(struct store_tx *tx, const struct share_set *set,
                                     struct sso_error *err) __attribute__((warn_unused_result));

enum sso_code store_sealed_key_list(struct store_tx *tx, struct sealed_key **out, size_t *count,
                                    struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code store_sealed_key_insert(struct store_tx *tx, const struct sealed_key *key,
                                      struct sso_error *err) __attribute__((warn_unused_result));
/* Compare-and-swap of generation and wrapped on (key id, old generation, old wrapped). */
enum sso_code store_sealed_key_swap(struct store_tx *tx, const struct sealed_key *old_key,
                                    const struct sealed_key *new_key, bool *swapped,
                                    struct sso_error *err) __attribute__((warn_unused_result));

#endif
