/* The audit signing key as an object in the token: made, found, used. */
#ifndef SSO_PKCS11_AUDIT_SIGNING_H
#define SSO_PKCS11_AUDIT_SIGNING_H

#include "common/audit_key.h"
#include "pkcs11/session.h"

/* C_GenerateKeyPair with every attribute of the private part named; the public part is a session
 * object, read and destroyed. key->id says which. SSO_TOKEN_NOT_SUITABLE: no ECDSA on P-256 here;
 * SSO_KEY_NOT_ACCEPTABLE: the key could leave the token, and is gone again. */
enum sso_code audit_signing_make(struct session *session,
                                 const uint8_t system_id[static SYSTEM_ID_BYTES],
                                 struct audit_key *key, struct sso_error *err)
    __attribute__((warn_unused_result));

/* SSO_NOT_FOUND: this token has no such key. */
enum sso_code audit_signing_sign(struct session *session,
                                 const uint8_t id[static AUDIT_KEY_ID_BYTES],
                                 const uint8_t digest[static AUDIT_DIGEST_BYTES],
                                 uint8_t signature[static AUDIT_SIGNATURE_BYTES],
                                 struct sso_error *err) __attribute__((warn_unused_result));

/* Makes a pair of session objects, signs and forgets them: can this token sign an audit? */
enum sso_code audit_signing_try(struct session *session, struct sso_error *err)
    __attribute__((warn_unused_result));

/* For a key that no database will know. SSO_NOT_FOUND. */
enum sso_code audit_signing_destroy(struct session *session,
                                    const uint8_t id[static AUDIT_KEY_ID_BYTES],
                                    struct sso_error *err) __attribute__((warn_unused_result));

#endif
