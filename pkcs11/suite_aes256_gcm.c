/*
 * aes256-gcm: CKM_AES_GCM through C_Encrypt and C_Decrypt, the row binding as additional data. The
 * IV is random, the worker's or the token's (SP 800-38D §8.2.2): the caller counts wraps and stops
 * at 2^32 for one key.
 */
#include <openssl/rand.h>

#include "pkcs11/gcm.h"
#include "pkcs11/suite.h"

static struct outcome wrap(struct session *session, CK_OBJECT_HANDLE key,
                           const uint8_t binding[static BINDING_BYTES], const uint8_t *row_key,
                           struct wrapped_key *out)
{
    struct gcm_way way;
    struct outcome call = gcm_way(session, &way);
    return call.rv != CKR_OK ? call : gcm_seal(session, &way, key, binding, row_key, out);
}

static struct outcome make(struct session *session, CK_OBJECT_HANDLE key,
                           const uint8_t binding[static BINDING_BYTES], uint8_t *row_key,
                           struct wrapped_key *out)
{
    if (RAND_priv_bytes(row_key, ROW_KEY_BYTES) != 1)
        return (struct outcome){FN_GenerateKey, CKR_HOST_MEMORY};
    return wrap(session, key, binding, row_key, out);
}

static struct outcome unwrap(struct session *session, CK_OBJECT_HANDLE key,
                             const uint8_t binding[static BINDING_BYTES],
                             const struct wrapped_key *in, uint8_t *row_key)
{
    struct gcm_way way;
    struct outcome call = gcm_way(session, &way);
    return call.rv != CKR_OK ? call : gcm_open(session, &way, key, binding, in, row_key);
}

const struct suite suite_aes256_gcm = {
    .id = SUITE_AES256_GCM,
    .mechanism = CKM_AES_GCM,
    .mechanism_flags = CKF_ENCRYPT | CKF_DECRYPT,
    .wraps = false,
    .make = make,
    .wrap = wrap,
    .unwrap = unwrap,
};
