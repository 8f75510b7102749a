/*
 * Binary encoding: big-endian integers, byte strings with a 32-bit length. One encoding for the
 * frames between custodian and worker, for what is sealed in a row, and for what is authenticated
 * (AAD, policy tags, audit records), so that no two different values encode alike.
 *
 * Writing appends to a `struct encoder`, reading consumes a `struct decoder`. The first fault
 * sticks: later calls do nothing, so a chain of calls is checked once, at its end.
 */
#ifndef SSO_COMMON_ENCODE_H
#define SSO_COMMON_ENCODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/secret.h"

/* Appends to a growing wiping buffer. `locked` chooses the heap for secrets (common/secret.h) over
 * the plain wiping heap. All zero is an empty, plain encoder. */
struct encoder {
    uint8_t *data;
    size_t length_bytes;
    size_t capacity_bytes;
    bool locked;
    bool fixed;  /* `data` is the caller's array of capacity_bytes: never grown nor freed */
    bool failed; /* memory, or a fixed array, ran out */
};

/* Room for `bytes` in all and not more, where their number is known: growing doubles. */
void encoder_reserve(struct encoder *encoder, size_t bytes);
void encode_u8(struct encoder *encoder, uint8_t value);
void encode_u16(struct encoder *encoder, uint16_t value);
void encode_u32(struct encoder *encoder, uint32_t value);
void encode_u64(struct encoder *encoder, uint64_t value);
void encode_fixed(struct encoder *encoder, const void *bytes, size_t count); /* no length */
void encode_bytes(struct encoder *encoder, const void *bytes, size_t count); /* u32 length first */
void encode_text(struct encoder *encoder, const char *text);                 /* as bytes, no NUL */
void encoder_clear(struct encoder *encoder); /* wiped, length 0, room kept */
void encoder_free(struct encoder *encoder);
#define ENCODER_AUTO __attribute__((cleanup(encoder_free))) struct encoder

struct decoder {
    const uint8_t *next;
    size_t left_bytes;
    bool failed;
};

uint8_t decode_u8(struct decoder *decoder);
uint16_t decode_u16(struct decoder *decoder);
uint32_t decode_u32(struct decoder *decoder);
uint64_t decode_u64(struct decoder *decoder);
void decode_fixed(struct decoder *decoder, void *out, size_t count);
/* A view into the input, NULL and 0 on a fault. `maximum_bytes` bounds the length. */
const uint8_t *decode_bytes(struct decoder *decoder, size_t maximum_bytes, size_t *count);
/* Copies a byte string without NUL into out[size] and ends it; a string that does not fit is a
 * fault. */
void decode_text(struct decoder *decoder, char *out, size_t size);
/* SSO_BAD_REQUEST when a fault stuck or bytes are left over; `what` names the thing for the text.
 */
enum sso_code decode_end(struct decoder *decoder, const char *what, struct sso_error *err);

/* out takes 2 * count + 1 bytes. */
void hex_encode(const uint8_t *bytes, size_t count, char *out);
/* false unless text is exactly 2 * count hex digits. */
bool hex_decode(const char *text, uint8_t *out, size_t count);

/* Well-formed UTF-8 (RFC 3629) without control characters (U+0000 to U+001F, U+007F to U+009F). */
bool text_is_clean_utf8(const char *text, size_t count);

#endif
