#include "pkcs11/gcm.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <string.h>

#include "pkcs11/ckr.h"
#include "pkcs11/key.h"

#define IV_BYTES 12
#define IV_BYTES_MAX 16 /* Luna in FIPS mode */
#define GCM_TAG_BYTES 16
#define SEALED_BYTES (ROW_KEY_BYTES + GCM_TAG_BYTES)

static const uint8_t zeros[IV_BYTES_MAX];

/* A vector as a parameter has it; the token may write into `bytes`. */
struct vector {
    uint8_t bytes[IV_BYTES_MAX];
    size_t length; /* 0: the parameter has none */
};

/* What C_Encrypt gave, before anybody knows what is where in it. */
struct sealed {
    struct vector iv; /* as the parameter has it afterwards */
    uint8_t bytes[SEALED_BYTES + IV_BYTES_MAX];
    CK_ULONG length;
};

static struct outcome no_way(enum module_function function)
{
    return (struct outcome){function, CKR_MECHANISM_PARAM_INVALID};
}

static CK_GCM_PARAMS params_of(struct vector *iv, const uint8_t *binding)
{
    return (CK_GCM_PARAMS){.pIv = iv->length > 0 ? iv->bytes : NULL,
                           .ulIvLen = iv->length,
                           .ulIvBits = iv->length * 8,
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

static struct outcome encrypt(struct session *session, CK_OBJECT_HANDLE key, const uint8_t *binding,
                              const uint8_t *row_key, struct sealed *sealed)
{
    CK_GCM_PARAMS params = params_of(&sealed->iv, binding);
    CK_MECHANISM gcm = {CKM_AES_GCM, &params, sizeof params};
    struct module *module = session->token->module;
    struct outcome call = CALL(module, EncryptInit, session->handle, &gcm, key);
    sealed->length = sizeof sealed->bytes;
    if (call.rv == CKR_OK)
        call = CALL(module, Encrypt, session->handle, (CK_BYTE_PTR)row_key, ROW_KEY_BYTES,
                    sealed->bytes, &sealed->length);
    return call;
}

/* IV ‖ ciphertext ‖ tag. False: the token did something else than it did when its way was found. */
static bool arrange(const struct gcm_way *way, const struct sealed *sealed,
                    const struct vector *given, struct wrapped_key *out)
{
    bool outside = way->iv == GCM_IV_CALLER || way->iv == GCM_IV_PARAMETER;
    const uint8_t *body = sealed->bytes, *iv = sealed->iv.bytes;
    if (sealed->length != SEALED_BYTES + (outside ? 0 : way->iv_bytes))
        return false;
    if (way->iv == GCM_IV_FRONT) {
        iv = sealed->bytes;
        body += way->iv_bytes;
    } else if (way->iv == GCM_IV_APPENDED) {
        iv = sealed->bytes + SEALED_BYTES;
    }
    bool ours = outside && memcmp(sealed->iv.bytes, given->bytes, way->iv_bytes) == 0;
    if (ours != (way->iv == GCM_IV_CALLER) || memcmp(iv, zeros, way->iv_bytes) == 0)
        return false;
    memcpy(out->bytes, iv, way->iv_bytes);
    memcpy(out->bytes + way->iv_bytes, body, SEALED_BYTES);
    out->length_bytes = (uint8_t)(way->iv_bytes + SEALED_BYTES);
    return true;
}

struct outcome gcm_seal(struct session *session, const struct gcm_way *way, CK_OBJECT_HANDLE key,
                        const uint8_t binding[static BINDING_BYTES], const uint8_t *row_key,
                        struct wrapped_key *out)
{
    struct sealed sealed = {.iv.length = way->given_bytes};
    if (way->iv == GCM_IV_CALLER && !next_iv(session, sealed.iv.bytes))
        return (struct outcome){FN_EncryptInit, CKR_HOST_MEMORY};
    const struct vector given = sealed.iv;
    struct outcome call = encrypt(session, key, binding, row_key, &sealed);
    if (call.rv == CKR_OK && !arrange(way, &sealed, &given, out))
        call = no_way(FN_Encrypt);
    return call;
}

/* As C_Decrypt wants it; returns how many bytes. */
static CK_ULONG dearrange(const struct gcm_way *way, const struct wrapped_key *in,
                          struct vector *iv, uint8_t out[static SEALED_BYTES + IV_BYTES_MAX])
{
    size_t iv_bytes = in->length_bytes - (size_t)SEALED_BYTES;
    const uint8_t *body = in->bytes + iv_bytes;
    if (!way->decrypts_within) {
        iv->length = iv_bytes;
        memcpy(iv->bytes, in->bytes, iv_bytes);
        memcpy(out, body, SEALED_BYTES);
        return SEALED_BYTES;
    }
    iv->length = way->given_bytes;
    bool front = way->iv == GCM_IV_FRONT;
    memcpy(out + (front ? 0 : SEALED_BYTES), in->bytes, iv_bytes);
    memcpy(out + (front ? iv_bytes : 0), body, SEALED_BYTES);
    return in->length_bytes;
}

struct outcome gcm_open(struct session *session, const struct gcm_way *way, CK_OBJECT_HANDLE key,
                        const uint8_t binding[static BINDING_BYTES], const struct wrapped_key *in,
                        uint8_t *row_key)
{
    struct vector iv = {0};
    uint8_t sealed[SEALED_BYTES + IV_BYTES_MAX];
    if (!suite_wrapped_fits(SUITE_AES256_GCM, in->length_bytes))
        return (struct outcome){FN_Decrypt, CKR_ENCRYPTED_DATA_LEN_RANGE};
    CK_ULONG sealed_bytes = dearrange(way, in, &iv, sealed);
    CK_GCM_PARAMS params = params_of(&iv, binding);
    CK_MECHANISM gcm = {CKM_AES_GCM, &params, sizeof params};
    struct module *module = session->token->module;
    struct outcome call = CALL(module, DecryptInit, session->handle, &gcm, key);
    if (call.rv != CKR_OK)
        return call;
    /* SoftHSM wants room for the tag too, and says CKR_BUFFER_TOO_SMALL otherwise. */
    CK_ULONG length = SESSION_SCRATCH_BYTES;
    call = CALL(module, Decrypt, session->handle, sealed, sealed_bytes, session->scratch, &length);
    if (call.rv == CKR_OK && length != ROW_KEY_BYTES)
        call.rv = CKR_ENCRYPTED_DATA_LEN_RANGE;
    if (call.rv == CKR_OK)
        memcpy(row_key, session->scratch, ROW_KEY_BYTES);
    OPENSSL_cleanse(session->scratch, SESSION_SCRATCH_BYTES);
    return call;
}

/* ---- finding the way ---- */

/* A trial: a key of our own, and 32 bytes that are no secret. Not session->row_key, which may hold
 * the row key for whose sake the way is asked for. */
struct trial {
    struct session *session;
    CK_OBJECT_HANDLE key;
    uint8_t binding[BINDING_BYTES], text[ROW_KEY_BYTES], opened[ROW_KEY_BYTES];
};

/* Seals twice, with IVs that differ; opens; does not open with another binding. */
static struct outcome try_way(struct trial *trial, const struct gcm_way *way)
{
    struct wrapped_key first = {0}, second = {0};
    uint8_t *opened = trial->opened;
    uint8_t other[BINDING_BYTES];
    memcpy(other, trial->binding, sizeof other);
    other[0] ^= 1;
    struct outcome call =
        gcm_seal(trial->session, way, trial->key, trial->binding, trial->text, &first);
    if (call.rv == CKR_OK)
        call = gcm_seal(trial->session, way, trial->key, trial->binding, trial->text, &second);
    if (call.rv == CKR_OK && memcmp(first.bytes, second.bytes, way->iv_bytes) == 0)
        return no_way(FN_Encrypt);
    if (call.rv == CKR_OK)
        call = gcm_open(trial->session, way, trial->key, trial->binding, &first, opened);
    if (call.rv != CKR_OK)
        return call;
    if (memcmp(opened, trial->text, ROW_KEY_BYTES) != 0 ||
        gcm_open(trial->session, way, trial->key, other, &first, opened).rv == CKR_OK)
        return no_way(FN_Decrypt);
    return call;
}

/* The ways that what came back leaves open; how many. */
static size_t candidates(const struct sealed *sealed, const struct vector *given,
                         struct gcm_way out[static 4])
{
    size_t count = 0;
    if (sealed->length == SEALED_BYTES) {
        bool ours = memcmp(sealed->iv.bytes, given->bytes, sizeof given->bytes) == 0;
        if (given->length == IV_BYTES)
            out[count++] = (struct gcm_way){.iv = ours ? GCM_IV_CALLER : GCM_IV_PARAMETER,
                                            .iv_bytes = IV_BYTES,
                                            .given_bytes = IV_BYTES};
        return count;
    }
    size_t iv_bytes = sealed->length - SEALED_BYTES;
    if (sealed->length < SEALED_BYTES || (iv_bytes != IV_BYTES && iv_bytes != IV_BYTES_MAX))
        return 0;
    for (unsigned i = 0; i < 4; i++)
        out[count++] = (struct gcm_way){.iv = i & 1 ? GCM_IV_APPENDED : GCM_IV_FRONT,
                                        .iv_bytes = iv_bytes,
                                        .given_bytes = given->length,
                                        .decrypts_within = (i & 2) != 0};
    return count;
}

/* Encrypts once with this vector, and tries what that leaves open. */
static struct outcome try_given(struct trial *trial, const struct vector *given,
                                struct gcm_way *out)
{
    struct gcm_way way[4];
    struct sealed sealed = {.iv = *given};
    struct outcome call = encrypt(trial->session, trial->key, trial->binding, trial->text, &sealed);
    if (call.rv != CKR_OK)
        return call;
    size_t count = candidates(&sealed, given, way);
    call = no_way(FN_Encrypt);
    for (size_t i = 0; i < count && call.rv != CKR_OK; i++) {
        call = try_way(trial, &way[i]);
        if (call.rv == CKR_OK)
            *out = way[i];
    }
    return call;
}

/* Some tokens take the caller's vector, some want zeros in its place, some want none. */
static struct outcome try_all(struct trial *trial, struct gcm_way *out)
{
    struct vector given[] = {{.length = IV_BYTES}, {.length = IV_BYTES}, {.length = 0}};
    struct outcome first = {FN_EncryptInit, CKR_HOST_MEMORY};
    if (!next_iv(trial->session, given[0].bytes) ||
        RAND_bytes(trial->text, sizeof trial->text) != 1)
        return first;
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        struct outcome call = try_given(trial, &given[i], out);
        if (i == 0)
            first = call;
        if (call.rv == CKR_OK || !ckr_is_refusal(call))
            return call;
    }
    return first;
}

static struct outcome find_way(struct session *session, struct gcm_way *out)
{
    struct trial trial = {.session = session, .binding = {1}};
    struct outcome call = key_generate_session(session, CKA_ENCRYPT, &trial.key);
    if (call.rv != CKR_OK)
        return call;
    call = try_all(&trial, out);
    struct outcome destroy =
        CALL(session->token->module, DestroyObject, session->handle, trial.key);
    return call.rv != CKR_OK ? call : destroy;
}

struct outcome gcm_way(struct session *session, struct gcm_way *out)
{
    struct ways *ways = &session->token->ways;
    struct outcome call = {FN_Encrypt, CKR_OK, .own = true};
    if (!atomic_load_explicit(&ways->gcm_known, memory_order_acquire)) {
        pthread_mutex_lock(&ways->mutex);
        if (!atomic_load(&ways->gcm_known))
            call = find_way(session, &ways->gcm);
        if (call.rv == CKR_OK)
            atomic_store_explicit(&ways->gcm_known, true, memory_order_release);
        pthread_mutex_unlock(&ways->mutex);
        call.own = true;
    }
    if (call.rv == CKR_OK)
        *out = ways->gcm;
    return call;
}

const char *gcm_iv_name(enum gcm_iv iv)
{
    static const char *const names[] = {"unknown", "caller", "parameter", "front", "appended"};
    return iv <= GCM_IV_APPENDED ? names[iv] : names[0];
}
