/* Applications and mappings. A part of store/store.h. */
#ifndef SSO_STORE_APPLICATIONS_H
#define SSO_STORE_APPLICATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/policy.h"

struct store_tx;

/* By name without regard to ASCII case. SSO_NOT_FOUND. */
enum sso_code store_application_get(struct store_tx *tx, const char *name, struct application *out,
                                    struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code store_application_get_by_id(struct store_tx *tx,
                                          const uint8_t id[static APPLICATION_ID_BYTES],
                                          struct application *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* A row whose bytes cannot be one comes back with what could be read, and a tag that never fits. */
enum sso_code store_application_list(struct store_tx *tx, struct application **out, size_t *count,
                                     struct sso_error *err)
    __attribute__((warn_unused_result)); /* by name */
enum sso_code store_application_insert(struct store_tx *tx, const struct application *application,
                                       struct sso_error *err)
    __attribute__((warn_unused_result)); /* SSO_ALREADY_EXISTS */
enum sso_code store_application_update(struct store_tx *tx, const struct application *application,
                                       struct sso_error *err)
    __attribute__((warn_unused_result)); /* replaces version - 1: else SSO_VERSION_CONFLICT */
/* Its mappings, credentials and their notes go with it, or, where `keep_application`, they
 * alone (purge). */
enum sso_code store_application_delete(struct store_tx *tx,
                                       const uint8_t id[static APPLICATION_ID_BYTES],
                                       bool keep_application, uint64_t *credentials_deleted,
                                       struct sso_error *err) __attribute__((warn_unused_result));

enum sso_code store_mapping_get(struct store_tx *tx,
                                const uint8_t application_id[static APPLICATION_ID_BYTES],
                                const char *principal, struct mapping *out, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code store_mapping_put(struct store_tx *tx, const struct mapping *mapping,
                                struct sso_error *err)
    __attribute__((warn_unused_result)); /* as setting_put */
/* SSO_NOT_FOUND. Its credential stays. */
enum sso_code store_mapping_delete(struct store_tx *tx,
                                   const uint8_t application_id[static APPLICATION_ID_BYTES],
                                   const char *principal, struct sso_error *err)
    __attribute__((warn_unused_result));

struct mapping_view {
    struct mapping mapping; /* without a tag where its row is damaged */
    bool has_credential;
    char external_user[EXTERNAL_USER_BYTES_MAX + 1]; /* of the credential */
};
/* By principal, those behind `after`, at most `limit`; *out is to be freed. */
enum sso_code store_mapping_page(struct store_tx *tx,
                                 const uint8_t application_id[static APPLICATION_ID_BYTES],
                                 const char *after, size_t limit, struct mapping_view **out,
                                 size_t *count, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
