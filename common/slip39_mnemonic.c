/* A share as words: ten bits each. Identifier 15, extendable 1, iteration exponent 4, group index
 * 4, group threshold - 1 4, group count - 1 4, member index 4, member threshold - 1 4, the value
 * padded with zero bits in front, and 30 bits of checksum (RS1024). */
#include <openssl/crypto.h>
#include <string.h>

#include "common/slip39.h"

#define WORD_BITS 10
#define HEAD_WORDS 4
#define CHECKSUM_WORDS 3
#define WORDS_MIN 20
#define PADDING_BITS_MAX 8

static uint32_t polymod_step(uint32_t checksum, uint16_t value)
{
    static const uint32_t generator[10] = {0x00e0e040, 0x01c1c080, 0x03838100, 0x07070200,
                                           0x0e0e0009, 0x1c0c2412, 0x38086c24, 0x3090fc48,
                                           0x21b1f890, 0x03f3f120};
    uint32_t top = checksum >> 20;
    checksum = (checksum & 0xfffff) << 10 ^ value;
    for (unsigned i = 0; i < 10; i++)
        checksum ^= generator[i] & (0u - (top >> i & 1u));
    return checksum;
}

/* Over the customization string and all words; 1 where it fits. */
static uint32_t polymod(bool extendable, const uint16_t *words, size_t count)
{
    uint32_t checksum = 1;
    for (const char *next = extendable ? "shamir_extendable" : "shamir"; *next != '\0'; next++)
        checksum = polymod_step(checksum, (uint8_t)*next);
    for (size_t i = 0; i < count; i++)
        checksum = polymod_step(checksum, words[i]);
    return checksum;
}

static size_t value_words(size_t bytes)
{
    return (8 * bytes + WORD_BITS - 1) / WORD_BITS;
}

void slip39_mnemonic_write(const struct slip39_share *share, struct slip39_mnemonic *out)
{
    uint32_t head = (uint32_t)share->identifier << 5 | (uint32_t)share->extendable << 4 |
                    (share->iteration_exponent & 0xfu);
    uint32_t tail = (uint32_t)share->group_index << 16 |
                    (uint32_t)(share->group_threshold - 1) << 12 |
                    (uint32_t)(share->group_count - 1) << 8 | (uint32_t)share->member_index << 4 |
                    (uint32_t)(share->member_threshold - 1);
    size_t words = value_words(share->value_bytes), n = 0;
    out->word[n++] = (uint16_t)(head >> WORD_BITS);
    out->word[n++] = head & 0x3ff;
    out->word[n++] = (uint16_t)(tail >> WORD_BITS);
    out->word[n++] = tail & 0x3ff;
    uint32_t bits = 0, held = (uint32_t)(words * WORD_BITS - 8u * share->value_bytes);
    for (size_t i = 0; i < share->value_bytes; i++) {
        bits = (bits << 8 | share->value[i]) & 0x3ffff;
        for (held += 8; held >= WORD_BITS; held -= WORD_BITS)
            out->word[n++] = bits >> (held - WORD_BITS) & 0x3ff;
    }
    memset(out->word + n, 0, CHECKSUM_WORDS * sizeof *out->word);
    uint32_t checksum = polymod(share->extendable, out->word, n + CHECKSUM_WORDS) ^ 1;
    for (int shift = 2 * WORD_BITS; shift >= 0; shift -= WORD_BITS)
        out->word[n++] = checksum >> shift & 0x3ff;
    out->count = n;
}

static bool read_value(const struct slip39_mnemonic *mnemonic, struct slip39_share *out)
{
    size_t words = mnemonic->count - HEAD_WORDS - CHECKSUM_WORDS;
    unsigned padding = words * WORD_BITS % 16;
    if (padding > PADDING_BITS_MAX)
        return false;
    uint32_t bits = 0, held = 0, skipped = 0;
    size_t n = 0;
    for (size_t i = 0; i < words; i++) {
        bits = (bits << WORD_BITS | mnemonic->word[HEAD_WORDS + i]) & 0x3ffff;
        held += WORD_BITS;
        if (i == 0) {
            skipped = bits >> (WORD_BITS - padding);
            held -= padding;
        }
        for (; held >= 8; held -= 8)
            out->value[n++] = (uint8_t)(bits >> (held - 8));
    }
    out->value_bytes = (uint8_t)n;
    return skipped == 0;
}

enum sso_code slip39_mnemonic_read(const struct slip39_mnemonic *mnemonic, struct slip39_share *out,
                                   struct sso_error *err)
{
    const uint16_t *word = mnemonic->word;
    if (mnemonic->count < WORDS_MIN || mnemonic->count > SLIP39_MNEMONIC_WORDS_MAX)
        return sso_fail(err, SSO_WRONG_SHARES, "a share has 20 to %d words, this one has %zu",
                        SLIP39_MNEMONIC_WORDS_MAX, mnemonic->count);
    uint32_t head = (uint32_t)word[0] << WORD_BITS | word[1];
    uint32_t tail = (uint32_t)word[2] << WORD_BITS | word[3];
    *out = (struct slip39_share){
        .identifier = (uint16_t)(head >> 5),
        .extendable = (head >> 4 & 1) != 0,
        .iteration_exponent = head & 0xf,
        .group_index = tail >> 16 & 0xf,
        .group_threshold = (uint8_t)((tail >> 12 & 0xf) + 1),
        .group_count = (uint8_t)((tail >> 8 & 0xf) + 1),
        .member_index = tail >> 4 & 0xf,
        .member_threshold = (uint8_t)((tail & 0xf) + 1),
    };
    if (polymod(out->extendable, word, mnemonic->count) != 1)
        return sso_fail(err, SSO_WRONG_SHARES,
                        "its checksum does not fit: a word is wrong, or two "
                        "words changed places");
    if (!read_value(mnemonic, out) || out->group_threshold > out->group_count) {
        OPENSSL_cleanse(out, sizeof *out);
        return sso_fail(err, SSO_WRONG_SHARES,
                        "it is no share of SLIP-39: length, padding or "
                        "group threshold are impossible");
    }
    return SSO_OK;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

enum sso_code slip39_text_read(const char *text, size_t length, struct slip39_mnemonic *out,
                               struct sso_error *err)
{
    out->count = 0;
    for (size_t i = 0; i < length;) {
        if (is_blank(text[i])) {
            i++;
            continue;
        }
        size_t begin = i;
        while (i < length && !is_blank(text[i]))
            i++;
        if (out->count == SLIP39_MNEMONIC_WORDS_MAX)
            return sso_fail(err, SSO_WRONG_SHARES, "it has more than %d words",
                            SLIP39_MNEMONIC_WORDS_MAX);
        int index = slip39_word_find(text + begin, i - begin);
        if (index < 0)
            return sso_fail(err, SSO_WRONG_SHARES, "word %zu is no word of SLIP-39",
                            out->count + 1);
        out->word[out->count++] = (uint16_t)index;
    }
    return SSO_OK;
}
