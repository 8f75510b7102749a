/* Counts wraps under a generation (SP 800-38D §8.3 ends random IVs at 2^32). Blocks are reserved
 * durably before they are used, so a crash only over-counts. Thread-safe. Must not be called inside
 * a write transaction of the same thread. */
#ifndef SSO_STORE_WRAP_BUDGET_H
#define SSO_STORE_WRAP_BUDGET_H

#include "store/store.h"

#define WRAP_BLOCK 16384
#define GCM_WRAPS_WARNED (UINT64_C(1) << 31)
#define GCM_WRAPS_LIMIT (UINT64_C(1) << 32)

struct wrap_budget;
/* Told of the count that a reservation came to, once it is committed and before it is used; where
 * it fails the block is not used. */
typedef enum sso_code (*wrap_budget_seen)(void *context, uint32_t generation, uint64_t total,
                                          struct sso_error *err);
enum sso_code wrap_budget_new(struct store *store, struct wrap_budget **out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Before the first reservation. */
void wrap_budget_watch(struct wrap_budget *budget, wrap_budget_seen seen, void *context);
/* Asked in each transaction of a reservation, before it writes: whether this node may. */
typedef enum sso_code (*wrap_budget_hold)(void *context, struct store_tx *tx,
                                          struct sso_error *err);
void wrap_budget_guard(struct wrap_budget *budget, wrap_budget_hold hold, void *context);
void wrap_budget_free(struct wrap_budget **budget);
/* Before wrapping `wraps` keys. SSO_WRAPS_EXHAUSTED for aes256-gcm at the limit. */
enum sso_code wrap_budget_take(struct wrap_budget *budget, uint32_t generation, enum suite_id suite,
                               uint64_t wraps, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
