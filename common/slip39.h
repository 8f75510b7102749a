/*
 * SLIP-0039: a secret in shares of words, M of which bring it back.
 *
 * What is written: one group, 2 <= M <= N <= 16 or 1 of 1, not extendable. What is read: every
 * scheme of the standard, with groups and extendable ones. Shares and secrets lie in locked memory,
 * and arithmetic on them takes the same time whatever they are (common/gf256.h); finding a word in
 * the table does not.
 */
#ifndef SSO_COMMON_SLIP39_H
#define SSO_COMMON_SLIP39_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/secret.h"

#define SLIP39_WORDS 1024
#define SLIP39_WORD_BYTES_MIN 4
#define SLIP39_WORD_BYTES_MAX 8
#define SLIP39_SHARES_MAX 16 /* of a group, and groups of a set */
#define SLIP39_SECRET_BYTES_MIN 16
#define SLIP39_SECRET_BYTES_MAX 64
#define SLIP39_MNEMONIC_WORDS_MAX 59 /* 4 + ceil(8 * 64 / 10) + 3 */
#define SLIP39_MNEMONIC_BYTES_MAX (SLIP39_MNEMONIC_WORDS_MAX * (SLIP39_WORD_BYTES_MAX + 1))
#define SLIP39_PASSPHRASE_BYTES_MAX 256

/* One share. To be held in locked memory (secret_alloc). */
struct slip39_share {
    uint16_t identifier; /* 15 bits, of the set */
    bool extendable;
    uint8_t iteration_exponent;
    uint8_t group_index, group_threshold, group_count;
    uint8_t member_index, member_threshold;
    uint8_t value_bytes;
    uint8_t value[SLIP39_SECRET_BYTES_MAX];
};

/* The indices of its words. */
struct slip39_mnemonic {
    uint16_t word[SLIP39_MNEMONIC_WORDS_MAX];
    size_t count;
};

const char *slip39_word(uint16_t index);
/* The index of a word or of its beginning, four letters at least, in small or capital letters; -1:
 * no word of the table. */
int slip39_word_find(const char *text, size_t length);

void slip39_mnemonic_write(const struct slip39_share *share, struct slip39_mnemonic *out);
/* SSO_WRONG_SHARES: a word is wrong (the checksum does not fit), or it is no share at all. */
enum sso_code slip39_mnemonic_read(const struct slip39_mnemonic *mnemonic, struct slip39_share *out,
                                   struct sso_error *err) __attribute__((warn_unused_result));
/* The same from text: words separated by blanks or line ends. The text of the error names a word
 * that is none by its place only. */
enum sso_code slip39_text_read(const char *text, size_t length, struct slip39_mnemonic *out,
                               struct sso_error *err) __attribute__((warn_unused_result));

/* What a set of shares is to be like. */
struct slip39_scheme {
    uint8_t threshold, count; /* M and N */
    uint8_t iteration_exponent;
};
/* SSO_USAGE unless 2 <= M <= N <= 16, or 1 of 1. */
enum sso_code slip39_scheme_check(const struct slip39_scheme *scheme, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Splits `secret` into scheme->count shares with a new random identifier. `passphrase`: printable
 * ASCII (SSO_USAGE else), may be empty. */
enum sso_code slip39_split(const struct slip39_scheme *scheme, const struct secret *secret,
                           const struct secret *passphrase, struct slip39_share *out,
                           struct sso_error *err) __attribute__((warn_unused_result));

/* Joins shares. More than the threshold are allowed where all of them fit together. A wrong
 * passphrase is not noticed here: the standard wants it so. SSO_SHARES_OF_DIFFERENT_SETS,
 * SSO_SHARE_REPEATED, SSO_TOO_FEW_SHARES, SSO_WRONG_SHARES: the digest does not fit. `out` is
 * untouched on error. */
enum sso_code slip39_join(const struct slip39_share *shares, size_t count,
                          const struct secret *passphrase, struct secret *out,
                          struct sso_error *err) __attribute__((warn_unused_result));

#endif
