#include "common/row.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/encode.h"
#include "common/row_fields.h"

/* Label, format, five ids, two texts with their lengths, born, version, updated: below 700. */
#define BINDING_ROOM_BYTES 768

struct row_binding {
    uint8_t bytes[BINDING_ROOM_BYTES];
    size_t length_bytes;
};

void credential_row_free(struct credential_row *row)
{
    free(row->ciphertext);
    *row = (struct credential_row){0};
}

static void bind_row(const uint8_t system_id[static SYSTEM_ID_BYTES],
                     const struct credential_row *row, struct row_binding *out)
{
    struct encoder encoder = {
        .data = out->bytes, .capacity_bytes = sizeof out->bytes, .fixed = true};
    encode_text(&encoder, "sso-hsm row");
    encode_u16(&encoder, row->format);
    encode_fixed(&encoder, system_id, SYSTEM_ID_BYTES);
    encode_fixed(&encoder, row->application_id, APPLICATION_ID_BYTES);
    encode_text(&encoder, row->principal);
    encode_text(&encoder, row->external_user);
    encode_fixed(&encoder, row->row_id, ROW_ID_BYTES);
    encode_fixed(&encoder, row->row_key_id, ROW_KEY_ID_BYTES);
    encode_u32(&encoder, row->born);
    encode_u64(&encoder, row->version);
    encode_u64(&encoder, (uint64_t)row->updated_ms);
    out->length_bytes = encoder.length_bytes;
}

void row_binding_digest(const uint8_t system_id[static SYSTEM_ID_BYTES],
                        const struct credential_row *row, uint8_t out[static BINDING_BYTES])
{
    struct row_binding binding;
    bind_row(system_id, row, &binding);
    digest_sha256(binding.bytes, binding.length_bytes, out);
}

static bool gcm_seal(const struct row_binding *binding, const uint8_t *row_key,
                     const uint8_t *nonce, const struct encoder *plain, uint8_t *out)
{
    int count, length = (int)plain->length_bytes;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    bool done =
        ctx != NULL && EVP_EncryptInit_ex2(ctx, digest_aes_256_gcm(), row_key, nonce, NULL) == 1 &&
        EVP_EncryptUpdate(ctx, NULL, &count, binding->bytes, (int)binding->length_bytes) == 1 &&
        EVP_EncryptUpdate(ctx, out, &count, plain->data, length) == 1 &&
        EVP_EncryptFinal_ex(ctx, out + count, &count) == 1 &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG_BYTES, out + length) == 1;
    EVP_CIPHER_CTX_free(ctx);
    return done;
}

enum sso_code row_seal(const uint8_t system_id[static SYSTEM_ID_BYTES], struct credential_row *row,
                       const uint8_t row_key[static ROW_KEY_BYTES],
                       const struct credential_fields *fields, struct sso_error *err)
{
    struct encoder plain = {.locked = true};
    struct row_binding binding;
    uint8_t nonce[NONCE_BYTES];
    uint8_t *ciphertext = NULL;

    enum sso_code rc = credential_fields_encode(fields, &plain, err);
    if (rc == SSO_OK)
        rc = random_bytes(nonce, sizeof nonce, err);
    if (rc != SSO_OK)
        goto out;
    ciphertext = malloc(plain.length_bytes + SEAL_TAG_BYTES);
    if (ciphertext == NULL) {
        rc = sso_fail(err, SSO_NO_MEMORY, "memory for a sealed row has run out");
        goto out;
    }
    bind_row(system_id, row, &binding);
    if (!gcm_seal(&binding, row_key, nonce, &plain, ciphertext)) {
        rc = sso_fail(err, SSO_INTERNAL, "OpenSSL could not seal a row");
        goto out;
    }
    free(row->ciphertext);
    row->ciphertext = ciphertext;
    row->ciphertext_bytes = plain.length_bytes + SEAL_TAG_BYTES;
    memcpy(row->nonce, nonce, sizeof nonce);
    ciphertext = NULL;
out:
    free(ciphertext);
    encoder_free(&plain);
    return rc;
}

static enum sso_code corrupt(const struct credential_row *row, const char *what,
                             struct sso_error *err)
{
    char id[UUID_TEXT_SIZE];
    uuid_text(row->row_id, id);
    return sso_fail(err, SSO_ROW_CORRUPT,
                    "row %s (version %llu, generation %u) %s; restore it from a backup or set "
                    "the credential anew",
                    id, (unsigned long long)row->version, row->generation, what);
}

static bool gcm_open(const struct row_binding *binding, const uint8_t *row_key,
                     const struct credential_row *row, uint8_t *out)
{
    int count, length = (int)(row->ciphertext_bytes - SEAL_TAG_BYTES);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    bool done =
        ctx != NULL &&
        EVP_DecryptInit_ex2(ctx, digest_aes_256_gcm(), row_key, row->nonce, NULL) == 1 &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, SEAL_TAG_BYTES, row->ciphertext + length) ==
            1 &&
        EVP_DecryptUpdate(ctx, NULL, &count, binding->bytes, (int)binding->length_bytes) == 1 &&
        EVP_DecryptUpdate(ctx, out, &count, row->ciphertext, length) == 1 &&
        EVP_DecryptFinal_ex(ctx, out + count, &count) == 1;
    EVP_CIPHER_CTX_free(ctx);
    return done;
}

enum sso_code row_open(const uint8_t system_id[static SYSTEM_ID_BYTES],
                       const struct credential_row *row,
                       const uint8_t row_key[static ROW_KEY_BYTES],
                       struct credential_fields *fields, struct sso_error *err)
{
    *fields = (struct credential_fields){0};
    if (row->format != ROW_FORMAT)
        return corrupt(row, "has a format that this version does not know", err);
    if (row->ciphertext == NULL || row->ciphertext_bytes < SEAL_PADDING_BYTES + SEAL_TAG_BYTES ||
        (row->ciphertext_bytes - SEAL_TAG_BYTES) % SEAL_PADDING_BYTES != 0 ||
        row->ciphertext_bytes > INT32_MAX)
        return corrupt(row, "has a ciphertext of a length that cannot be", err);

    size_t length = row->ciphertext_bytes - SEAL_TAG_BYTES;
    enum sso_code rc = secret_reserve(&fields->storage, length, err);
    if (rc != SSO_OK)
        return rc;
    struct row_binding binding;
    bind_row(system_id, row, &binding);
    fields->storage.length_bytes = length;
    if (!gcm_open(&binding, row_key, row, fields->storage.data))
        rc = corrupt(row, "does not open: it was damaged, or a part of it was changed or moved",
                     err);
    else if (!credential_fields_decode(fields))
        rc = corrupt(row, "opens, but does not hold fields", err);
    if (rc != SSO_OK)
        credential_fields_free(fields);
    return rc;
}

enum sso_code random_bytes(void *out, size_t count, struct sso_error *err)
{
    if (RAND_bytes_ex(NULL, out, count, 0) != 1)
        return sso_fail(err, SSO_INTERNAL, "OpenSSL's random generator failed");
    return SSO_OK;
}

enum sso_code uuid_v7(uint8_t out[static 16], struct sso_error *err)
{
    enum sso_code rc = random_bytes(out, 16, err);
    if (rc != SSO_OK)
        return rc;
    uint64_t now = (uint64_t)wall_clock_ms();
    for (int i = 0; i < 6; i++)
        out[i] = (uint8_t)(now >> (8 * (5 - i)));
    out[6] = (uint8_t)(0x70 | (out[6] & 0x0f));
    out[8] = (uint8_t)(0x80 | (out[8] & 0x3f));
    return SSO_OK;
}

void uuid_text(const uint8_t id[static 16], char out[static UUID_TEXT_SIZE])
{
    static const size_t group_bytes[] = {4, 2, 2, 2, 6};
    char *next = out;
    for (size_t i = 0; i < sizeof group_bytes / sizeof group_bytes[0]; i++) {
        if (i > 0)
            *next++ = '-';
        hex_encode(id, group_bytes[i], next);
        next += 2 * group_bytes[i];
        id += group_bytes[i];
    }
}
