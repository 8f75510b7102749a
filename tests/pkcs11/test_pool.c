/* The contract of hsm.h and keyring.h, on every token that is here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/encode.h"
#include "common/row.h"
#include "pkcs11/keyring.h"
#include "tokens.h"

#define ITEMS 100

static struct spawner *spawner, *second_spawner;
static enum token_kind kind;
static struct test_token token;
static struct hsm *hsm;
static uint8_t *keys; /* ITEMS row keys, locked */

static int64_t soon(void)
{
    return boot_clock_ms() + 30000;
}

static int setup(void **state)
{
    static const char *const labels[] = {"first", NULL};
    struct sso_error err = {0};
    (void)state;
    if (!test_token_new(&token, kind, labels))
        return -1;
    keys = secret_alloc((size_t)ITEMS * ROW_KEY_BYTES);
    if (!test_token_spawner(&token, &spawner) ||
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
    secret_dealloc(keys);
    test_token_free(&token);
    return 0;
}

static void assert_ok(enum sso_code code, const struct sso_error *err)
{
    if (code != SSO_OK)
        print_error("%s: %s\n", sso_code_facts(code)->name, err->detail);
    assert_int_equal(code, SSO_OK);
}

/* A canary of zeros would open just as well: whatever is probed while the first key is made must
 * not get into the way of it. */
static void assert_canary_is_random(const struct generation_key *key)
{
    static const uint8_t zeros[ROW_KEY_BYTES];
    uint8_t mac[TAG_BYTES];
    ENCODER_AUTO facts = {0};
    encode_fixed(&facts, key->system_id, SYSTEM_ID_BYTES);
    encode_u32(&facts, key->number);
    encode_fixed(&facts, key->secret_id, SECRET_ID_BYTES);
    encode_u8(&facts, (uint8_t)key->suite);
    digest_hmac_sha256(zeros, sizeof zeros, facts.data, facts.length_bytes, mac);
    assert_memory_not_equal(mac, key->canary.mac, sizeof mac);
}

static struct generation_key generate(uint32_t number, enum suite_id suite)
{
    struct generation_key key = {.system_id = {7}, .number = number, .suite = suite};
    struct evidence evidence;
    struct sso_error err = {0};
    assert_ok(hsm_generate(hsm, &key, &evidence, &err), &err);
    assert_true(evidence.accepted && evidence.canary);
    assert_canary_is_random(&key);
    assert_ok(hsm_open_generation(hsm, &key, false, &err), &err);
    return key;
}

static void prepare(struct key_item *items, size_t count, uint32_t generation)
{
    memset(items, 0, count * sizeof *items);
    for (size_t i = 0; i < count; i++) {
        items[i].generation = generation;
        items[i].binding[0] = (uint8_t)i;
        items[i].binding[1] = 9;
        items[i].row_key = keys + (i % ITEMS) * ROW_KEY_BYTES;
    }
}

static void make(struct key_item *items, uint32_t generation)
{
    struct sso_error err = {0};
    prepare(items, ITEMS, generation);
    assert_ok(hsm_make(hsm, HSM_LIVE, items, ITEMS, soon(), &err), &err);
    for (size_t i = 0; i < ITEMS; i++)
        assert_int_equal(items[i].code, SSO_OK);
}

/* Opens all items under their generation and compares with what `keys` has. */
static void assert_opens(struct key_item *items)
{
    struct sso_error err = {0};
    uint8_t *read = secret_alloc((size_t)ITEMS * ROW_KEY_BYTES);
    for (size_t i = 0; i < ITEMS; i++)
        items[i].row_key = read + i * ROW_KEY_BYTES;
    assert_ok(hsm_unwrap(hsm, HSM_LIVE, items, ITEMS, soon(), &err), &err);
    for (size_t i = 0; i < ITEMS; i++)
        assert_int_equal(items[i].code, SSO_OK);
    assert_memory_equal(read, keys, (size_t)ITEMS * ROW_KEY_BYTES);
    secret_dealloc(read);
    for (size_t i = 0; i < ITEMS; i++)
        items[i].row_key = NULL;
}

static void test_round_trip(void **state)
{
    static const enum suite_id suites[] = {SUITE_AES256_KW, SUITE_AES256_GCM};
    struct sso_error err = {0};
    struct key_item items[ITEMS];
    (void)state;
    for (size_t s = 0; s < 2; s++) {
        uint32_t one = (uint32_t)(10 * (s + 1)), two = one + 1;
        (void)generate(one, suites[s]);
        (void)generate(two, suites[s]);
        make(items, one);
        assert_true(suite_wrapped_fits(suites[s], items[5].wrapped.length_bytes));
        assert_memory_not_equal(keys, keys + ROW_KEY_BYTES, ROW_KEY_BYTES);
        assert_opens(items);
        assert_ok(hsm_rewrap(hsm, HSM_BULK, two, items, ITEMS, soon(), &err), &err);
        for (size_t i = 0; i < ITEMS; i++) {
            assert_int_equal(items[i].code, SSO_OK);
            items[i].generation = two;
        }
        assert_opens(items);
        prepare(items, ITEMS, two);
        assert_ok(hsm_wrap(hsm, HSM_LIVE, items, ITEMS, soon(), &err), &err);
        assert_opens(items);
    }
    /* From one suite to the other and back. */
    make(items, 10);
    assert_ok(hsm_rewrap(hsm, HSM_BULK, 20, items, ITEMS, soon(), &err), &err);
    for (size_t i = 0; i < ITEMS; i++)
        items[i].generation = 20;
    assert_true(suite_wrapped_fits(SUITE_AES256_GCM, items[0].wrapped.length_bytes));
    assert_opens(items);
    assert_ok(hsm_rewrap(hsm, HSM_BULK, 11, items, ITEMS, soon(), &err), &err);
    for (size_t i = 0; i < ITEMS; i++)
        items[i].generation = 11;
    assert_opens(items);
}

/* Of 100 one is damaged, one too short, one of an unknown generation: 97 come through. */
static void test_bad_items(void **state)
{
    static const enum suite_id suites[] = {SUITE_AES256_KW, SUITE_AES256_GCM};
    struct sso_error err = {0};
    struct key_item items[ITEMS], before[ITEMS];
    struct hsm_status status;
    (void)state;
    for (size_t s = 0; s < 2; s++) {
        uint32_t one = (uint32_t)(30 + 10 * s), two = one + 1;
        (void)generate(one, suites[s]);
        (void)generate(two, suites[s]);
        make(items, one);
        items[41].wrapped.bytes[13] ^= 4;
        items[42].wrapped.length_bytes--;
        items[43].generation = 999;
        memcpy(before, items, sizeof items);
        hsm_status(hsm, &status);
        unsigned replaced = status.workers_replaced;
        assert_ok(hsm_rewrap(hsm, HSM_BULK, two, items, ITEMS, soon(), &err), &err);
        unsigned good = 0;
        for (size_t i = 0; i < ITEMS; i++) {
            good += items[i].code == SSO_OK;
            items[i].generation = two;
        }
        assert_int_equal(good, ITEMS - 3);
        assert_int_equal(items[41].code, SSO_ROW_CORRUPT);
        assert_int_equal(items[42].code, SSO_ROW_CORRUPT);
        assert_int_equal(items[43].code, SSO_NO_MASTER_SECRET);
        for (size_t i = 41; i <= 43; i++)
            assert_memory_equal(&items[i].wrapped, &before[i].wrapped, sizeof items[i].wrapped);
        if (suites[s] == SUITE_AES256_GCM) {
            items[7].binding[3] ^= 1;
            assert_ok(hsm_unwrap(hsm, HSM_LIVE, items + 7, 1, soon(), &err), &err);
            assert_int_equal(items[7].code, SSO_ROW_CORRUPT);
        }
        hsm_status(hsm, &status);
        assert_int_equal(status.state, HSM_READY);
        assert_int_equal(status.workers_replaced, replaced); /* a bad row costs no worker */
    }
}

static void test_canary(void **state)
{
    struct sso_error err = {0};
    (void)state;
    struct generation_key one = generate(50, SUITE_AES256_KW), two = generate(51, SUITE_AES256_KW);
    hsm_forget_generation(hsm, 50);
    struct generation_key wrong = one;
    wrong.canary = two.canary;
    assert_int_equal(hsm_open_generation(hsm, &wrong, false, &err), SSO_WRONG_MASTER_SECRET);
    wrong = one;
    wrong.system_id[3] ^= 1; /* also another label */
    assert_int_equal(hsm_open_generation(hsm, &wrong, false, &err), SSO_NO_MASTER_SECRET);
    assert_non_null(strstr(err.detail, "0 keys"));
    wrong = one;
    wrong.canary.mac[0] ^= 1;
    assert_int_equal(hsm_open_generation(hsm, &wrong, false, &err), SSO_WRONG_MASTER_SECRET);
    assert_ok(hsm_open_generation(hsm, &one, true, &err), &err);
    assert_ok(hsm_open_generation(hsm, &one, false, &err), &err);
}

static void test_evidence_and_destroy(void **state)
{
    struct sso_error err = {0};
    struct evidence evidence;
    char json[1024];
    (void)state;
    static const enum suite_id suites[] = {SUITE_AES256_KW, SUITE_AES256_GCM};
    for (size_t s = 0; s < 2; s++) {
        struct generation_key key = generate((uint32_t)(60 + s), suites[s]), again = key;
        assert_int_equal(hsm_generate(hsm, &again, &evidence, &err), SSO_ALREADY_EXISTS);
        assert_ok(hsm_evidence(hsm, &key, &evidence, &err), &err);
        evidence_json(&evidence, json, sizeof json);
        print_message("%s\n", json);
        assert_true(evidence.sensitive && !evidence.extractable && evidence.canary);
        assert_true(evidence.accepted);
        assert_string_equal(evidence.usages, s == 0 ? "wrap,unwrap" : "encrypt,decrypt");
        if (kind == TOKEN_SOFTHSM)
            assert_string_equal(evidence.weak, "");
        assert_ok(hsm_destroy_key(hsm, &key, &err), &err);
        assert_int_equal(hsm_evidence(hsm, &key, &evidence, &err), SSO_NO_MASTER_SECRET);
        assert_int_equal(hsm_open_generation(hsm, &key, true, &err), SSO_NO_MASTER_SECRET);
    }
}

static void test_probe(void **state)
{
    struct sso_error err = {0};
    struct check checks[32];
    size_t count = 0;
    (void)state;
    assert_ok(hsm_probe(hsm, checks, 32, &count, &err), &err);
    assert_true(count > 6);
    for (size_t i = 0; i < count; i++) {
        print_message("%s %s %s\n", check_result_name(checks[i].result), checks[i].id,
                      checks[i].detail);
        assert_int_not_equal(checks[i].result, CHECK_FAIL);
    }
}

/* Two tokens of one kind behind one keyring. */
static void test_keyring(void **state)
{
    static const char *const labels[] = {"second", NULL};
    struct test_token other;
    struct hsm *second = NULL;
    struct keyring *keyring = NULL;
    struct sso_error err = {0};
    struct generation generation[2];
    struct generation_token tokens[2];
    struct evidence evidence;
    struct key_item items[ITEMS];
    uint8_t system_id[SYSTEM_ID_BYTES] = {7};
    (void)state;
    assert_true(test_token_new(&other, kind, labels));
    assert_true(test_token_spawner(&other, &second_spawner));
    assert_ok(hsm_open(&other.section, other.state, second_spawner, false, &second, &err), &err);
    assert_ok(keyring_new(system_id, &keyring, &err), &err);
    keyring_add_pool(keyring, second);
    keyring_add_pool(keyring, hsm);
    struct hsm *pools[] = {hsm, second};
    for (uint32_t i = 0; i < 2; i++) {
        assert_ok(keyring_generate(keyring, pools[i], 70 + i,
                                   i == 0 ? SUITE_AES256_KW : SUITE_AES256_GCM, "node1",
                                   &generation[i], &tokens[i], &evidence, &err),
                  &err);
        assert_ok(keyring_open(keyring, &generation[i], tokens, i + 1, false, &err), &err);
        assert_ptr_equal(keyring_pool(keyring, 70 + i), pools[i]);
    }
    assert_int_equal(keyring_suite(keyring, 71), SUITE_AES256_GCM);
    /* A batch over both, one row of a generation that never was and one whose token is away. */
    prepare(items, ITEMS, 70);
    for (size_t i = 0; i < ITEMS; i += 2)
        items[i].generation = 71;
    assert_ok(keyring_make(keyring, HSM_LIVE, items, ITEMS, soon(), &err), &err);
    uint32_t away = 60;
    keyring_know(keyring, &away, 1);
    items[10].generation = 60;
    items[11].generation = 12345;
    assert_ok(keyring_rewrap(keyring, HSM_BULK, 71, items, ITEMS, soon(), &err), &err);
    for (size_t i = 0; i < ITEMS; i++) {
        enum sso_code wanted = i == 10 ? SSO_HSM_UNAVAILABLE : i == 11 ? SSO_ROW_CORRUPT : SSO_OK;
        assert_int_equal(items[i].code, wanted);
        assert_int_equal(items[i].generation, i == 10 ? 60 : i == 11 ? 12345 : 71);
    }
    uint8_t *read = secret_alloc((size_t)ITEMS * ROW_KEY_BYTES);
    for (size_t i = 0; i < ITEMS; i++)
        items[i].row_key = read + i * ROW_KEY_BYTES;
    assert_ok(keyring_unwrap(keyring, HSM_LIVE, items + 12, ITEMS - 12, soon(), &err), &err);
    assert_memory_equal(read + 12 * ROW_KEY_BYTES, keys + 12 * ROW_KEY_BYTES,
                        (ITEMS - 12) * ROW_KEY_BYTES);
    secret_dealloc(read);

    struct sealed_key sealed;
    SECRET_AUTO key = {0};
    struct policy policy = {.system_id = {7}};
    assert_ok(keyring_make_sealed(keyring, PURPOSE_POLICY, 70, &sealed, &key, &err), &err);
    assert_ok(keyring_open_policy(keyring, &sealed, &policy, &err), &err);
    assert_memory_equal(policy.key.data, key.data, POLICY_KEY_BYTES);
    policy_free(&policy);
    keyring_forget(keyring, 70);
    assert_false(keyring_has(keyring, 70));
    keyring_free(&keyring);
    hsm_close(&second);
    test_token_free(&other);
}

static void test_audit_key(void **state)
{
    const uint8_t system_id[SYSTEM_ID_BYTES] = {7};
    struct audit_key key = {.since_ms = 5, .node = "node1"}, other;
    struct sso_error err = {0};
    uint8_t digest[AUDIT_DIGEST_BYTES], signature[AUDIT_SIGNATURE_BYTES];
    char pem[AUDIT_KEY_PEM_SIZE];
    (void)state;
    assert_ok(hsm_audit_make(hsm, system_id, &key, &err), &err);
    assert_string_equal(key.token.token, "first");
    assert_int_equal(key.since_ms, 5);
    audit_text_digest(system_id, "test", "text", 4, digest);
    assert_ok(hsm_audit_sign(hsm, &key, digest, signature, &err), &err);
    assert_true(audit_key_verifies(&key, digest, signature));
    for (size_t i = 0; i < sizeof signature; i++) {
        signature[i] ^= 1;
        assert_false(audit_key_verifies(&key, digest, signature));
        signature[i] ^= 1;
    }
    digest[3] ^= 1;
    assert_false(audit_key_verifies(&key, digest, signature));
    digest[3] ^= 1;
    assert_true(audit_key_pem(&key, pem));
    assert_non_null(strstr(pem, "BEGIN PUBLIC KEY"));
    /* The public key of another is found out before the signature leaves. */
    other = key;
    memset(key.id, 0, sizeof key.id); /* else it would be made once more under the same id */
    assert_ok(hsm_audit_make(hsm, system_id, &key, &err), &err);
    assert_memory_not_equal(other.id, key.id, sizeof key.id);
    memcpy(other.public_key, key.public_key, sizeof key.public_key);
    assert_int_equal(hsm_audit_sign(hsm, &other, digest, signature, &err), SSO_WRONG_MASTER_SECRET);
    assert_ok(hsm_audit_destroy(hsm, &key, &err), &err);
    assert_int_equal(hsm_audit_sign(hsm, &key, digest, signature, &err), SSO_NOT_FOUND);
    assert_ok(hsm_audit_destroy(hsm, &other, &err), &err);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_bad_items),
        cmocka_unit_test(test_canary),     cmocka_unit_test(test_evidence_and_destroy),
        cmocka_unit_test(test_probe),      cmocka_unit_test(test_keyring),
        cmocka_unit_test(test_audit_key),
    };
    struct sso_error err = {0};
    wiping_allocator_install();
    kind = test_token_kind(argc > 1 ? argv[1] : NULL);
    if (secret_memory_init((size_t)4 << 20, &err) != SSO_OK) {
        fprintf(stderr, "%s\n", err.detail);
        return 1;
    }
    static const char *const labels[] = {"first", NULL};
    struct test_token here;
    if (!test_token_new(&here, kind, labels))
        return 77;
    test_token_free(&here);
    int failed = cmocka_run_group_tests(tests, setup, teardown);
    spawner_stop(&spawner);
    spawner_stop(&second_spawner);
    return failed;
}
