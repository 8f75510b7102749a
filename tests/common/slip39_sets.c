/* Writes sets of shares for another implementation to join (slip39_electrum.py): each line is
 * {"secret","passphrase","threshold","shares":[…]}. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/row.h"
#include "common/secret.h"
#include "common/slip39.h"

#define HEAP_BYTES (1 << 20)

static json_t *share_text(const struct slip39_share *share)
{
    struct slip39_mnemonic mnemonic;
    char text[SLIP39_MNEMONIC_BYTES_MAX] = "";
    slip39_mnemonic_write(share, &mnemonic);
    for (size_t i = 0; i < mnemonic.count; i++) {
        strcat(text, i > 0 ? " " : "");
        strcat(text, slip39_word(mnemonic.word[i]));
    }
    return json_string(text);
}

static bool write_set(const struct slip39_scheme *scheme, size_t bytes, const char *passphrase)
{
    struct slip39_share *shares = secret_alloc(SLIP39_SHARES_MAX * sizeof *shares);
    uint8_t random[SLIP39_SECRET_BYTES_MAX];
    SECRET_AUTO secret = {0};
    SECRET_AUTO words = {0};
    json_t *texts = json_array();
    bool made = shares != NULL && random_bytes(random, bytes, NULL) == SSO_OK &&
                secret_append(&secret, random, bytes, NULL) == SSO_OK &&
                secret_append(&words, passphrase, strlen(passphrase), NULL) == SSO_OK &&
                slip39_split(scheme, &secret, &words, shares, NULL) == SSO_OK;
    for (size_t i = 0; made && i < scheme->count; i++)
        json_array_append_new(texts, share_text(&shares[i]));
    json_t *line =
        json_pack("{s:o, s:s, s:i, s:o}", "secret", json_hex(random, bytes), "passphrase",
                  passphrase, "threshold", scheme->threshold, "shares", texts);
    made = made && json_dumpf(line, stdout, JSON_COMPACT) == 0 && putchar('\n') != EOF;
    json_decref(line);
    secret_dealloc(shares);
    return made;
}

int main(void)
{
    static const struct slip39_scheme schemes[] = {{1, 1, 0}, {2, 2, 1}, {2, 3, 0},
                                                   {3, 5, 2}, {5, 8, 0}, {16, 16, 0}};
    static const size_t sizes[] = {16, 32};
    static const char *const passphrases[] = {"", "with a passphrase ~!"};
    struct sso_error err;
    wiping_allocator_install();
    if (secret_memory_init(HEAP_BYTES, &err) != SSO_OK) {
        fprintf(stderr, "%s\n", err.detail);
        return 77;
    }
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        for (size_t j = 0; j < 2; j++)
            for (size_t k = 0; k < 2; k++)
                if (!write_set(&schemes[i], sizes[j], passphrases[k]))
                    return 1;
    return 0;
}
