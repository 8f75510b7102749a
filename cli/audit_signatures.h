/* Checks what was signed of the audit chains, with public keys alone. */
#ifndef SSO_CLI_AUDIT_SIGNATURES_H
#define SSO_CLI_AUDIT_SIGNATURES_H

#include <jansson.h>

#include "cli/audit_anchor.h"
#include "store/store.h"

/* Adds findings to `findings`, of each node the number through which its chain is signed by a good
 * key to the object `through`, and the fingerprints of the good keys to `keys`.
 *
 * A key is good where a record announces it that a ceremony wrote; or, where the anchor names keys,
 * where it is one of these, or its record is under a signature of one that is good. */
enum sso_code signatures_verify(struct store_tx *tx, const struct audit_anchor *anchor,
                                json_t *findings, json_t *through, struct audit_anchor *keys,
                                struct sso_error *err) __attribute__((warn_unused_result));

#endif
