#include "pkcs11/release.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <string.h>

#include "pkcs11/ckr.h"
#include "pkcs11/key.h"

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
static CK_OBJECT_CLASS class_secret = CKO_SECRET_KEY;
static CK_KEY_TYPE type_aes = CKK_AES;
static CK_ULONG row_key_bytes = ROW_KEY_BYTES;

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

static CK_MECHANISM key_wrap(void)
{
    return (CK_MECHANISM){.mechanism = CKM_AES_KEY_WRAP};
}

static struct outcome own(struct outcome call)
{
    call.own = true;
    return call;
}

static struct outcome unwrap(struct session *session, CK_OBJECT_HANDLE key, const uint8_t *in,
                             size_t in_bytes, CK_BBOOL *sensitive, CK_OBJECT_HANDLE *out)
{
    CK_ATTRIBUTE template[] = {ROW_KEY_TEMPLATE(sensitive),
                               {CKA_VALUE_LEN, &row_key_bytes, sizeof row_key_bytes}};
    CK_MECHANISM kw = key_wrap();
    bool names_length =
        atomic_load_explicit(&session->token->ways.unwrap_names_length, memory_order_relaxed);
    return CALL(session->token->module, UnwrapKey, session->handle, &kw, key, (CK_BYTE_PTR)in,
                in_bytes, template, COUNT(template) - !names_length, out);
}

struct outcome release_wrap(struct session *session, CK_OBJECT_HANDLE key, CK_OBJECT_HANDLE object,
                            struct wrapped_key *out)
{
    struct module *module = session->token->module;
    CK_MECHANISM kw = key_wrap();
    CK_ULONG length = sizeof out->bytes;
    struct outcome wrap =
        CALL(module, WrapKey, session->handle, &kw, key, object, out->bytes, &length);
    struct outcome destroy = CALL(module, DestroyObject, session->handle, object);
    if (wrap.rv != CKR_OK)
        return wrap;
    if (length != KEY_WRAPPED_BYTES)
        return (struct outcome){FN_WrapKey, CKR_KEY_SIZE_RANGE};
    out->length_bytes = KEY_WRAPPED_BYTES;
    return destroy;
}

static struct outcome admit(struct session *session, enum release_way way, const uint8_t *row_key,
                            CK_OBJECT_HANDLE *out)
{
    CK_ATTRIBUTE template[] = {ROW_KEY_TEMPLATE(&yes), {CKA_VALUE, (void *)row_key, ROW_KEY_BYTES}};
    if (way == RELEASE_READ)
        return CALL(session->token->module, CreateObject, session->handle, template,
                    COUNT(template), out);
    uint8_t wrapped[KEY_WRAPPED_BYTES];
    struct outcome call = transport_ready(session);
    if (call.rv == CKR_OK)
        call = transport_seal(session, row_key, wrapped);
    if (call.rv == CKR_OK)
        call = unwrap(session, session->transport.key, wrapped, sizeof wrapped, &yes, out);
    return own(call);
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

static struct outcome open_by(struct session *session, enum release_way way, CK_OBJECT_HANDLE key,
                              const struct wrapped_key *in, uint8_t *row_key)
{
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    bool read = way == RELEASE_READ;
    struct outcome made =
        unwrap(session, key, in->bytes, in->length_bytes, read ? &no : &yes, &object);
    if (made.rv != CKR_OK)
        return made;
    struct outcome release =
        read ? read_value(session, object, row_key) : transport_out(session, object, row_key);
    struct outcome destroy = CALL(session->token->module, DestroyObject, session->handle, object);
    return release.rv != CKR_OK ? release : destroy;
}

/* There and back with a row key of our own, in memory of our own: session->row_key may hold the
 * row key for whose sake the way is asked for. */
static struct outcome try_with(struct session *session, enum release_way way, CK_OBJECT_HANDLE key)
{
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    struct wrapped_key wrapped = {0};
    uint8_t *row_key = secret_alloc((size_t)2 * ROW_KEY_BYTES);
    if (row_key == NULL || RAND_priv_bytes(row_key, ROW_KEY_BYTES) != 1) {
        secret_dealloc(row_key);
        return (struct outcome){FN_CreateObject, CKR_HOST_MEMORY};
    }
    uint8_t *opened = row_key + ROW_KEY_BYTES;
    struct outcome call = admit(session, way, row_key, &object);
    if (call.rv == CKR_OK)
        call = release_wrap(session, key, object, &wrapped);
    if (call.rv == CKR_OK)
        call = open_by(session, way, key, &wrapped, opened);
    if (call.rv == CKR_OK && CRYPTO_memcmp(row_key, opened, ROW_KEY_BYTES) != 0)
        call.rv = CKR_ATTRIBUTE_VALUE_INVALID;
    secret_dealloc(row_key);
    return call;
}

/* With both kinds of template for C_UnwrapKey, unless it is known already which is right. */
static struct outcome try_templates(struct session *session, enum release_way way,
                                    CK_OBJECT_HANDLE key)
{
    struct ways *ways = &session->token->ways;
    struct outcome first = try_with(session, way, key);
    if (!ckr_is_refusal(first) || first.function != FN_UnwrapKey ||
        atomic_load(&ways->release) != RELEASE_UNKNOWN)
        return first;
    atomic_store(&ways->unwrap_names_length, true);
    struct outcome second = try_with(session, way, key);
    if (second.rv != CKR_OK)
        atomic_store(&ways->unwrap_names_length, false);
    return second.rv == CKR_OK ? second : first;
}

static struct outcome try_session_key(struct session *session, enum release_way way)
{
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    struct outcome call = key_generate_session(session, CKA_WRAP, &key);
    if (call.rv != CKR_OK)
        return own(call);
    call = try_templates(session, way, key);
    struct outcome destroy = CALL(session->token->module, DestroyObject, session->handle, key);
    return own(call.rv != CKR_OK ? call : destroy);
}

static struct outcome find_way(struct session *session, enum release_way *out)
{
    struct outcome read = try_session_key(session, RELEASE_READ);
    *out = RELEASE_READ;
    if (!ckr_is_refusal(read))
        return read;
    struct outcome transport = try_session_key(session, RELEASE_TRANSPORT);
    *out = RELEASE_TRANSPORT;
    return transport;
}

static struct outcome choose(struct session *session, enum release_way *out)
{
    struct ways *ways = &session->token->ways;
    struct outcome call = {FN_UnwrapKey, CKR_OK, .own = true};
    *out = (enum release_way)atomic_load_explicit(&ways->release, memory_order_acquire);
    if (*out != RELEASE_UNKNOWN)
        return call;
    pthread_mutex_lock(&ways->mutex);
    *out = (enum release_way)atomic_load(&ways->release);
    if (*out == RELEASE_UNKNOWN)
        call = find_way(session, out);
    if (call.rv == CKR_OK)
        atomic_store_explicit(&ways->release, *out, memory_order_release);
    pthread_mutex_unlock(&ways->mutex);
    return call;
}

struct outcome release_unwrap(struct session *session, CK_OBJECT_HANDLE key,
                              const struct wrapped_key *in, CK_OBJECT_HANDLE *out)
{
    enum release_way way;
    struct outcome call = choose(session, &way);
    return call.rv != CKR_OK ? call : unwrap(session, key, in->bytes, in->length_bytes, &yes, out);
}

struct outcome release_admit(struct session *session, const uint8_t *row_key, CK_OBJECT_HANDLE *out)
{
    enum release_way way;
    struct outcome call = choose(session, &way);
    return call.rv != CKR_OK ? call : admit(session, way, row_key, out);
}

struct outcome release_open(struct session *session, CK_OBJECT_HANDLE key,
                            const struct wrapped_key *in, uint8_t *row_key)
{
    enum release_way way;
    struct outcome call = choose(session, &way);
    if (call.rv == CKR_OK && way == RELEASE_TRANSPORT)
        call = own(transport_ready(session));
    return call.rv != CKR_OK ? call : open_by(session, way, key, in, row_key);
}

struct outcome release_try(struct session *session, enum release_way way)
{
    return try_session_key(session, way);
}
