/*
 * A credential row and its seal (DESIGN §3.3).
 *
 * The fields are encoded (common/encode.h: u16 count, then label and value as byte strings), padded
 * with a u32 length in front and zeros behind to a multiple of 64 bytes, and sealed by AES-256-GCM
 * (SP 800-38D) under the row key with a random 12-byte nonce. The additional data is the row
 * binding: format, system id, application id, principal, external user, row id, row key id, born,
 * version and updated. Rewrapping changes `generation` and `wrapped` and nothing else, so neither
 * is bound. A write makes a new row key, so a nonce never repeats under a key.
 */
#ifndef SSO_COMMON_ROW_H
#define SSO_COMMON_ROW_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/generation.h"
#include "common/secret.h"

#define ROW_FORMAT 1
#define ROW_ID_BYTES 16
#define ROW_KEY_ID_BYTES 16
#define APPLICATION_ID_BYTES 16
#define NONCE_BYTES 12
#define SEAL_TAG_BYTES 16
#define SEAL_PADDING_BYTES 64
#define PRINCIPAL_BYTES_MAX 256
#define EXTERNAL_USER_BYTES_MAX 256
#define FIELDS_MAX 32
#define FIELD_VALUE_BYTES_MAX 65536
#define FIELD_LABEL_BYTES_MAX 64

struct credential_row {
    int64_t place; /* a hint of the store (store_credential_scan); 0: none */
    uint16_t format;
    uint8_t row_id[ROW_ID_BYTES]; /* UUIDv7 (RFC 9562 §5.7), made by the writer */
    uint8_t application_id[APPLICATION_ID_BYTES];
    char principal[PRINCIPAL_BYTES_MAX + 1];
    char external_user[EXTERNAL_USER_BYTES_MAX + 1];
    uint32_t generation; /* whose master secret wraps the row key now */
    uint32_t born;       /* the generation under which this row key was first wrapped */
    uint8_t row_key_id[ROW_KEY_ID_BYTES];
    struct wrapped_key wrapped;
    uint8_t nonce[NONCE_BYTES];
    uint8_t *ciphertext; /* owned, from malloc; tag at its end. NULL where a query left it out */
    size_t ciphertext_bytes;
    uint64_t version; /* 1, 2, 3 … */
    int64_t updated_ms;
};

/* Frees what the row owns and makes it empty. Safe twice. */
void credential_row_free(struct credential_row *row);

/* The decoded fields, label and value side by side in locked memory. Values are bytes of UTF-8, not
 * NUL-ended. */
struct credential_field {
    const char *label; /* into `storage` */
    const char *value;
    size_t label_bytes, value_bytes;
};
struct credential_fields {
    struct credential_field field[FIELDS_MAX];
    size_t count;
    struct secret storage; /* owned */
};
void credential_fields_free(struct credential_fields *fields);

/* SHA-256 of the row binding: what the suites take as the binding of a wrapped row key. Allocates
 * nothing. */
void row_binding_digest(const uint8_t system_id[static SYSTEM_ID_BYTES],
                        const struct credential_row *row, uint8_t out[static BINDING_BYTES]);

/* Seals `fields` into row->ciphertext and row->nonce; all bound members of `row` must be set. On
 * error the row is unchanged. */
enum sso_code row_seal(const uint8_t system_id[static SYSTEM_ID_BYTES], struct credential_row *row,
                       const uint8_t row_key[static ROW_KEY_BYTES],
                       const struct credential_fields *fields, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Opens a row. SSO_ROW_CORRUPT: row, key or binding do not belong together, or the encoding is
 * damaged. On error `fields` is empty. */
enum sso_code row_open(const uint8_t system_id[static SYSTEM_ID_BYTES],
                       const struct credential_row *row,
                       const uint8_t row_key[static ROW_KEY_BYTES],
                       struct credential_fields *fields, struct sso_error *err)
    __attribute__((warn_unused_result));

/* UUIDv7 (RFC 9562): 48 bits of wall-clock milliseconds, the rest random. */
enum sso_code uuid_v7(uint8_t out[static 16], struct sso_error *err)
    __attribute__((warn_unused_result));
/* count random bytes from OpenSSL's generator. */
enum sso_code random_bytes(void *out, size_t count, struct sso_error *err)
    __attribute__((warn_unused_result));
/* 8-4-4-4-12 hex. */
#define UUID_TEXT_SIZE 37
void uuid_text(const uint8_t id[static 16], char out[static UUID_TEXT_SIZE]);

#endif
