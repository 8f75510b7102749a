/* The transcript of a ceremony: who, when, where, what was made, and room for signatures. */
#ifndef SSO_CLI_CEREMONY_TRANSCRIPT_H
#define SSO_CLI_CEREMONY_TRANSCRIPT_H

#include "cli/ceremony/backing.h"

/* Signed by the audit signing key where the token has one. */
enum sso_code transcript_compose(const struct ceremony *ceremony, const struct backing *backing,
                                 const struct backing_witness *witness, struct encoder *out,
                                 struct sso_error *err) __attribute__((warn_unused_result));

/* "pkcs11:… ID POINT": token, key id and public point in hex, as backup file and transcript name an
 * audit signing key. */
void transcript_audit_key(const struct audit_key *key, char out[static BACKUP_AUDIT_KEY_SIZE]);

#endif
