#include "common/audit_key.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "common/encode.h"

#define ROOM_BYTES (AUDIT_HEADS_MAX * (sizeof(struct audit_head) + 16) + 256)

_Static_assert(AUDIT_DIGEST_BYTES == DIGEST_BYTES, "signatures are over SHA-256");

void audit_key_label(const uint8_t system_id[static SYSTEM_ID_BYTES],
                     char out[static AUDIT_KEY_LABEL_SIZE])
{
    char id[2 * SYSTEM_ID_BYTES + 1];
    hex_encode(system_id, SYSTEM_ID_BYTES, id);
    snprintf(out, AUDIT_KEY_LABEL_SIZE, "sso-hsm-audit:%s", id);
}

void audit_key_fingerprint(const struct audit_key *key, uint8_t out[static AUDIT_DIGEST_BYTES])
{
    digest_sha256(key->public_key, sizeof key->public_key, out);
}

/* NULL where the point is not on the curve. */
static EVP_PKEY *public_key(const struct audit_key *key)
{
    EVP_PKEY *out = NULL;
    uint8_t point[AUDIT_PUBLIC_KEY_BYTES];
    char group[] = "prime256v1";
    memcpy(point, key->public_key, sizeof point);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point),
        OSSL_PARAM_construct_end()};
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (context == NULL || EVP_PKEY_fromdata_init(context) != 1 ||
        EVP_PKEY_fromdata(context, &out, EVP_PKEY_PUBLIC_KEY, params) != 1)
        out = NULL;
    EVP_PKEY_CTX_free(context);
    return out;
}

void audit_key_target(const struct audit_key *key, char out[static AUDIT_KEY_TARGET_SIZE])
{
    uint8_t fingerprint[AUDIT_DIGEST_BYTES];
    char id[2 * AUDIT_KEY_ID_BYTES + 1], print[2 * AUDIT_DIGEST_BYTES + 1];
    audit_key_fingerprint(key, fingerprint);
    hex_encode(key->id, sizeof key->id, id);
    hex_encode(fingerprint, sizeof fingerprint, print);
    snprintf(out, AUDIT_KEY_TARGET_SIZE, "%s %s", id, print);
}

bool audit_key_pem(const struct audit_key *key, char out[static AUDIT_KEY_PEM_SIZE])
{
    EVP_PKEY *pkey = public_key(key);
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    bool done = false;
    if (pkey != NULL && bio != NULL && PEM_write_bio_PUBKEY(bio, pkey) == 1) {
        long length = BIO_get_mem_data(bio, &text);
        done = length > 0 && length < AUDIT_KEY_PEM_SIZE;
        if (done)
            snprintf(out, AUDIT_KEY_PEM_SIZE, "%.*s", (int)length, text);
    }
    BIO_free(bio);
    EVP_PKEY_free(pkey);
    return done;
}

bool audit_key_from_pem(const char *pem, struct audit_key *out)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *pkey = bio != NULL ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
    char group[32] = "";
    size_t length = 0;
    *out = (struct audit_key){0};
    bool good = pkey != NULL &&
                EVP_PKEY_get_utf8_string_param(pkey, OSSL_PKEY_PARAM_GROUP_NAME, group,
                                               sizeof group, NULL) == 1 &&
                strcmp(group, "prime256v1") == 0 &&
                EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, out->public_key,
                                                sizeof out->public_key, &length) == 1 &&
                length == sizeof out->public_key && out->public_key[0] == 0x04;
    EVP_PKEY_free(pkey);
    BIO_free(bio);
    return good;
}

/* ECDSA-Sig-Value (RFC 3279 §2.2.3). Returns its length, 0 where there is none. */
static int to_der(const uint8_t signature[static AUDIT_SIGNATURE_BYTES], uint8_t **out)
{
    const int half = AUDIT_SIGNATURE_BYTES / 2;
    ECDSA_SIG *parts = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(signature, half, NULL), *s = BN_bin2bn(signature + half, half, NULL);
    int length = 0;
    if (parts != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(parts, r, s) == 1) {
        r = s = NULL;
        length = i2d_ECDSA_SIG(parts, out);
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(parts);
    return length > 0 ? length : 0;
}

bool audit_key_verifies(const struct audit_key *key,
                        const uint8_t digest[static AUDIT_DIGEST_BYTES],
                        const uint8_t signature[static AUDIT_SIGNATURE_BYTES])
{
    uint8_t *der = NULL;
    int length = to_der(signature, &der);
    EVP_PKEY *pkey = public_key(key);
    EVP_PKEY_CTX *context = pkey != NULL ? EVP_PKEY_CTX_new(pkey, NULL) : NULL;
    bool fits = length > 0 && context != NULL && EVP_PKEY_verify_init(context) == 1 &&
                EVP_PKEY_verify(context, der, (size_t)length, digest, AUDIT_DIGEST_BYTES) == 1;
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(pkey);
    OPENSSL_free(der);
    return fits;
}

void audit_signature_digest(const uint8_t system_id[static SYSTEM_ID_BYTES],
                            const struct audit_signature *signature,
                            uint8_t out[static AUDIT_DIGEST_BYTES])
{
    uint8_t room[ROOM_BYTES];
    struct encoder form = {.data = room, .capacity_bytes = sizeof room, .fixed = true};
    encode_text(&form, "sso-hsm audit heads v1");
    encode_fixed(&form, system_id, SYSTEM_ID_BYTES);
    encode_u64(&form, signature->number);
    encode_u64(&form, (uint64_t)signature->time_ms);
    encode_u32(&form, (uint32_t)signature->head_count);
    for (size_t i = 0; i < signature->head_count && i < AUDIT_HEADS_MAX; i++) {
        encode_text(&form, signature->head[i].node);
        encode_u64(&form, signature->head[i].number);
        encode_fixed(&form, signature->head[i].hash, AUDIT_HASH_BYTES);
    }
    digest_sha256(form.data, form.length_bytes, out);
}

void audit_text_digest(const uint8_t system_id[static SYSTEM_ID_BYTES], const char *kind,
                       const void *text, size_t bytes, uint8_t out[static AUDIT_DIGEST_BYTES])
{
    ENCODER_AUTO form = {0};
    encode_text(&form, "sso-hsm signed text v1");
    encode_fixed(&form, system_id, SYSTEM_ID_BYTES);
    encode_text(&form, kind);
    encode_bytes(&form, text, bytes);
    /* A digest over a part only could be taken for that of another text. */
    if (form.failed)
        abort();
    digest_sha256(form.data, form.length_bytes, out);
}
