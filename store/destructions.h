/* The end of a generation's life. A part of store/store.h. */
#ifndef SSO_STORE_DESTRUCTIONS_H
#define SSO_STORE_DESTRUCTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/generation.h"

struct store_tx;

/* number 0 where there is none. */
enum sso_code store_destruction_get(struct store_tx *tx, uint32_t number, struct destruction *out,
                                    struct sso_error *err) __attribute__((warn_unused_result));
/* Inserts version 1, or replaces version - 1: else SSO_VERSION_CONFLICT. */
enum sso_code store_destruction_put(struct store_tx *tx, const struct destruction *destruction,
                                    struct sso_error *err) __attribute__((warn_unused_result));

/* What still needs a generation. To be trusted while its lock is held exclusively. */
struct generation_usage {
    uint64_t credentials, sealed_keys, quarantined;
    bool rotation; /* one is in progress, of whatever generations */
};
enum sso_code store_generation_usage(struct store_tx *tx, uint32_t number,
                                     struct generation_usage *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* SSO_ROTATION_IN_PROGRESS, or SSO_IN_USE with the counts, unless nothing does. */
enum sso_code generation_usage_check(const struct generation_usage *usage, uint32_t number,
                                     struct sso_error *err) __attribute__((warn_unused_result));

#endif
