/* Credential rows one by one. A part of store/store.h. */
#ifndef SSO_STORE_CREDENTIALS_H
#define SSO_STORE_CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/generation.h"
#include "common/policy.h"
#include "common/row.h"

struct store_tx;

/* Everything that a lookup must know, read in one statement (DESIGN §5.1). Tags are not checked
 * here. */
struct lookup_view {
    struct application application;
    bool has_mapping, has_row, has_generation;
    struct mapping mapping;
    struct credential_row row;    /* with ciphertext */
    struct generation generation; /* of the row */
    struct setting system_enabled, revocation;
};
void lookup_view_free(struct lookup_view *view);
/* SSO_NOT_FOUND where there is no such application; has_… say what else there is. */
enum sso_code store_lookup(struct store_tx *tx, const char *application, const char *principal,
                           struct lookup_view *out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* With ciphertext. SSO_NOT_FOUND. */
enum sso_code store_credential_get(struct store_tx *tx,
                                   const uint8_t application_id[static APPLICATION_ID_BYTES],
                                   const char *principal, struct credential_row *out,
                                   struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code store_credential_get_by_id(struct store_tx *tx,
                                         const uint8_t row_id[static ROW_ID_BYTES],
                                         struct credential_row *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Inserts where old_version is 0, else replaces the row with this row id at old_version:
 * SSO_VERSION_CONFLICT where that is not what is there. The caller holds the generation's lock and
 * has seen it active. What was noted of its former
 * credential (quarantine, exposed) goes. */
enum sso_code store_credential_put(struct store_tx *tx, const struct credential_row *row,
                                   uint64_t old_version, struct sso_error *err)
    __attribute__((warn_unused_result));
/* SSO_NOT_FOUND; SSO_VERSION_CONFLICT where version is not 0 and not the row's. Its notes go
 * too. */
enum sso_code store_credential_delete(struct store_tx *tx,
                                      const uint8_t application_id[static APPLICATION_ID_BYTES],
                                      const char *principal, uint64_t version,
                                      struct sso_error *err) __attribute__((warn_unused_result));

/* One page by principal, after `after` ("" for the first): rows without ciphertext, and their
 * mappings side by side (state 0 where a row has none; without a tag where its row is damaged). A
 * row whose bytes cannot be one comes back with format 0 and what could be read; one without a
 * readable principal is left out. */
struct credential_page {
    struct credential_row *row;
    struct mapping *mapping;
    size_t count;
};
void credential_page_free(struct credential_page *page);
enum sso_code store_credential_page(struct store_tx *tx,
                                    const uint8_t application_id[static APPLICATION_ID_BYTES],
                                    const char *after, size_t limit, struct credential_page *out,
                                    struct sso_error *err) __attribute__((warn_unused_result));

#endif
