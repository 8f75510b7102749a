/* aes256-kw: CKM_AES_KEY_WRAP (RFC 3394; SP 800-38F §6.2). The binding is not used: key wrap takes
 * no additional data, and the row's own seal binds it. */
#include <openssl/rand.h>

#include "pkcs11/suite.h"

#define WRAPPED_BYTES 40

static CK_MECHANISM mechanism(void)
{
    return (CK_MECHANISM){.mechanism = CKM_AES_KEY_WRAP};
}

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
static CK_OBJECT_CLASS class_secret = CKO_SECRET_KEY;
static CK_KEY_TYPE type_aes = CKK_AES;

/* A row key as a session object: it may be wrapped and do nothing else. Tokens default a usage that
 * is not named to true. */
#define ROW_KEY_TEMPLATE(sensitive)                                                                \
    {CKA_CLASS, &class_secret, sizeof class_secret}, {CKA_KEY_TYPE, &type_aes, sizeof type_aes},   \
        {CKA_TOKEN, &no, sizeof no}, {CKA_PRIVATE, &yes, sizeof yes},                              \
        {CKA_SENSITIVE, sensitive, sizeof(CK_BBOOL)}, {CKA_EXTRACTABLE, &yes, sizeof yes},         \
        {CKA_ENCRYPT, &no, sizeof no}, {CKA_DECRYPT, &no, sizeof no}, {CKA_WRAP, &no, sizeof no},  \
        {CKA_UNWRAP, &no, sizeof no}, {CKA_SIGN, &no, sizeof no}, {CKA_VERIFY, &no, sizeof no},    \
    {                                                                                              \
        CKA_DERIVE, &no, sizeof no                                                                 \
    }

#define COUNT(template) (sizeof(template) / sizeof(template)[0])

static struct outcome unwrap_object(struct session *session, CK_OBJECT_HANDLE key,
                                    const struct wrapped_key *in, CK_BBOOL *sensitive,
                                    CK_OBJECT_HANDLE *out)
{
    CK_ATTRIBUTE template[] = {ROW_KEY_TEMPLATE(sensitive)};
    CK_MECHANISM kw = mechanism();
    return CALL(session->token->module, UnwrapKey, session->handle, &kw, key,
                (CK_BYTE_PTR)in->bytes, in->length_bytes, template, COUNT(template), out);
}

/* Wraps and destroys the session object, whatever comes of it. */
static struct outcome wrap_and_destroy(struct session *session, CK_OBJECT_HANDLE key,
                                       CK_OBJECT_HANDLE object, struct wrapped_key *out)
{
    struct module *module = session->token->module;
    CK_MECHANISM kw = mechanism();
    CK_ULONG length = sizeof out->bytes;
    struct outcome wrap =
        CALL(module, WrapKey, session->handle, &kw, key, object, out->bytes, &length);
    struct outcome destroy = CALL(module, DestroyObject, session->handle, object);
    if (wrap.rv != CKR_OK)
        return wrap;
    if (length != WRAPPED_BYTES)
        return (struct outcome){FN_WrapKey, CKR_KEY_SIZE_RANGE};
    out->length_bytes = WRAPPED_BYTES;
    return destroy;
}

static struct outcome read_value(struct session *session, CK_OBJECT_HANDLE object, uint8_t *row_key)
{
    CK_ATTRIBUTE value = {CKA_VALUE, row_key, ROW_KEY_BYTES};
    struct outcome read =
        CALL(session->token->module, GetAttributeValue, session->handle, object, &value, 1);
    if (read.rv == CKR_OK && value.ulValueLen != ROW_KEY_BYTES)
        read.rv = CKR_KEY_SIZE_RANGE;
    return read;
}

static struct outcome wrap(struct session *session, CK_OBJECT_HANDLE key,
                           const uint8_t binding[static BINDING_BYTES], const uint8_t *row_key,
                           struct wrapped_key *out)
{
    (void)binding;
    CK_ATTRIBUTE template[] = {ROW_KEY_TEMPLATE(&yes), {CKA_VALUE, (void *)row_key, ROW_KEY_BYTES}};
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    struct outcome made = CALL(session->token->module, CreateObject, session->handle, template,
                               COUNT(template), &object);
    return made.rv != CKR_OK ? made : wrap_and_destroy(session, key, object, out);
}

/* The host makes the row key and the token wraps it, as for every other row key that passes through
 * the host. A key made by C_GenerateKey has to be read as well, in one call more: on SoftHSM 47 µs
 * against 39 µs. */
static struct outcome make(struct session *session, CK_OBJECT_HANDLE key,
                           const uint8_t binding[static BINDING_BYTES], uint8_t *row_key,
                           struct wrapped_key *out)
{
    if (RAND_priv_bytes(row_key, ROW_KEY_BYTES) != 1)
        return (struct outcome){FN_CreateObject, CKR_HOST_MEMORY};
    return wrap(session, key, binding, row_key, out);
}

static struct outcome unwrap(struct session *session, CK_OBJECT_HANDLE key,
                             const uint8_t binding[static BINDING_BYTES],
                             const struct wrapped_key *in, uint8_t *row_key)
{
    (void)binding;
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    struct outcome made = unwrap_object(session, key, in, &no, &object);
    if (made.rv != CKR_OK)
        return made;
    struct outcome read = read_value(session, object, row_key);
    struct outcome destroy = CALL(session->token->module, DestroyObject, session->handle, object);
    return read.rv != CKR_OK ? read : destroy;
}

static struct outcome rewrap(struct session *session, CK_OBJECT_HANDLE from, CK_OBJECT_HANDLE to,
                             const struct wrapped_key *in, struct wrapped_key *out)
{
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    struct outcome made = unwrap_object(session, from, in, &yes, &object);
    return made.rv != CKR_OK ? made : wrap_and_destroy(session, to, object, out);
}

const struct suite suite_aes256_kw = {
    .id = SUITE_AES256_KW,
    .wrapped_bytes = WRAPPED_BYTES,
    .mechanism = CKM_AES_KEY_WRAP,
    .mechanism_flags = CKF_WRAP | CKF_UNWRAP,
    .wraps = true,
    .make = make,
    .wrap = wrap,
    .unwrap = unwrap,
    .rewrap = rewrap,
};
