#include "pkcs11/wrapping_key.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <string.h>

#include "pkcs11/ckr.h"

#define RSA_BITS 3072
#define RSA_BYTES (RSA_BITS / 8)
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
static CK_OBJECT_CLASS class_secret = CKO_SECRET_KEY;
static CK_KEY_TYPE type_aes = CKK_AES;

/* Every usage is named: tokens default one that is not to true. */
#define WRAPPING_TEMPLATE                                                                          \
    {CKA_CLASS, &class_secret, sizeof class_secret}, {CKA_KEY_TYPE, &type_aes, sizeof type_aes},   \
        {CKA_TOKEN, &no, sizeof no}, {CKA_PRIVATE, &yes, sizeof yes},                              \
        {CKA_SENSITIVE, &yes, sizeof yes}, {CKA_EXTRACTABLE, &no, sizeof no},                      \
        {CKA_WRAP, &yes, sizeof yes}, {CKA_UNWRAP, &yes, sizeof yes},                              \
        {CKA_ENCRYPT, &no, sizeof no}, {CKA_DECRYPT, &no, sizeof no}, {CKA_SIGN, &no, sizeof no},  \
        {CKA_VERIFY, &no, sizeof no},                                                              \
    {                                                                                              \
        CKA_DERIVE, &no, sizeof no                                                                 \
    }

static struct outcome create(struct session *session, const uint8_t *bytes, CK_OBJECT_HANDLE *out)
{
    CK_ATTRIBUTE template[] = {WRAPPING_TEMPLATE, {CKA_VALUE, (void *)bytes, WRAPPING_KEY_BYTES}};
    return CALL(session->token->module, CreateObject, session->handle, template, COUNT(template),
                out);
}

/* --- by an RSA pair of the session --- */

struct pair {
    CK_OBJECT_HANDLE public, private;
};

static struct outcome make_pair(struct session *session, struct pair *out)
{
    CK_ULONG bits = RSA_BITS;
    CK_BYTE exponent[] = {1, 0, 1};
    CK_ATTRIBUTE public[] = {
        {CKA_TOKEN, &no, sizeof no},
        {CKA_PRIVATE, &no, sizeof no},
        {CKA_MODULUS_BITS, &bits, sizeof bits},
        {CKA_PUBLIC_EXPONENT, exponent, sizeof exponent},
        {CKA_ENCRYPT, &no, sizeof no},
        {CKA_WRAP, &yes, sizeof yes},
        {CKA_VERIFY, &no, sizeof no},
    };
    CK_ATTRIBUTE private[] = {
        {CKA_TOKEN, &no, sizeof no},       {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes}, {CKA_EXTRACTABLE, &no, sizeof no},
        {CKA_UNWRAP, &yes, sizeof yes},    {CKA_DECRYPT, &no, sizeof no},
        {CKA_SIGN, &no, sizeof no},
    };
    CK_MECHANISM mechanism = {.mechanism = CKM_RSA_PKCS_KEY_PAIR_GEN};
    return CALL(session->token->module, GenerateKeyPair, session->handle, &mechanism, public,
                COUNT(public), private, COUNT(private), &out->public, &out->private);
}

static struct outcome read_public(struct session *session, CK_OBJECT_HANDLE key, EVP_PKEY **out)
{
    uint8_t modulus[RSA_BYTES], exponent[8];
    CK_ATTRIBUTE wanted[] = {{CKA_MODULUS, modulus, sizeof modulus},
                             {CKA_PUBLIC_EXPONENT, exponent, sizeof exponent}};
    struct outcome call = CALL(session->token->module, GetAttributeValue, session->handle, key,
                               wanted, COUNT(wanted));
    if (call.rv != CKR_OK)
        return call;
    BIGNUM *n = BN_bin2bn(modulus, (int)wanted[0].ulValueLen, NULL);
    BIGNUM *e = BN_bin2bn(exponent, (int)wanted[1].ulValueLen, NULL);
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    OSSL_PARAM *parameters = NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    if (n == NULL || e == NULL || builder == NULL || context == NULL ||
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) != 1 ||
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e) != 1 ||
        (parameters = OSSL_PARAM_BLD_to_param(builder)) == NULL ||
        EVP_PKEY_fromdata_init(context) != 1 ||
        EVP_PKEY_fromdata(context, out, EVP_PKEY_PUBLIC_KEY, parameters) != 1)
        call.rv = CKR_HOST_MEMORY;
    OSSL_PARAM_free(parameters);
    OSSL_PARAM_BLD_free(builder);
    EVP_PKEY_CTX_free(context);
    BN_free(n);
    BN_free(e);
    return call;
}

/* What both ends must agree on: RSAES-OAEP (RFC 8017 §7.1). SoftHSM 2.6.1 knows SHA-1 only, which
 * does no harm here: OAEP asks no resistance to collisions. */
struct oaep {
    const char *digest;
    CK_RSA_PKCS_OAEP_PARAMS parameters;
};
static const struct oaep oaep_kinds[] = {
    {"SHA256", {CKM_SHA256, CKG_MGF1_SHA256, CKZ_DATA_SPECIFIED, NULL, 0}},
    {"SHA1", {CKM_SHA_1, CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED, NULL, 0}},
};

static bool encrypt(EVP_PKEY *key, const struct oaep *oaep, const uint8_t *bytes,
                    uint8_t out[static RSA_BYTES], size_t *out_bytes)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    *out_bytes = RSA_BYTES;
    bool done = context != NULL && EVP_PKEY_encrypt_init(context) == 1 &&
                EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) == 1 &&
                EVP_PKEY_CTX_set_rsa_oaep_md_name(context, oaep->digest, NULL) == 1 &&
                EVP_PKEY_CTX_set_rsa_mgf1_md_name(context, oaep->digest, NULL) == 1 &&
                EVP_PKEY_encrypt(context, out, out_bytes, bytes, WRAPPING_KEY_BYTES) == 1;
    EVP_PKEY_CTX_free(context);
    return done;
}

static struct outcome unwrap(struct session *session, CK_OBJECT_HANDLE private, EVP_PKEY *public,
                             const uint8_t *bytes, CK_OBJECT_HANDLE *out)
{
    CK_ATTRIBUTE template[] = {WRAPPING_TEMPLATE};
    struct outcome call = {FN_UnwrapKey, CKR_HOST_MEMORY};
    for (size_t i = 0; i < COUNT(oaep_kinds); i++) {
        uint8_t encrypted[RSA_BYTES];
        size_t length;
        CK_RSA_PKCS_OAEP_PARAMS parameters = oaep_kinds[i].parameters;
        CK_MECHANISM mechanism = {CKM_RSA_PKCS_OAEP, &parameters, sizeof parameters};
        if (!encrypt(public, &oaep_kinds[i], bytes, encrypted, &length))
            continue;
        call = CALL(session->token->module, UnwrapKey, session->handle, &mechanism, private,
                    encrypted, length, template, COUNT(template), out);
        if (call.rv == CKR_OK)
            break;
    }
    return call;
}

static struct outcome transport(struct session *session, const uint8_t *bytes,
                                CK_OBJECT_HANDLE *out)
{
    struct module *module = session->token->module;
    struct pair pair;
    EVP_PKEY *public = NULL;
    struct outcome call = make_pair(session, &pair);
    if (call.rv != CKR_OK)
        return call;
    call = read_public(session, pair.public, &public);
    if (call.rv == CKR_OK)
        call = unwrap(session, pair.private, public, bytes, out);
    EVP_PKEY_free(public);
    (void)CALL(module, DestroyObject, session->handle, pair.public);
    (void)CALL(module, DestroyObject, session->handle, pair.private);
    return call;
}

enum sso_code wrapping_key_enter(struct session *session,
                                 const uint8_t bytes[static WRAPPING_KEY_BYTES],
                                 CK_OBJECT_HANDLE *out, struct sso_error *err)
{
    const char *name = session->token->identity.token;
    if (!token_has(session->token, CKM_AES_KEY_WRAP, CKF_WRAP | CKF_UNWRAP))
        return sso_fail(err, SSO_TOKEN_NOT_SUITABLE,
                        "token \"%s\" has no CKM_AES_KEY_WRAP, so its keys can have no backup: use "
                        "another token, or --no-backup",
                        name);
    struct outcome call = create(session, bytes, out);
    if (call.rv == CKR_OK)
        return SSO_OK;
    enum ckr_class class = ckr_class(call);
    if (class == CKR_CLASS_TOKEN_GONE || class == CKR_CLASS_WORKER || class == CKR_CLASS_SESSION ||
        class == CKR_CLASS_RETRY)
        return ckr_fail(err, call, "entering the wrapping key of the backup");
    char refused[CKR_NAME_SIZE];
    ckr_name(call.rv, refused);
    call = transport(session, bytes, out);
    if (call.rv == CKR_OK)
        return SSO_OK;
    char second[CKR_NAME_SIZE];
    class = ckr_class(call);
    if (class == CKR_CLASS_TOKEN_GONE || class == CKR_CLASS_WORKER || class == CKR_CLASS_SESSION)
        return ckr_fail(err, call, "entering the wrapping key of the backup");
    return sso_fail(
        err, SSO_TOKEN_NOT_SUITABLE,
        "token \"%s\" takes no wrapping key: C_CreateObject says %s, and by an RSA pair "
        "%s says %s; its keys can have no backup",
        name, refused, module_function_name(call.function), ckr_name(call.rv, second));
}
