/* A master secret and its backup, on every token that is here: made, tried, installed anew, wrapped
 * under another key; what is damaged is refused and leaves nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/row.h"
#include "pkcs11/hsm.h"
#include "tokens.h"

#define SAMPLES 10

static struct spawner *spawner;
static enum token_kind kind;
static struct test_token token;
static struct hsm *hsm;
static uint8_t *wrapping_key, *other_key, *row_keys;
static uint32_t next_number = 1;

struct made {
    struct generation_key key;
    struct hsm_backup backup;
};

static void assert_ok(enum sso_code code, const struct sso_error *err)
{
    if (code != SSO_OK)
        print_error("%s: %s\n", sso_code_facts(code)->name, err->detail);
    assert_int_equal(code, SSO_OK);
}

static int setup(void **state)
{
    static const char *const labels[] = {"first", NULL};
    struct sso_error err = {0};
    (void)state;
    if (!test_token_new(&token, kind, labels))
        return -1;
    wrapping_key = secret_alloc(WRAPPING_KEY_BYTES);
    other_key = secret_alloc(WRAPPING_KEY_BYTES);
    row_keys = secret_alloc((size_t)SAMPLES * ROW_KEY_BYTES);
    if (!test_token_spawner(&token, &spawner) ||
        random_bytes(wrapping_key, WRAPPING_KEY_BYTES, &err) != SSO_OK ||
        random_bytes(other_key, WRAPPING_KEY_BYTES, &err) != SSO_OK ||
        hsm_open(&token.section, token.state, spawner, false, &hsm, &err) != SSO_OK) {
        print_error("%s\n", err.detail);
        return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hsm_close(&hsm);
    secret_dealloc(wrapping_key);
    secret_dealloc(other_key);
    secret_dealloc(row_keys);
    test_token_free(&token);
    return 0;
}

static struct made generate(enum suite_id suite)
{
    struct made made = {
        .key = {.system_id = {7}, .number = next_number++, .suite = suite},
        .backup = {.wrapping_key = wrapping_key},
    };
    struct evidence evidence;
    struct sso_error err = {0};
    assert_int_equal(random_bytes(made.key.secret_id, SECRET_ID_BYTES, &err), SSO_OK);
    assert_ok(hsm_generate_backed(hsm, &made.key, &made.backup, &evidence, &err), &err);
    assert_int_equal(made.backup.wrapped.length_bytes, 40);
    assert_true(evidence.accepted && evidence.canary && evidence.sensitive);
    assert_false(evidence.extractable);
    assert_ok(hsm_open_generation(hsm, &made.key, false, &err), &err);
    return made;
}

/* Row keys wrapped under the generation, as a database holds them. */
static void make_samples(const struct made *made, struct key_item *items)
{
    struct sso_error err = {0};
    memset(items, 0, SAMPLES * sizeof *items);
    for (size_t i = 0; i < SAMPLES; i++) {
        items[i].generation = made->key.number;
        items[i].binding[0] = (uint8_t)i;
        items[i].row_key = row_keys + i * ROW_KEY_BYTES;
    }
    assert_ok(hsm_make(hsm, HSM_LIVE, items, SAMPLES, boot_clock_ms() + 30000, &err), &err);
    for (size_t i = 0; i < SAMPLES; i++)
        assert_int_equal(items[i].code, SSO_OK);
}

static void check_restores(enum suite_id suite)
{
    struct made made = generate(suite);
    struct key_item items[SAMPLES];
    struct hsm_samples samples = {.item = items, .count = SAMPLES};
    struct evidence evidence;
    struct sso_error err = {0};
    make_samples(&made, items);
    assert_int_equal(hsm_install_backup(hsm, &made.key, &made.backup, &evidence, &err),
                     SSO_ALREADY_EXISTS);
    assert_ok(hsm_destroy_key(hsm, &made.key, &err), &err);
    assert_int_equal(hsm_open_generation(hsm, &made.key, false, &err), SSO_NO_MASTER_SECRET);
    items[3].wrapped.bytes[5] ^= 1;
    assert_ok(hsm_try_backup(hsm, &made.key, &made.backup, &samples, &err), &err);
    assert_int_equal(samples.opened, SAMPLES - 1);
    items[3].wrapped.bytes[5] ^= 1;
    assert_int_equal(hsm_open_generation(hsm, &made.key, false, &err), SSO_NO_MASTER_SECRET);
    assert_ok(hsm_install_backup(hsm, &made.key, &made.backup, &evidence, &err), &err);
    assert_true(evidence.accepted && evidence.canary && !evidence.extractable);
    assert_ok(hsm_open_generation(hsm, &made.key, false, &err), &err);
    assert_ok(hsm_unwrap(hsm, HSM_LIVE, items, SAMPLES, boot_clock_ms() + 30000, &err), &err);
    for (size_t i = 0; i < SAMPLES; i++)
        assert_int_equal(items[i].code, SSO_OK);
    assert_ok(hsm_destroy_key(hsm, &made.key, &err), &err);
}

static void test_the_live_key_is_the_restoration_of_its_backup(void **state)
{
    (void)state;
    check_restores(SUITE_AES256_KW);
}

static void test_a_key_for_gcm_restores_too(void **state)
{
    (void)state;
    if (kind == TOKEN_NSS_FIPS)
        skip(); /* whose own IVs this version does not take */
    check_restores(SUITE_AES256_GCM);
}

static void test_wrong_wrapping_key_and_damage_are_refused(void **state)
{
    (void)state;
    struct made made = generate(SUITE_AES256_KW);
    struct made other = generate(SUITE_AES256_KW);
    struct hsm_samples none = {0};
    struct evidence evidence;
    struct sso_error err = {0};
    struct hsm_backup wrong = made.backup;
    wrong.wrapping_key = other_key;
    assert_int_equal(hsm_try_backup(hsm, &made.key, &wrong, &none, &err), SSO_BACKUP_TAMPERED);
    wrong = made.backup;
    wrong.wrapped.bytes[20] ^= 4;
    assert_int_equal(hsm_try_backup(hsm, &made.key, &wrong, &none, &err), SSO_BACKUP_TAMPERED);
    /* A sound backup of another key. */
    assert_int_equal(hsm_try_backup(hsm, &made.key, &other.backup, &none, &err),
                     SSO_WRONG_MASTER_SECRET);
    assert_ok(hsm_destroy_key(hsm, &made.key, &err), &err);
    assert_int_equal(hsm_install_backup(hsm, &made.key, &other.backup, &evidence, &err),
                     SSO_WRONG_MASTER_SECRET);
    assert_int_equal(hsm_open_generation(hsm, &made.key, false, &err), SSO_NO_MASTER_SECRET);
    assert_ok(hsm_destroy_key(hsm, &other.key, &err), &err);
}

static void test_a_backup_is_wrapped_under_another_key(void **state)
{
    (void)state;
    struct made made = generate(SUITE_AES256_KW);
    struct hsm_backup moved = {.wrapping_key = other_key};
    struct hsm_samples none = {0};
    struct evidence evidence;
    struct sso_error err = {0};
    assert_ok(hsm_rewrap_backup(hsm, &made.key, &made.backup, &moved, &err), &err);
    assert_int_equal(moved.wrapped.length_bytes, 40);
    assert_memory_not_equal(moved.wrapped.bytes, made.backup.wrapped.bytes, 40);
    assert_ok(hsm_try_backup(hsm, &made.key, &moved, &none, &err), &err);
    assert_ok(hsm_destroy_key(hsm, &made.key, &err), &err);
    assert_ok(hsm_install_backup(hsm, &made.key, &moved, &evidence, &err), &err);
    assert_ok(hsm_destroy_key(hsm, &made.key, &err), &err);
}

static void test_the_token_gives_randomness(void **state)
{
    (void)state;
    uint8_t *first = secret_alloc(WRAPPING_KEY_BYTES), *second = secret_alloc(WRAPPING_KEY_BYTES);
    struct sso_error err = {0};
    assert_ok(hsm_random(hsm, first, &err), &err);
    assert_ok(hsm_random(hsm, second, &err), &err);
    assert_memory_not_equal(first, second, WRAPPING_KEY_BYTES);
    secret_dealloc(first);
    secret_dealloc(second);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_live_key_is_the_restoration_of_its_backup),
        cmocka_unit_test(test_a_key_for_gcm_restores_too),
        cmocka_unit_test(test_wrong_wrapping_key_and_damage_are_refused),
        cmocka_unit_test(test_a_backup_is_wrapped_under_another_key),
        cmocka_unit_test(test_the_token_gives_randomness),
    };
    struct sso_error err = {0};
    static const char *const labels[] = {"first", NULL};
    struct test_token here;
    wiping_allocator_install();
    kind = test_token_kind(argc > 1 ? argv[1] : NULL);
    if (secret_memory_init((size_t)4 << 20, &err) != SSO_OK) {
        fprintf(stderr, "%s\n", err.detail);
        return 1;
    }
    if (!test_token_new(&here, kind, labels))
        return 77;
    test_token_free(&here);
    int failed = cmocka_run_group_tests(tests, setup, teardown);
    spawner_stop(&spawner);
    return failed;
}
