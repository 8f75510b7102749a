/* Officers at the terminal, one at a time: what they copy, and that they copied it. */
#include <openssl/crypto.h>
#include <string.h>

#include "cli/ceremony/shares.h"
#include "cli/ceremony/terminal.h"
#include "common/encode.h"
#include "common/row.h"

#define COLUMNS 4
#define ASKED_WORDS 5
#define LINE "------------------------------------------------------------------------------\n"

static void show_words(struct terminal *terminal, const struct slip39_mnemonic *mnemonic)
{
    size_t rows = (mnemonic->count + COLUMNS - 1) / COLUMNS;
    for (size_t row = 0; row < rows; row++) {
        for (size_t column = 0; column < COLUMNS; column++) {
            size_t n = column * rows + row;
            if (n >= mnemonic->count)
                continue;
            const char *word = slip39_word(mnemonic->word[n]);
            size_t length = strlen(word);
            terminal_say(terminal, "   %2zu ", n + 1);
            terminal_write(terminal, word, length);
            terminal_write(terminal, "             ", 13 - length);
        }
        terminal_say(terminal, "\n");
    }
}

static enum sso_code show(struct terminal *terminal, const struct share_occasion *occasion,
                          const struct slip39_share *share, const struct slip39_mnemonic *mnemonic,
                          struct sso_error *err)
{
    const struct share_set *set = occasion->set;
    char hex[2 * SHARE_FINGERPRINT_BYTES + 1];
    hex_encode(set->fingerprint[share->member_index], SHARE_FINGERPRINT_BYTES, hex);
    terminal_clear(terminal);
    terminal_say(terminal, "sso-hsm: %s, share %u of %u\n" LINE, occasion->system_name,
                 share->member_index + 1u, set->scheme.count);
    terminal_say(
        terminal,
        "Copy these %zu words by hand, with their numbers, down each column. %u of the %u\n"
        "shares bring the key back%s.\n\n",
        mnemonic->count, set->scheme.threshold, set->scheme.count,
        set->passphrase ? ", together with the passphrase" : "");
    show_words(terminal, mnemonic);
    terminal_say(terminal, "\nWrite below them: share set %s,\nfingerprint %s\n" LINE, set->id,
                 hex);
    return terminal_wait(terminal,
                         "Press Enter when you have copied them and compared once: ", err);
}

static bool was_asked(const uint8_t *places, size_t count, uint8_t place)
{
    return memchr(places, place, count) != NULL;
}

/* *right: every word that was asked for came back. */
static enum sso_code ask_back(struct terminal *terminal, const struct slip39_mnemonic *mnemonic,
                              bool *right, struct sso_error *err)
{
    uint8_t places[ASKED_WORDS];
    SECRET_AUTO line = {0};
    terminal_clear(terminal);
    terminal_say(terminal, "From your paper, please; four letters complete a word.\n\n");
    *right = true;
    for (size_t asked = 0; *right && asked < ASKED_WORDS;) {
        uint8_t random;
        enum sso_code rc = random_bytes(&random, sizeof random, err);
        uint8_t place = (uint8_t)(random % mnemonic->count);
        if (rc == SSO_OK && was_asked(places, asked, place))
            continue;
        terminal_say(terminal, "Word %u: ", place + 1u);
        if (rc == SSO_OK)
            rc = terminal_line(terminal, true, &line, err);
        if (rc != SSO_OK)
            return rc;
        places[asked++] = place;
        *right =
            slip39_word_find((const char *)line.data, line.length_bytes) == mnemonic->word[place];
    }
    return SSO_OK;
}

static enum sso_code give(struct terminal *terminal, const struct share_occasion *occasion,
                          const struct slip39_share *share, struct sso_error *err)
{
    unsigned number = share->member_index + 1u;
    struct slip39_mnemonic *mnemonic = secret_alloc(sizeof *mnemonic);
    if (mnemonic == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no locked memory for a share");
    slip39_mnemonic_write(share, mnemonic);
    terminal_clear(terminal);
    terminal_say(terminal,
                 "sso-hsm: %s\n" LINE
                 "Officer %u of %u, please sit down, with paper and pen. Nobody else looks at the\n"
                 "screen until you are done.\n\n",
                 occasion->system_name, number, occasion->set->scheme.count);
    enum sso_code rc = terminal_wait(terminal, "Press Enter: ", err);
    for (bool right = false; rc == SSO_OK && !right;) {
        rc = show(terminal, occasion, share, mnemonic, err);
        if (rc == SSO_OK)
            rc = ask_back(terminal, mnemonic, &right, err);
        if (rc == SSO_OK && !right)
            rc = terminal_wait(terminal,
                               "\nThat is another word. The share is shown once more: "
                               "press Enter: ",
                               err);
    }
    terminal_clear(terminal);
    secret_dealloc(mnemonic);
    return rc;
}

enum sso_code shares_show(const struct share_occasion *occasion, struct slip39_share *shares,
                          struct sso_error *err)
{
    TERMINAL_AUTO terminal = {.fd = -1};
    enum sso_code rc =
        terminal_open(&terminal, "give --shares-dir, or run this at a terminal", err);
    for (unsigned i = 0; rc == SSO_OK && i < occasion->set->scheme.count; i++) {
        rc = give(&terminal, occasion, &shares[i], err);
        OPENSSL_cleanse(&shares[i], sizeof shares[i]);
    }
    if (rc == SSO_OK) {
        terminal_say(&terminal,
                     "Every officer has a share, and it is known nowhere else any more.\n\n");
        rc = terminal_wait(&terminal,
                           "Press Enter to write the backup file and to finish, Ctrl-C to undo "
                           "all of it: ",
                           err);
    }
    return rc;
}

/* --- the way back --- */

#define TRIES 3
#define SHARE_WORDS (7 + (8 * BACKUP_SECRET_BYTES + 9) / 10)

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* Takes the words of a line. What is no word is named by its place, and what follows it is asked
 * for anew. */
static void take_words(struct terminal *terminal, const struct secret *line,
                       struct slip39_mnemonic *mnemonic)
{
    for (size_t i = 0; i < line->length_bytes && mnemonic->count < SHARE_WORDS;) {
        if (is_blank(line->data[i])) {
            i++;
            continue;
        }
        size_t begin = i;
        while (i < line->length_bytes && !is_blank(line->data[i]))
            i++;
        if (i - begin == 1 && line->data[begin] == '-') {
            mnemonic->count -= mnemonic->count > 0;
            continue;
        }
        int index = slip39_word_find((const char *)line->data + begin, i - begin);
        if (index < 0) {
            terminal_say(terminal, "  word %zu is none of the list: type it again\n",
                         mnemonic->count + 1);
            return;
        }
        mnemonic->word[mnemonic->count++] = (uint16_t)index;
    }
}

/* *given: false where the officer gave up with an empty line. */
static enum sso_code ask_words(struct terminal *terminal, struct slip39_mnemonic *mnemonic,
                               bool *given, struct sso_error *err)
{
    SECRET_AUTO line = {0};
    mnemonic->count = 0;
    while (mnemonic->count < SHARE_WORDS) {
        terminal_say(terminal, "Word %zu: ", mnemonic->count + 1);
        enum sso_code rc = terminal_line(terminal, true, &line, err);
        if (rc != SSO_OK)
            return rc;
        if (line.length_bytes == 0 && mnemonic->count == 0) {
            *given = false;
            return SSO_OK;
        }
        take_words(terminal, &line, mnemonic);
    }
    *given = true;
    return SSO_OK;
}

/* What is wrong with a share that was typed; SSO_OK: nothing. */
static enum sso_code judge(const struct share_set *set, const struct share_pile *pile,
                           const struct slip39_mnemonic *mnemonic, struct slip39_share *share,
                           struct sso_error *why)
{
    enum sso_code rc = slip39_mnemonic_read(mnemonic, share, why);
    if (rc != SSO_OK)
        return rc;
    for (size_t i = 0; i < pile->count; i++) {
        if (share_is_same(share, &pile->share[i]))
            return sso_fail(why, SSO_SHARE_REPEATED, "this share was given before");
    }
    if (share_is_member(set, share))
        return SSO_OK;
    if (pile->count > 0 && share->identifier != set->identifier)
        return sso_fail(why, SSO_SHARES_OF_DIFFERENT_SETS,
                        "this share and those before it belong to different share sets");
    return sso_fail(why, SSO_WRONG_SHARES, "this is no share of the share set %s", set->id);
}

static enum sso_code ask_share(struct terminal *terminal, const struct share_set *set,
                               struct share_pile *out, bool *given, struct sso_error *err)
{
    struct sso_error why = {0};
    struct slip39_mnemonic *mnemonic = secret_alloc(sizeof *mnemonic);
    enum sso_code rc = mnemonic != NULL
                           ? SSO_WRONG_SHARES
                           : sso_fail(err, SSO_NO_MEMORY, "no locked memory for a share");
    for (unsigned i = 0; mnemonic != NULL && i < TRIES; i++) {
        terminal_clear(terminal);
        if (why.code != SSO_OK)
            terminal_say(terminal, "Share %zu has to be typed again: %s.\n\n", out->count + 1,
                         why.detail);
        terminal_say(terminal,
                     "Share %zu of the %u that are needed (share set %s).\n"
                     "Type its %d words, one or several on a line; four letters complete a word;\n"
                     "- takes the last one back; Enter alone gives up.\n\n",
                     out->count + 1, set->scheme.threshold, set->id, SHARE_WORDS);
        rc = ask_words(terminal, mnemonic, given, err);
        if (rc != SSO_OK || !*given)
            break;
        rc = judge(set, out, mnemonic, &out->share[out->count], &why);
        if (rc == SSO_OK)
            break;
    }
    if (rc != SSO_OK && why.code == rc)
        sso_fail(err, rc, "share %zu as it was typed: %s", out->count + 1, why.detail);
    secret_dealloc(mnemonic);
    terminal_clear(terminal);
    return rc;
}

enum sso_code shares_ask(const struct share_set *set, struct share_pile *out, struct sso_error *err)
{
    TERMINAL_AUTO terminal = {.fd = -1};
    enum sso_code rc =
        terminal_open(&terminal, "give --shares-dir, or run this at a terminal", err);
    bool given = true;
    while (rc == SSO_OK && given && out->count < set->scheme.threshold) {
        terminal_clear(&terminal);
        terminal_say(&terminal, "Officer, please sit down with your share. Nobody else looks at "
                                "the screen until you are done.\n\n");
        rc = terminal_wait(&terminal, "Press Enter: ", err);
        if (rc == SSO_OK)
            rc = ask_share(&terminal, set, out, &given, err);
        if (rc == SSO_OK && given) {
            strcpy(out->from[out->count], "a share that was typed");
            out->count++;
        }
    }
    return rc;
}

enum sso_code passphrase_ask(bool confirm, struct secret *out, struct sso_error *err)
{
    TERMINAL_AUTO terminal = {.fd = -1};
    SECRET_AUTO again = {0};
    enum sso_code rc = terminal_open(
        &terminal, "the passphrase of the shares is asked for at a terminal only", err);
    if (rc == SSO_OK) {
        terminal_say(&terminal, "Passphrase of the shares: ");
        rc = terminal_line(&terminal, false, out, err);
    }
    if (rc != SSO_OK || !confirm)
        return rc;
    if (out->length_bytes == 0)
        return sso_fail(err, SSO_USAGE, "an empty passphrase is none: leave --passphrase out");
    terminal_say(&terminal, "Once more: ");
    rc = terminal_line(&terminal, false, &again, err);
    if (rc == SSO_OK && (again.length_bytes != out->length_bytes ||
                         CRYPTO_memcmp(again.data, out->data, out->length_bytes) != 0))
        rc = sso_fail(err, SSO_USAGE, "the two passphrases differ");
    return rc;
}
