/*
 * The audit signing key (common/audit_key.h) at a ceremony.
 *
 *     struct signer signer;
 *     rc = signer_open(ceremony, pool, &journal, &signer, err);      // the policy key is open
 *     rc = signer_sign(ceremony, &signer, &text, signature, err);
 *     rc = signer_store(ceremony, &signer, tx, err);       // in the ceremony's transaction
 *     … store_commit …
 *     signer_sign_heads(ceremony, &signer);                // everything up to here is signed
 *
 * and signer_undo where the transaction failed.
 */
#ifndef SSO_CLI_CEREMONY_SIGNING_H
#define SSO_CLI_CEREMONY_SIGNING_H

#include "cli/ceremony/journal.h"
#include "common/audit_key.h"

struct signer {
    struct hsm *pool;
    struct audit_key key; /* with its policy tag */
    bool present;         /* false: this token can do no ECDSA; nothing is signed */
    bool fresh;           /* made now: not in the database before signer_store */
};

/* The key of this pool's token: the one that the database knows, else a new one, which is noted
 * in the ceremony's journal before it is made. A token that cannot have one is a warning and SSO_OK
 * with `present` false. */
enum sso_code signer_open(struct ceremony *ceremony, struct hsm *pool, struct journal *journal,
                          struct signer *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* The key of the first token that is open and has one known to the database; makes none. */
enum sso_code signer_find(struct ceremony *ceremony, struct signer *out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* A fresh key and the record that announces it; nothing where it is known already. */
enum sso_code signer_store(struct ceremony *ceremony, const struct signer *signer,
                           struct store_tx *tx, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Takes a fresh key out of the token again. */
void signer_undo(const struct signer *signer);

struct signed_text {
    const char *kind; /* "transcript", "statement", "database backup" */
    const void *bytes;
    size_t count;
};
/* Over audit_text_digest. SSO_TOKEN_NOT_SUITABLE where the key is not present. */
enum sso_code signer_sign(const struct ceremony *ceremony, const struct signer *signer,
                          const struct signed_text *text,
                          uint8_t signature[static AUDIT_SIGNATURE_BYTES], struct sso_error *err)
    __attribute__((warn_unused_result));

/* Signs the heads of all chains as they are now. What does not work out is a warning. */
void signer_sign_heads(const struct ceremony *ceremony, const struct signer *signer);

/* All public keys that the database knows and whose tags fit. malloc: free(3). */
enum sso_code signing_keys(const struct ceremony *ceremony, struct audit_key **out, size_t *count,
                           struct sso_error *err) __attribute__((warn_unused_result));

#endif
