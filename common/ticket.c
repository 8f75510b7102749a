#include "common/ticket.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/encode.h"

#define FORMAT 1
#define HEADER_BYTES (1 + SYSTEM_ID_BYTES + SEALED_KEY_ID_BYTES)
#define OVERHEAD_BYTES (HEADER_BYTES + NONCE_BYTES + SEAL_TAG_BYTES)
#define CLAIMS_BYTES_MAX (TICKET_ID_BYTES + 4 + 4 + 256 + 4 + PRINCIPAL_BYTES_MAX + 8 + 8 + 1)
#define RAW_BYTES_MAX (OVERHEAD_BYTES + CLAIMS_BYTES_MAX)
_Static_assert((RAW_BYTES_MAX + 2) / 3 * 4 < TICKET_TEXT_SIZE, "every ticket fits");

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void base64_encode(const uint8_t *bytes, size_t count, char *out)
{
    uint32_t bits = 0;
    unsigned held = 0;
    for (size_t i = 0; i < count; i++) {
        bits = bits << 8 | bytes[i];
        for (held += 8; held >= 6; held -= 6)
            *out++ = alphabet[bits >> (held - 6) & 63];
    }
    if (held > 0)
        *out++ = alphabet[bits << (6 - held) & 63];
    *out = '\0';
}

/* One spelling only: no padding, no blank, no bit set behind the last byte. */
static bool base64_decode(const char *text, uint8_t *out, size_t room, size_t *count)
{
    uint32_t bits = 0;
    unsigned held = 0;
    *count = 0;
    for (; *text != '\0'; text++) {
        const char *place = strchr(alphabet, *text);
        if (place == NULL)
            return false;
        bits = bits << 6 | (uint32_t)(place - alphabet);
        held += 6;
        if (held < 8)
            continue;
        held -= 8;
        if (*count == room)
            return false;
        out[(*count)++] = (uint8_t)(bits >> held);
    }
    return held < 6 && (bits & ((1u << held) - 1)) == 0;
}

static void encode_claims(struct encoder *encoder, const struct ticket_claims *claims)
{
    encode_fixed(encoder, claims->id, sizeof claims->id);
    encode_u32(encoder, claims->uid);
    encode_text(encoder, claims->name);
    encode_text(encoder, claims->principal);
    encode_u64(encoder, (uint64_t)claims->issued_ms);
    encode_u64(encoder, (uint64_t)claims->expires_ms);
    encode_u8(encoder, claims->validated);
}

static enum sso_code decode_claims(const uint8_t *bytes, size_t count, struct ticket_claims *out,
                                   struct sso_error *err)
{
    struct decoder decoder = {bytes, count, false};
    memset(out, 0, sizeof *out);
    decode_fixed(&decoder, out->id, sizeof out->id);
    out->uid = decode_u32(&decoder);
    decode_text(&decoder, out->name, sizeof out->name);
    decode_text(&decoder, out->principal, sizeof out->principal);
    out->issued_ms = (int64_t)decode_u64(&decoder);
    out->expires_ms = (int64_t)decode_u64(&decoder);
    out->validated = decode_u8(&decoder) != 0;
    return decode_end(&decoder, "a ticket", err);
}

/* `raw` begins with the header. */
static bool gcm_seal(const uint8_t *key, const uint8_t *raw, const struct encoder *claims,
                     uint8_t *out)
{
    int count, length = (int)claims->length_bytes;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    bool done =
        ctx != NULL &&
        EVP_EncryptInit_ex2(ctx, digest_aes_256_gcm(), key, raw + HEADER_BYTES, NULL) == 1 &&
        EVP_EncryptUpdate(ctx, NULL, &count, raw, HEADER_BYTES) == 1 &&
        EVP_EncryptUpdate(ctx, out, &count, claims->data, length) == 1 &&
        EVP_EncryptFinal_ex(ctx, out + count, &count) == 1 &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG_BYTES, out + length) == 1;
    EVP_CIPHER_CTX_free(ctx);
    return done;
}

static bool gcm_open(const uint8_t *key, uint8_t *raw, size_t claims_bytes, uint8_t *out)
{
    int count, length = (int)claims_bytes;
    uint8_t *sealed = raw + HEADER_BYTES + NONCE_BYTES;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    bool done =
        ctx != NULL &&
        EVP_DecryptInit_ex2(ctx, digest_aes_256_gcm(), key, raw + HEADER_BYTES, NULL) == 1 &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, SEAL_TAG_BYTES, sealed + length) == 1 &&
        EVP_DecryptUpdate(ctx, NULL, &count, raw, HEADER_BYTES) == 1 &&
        EVP_DecryptUpdate(ctx, out, &count, sealed, length) == 1 &&
        EVP_DecryptFinal_ex(ctx, out + count, &count) == 1;
    EVP_CIPHER_CTX_free(ctx);
    return done;
}

enum sso_code ticket_seal(const uint8_t system_id[static SYSTEM_ID_BYTES],
                          const uint8_t key_id[static SEALED_KEY_ID_BYTES],
                          const uint8_t key[static ROW_KEY_BYTES],
                          const struct ticket_claims *claims, char out[static TICKET_TEXT_SIZE],
                          struct sso_error *err)
{
    uint8_t raw[RAW_BYTES_MAX] = {FORMAT}, room[CLAIMS_BYTES_MAX];
    struct encoder encoder = {.data = room, .capacity_bytes = sizeof room, .fixed = true};
    memcpy(raw + 1, system_id, SYSTEM_ID_BYTES);
    memcpy(raw + 1 + SYSTEM_ID_BYTES, key_id, SEALED_KEY_ID_BYTES);
    encode_claims(&encoder, claims);
    enum sso_code rc = random_bytes(raw + HEADER_BYTES, NONCE_BYTES, err);
    if (rc != SSO_OK)
        return rc;
    if (encoder.failed || !gcm_seal(key, raw, &encoder, raw + HEADER_BYTES + NONCE_BYTES))
        return sso_fail(err, SSO_INTERNAL, "OpenSSL could not seal a ticket");
    base64_encode(raw, OVERHEAD_BYTES + encoder.length_bytes, out);
    OPENSSL_cleanse(raw, sizeof raw);
    return SSO_OK;
}

static enum sso_code read_raw(const uint8_t *system_id, const char *text,
                              uint8_t raw[static RAW_BYTES_MAX], size_t *count,
                              struct sso_error *err)
{
    if (strlen(text) >= TICKET_TEXT_SIZE || !base64_decode(text, raw, RAW_BYTES_MAX, count) ||
        *count <= OVERHEAD_BYTES || raw[0] != FORMAT)
        return sso_fail(err, SSO_TICKET_INVALID, "this is not a ticket, or only a part of one");
    if (memcmp(raw + 1, system_id, SYSTEM_ID_BYTES) != 0)
        return sso_fail(err, SSO_TICKET_OF_OTHER_SYSTEM,
                        "the ticket was issued by another system than this one");
    return SSO_OK;
}

enum sso_code ticket_key_id(const uint8_t system_id[static SYSTEM_ID_BYTES], const char *text,
                            uint8_t out[static SEALED_KEY_ID_BYTES], struct sso_error *err)
{
    uint8_t raw[RAW_BYTES_MAX];
    size_t count;
    enum sso_code rc = read_raw(system_id, text, raw, &count, err);
    if (rc == SSO_OK)
        memcpy(out, raw + 1 + SYSTEM_ID_BYTES, SEALED_KEY_ID_BYTES);
    return rc;
}

enum sso_code ticket_open(const uint8_t system_id[static SYSTEM_ID_BYTES],
                          const uint8_t key[static ROW_KEY_BYTES], const char *text,
                          struct ticket_claims *out, struct sso_error *err)
{
    uint8_t raw[RAW_BYTES_MAX], claims[CLAIMS_BYTES_MAX];
    size_t count;
    enum sso_code rc = read_raw(system_id, text, raw, &count, err);
    if (rc != SSO_OK)
        return rc;
    if (!gcm_open(key, raw, count - OVERHEAD_BYTES, claims) ||
        decode_claims(claims, count - OVERHEAD_BYTES, out, NULL) != SSO_OK)
        rc = sso_fail(err, SSO_TICKET_FORGED,
                      "the ticket was not issued by this system, or was changed since");
    OPENSSL_cleanse(claims, sizeof claims);
    return rc;
}
