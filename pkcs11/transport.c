#include "pkcs11/transport.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <string.h>

#include "pkcs11/key.h"
#include "pkcs11/session.h"

#define RSA_BITS 3072
#define RSA_BYTES (RSA_BITS / 8)
#define KEY_BYTES 32
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
static CK_OBJECT_CLASS class_public = CKO_PUBLIC_KEY;
static CK_KEY_TYPE type_rsa = CKK_RSA;

/* In the order of our preference. SoftHSM 2.6.1 has OAEP with SHA-1 only, which is no weakness
 * there: nothing is asked of the hash but to be a good mask. */
static const struct oaep {
    CK_MECHANISM_TYPE hash;
    CK_RSA_PKCS_MGF_TYPE mgf;
    const char *name;
} oaeps[] = {{CKM_SHA256, CKG_MGF1_SHA256, "SHA256"}, {CKM_SHA_1, CKG_MGF1_SHA1, "SHA1"}};

static struct outcome host_fault(enum module_function function)
{
    return (struct outcome){function, CKR_HOST_MEMORY};
}

/* One for the life of the worker: making it takes a tenth of a second or more. */
static EVP_PKEY *host_pair(struct token *token)
{
    pthread_mutex_lock(&token->ways.pair_mutex);
    if (token->ways.pair == NULL)
        token->ways.pair = EVP_RSA_gen(RSA_BITS);
    EVP_PKEY *pair = token->ways.pair;
    pthread_mutex_unlock(&token->ways.pair_mutex);
    return pair;
}

/* A big number of the pair as big-endian bytes; how many, 0 where that fails. */
static CK_ULONG number_of(const EVP_PKEY *pair, const char *name, uint8_t out[static RSA_BYTES])
{
    BIGNUM *number = NULL;
    int bytes = EVP_PKEY_get_bn_param(pair, name, &number) == 1 ? BN_bn2bin(number, out) : 0;
    BN_free(number);
    return bytes > 0 ? (CK_ULONG)bytes : 0;
}

static struct outcome put_public_key(struct session *session, const EVP_PKEY *pair,
                                     CK_OBJECT_HANDLE *out)
{
    uint8_t modulus[RSA_BYTES], exponent[RSA_BYTES];
    CK_ULONG modulus_bytes = number_of(pair, OSSL_PKEY_PARAM_RSA_N, modulus);
    CK_ULONG exponent_bytes = number_of(pair, OSSL_PKEY_PARAM_RSA_E, exponent);
    if (modulus_bytes == 0 || exponent_bytes == 0)
        return host_fault(FN_CreateObject);
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class_public, sizeof class_public},
        {CKA_KEY_TYPE, &type_rsa, sizeof type_rsa},
        {CKA_TOKEN, &no, sizeof no},
        {CKA_PRIVATE, &no, sizeof no},
        {CKA_WRAP, &yes, sizeof yes},
        {CKA_ENCRYPT, &no, sizeof no},
        {CKA_VERIFY, &no, sizeof no},
        {CKA_MODULUS, modulus, modulus_bytes},
        {CKA_PUBLIC_EXPONENT, exponent, exponent_bytes},
    };
    return CALL(session->token->module, CreateObject, session->handle, template, COUNT(template),
                out);
}

/* Opens what the token wrapped with `oaep`, into `value`. */
static bool open_oaep(EVP_PKEY *pair, const struct oaep *oaep, const uint8_t *wrapped,
                      size_t wrapped_bytes, uint8_t value[static KEY_BYTES])
{
    /* OpenSSL wants room for a whole modulus. */
    size_t length = RSA_BYTES;
    uint8_t *opened = secret_alloc(RSA_BYTES);
    const EVP_MD *md = EVP_get_digestbyname(oaep->name);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pair, NULL);
    bool held =
        opened != NULL && ctx != NULL && EVP_PKEY_decrypt_init(ctx) == 1 &&
        EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) == 1 &&
        EVP_PKEY_CTX_set_rsa_oaep_md(ctx, md) == 1 && EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, md) == 1 &&
        EVP_PKEY_decrypt(ctx, opened, &length, wrapped, wrapped_bytes) == 1 && length == KEY_BYTES;
    if (held)
        memcpy(value, opened, KEY_BYTES);
    EVP_PKEY_CTX_free(ctx);
    secret_dealloc(opened);
    return held;
}

/* By the first kind of OAEP that works, which is what the session's value is then. */
static struct outcome give_to_host(struct session *session, EVP_PKEY *pair, CK_OBJECT_HANDLE with)
{
    struct transport *transport = &session->transport;
    struct outcome call = host_fault(FN_WrapKey);
    for (size_t i = 0; i < COUNT(oaeps); i++) {
        uint8_t wrapped[RSA_BYTES];
        CK_ULONG length = sizeof wrapped;
        CK_RSA_PKCS_OAEP_PARAMS params = {
            .hashAlg = oaeps[i].hash, .mgf = oaeps[i].mgf, .source = CKZ_DATA_SPECIFIED};
        CK_MECHANISM mechanism = {CKM_RSA_PKCS_OAEP, &params, sizeof params};
        call = CALL(session->token->module, WrapKey, session->handle, &mechanism, with,
                    transport->key, wrapped, &length);
        if (call.rv != CKR_OK)
            continue;
        if (open_oaep(pair, &oaeps[i], wrapped, length, transport->value))
            return call;
        /* The token did something else than it was asked to. */
        call.rv = CKR_MECHANISM_PARAM_INVALID;
    }
    return call;
}

static struct outcome make(struct session *session)
{
    struct transport *transport = &session->transport;
    CK_OBJECT_HANDLE public = CK_INVALID_HANDLE;
    EVP_PKEY *pair = host_pair(session->token);
    transport->value = secret_alloc(KEY_BYTES);
    transport->cipher = EVP_CIPHER_CTX_new();
    if (pair == NULL || transport->value == NULL || transport->cipher == NULL)
        return host_fault(FN_GenerateKey);
    EVP_CIPHER_CTX_set_flags(transport->cipher, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    struct outcome call = key_generate_session(session, CKA_WRAP, &transport->key);
    if (call.rv != CKR_OK)
        return call;
    call = put_public_key(session, pair, &public);
    if (call.rv == CKR_OK) {
        call = give_to_host(session, pair, public);
        struct outcome end = CALL(session->token->module, DestroyObject, session->handle, public);
        if (call.rv == CKR_OK)
            call = end;
    }
    if (call.rv != CKR_OK)
        (void)CALL(session->token->module, DestroyObject, session->handle, transport->key);
    return call;
}

struct outcome transport_ready(struct session *session)
{
    if (session->transport.value != NULL)
        return (struct outcome){FN_WrapKey, CKR_OK};
    struct outcome call = make(session);
    if (call.rv != CKR_OK)
        transport_forget(&session->transport);
    return call;
}

void transport_forget(struct transport *transport)
{
    EVP_CIPHER_CTX_free(transport->cipher);
    secret_dealloc(transport->value);
    *transport = (struct transport){0};
}

/* RFC 3394 with the session's transport key. Returns how many bytes were written, 0: it failed. */
static int key_wrap(struct transport *transport, int direction, const uint8_t *in, int in_bytes,
                    uint8_t *out)
{
    int written = 0;
    if (EVP_CipherInit_ex(transport->cipher, EVP_aes_256_wrap(), NULL, transport->value, NULL,
                          direction) != 1 ||
        EVP_CipherUpdate(transport->cipher, out, &written, in, in_bytes) != 1)
        return 0;
    return written;
}

struct outcome transport_out(struct session *session, CK_OBJECT_HANDLE object, uint8_t *row_key)
{
    uint8_t wrapped[KEY_WRAPPED_BYTES];
    CK_ULONG length = sizeof wrapped;
    CK_MECHANISM kw = {.mechanism = CKM_AES_KEY_WRAP};
    struct outcome call = CALL(session->token->module, WrapKey, session->handle, &kw,
                               session->transport.key, object, wrapped, &length);
    if (call.rv != CKR_OK)
        return call;
    /* Unwrapping needs room for a block more than comes out. */
    if (length != sizeof wrapped || key_wrap(&session->transport, 0, wrapped, sizeof wrapped,
                                             session->scratch) != ROW_KEY_BYTES)
        call.rv = CKR_WRAPPED_KEY_LEN_RANGE;
    else
        memcpy(row_key, session->scratch, ROW_KEY_BYTES);
    OPENSSL_cleanse(session->scratch, SESSION_SCRATCH_BYTES);
    return call;
}

struct outcome transport_seal(struct session *session, const uint8_t *row_key,
                              uint8_t wrapped[static KEY_WRAPPED_BYTES])
{
    if (key_wrap(&session->transport, 1, row_key, ROW_KEY_BYTES, wrapped) != KEY_WRAPPED_BYTES)
        return host_fault(FN_UnwrapKey);
    return (struct outcome){FN_UnwrapKey, CKR_OK};
}
