/* The system itself and its settings. A part of store/store.h, which says what holds for all. */
#ifndef SSO_STORE_SYSTEM_H
#define SSO_STORE_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/generation.h"
#include "common/policy.h"

struct store_tx;

struct system_row {
    uint8_t id[SYSTEM_ID_BYTES];
    char name[129];
    int64_t created_ms;
};
/* SSO_NOT_FOUND before init. */
enum sso_code store_system_get(struct store_tx *tx, struct system_row *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* SSO_ALREADY_EXISTS where there is one. */
enum sso_code store_system_insert(struct store_tx *tx, const struct system_row *row,
                                  struct sso_error *err) __attribute__((warn_unused_result));

enum sso_code store_setting_list(struct store_tx *tx, struct setting **out, size_t *count,
                                 struct sso_error *err) __attribute__((warn_unused_result));
/* Inserts version 1, or replaces version - 1: else SSO_VERSION_CONFLICT. */
enum sso_code store_setting_put(struct store_tx *tx, const struct setting *setting,
                                struct sso_error *err) __attribute__((warn_unused_result));

#endif
