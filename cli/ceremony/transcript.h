/* The transcript of a ceremony: who, when, where, what was made, and room for signatures. */
#ifndef SSO_CLI_CEREMONY_TRANSCRIPT_H
#define SSO_CLI_CEREMONY_TRANSCRIPT_H

#include "cli/ceremony/backing.h"

/* Signed by the audit signing key where the token has one. */
enum sso_code transcript_compose(const struct ceremony *ceremony, const struct backing *backing,
                                 const struct backing_witness *witness, struct encoder *out,
                                 struct sso_error *err) __attribute__((warn_unused_result));

/* The parts of which a transcript is made, for a ceremony that has more than one key: head, what
 * was done, and signatures, by the audit signing key and by hand. */
void transcript_head(const struct ceremony *ceremony, const char *name, struct encoder *out);
void transcript_signer(const struct signer *signer, struct encoder *out);
void transcript_share_set(const struct share_set *set, bool new_set, struct encoder *out);
void transcript_say(struct encoder *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
enum sso_code transcript_end(const struct ceremony *ceremony, const struct signer *signer,
                             unsigned officers, struct encoder *out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* What the audit keeps of it: its hash. */
enum sso_code transcript_record(const struct ceremony *ceremony, const struct encoder *transcript,
                                struct audit_record *out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* "pkcs11:… ID POINT": token, key id and public point in hex, as backup file and transcript name an
 * audit signing key. */
void transcript_audit_key(const struct audit_key *key, char out[static BACKUP_AUDIT_KEY_SIZE]);

#endif
