/* What `db check` found, gathered from several threads. */
#ifndef SSO_CLI_CEREMONY_FINDINGS_H
#define SSO_CLI_CEREMONY_FINDINGS_H

#include <pthread.h>

#include "cli/ceremony/installation.h"

struct findings {
    pthread_mutex_t lock;
    json_t *failures; /* as in INTERFACE §3 */
    uint64_t rows, opened, failed;
    bool progress;  /* on standard error */
    uint64_t total; /* rows, for it */
};

/* What failed: a row, or where `row` is NULL whatever application and principal name ("" for
 * neither). generation 0: none. Not for a secret: detail comes from error texts. */
struct failure {
    const struct credential_row *row;
    const char *application;
    const char *principal;
    uint32_t generation;
    const struct sso_error *error;
};
void findings_add(struct findings *findings, const struct failure *failure);

/* Tags of settings, applications, generations and tokens; opens every generation and sealed key. */
enum sso_code check_policy_rows(struct ceremony *ceremony, struct store_tx *tx,
                                struct findings *findings, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Opens every row of the snapshot that `tx` sees, and checks its mapping. The outcome is only an
 * error where the check itself could not go on. */
enum sso_code check_credential_rows(struct ceremony *ceremony, struct store_tx *tx,
                                    struct findings *findings, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Rows against the audit: older than, missing from, deleted by or unknown to it. */
enum sso_code check_against_audit(const struct ceremony *ceremony, struct store_tx *tx,
                                  struct findings *findings, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
