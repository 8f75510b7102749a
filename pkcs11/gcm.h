/*
 * CKM_AES_GCM (SP 800-38D) over one row key, by the way that this token wants (ways.h). Whatever
 * that is, a wrapped row key is IV ‖ ciphertext (32) ‖ tag (16), the IV 12 or 16 bytes long.
 */
#ifndef SSO_PKCS11_GCM_H
#define SSO_PKCS11_GCM_H

#include "pkcs11/session.h"
#include "pkcs11/ways.h"

/* The token's way, found out by trying where that was not done yet. */
struct outcome gcm_way(struct session *session, struct gcm_way *out);
const char *gcm_iv_name(enum gcm_iv iv); /* "caller", "parameter", "front", "appended" */

struct outcome gcm_seal(struct session *session, const struct gcm_way *way, CK_OBJECT_HANDLE key,
                        const uint8_t binding[static BINDING_BYTES], const uint8_t *row_key,
                        struct wrapped_key *out);
struct outcome gcm_open(struct session *session, const struct gcm_way *way, CK_OBJECT_HANDLE key,
                        const uint8_t binding[static BINDING_BYTES], const struct wrapped_key *in,
                        uint8_t *row_key);

#endif
