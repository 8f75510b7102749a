/*
 * How row keys pass between the token and this worker where the token neither takes nor gives a key
 * in the clear (DESIGN §3.2; tokens in FIPS mode and others): under an AES-256 key that the token
 * made for this session and gave to the worker once, by RSA-OAEP under an RSA-3072 key of the
 * worker's. The AES key is a session object there, and lies in locked memory here.
 */
#ifndef SSO_PKCS11_TRANSPORT_H
#define SSO_PKCS11_TRANSPORT_H

#include <openssl/types.h>
#include <stdint.h>

#include "pkcs11/module.h"

#define KEY_WRAPPED_BYTES 40 /* RFC 3394 of ROW_KEY_BYTES */

struct session;

/* A session's transport key. All zero: none yet. */
struct transport {
    CK_OBJECT_HANDLE key;
    uint8_t *value; /* 32 bytes of locked memory; NULL: none yet */
    EVP_CIPHER_CTX *cipher;
};

/* Makes the transport key where the session has none. */
struct outcome transport_ready(struct session *session);
/* With the session the key is gone from the token; what is here is wiped. Safe twice. */
void transport_forget(struct transport *transport);

/* The transport key must be ready. `object` is an extractable key of 32 bytes in the token. */
struct outcome transport_out(struct session *session, CK_OBJECT_HANDLE object, uint8_t *row_key);
/* `wrapped` is then what C_UnwrapKey takes with session->transport.key. */
struct outcome transport_seal(struct session *session, const uint8_t *row_key,
                              uint8_t wrapped[static KEY_WRAPPED_BYTES]);

#endif
