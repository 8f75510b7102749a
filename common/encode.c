#include "common/encode.h"

#include <openssl/crypto.h>
#include <string.h>

#define FIRST_CAPACITY_BYTES 256

static void release(struct encoder *encoder)
{
    if (encoder->fixed)
        OPENSSL_cleanse(encoder->data, encoder->capacity_bytes);
    else if (encoder->locked)
        secret_dealloc(encoder->data);
    else
        wiping_free(encoder->data);
}

static bool move_to_room(struct encoder *encoder, size_t capacity)
{
    if (encoder->fixed)
        return false;
    uint8_t *place = encoder->locked ? secret_alloc(capacity) : wiping_malloc(capacity);
    if (place == NULL)
        return false;
    if (encoder->length_bytes > 0)
        memcpy(place, encoder->data, encoder->length_bytes);
    release(encoder);
    encoder->data = place;
    encoder->capacity_bytes = capacity;
    return true;
}

static bool grow(struct encoder *encoder, size_t wanted)
{
    size_t capacity = encoder->capacity_bytes > 0 ? encoder->capacity_bytes : FIRST_CAPACITY_BYTES;
    while (capacity < wanted && capacity <= SIZE_MAX / 2)
        capacity *= 2;
    return capacity >= wanted && move_to_room(encoder, capacity);
}

void encoder_reserve(struct encoder *encoder, size_t bytes)
{
    if (bytes > encoder->capacity_bytes && !move_to_room(encoder, bytes))
        encoder->failed = true;
}

/* The place of the next `count` bytes, or NULL once the encoder has failed. */
static uint8_t *claim(struct encoder *encoder, size_t count)
{
    if (encoder->failed)
        return NULL;
    if (count > encoder->capacity_bytes - encoder->length_bytes) {
        if (count > SIZE_MAX - encoder->length_bytes ||
            !grow(encoder, encoder->length_bytes + count)) {
            encoder->failed = true;
            return NULL;
        }
    }
    uint8_t *place = encoder->data + encoder->length_bytes;
    encoder->length_bytes += count;
    return place;
}

static void put_integer(struct encoder *encoder, uint64_t value, size_t width)
{
    uint8_t *place = claim(encoder, width);
    for (size_t i = 0; place != NULL && i < width; i++)
        place[i] = (uint8_t)(value >> (8 * (width - 1 - i)));
}

void encode_u8(struct encoder *encoder, uint8_t value)
{
    put_integer(encoder, value, 1);
}

void encode_u16(struct encoder *encoder, uint16_t value)
{
    put_integer(encoder, value, 2);
}

void encode_u32(struct encoder *encoder, uint32_t value)
{
    put_integer(encoder, value, 4);
}

void encode_u64(struct encoder *encoder, uint64_t value)
{
    put_integer(encoder, value, 8);
}

void encode_fixed(struct encoder *encoder, const void *bytes, size_t count)
{
    uint8_t *place = count > 0 ? claim(encoder, count) : NULL;
    if (place != NULL)
        memcpy(place, bytes, count);
}

void encode_bytes(struct encoder *encoder, const void *bytes, size_t count)
{
    if (count > UINT32_MAX) {
        encoder->failed = true;
        return;
    }
    encode_u32(encoder, (uint32_t)count);
    encode_fixed(encoder, bytes, count);
}

void encode_text(struct encoder *encoder, const char *text)
{
    encode_bytes(encoder, text, strlen(text));
}

void encoder_clear(struct encoder *encoder)
{
    if (encoder->length_bytes > 0)
        OPENSSL_cleanse(encoder->data, encoder->length_bytes);
    encoder->length_bytes = 0;
    encoder->failed = false;
}

void encoder_free(struct encoder *encoder)
{
    if (encoder->data != NULL)
        release(encoder);
    *encoder = (struct encoder){.locked = encoder->locked};
}

static const uint8_t *take(struct decoder *decoder, size_t count)
{
    if (decoder->failed || count > decoder->left_bytes) {
        decoder->failed = true;
        return NULL;
    }
    const uint8_t *place = decoder->next;
    decoder->next += count;
    decoder->left_bytes -= count;
    return place;
}

static uint64_t get_integer(struct decoder *decoder, size_t width)
{
    const uint8_t *place = take(decoder, width);
    uint64_t value = 0;
    for (size_t i = 0; place != NULL && i < width; i++)
        value = value << 8 | place[i];
    return value;
}

uint8_t decode_u8(struct decoder *decoder)
{
    return (uint8_t)get_integer(decoder, 1);
}

uint16_t decode_u16(struct decoder *decoder)
{
    return (uint16_t)get_integer(decoder, 2);
}

uint32_t decode_u32(struct decoder *decoder)
{
    return (uint32_t)get_integer(decoder, 4);
}

uint64_t decode_u64(struct decoder *decoder)
{
    return get_integer(decoder, 8);
}

void decode_fixed(struct decoder *decoder, void *out, size_t count)
{
    const uint8_t *place = count > 0 ? take(decoder, count) : NULL;
    if (place != NULL)
        memcpy(out, place, count);
    else if (count > 0)
        memset(out, 0, count);
}

const uint8_t *decode_bytes(struct decoder *decoder, size_t maximum_bytes, size_t *count)
{
    *count = 0;
    uint32_t length = decode_u32(decoder);
    if (length > maximum_bytes)
        decoder->failed = true;
    const uint8_t *place = take(decoder, length);
    if (place != NULL)
        *count = length;
    return place;
}

void decode_text(struct decoder *decoder, char *out, size_t size)
{
    size_t count;
    const uint8_t *place = decode_bytes(decoder, size - 1, &count);
    if (place != NULL && memchr(place, '\0', count) != NULL)
        decoder->failed = true;
    if (decoder->failed)
        count = 0;
    if (count > 0)
        memcpy(out, place, count);
    out[count] = '\0';
}

enum sso_code decode_end(struct decoder *decoder, const char *what, struct sso_error *err)
{
    if (decoder->failed)
        return sso_fail(err, SSO_BAD_REQUEST, "%s is cut short or has a length out of bounds",
                        what);
    if (decoder->left_bytes > 0)
        return sso_fail(err, SSO_BAD_REQUEST, "%s has %zu bytes too many at its end", what,
                        decoder->left_bytes);
    return SSO_OK;
}

void hex_encode(const uint8_t *bytes, size_t count, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * count] = '\0';
}

static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

bool hex_decode(const char *text, uint8_t *out, size_t count)
{
    if (strnlen(text, 2 * count + 1) != 2 * count)
        return false;
    for (size_t i = 0; i < count; i++) {
        int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* Bytes of the well-formed character at `text` (RFC 3629 §4: shortest form, no surrogates, up to
 * U+10FFFF), 0 where there is none. */
static size_t utf8_character(const unsigned char *text, size_t count, uint32_t *character)
{
    static const struct {
        unsigned char lead, mask;
        uint32_t smallest;
    } forms[] = {{0x00, 0x80, 0}, {0xc0, 0xe0, 0x80}, {0xe0, 0xf0, 0x800}, {0xf0, 0xf8, 0x10000}};

    for (size_t more = 0; more < sizeof forms / sizeof forms[0]; more++) {
        if ((text[0] & forms[more].mask) != forms[more].lead)
            continue;
        if (count <= more)
            return 0;
        uint32_t value = text[0] & (unsigned char)~forms[more].mask;
        for (size_t i = 1; i <= more; i++) {
            if ((text[i] & 0xc0) != 0x80)
                return 0;
            value = value << 6 | (text[i] & 0x3f);
        }
        if (value < forms[more].smallest || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
            return 0;
        *character = value;
        return more + 1;
    }
    return 0;
}

bool text_is_clean_utf8(const char *text, size_t count)
{
    const unsigned char *next = (const unsigned char *)text;
    while (count > 0) {
        uint32_t character;
        size_t used = utf8_character(next, count, &character);
        if (used == 0 || character < 0x20 || (character >= 0x7f && character <= 0x9f))
            return false;
        next += used;
        count -= used;
    }
    return true;
}
