/*
 * aes256-gcm: CKM_AES_GCM (SP 800-38D) through C_Encrypt and C_Decrypt, the row binding as
 * additional data. Wrapped: IV (12) ‖ ciphertext (32) ‖ tag (16). The IV is random and the worker's
 * (SP 800-38D §8.2.2): the caller counts wraps and stops at 2^32 for one key.
 */
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <string.h>

#include "pkcs11/suite.h"

#define IV_BYTES 12
#define GCM_TAG_BYTES 16
#define SEALED_BYTES (ROW_KEY_BYTES + GCM_TAG_BYTES)
#define WRAPPED_BYTES (IV_BYTES + SEALED_BYTES)

static CK_GCM_PARAMS gcm_params(const uint8_t *iv, const uint8_t *binding)
{
    return (CK_GCM_PARAMS){.pIv = (CK_BYTE_PTR)iv,
                           .ulIvLen = IV_BYTES,
                           .ulIvBits = IV_BYTES * 8,
                           .pAAD = (CK_BYTE_PTR)binding,
                           .ulAADLen = BINDING_BYTES,
                           .ulTagBits = GCM_TAG_BYTES * 8};
}

/* Every byte of the store is used once. */
static bool next_iv(struct session *session, uint8_t iv[static IV_BYTES])
{
    if (session->random_left_bytes < IV_BYTES) {
        if (RAND_bytes(session->random, sizeof session->random) != 1)
            return false;
        session->random_left_bytes = sizeof session->random;
    }
    session->random_left_bytes -= IV_BYTES;
    memcpy(iv, session->random + session->random_left_bytes, IV_BYTES);
    return true;
}

static struct outcome wrap(struct session *session, CK_OBJECT_HANDLE key,
                           const uint8_t binding[static BINDING_BYTES], const uint8_t *row_key,
                           struct wrapped_key *out)
{
    uint8_t iv[IV_BYTES];
    if (!next_iv(session, iv))
        return (struct outcome){FN_EncryptInit, CKR_HOST_MEMORY};
    memcpy(out->bytes, iv, IV_BYTES);
    CK_GCM_PARAMS params = gcm_params(iv, binding);
    CK_MECHANISM gcm = {CKM_AES_GCM, &params, sizeof params};
    struct module *module = session->token->module;
    struct outcome call = CALL(module, EncryptInit, session->handle, &gcm, key);
    if (call.rv != CKR_OK)
        return call;
    CK_ULONG length = SEALED_BYTES;
    call = CALL(module, Encrypt, session->handle, (CK_BYTE_PTR)row_key, ROW_KEY_BYTES,
                out->bytes + IV_BYTES, &length);
    if (call.rv != CKR_OK)
        return call;
    /* A FIPS token may have put an IV of its own into the parameter, or in front of what it
     * returns: such a token must not be used with this suite unnoticed. */
    if (length != SEALED_BYTES || memcmp(out->bytes, iv, IV_BYTES) != 0)
        return (struct outcome){FN_Encrypt, CKR_MECHANISM_PARAM_INVALID};
    out->length_bytes = WRAPPED_BYTES;
    return call;
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
    CK_GCM_PARAMS params = gcm_params(in->bytes, binding);
    CK_MECHANISM gcm = {CKM_AES_GCM, &params, sizeof params};
    struct module *module = session->token->module;
    struct outcome call = CALL(module, DecryptInit, session->handle, &gcm, key);
    if (call.rv != CKR_OK)
        return call;
    /* SoftHSM wants room for the tag too, and says CKR_BUFFER_TOO_SMALL otherwise. */
    CK_ULONG length = SESSION_SCRATCH_BYTES;
    call = CALL(module, Decrypt, session->handle, (CK_BYTE_PTR)in->bytes + IV_BYTES, SEALED_BYTES,
                session->scratch, &length);
    if (call.rv == CKR_OK && length != ROW_KEY_BYTES)
        call.rv = CKR_ENCRYPTED_DATA_LEN_RANGE;
    if (call.rv == CKR_OK)
        memcpy(row_key, session->scratch, ROW_KEY_BYTES);
    OPENSSL_cleanse(session->scratch, SESSION_SCRATCH_BYTES);
    return call;
}

const struct suite suite_aes256_gcm = {
    .id = SUITE_AES256_GCM,
    .wrapped_bytes = WRAPPED_BYTES,
    .mechanism = CKM_AES_GCM,
    .mechanism_flags = CKF_ENCRYPT | CKF_DECRYPT,
    .wraps = false,
    .make = make,
    .wrap = wrap,
    .unwrap = unwrap,
};
