/* What an officer can type or a file of a share can hold: words, and any set of shares. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/encode.h"
#include "common/slip39.h"

#define HEAP_BYTES (4 << 20)
#define SHARES_TRIED 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct sso_error err;
    (void)argc, (void)argv;
    wiping_allocator_install();
    if (secret_memory_init(HEAP_BYTES, &err) != SSO_OK) {
        fprintf(stderr, "%s\n", err.detail);
        exit(1);
    }
    return 0;
}

/* Whatever words there are give a share or none, and a share gives the same words. */
static void read_words(const struct slip39_mnemonic *mnemonic)
{
    struct slip39_share share;
    struct slip39_mnemonic again;
    if (mnemonic->count > SLIP39_MNEMONIC_WORDS_MAX)
        abort();
    if (slip39_mnemonic_read(mnemonic, &share, NULL) != SSO_OK)
        return;
    slip39_mnemonic_write(&share, &again);
    if (again.count != mnemonic->count ||
        memcmp(again.word, mnemonic->word, again.count * sizeof *again.word) != 0)
        abort();
}

/* With words in place of bytes and a checksum that fits, so that more than the first check is
 * reached. */
static void read_made_words(struct decoder *in)
{
    struct slip39_mnemonic mnemonic = {0};
    mnemonic.count = decode_u8(in) % (SLIP39_MNEMONIC_WORDS_MAX + 1);
    for (size_t i = 0; i < mnemonic.count; i++)
        mnemonic.word[i] = decode_u16(in) % SLIP39_WORDS;
    read_words(&mnemonic);
}

/* Shares as a checksum would let them through. */
static void join_made_shares(struct decoder *in)
{
    struct slip39_share share[SHARES_TRIED] = {0};
    SECRET_AUTO passphrase = {0};
    SECRET_AUTO out = {0};
    size_t count = decode_u8(in) % (SHARES_TRIED + 1);
    for (size_t i = 0; i < count; i++) {
        uint8_t shape = decode_u8(in), index = decode_u8(in), threshold = decode_u8(in);
        share[i].identifier = shape & 1;
        share[i].extendable = (shape & 2) != 0;
        share[i].group_count = (uint8_t)((shape >> 2 & 3) + 1);
        share[i].group_threshold = (uint8_t)((shape >> 4 & 3) % share[i].group_count + 1);
        share[i].group_index = index >> 4;
        share[i].member_index = index & 0xf;
        share[i].member_threshold = (uint8_t)((threshold & 0xf) + 1);
        share[i].value_bytes = 16;
        decode_fixed(in, share[i].value, 16);
    }
    if (slip39_join(share, count, &passphrase, &out, NULL) == SSO_OK && out.length_bytes != 16)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slip39_mnemonic mnemonic;
    struct decoder in = {data, size, false};
    if (slip39_text_read((const char *)data, size, &mnemonic, NULL) == SSO_OK)
        read_words(&mnemonic);
    read_made_words(&in);
    join_made_shares(&in);
    return 0;
}
