/* CKM_AES_GCM of tokens that make the IV themselves. */
#include <string.h>

#include "faulty.h"

/* What an Init leaves for the call after it, by session: sessions of a thread take turns. */
static __thread struct {
    CK_SESSION_HANDLE session;
    CK_BYTE iv[GCM_IV_BYTES_MAX];
    size_t iv_bytes; /* that belong to the ciphertext; 0: none */
    bool front, is_set_up;
    CK_OBJECT_HANDLE key;
    CK_BYTE aad[64];
    CK_ULONG aad_bytes;
} operation;

static size_t iv_bytes_of(enum gcm_iv mode)
{
    return mode == GCM_IV_APPENDED ? 16 : 12;
}

static bool is_outside(enum gcm_iv mode)
{
    return mode == GCM_IV_PARAM || mode == GCM_IV_ZEROS;
}

/* What tokens say to an IV that they do not want. */
static CK_RV refuse_given(enum gcm_iv mode, const CK_GCM_PARAMS *params)
{
    static const CK_BYTE zeros[GCM_IV_BYTES_MAX];
    if (mode == GCM_IV_ZEROS &&
        (params->ulIvLen != 12 || memcmp(params->pIv, zeros, params->ulIvLen) != 0))
        return CKR_ARGUMENTS_BAD;
    if ((mode == GCM_IV_WITHIN || mode == GCM_IV_APPENDED) && params->pIv != NULL)
        return CKR_MECHANISM_PARAM_INVALID;
    return CKR_OK;
}

CK_RV gcm_encrypt_init(enum gcm_iv mode, CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session,
                       const CK_GCM_PARAMS *given, CK_OBJECT_HANDLE key)
{
    CK_GCM_PARAMS params = *given;
    size_t iv_bytes = iv_bytes_of(mode);
    CK_RV rv = refuse_given(mode, given);
    if (rv == CKR_OK)
        rv = real->C_GenerateRandom(session, operation.iv, iv_bytes);
    if (rv != CKR_OK)
        return rv;
    if (is_outside(mode) && params.ulIvLen == iv_bytes)
        memcpy(params.pIv, operation.iv, iv_bytes);
    operation.session = session;
    operation.iv_bytes = is_outside(mode) ? 0 : iv_bytes;
    operation.front = mode != GCM_IV_APPENDED;
    params.pIv = operation.iv;
    params.ulIvLen = iv_bytes;
    params.ulIvBits = iv_bytes * 8;
    CK_MECHANISM own = {CKM_AES_GCM, &params, sizeof params};
    return real->C_EncryptInit(session, &own, key);
}

CK_RV gcm_encrypt(CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG size,
                  CK_BYTE *out, CK_ULONG *length)
{
    size_t iv_bytes = operation.session == session ? operation.iv_bytes : 0;
    if (iv_bytes == 0)
        return real->C_Encrypt(session, in, size, out, length);
    if (out != NULL && *length < iv_bytes)
        return CKR_BUFFER_TOO_SMALL;
    CK_ULONG left = out != NULL ? *length - iv_bytes : 0;
    CK_BYTE *body = out != NULL && operation.front ? out + iv_bytes : out;
    CK_RV rv = real->C_Encrypt(session, in, size, body, &left);
    *length = left + iv_bytes;
    if (rv != CKR_OK || out == NULL)
        return rv;
    memcpy(operation.front ? out : out + left, operation.iv, iv_bytes);
    operation.iv_bytes = 0;
    return rv;
}

/* The IV lies in the ciphertext, so the real module waits until that is seen. */
CK_RV gcm_decrypt_init(CK_SESSION_HANDLE session, const CK_GCM_PARAMS *given, CK_OBJECT_HANDLE key)
{
    if (given->pIv != NULL)
        return CKR_MECHANISM_PARAM_INVALID;
    if (given->ulAADLen > sizeof operation.aad)
        return CKR_DATA_LEN_RANGE;
    operation.session = session;
    operation.key = key;
    operation.is_set_up = true;
    operation.aad_bytes = given->ulAADLen;
    memcpy(operation.aad, given->pAAD, given->ulAADLen);
    return CKR_OK;
}

CK_RV gcm_decrypt(CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG size,
                  CK_BYTE *out, CK_ULONG *length)
{
    if (!operation.is_set_up || operation.session != session)
        return real->C_Decrypt(session, in, size, out, length);
    operation.is_set_up = false;
    if (size < 12)
        return CKR_ENCRYPTED_DATA_LEN_RANGE;
    CK_GCM_PARAMS params = {.pIv = in,
                            .ulIvLen = 12,
                            .ulIvBits = 96,
                            .pAAD = operation.aad,
                            .ulAADLen = operation.aad_bytes,
                            .ulTagBits = 128};
    CK_MECHANISM own = {CKM_AES_GCM, &params, sizeof params};
    CK_RV rv = real->C_DecryptInit(session, &own, operation.key);
    return rv != CKR_OK ? rv : real->C_Decrypt(session, in + 12, size - 12, out, length);
}
