/* The wrapping key of a backup (DESIGN §8), on its way from the host into the token. */
#ifndef SSO_PKCS11_WRAPPING_KEY_H
#define SSO_PKCS11_WRAPPING_KEY_H

#include "pkcs11/session.h"

/* Enters it as a session object that may wrap and unwrap, sensitive and not extractable: by
 * C_CreateObject, or where the token refuses a key in the clear encrypted to an RSA pair that the
 * token makes for it and forgets, by C_UnwrapKey. The caller destroys *out.
 * SSO_TOKEN_NOT_SUITABLE: the token takes it in neither way, or has no CKM_AES_KEY_WRAP. */
enum sso_code wrapping_key_enter(struct session *session,
                                 const uint8_t bytes[static WRAPPING_KEY_BYTES],
                                 CK_OBJECT_HANDLE *out, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
