/* SLIP-39: field, words, split and join, and the official vectors where they are. argv[1]: the
 * folder of the vectors where SSO_HSM_VECTORS names none. */
#include "tests/common/testing.h"

#include <jansson.h>

#include "common/gf256.h"
#include "common/row.h"
#include "common/slip39.h"
#include "common/digest.h"
#include "common/encode.h"

static const char *vectors_folder;
static bool vectors_demanded;

/* --- the field --- */

/* Schoolbook: shift and reduce with branches. */
static uint8_t slow_multiply(uint8_t a, uint8_t b)
{
    unsigned product = 0;
    for (int i = 0; i < 8; i++)
        if ((b >> i & 1) != 0)
            product ^= (unsigned)a << i;
    for (int i = 14; i >= 8; i--)
        if ((product >> i & 1) != 0)
            product ^= 0x11bu << (i - 8);
    return (uint8_t)product;
}

static void field_multiplies_and_inverts(void **state)
{
    (void)state;
    for (unsigned a = 0; a < 256; a++) {
        for (unsigned b = 0; b < 256; b++)
            assert_int_equal(gf256_multiply((uint8_t)a, (uint8_t)b),
                             slow_multiply((uint8_t)a, (uint8_t)b));
        assert_int_equal(gf256_multiply((uint8_t)a, gf256_invert((uint8_t)a)), a != 0);
    }
}

static void interpolation_gives_back_a_polynomial(void **state)
{
    (void)state;
    /* 7 + 3x + x^2 */
    uint8_t y[4];
    struct gf256_point points[3];
    for (uint8_t x = 0; x < 4; x++)
        y[x] = 7 ^ gf256_multiply(3, x) ^ gf256_multiply(x, x);
    for (uint8_t x = 0; x < 3; x++)
        points[x] = (struct gf256_point){x, &y[x]};
    for (unsigned x = 0; x < 256; x++) {
        uint8_t out;
        gf256_interpolate(points, 3, (uint8_t)x, 1, &out);
        assert_int_equal(out, 7 ^ gf256_multiply(3, (uint8_t)x) ^
                                  gf256_multiply((uint8_t)x, (uint8_t)x));
    }
}

/* --- words --- */

static void words_are_the_table_of_the_standard(void **state)
{
    (void)state;
    char all[SLIP39_WORDS * (SLIP39_WORD_BYTES_MAX + 1)], hex[2 * DIGEST_BYTES + 1];
    uint8_t digest[DIGEST_BYTES];
    size_t used = 0;
    for (uint16_t i = 0; i < SLIP39_WORDS; i++)
        used += (size_t)sprintf(all + used, "%s\n", slip39_word(i));
    digest_sha256(all, used, digest);
    hex_encode(digest, sizeof digest, hex);
    assert_string_equal(hex, "bcc4555340332d169718aed8bf31dd9d5248cb7da6e5d355140ef4f1e601eec3");
}

static void four_letters_complete_a_word(void **state)
{
    (void)state;
    for (uint16_t i = 0; i < SLIP39_WORDS; i++) {
        const char *word = slip39_word(i);
        for (size_t length = 4; length <= strlen(word); length++)
            assert_int_equal(slip39_word_find(word, length), i);
        assert_int_equal(slip39_word_find(word, 3), -1);
    }
    assert_int_equal(slip39_word_find("ACADemic", 8), 0);
    assert_int_equal(slip39_word_find("academix", 8), -1);
    assert_int_equal(slip39_word_find("academics", 9), -1);
    assert_int_equal(slip39_word_find("abcd", 4), -1);
    assert_int_equal(slip39_word_find("zzzz", 4), -1);
    assert_int_equal(slip39_word_find("\xff\xff\xff\xff", 4), -1);
}

/* --- shares --- */

struct set {
    struct slip39_scheme scheme;
    struct secret secret, passphrase;
    struct slip39_share *shares;
};

static void make_set(struct set *set, uint8_t threshold, uint8_t count, size_t bytes,
                     const char *passphrase)
{
    uint8_t random[SLIP39_SECRET_BYTES_MAX];
    *set = (struct set){.scheme = {threshold, count, 0}};
    set->shares = secret_alloc(SLIP39_SHARES_MAX * sizeof *set->shares);
    assert_non_null(set->shares);
    assert_int_equal(random_bytes(random, bytes, NULL), SSO_OK);
    assert_int_equal(secret_append(&set->secret, random, bytes, NULL), SSO_OK);
    assert_int_equal(secret_append(&set->passphrase, passphrase, strlen(passphrase), NULL), SSO_OK);
    assert_int_equal(slip39_split(&set->scheme, &set->secret, &set->passphrase, set->shares, NULL),
                     SSO_OK);
}

static void free_set(struct set *set)
{
    secret_dealloc(set->shares);
    secret_free(&set->secret);
    secret_free(&set->passphrase);
}

/* Joins the members that `mask` names. */
static enum sso_code join_some(const struct set *set, unsigned mask, struct secret *out)
{
    struct slip39_share *some = secret_alloc(SLIP39_SHARES_MAX * sizeof *some);
    size_t count = 0;
    for (unsigned i = 0; i < set->scheme.count; i++)
        if ((mask >> i & 1) != 0)
            some[count++] = set->shares[i];
    enum sso_code rc = slip39_join(some, count, &set->passphrase, out, NULL);
    secret_dealloc(some);
    return rc;
}

static void check_every_subset(uint8_t threshold, uint8_t members)
{
    struct set set;
    make_set(&set, threshold, members, 32, "");
    for (unsigned mask = 0; mask < 1u << members; mask++) {
        SECRET_AUTO joined = {0};
        enum sso_code rc = join_some(&set, mask, &joined);
        if (__builtin_popcount(mask) < threshold) {
            assert_int_equal(rc, SSO_TOO_FEW_SHARES);
            assert_int_equal(joined.length_bytes, 0);
            continue;
        }
        assert_int_equal(rc, SSO_OK);
        assert_int_equal(joined.length_bytes, 32);
        assert_memory_equal(joined.data, set.secret.data, 32);
    }
    free_set(&set);
}

static void every_subset_joins_or_is_too_small(void **state)
{
    (void)state;
    check_every_subset(1, 1);
    check_every_subset(2, 2);
    check_every_subset(2, 3);
    check_every_subset(3, 5);
    check_every_subset(5, 8);
    check_every_subset(7, 7);
}

static void the_largest_set_joins(void **state)
{
    (void)state;
    struct set set;
    SECRET_AUTO joined = {0};
    make_set(&set, 16, 16, SLIP39_SECRET_BYTES_MAX, "~ printable !");
    assert_int_equal(join_some(&set, 0xffff, &joined), SSO_OK);
    assert_memory_equal(joined.data, set.secret.data, SLIP39_SECRET_BYTES_MAX);
    free_set(&set);
}

static void another_passphrase_gives_another_secret(void **state)
{
    (void)state;
    struct set set;
    SECRET_AUTO joined = {0};
    make_set(&set, 2, 3, 32, "right");
    set.passphrase.data[0] = 'l';
    assert_int_equal(join_some(&set, 3, &joined), SSO_OK);
    assert_memory_not_equal(joined.data, set.secret.data, 32);
    free_set(&set);
}

static void schemes_that_are_none(void **state)
{
    (void)state;
    static const struct slip39_scheme wrong[] = {{0, 0, 0}, {0, 1, 0}, {1, 2, 0},  {1, 16, 0},
                                                 {3, 2, 0}, {2, 1, 0}, {2, 17, 0}, {17, 17, 0}};
    struct sso_error err;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        check_failure(slip39_scheme_check(&wrong[i], &err), SSO_USAGE, &err, "2 <= M <= N <= 16");
}

static void passphrases_that_are_none(void **state)
{
    (void)state;
    static const char *const wrong[] = {"with\ttab", "\xc3\xbc", "\x7f"};
    for (size_t i = 0; i < 3; i++) {
        struct set set;
        struct sso_error err;
        make_set(&set, 2, 2, 32, "good");
        secret_clear(&set.passphrase);
        assert_int_equal(secret_append(&set.passphrase, wrong[i], strlen(wrong[i]), NULL), SSO_OK);
        check_failure(slip39_split(&set.scheme, &set.secret, &set.passphrase, set.shares, &err),
                      SSO_USAGE, &err, "printable ASCII");
        free_set(&set);
    }
}

static void mixed_and_repeated_shares_are_named(void **state)
{
    (void)state;
    struct set a, b;
    struct sso_error err;
    SECRET_AUTO out = {0};
    make_set(&a, 2, 3, 32, "");
    make_set(&b, 2, 3, 32, "");
    b.shares[1].identifier ^= b.shares[1].identifier == a.shares[0].identifier;
    struct slip39_share mixed[2] = {a.shares[0], b.shares[1]};
    check_failure(slip39_join(mixed, 2, &a.passphrase, &out, &err), SSO_SHARES_OF_DIFFERENT_SETS,
                  &err, "shares 1 and 2");
    mixed[1] = a.shares[0];
    check_failure(slip39_join(mixed, 2, &a.passphrase, &out, &err), SSO_SHARE_REPEATED, &err,
                  "(number 1)");
    /* Of another secret, but with the identifier of this set. */
    mixed[1] = b.shares[1];
    mixed[1].identifier = a.shares[0].identifier;
    check_failure(slip39_join(mixed, 2, &a.passphrase, &out, &err), SSO_WRONG_SHARES, &err,
                  "do not fit");
    assert_int_equal(out.length_bytes, 0);
    free_set(&a);
    free_set(&b);
}

static void shares_survive_their_words(void **state)
{
    (void)state;
    static const size_t sizes[] = {16, 18, 20, 24, 32, 48, 64};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct set set;
        make_set(&set, 3, 4, sizes[i], "");
        for (unsigned n = 0; n < 4; n++) {
            struct slip39_mnemonic mnemonic;
            struct slip39_share read;
            slip39_mnemonic_write(&set.shares[n], &mnemonic);
            assert_int_equal(mnemonic.count, 7 + (8 * sizes[i] + 9) / 10);
            assert_int_equal(slip39_mnemonic_read(&mnemonic, &read, NULL), SSO_OK);
            assert_memory_equal(&read, &set.shares[n], sizeof read);
        }
        free_set(&set);
    }
}

/* RS1024 finds any one, two or three wrong words for sure. */
static void one_wrong_word_is_found(void **state)
{
    (void)state;
    struct set set;
    struct slip39_mnemonic mnemonic;
    struct slip39_share read;
    struct sso_error err;
    make_set(&set, 2, 2, 32, "");
    slip39_mnemonic_write(&set.shares[0], &mnemonic);
    assert_int_equal(mnemonic.count, 33);
    for (size_t i = 0; i < mnemonic.count; i++) {
        for (uint16_t other = 1; other < SLIP39_WORDS; other += 41) {
            mnemonic.word[i] ^= other;
            check_failure(slip39_mnemonic_read(&mnemonic, &read, &err), SSO_WRONG_SHARES, &err,
                          "checksum");
            mnemonic.word[i] ^= other;
        }
    }
    for (size_t i = 0; i + 1 < mnemonic.count; i++) {
        struct slip39_mnemonic swapped = mnemonic;
        swapped.word[i] = mnemonic.word[i + 1];
        swapped.word[i + 1] = mnemonic.word[i];
        if (swapped.word[i] != swapped.word[i + 1])
            check_failure(slip39_mnemonic_read(&swapped, &read, &err), SSO_WRONG_SHARES, &err,
                          "checksum");
    }
    free_set(&set);
}

static void text_names_the_place_of_a_wrong_word_and_not_the_word(void **state)
{
    (void)state;
    struct slip39_mnemonic mnemonic;
    struct sso_error err;
    static const char text[] = "acad acid\n acne \t nonsense axle";
    check_failure(slip39_text_read(text, strlen(text), &mnemonic, &err), SSO_WRONG_SHARES, &err,
                  "word 4");
    assert_null(strstr(err.detail, "nonsense"));
    assert_int_equal(slip39_text_read("  academic   acid ", 18, &mnemonic, NULL), SSO_OK);
    assert_int_equal(mnemonic.count, 2);
}

/* --- the official vectors --- */

static json_t *load_vectors(void)
{
    char path[4096];
    json_error_t error;
    snprintf(path, sizeof path, "%s/slip39.json", vectors_folder);
    json_t *vectors = json_load_file(path, 0, &error);
    if (vectors == NULL && vectors_demanded)
        fail_msg("SSO_HSM_VECTORS: %s: line %d: %s", path, error.line, error.text);
    if (vectors == NULL) {
        printf("no official vectors at %s\n", path);
        skip();
    }
    return vectors;
}

static enum sso_code read_all(const json_t *texts, struct slip39_share *shares, size_t *count)
{
    size_t i;
    const json_t *text;
    json_array_foreach(texts, i, text)
    {
        struct slip39_mnemonic mnemonic;
        enum sso_code rc =
            slip39_text_read(json_string_value(text), json_string_length(text), &mnemonic, NULL);
        if (rc == SSO_OK)
            rc = slip39_mnemonic_read(&mnemonic, &shares[i], NULL);
        if (rc != SSO_OK)
            return rc;
    }
    *count = i;
    return SSO_OK;
}

static bool check_vector(const json_t *vector)
{
    const char *name = json_string_value(json_array_get(vector, 0));
    const char *wanted = json_string_value(json_array_get(vector, 2));
    const json_t *texts = json_array_get(vector, 1);
    struct slip39_share *shares =
        secret_alloc((json_array_size(texts) + 1) * sizeof(struct slip39_share));
    SECRET_AUTO passphrase = {0};
    SECRET_AUTO joined = {0};
    size_t count = 0;
    char hex[2 * SLIP39_SECRET_BYTES_MAX + 1] = "";
    assert_int_equal(secret_append(&passphrase, "TREZOR", 6, NULL), SSO_OK);
    enum sso_code rc = read_all(texts, shares, &count);
    if (rc == SSO_OK)
        rc = slip39_join(shares, count, &passphrase, &joined, NULL);
    hex_encode(joined.data, joined.length_bytes, hex);
    if (strcmp(hex, wanted) != 0 || (rc == SSO_OK) != (wanted[0] != '\0'))
        fail_msg("%s: %s, \"%s\"", name, sso_code_facts(rc)->name, hex);
    secret_dealloc(shares);
    return rc == SSO_OK;
}

static void official_vectors_agree(void **state)
{
    (void)state;
    json_t *vectors = load_vectors();
    size_t i, joined = 0;
    const json_t *vector;
    json_array_foreach(vectors, i, vector)
    {
        joined += check_vector(vector);
    }
    printf("%zu vectors: %zu joined, %zu refused\n", i, joined, i - joined);
    assert_true(joined > 0 && joined < i);
    json_decref(vectors);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(field_multiplies_and_inverts),
        cmocka_unit_test(interpolation_gives_back_a_polynomial),
        cmocka_unit_test(words_are_the_table_of_the_standard),
        cmocka_unit_test(four_letters_complete_a_word),
        cmocka_unit_test(every_subset_joins_or_is_too_small),
        cmocka_unit_test(the_largest_set_joins),
        cmocka_unit_test(another_passphrase_gives_another_secret),
        cmocka_unit_test(schemes_that_are_none),
        cmocka_unit_test(passphrases_that_are_none),
        cmocka_unit_test(mixed_and_repeated_shares_are_named),
        cmocka_unit_test(shares_survive_their_words),
        cmocka_unit_test(one_wrong_word_is_found),
        cmocka_unit_test(text_names_the_place_of_a_wrong_word_and_not_the_word),
        cmocka_unit_test(official_vectors_agree),
    };
    testing_start();
    const char *named = getenv("SSO_HSM_VECTORS");
    vectors_demanded = named != NULL && named[0] != '\0';
    vectors_folder = vectors_demanded ? named : argc > 1 ? argv[1] : "";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
