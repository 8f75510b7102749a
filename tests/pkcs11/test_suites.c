/* The inside of the worker, in this process, on SoftHSM: known answers, keys that must be refused,
 * what return codes mean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/encode.h"
#include "common/row.h"
#include "pkcs11/canary.h"
#include "pkcs11/ckr.h"
#include "pkcs11/evidence.h"
#include "pkcs11/key.h"
#include "pkcs11/suite.h"
#include "tokens.h"

static struct test_token folder;
static struct module *module;
static struct token token;
static struct generation_table table;
static struct session session;

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
static CK_OBJECT_CLASS class_secret = CKO_SECRET_KEY;
static CK_KEY_TYPE type_aes = CKK_AES;

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
    if (!test_token_new(&folder, TOKEN_SOFTHSM, labels))
        return -1;
    putenv(folder.section.environment);
    SECRET_AUTO pin = {0};
    assert_ok(module_load(folder.section.module, "", &module, &err), &err);
    assert_ok(token_find(module, folder.section.token, &token, &err), &err);
    assert_ok(secret_append(&pin, TEST_PIN, strlen(TEST_PIN), &err), &err);
    assert_ok(token_login(&token, &pin, &err), &err);
    generation_table_init(&table);
    assert_ok(session_open(&session, &token, &table, &err), &err);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    session_close(&session);
    free(token.pin_source);
    module_finalize(module);
    unsetenv("SOFTHSM2_CONF");
    test_token_free(&folder);
    return 0;
}

static CK_OBJECT_HANDLE import(const uint8_t *bytes, CK_ATTRIBUTE_TYPE one, CK_ATTRIBUTE_TYPE two)
{
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class_secret, sizeof class_secret},
        {CKA_KEY_TYPE, &type_aes, sizeof type_aes},
        {CKA_TOKEN, &no, sizeof no},
        {CKA_VALUE, (void *)bytes, 32},
        {one, &yes, sizeof yes},
        {two, &yes, sizeof yes},
    };
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    assert_int_equal(CALL(module, CreateObject, session.handle, template, 6, &key).rv, CKR_OK);
    return key;
}

/* RFC 3394 §4.6: 256 bits of key data with a 256-bit KEK. */
static void test_rfc3394(void **state)
{
    static const char kek_hex[] =
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    static const char data_hex[] =
        "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f";
    static const char wrapped_hex[] = "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326"
                                      "cbc7f0e71a99f43bfb988b9b7a02dd21";
    const struct suite *kw = suite_by_id(SUITE_AES256_KW);
    uint8_t kek[32], data[32], expected[40], binding[BINDING_BYTES] = {0};
    uint8_t *row_key = secret_alloc(ROW_KEY_BYTES);
    struct wrapped_key wrapped = {0};
    (void)state;
    assert_true(hex_decode(kek_hex, kek, 32) && hex_decode(data_hex, data, 32) &&
                hex_decode(wrapped_hex, expected, 40));
    CK_OBJECT_HANDLE key = import(kek, CKA_WRAP, CKA_UNWRAP);
    assert_int_equal(kw->wrap(&session, key, binding, data, &wrapped).rv, CKR_OK);
    assert_int_equal(wrapped.length_bytes, 40);
    assert_memory_equal(wrapped.bytes, expected, 40);
    assert_int_equal(kw->unwrap(&session, key, binding, &wrapped, row_key).rv, CKR_OK);
    assert_memory_equal(row_key, data, 32);
    struct wrapped_key again;
    assert_int_equal(kw->rewrap(&session, key, key, &wrapped, &again).rv, CKR_OK);
    assert_memory_equal(again.bytes, expected, 40);
    secret_dealloc(row_key);
}

/* What the token sealed, OpenSSL opens: IV ‖ ciphertext ‖ tag, the binding as additional data. */
static void test_gcm_layout(void **state)
{
    const struct suite *gcm = suite_by_id(SUITE_AES256_GCM);
    uint8_t kek[32] = {1, 2, 3}, binding[BINDING_BYTES] = {4, 5}, opened[32];
    uint8_t *row_key = secret_alloc(ROW_KEY_BYTES);
    struct wrapped_key wrapped = {0};
    int n = 0;
    (void)state;
    CK_OBJECT_HANDLE key = import(kek, CKA_ENCRYPT, CKA_DECRYPT);
    assert_int_equal(gcm->make(&session, key, binding, row_key, &wrapped).rv, CKR_OK);
    assert_int_equal(wrapped.length_bytes, 60);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    assert_int_equal(EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, kek, wrapped.bytes), 1);
    assert_int_equal(EVP_DecryptUpdate(ctx, NULL, &n, binding, sizeof binding), 1);
    assert_int_equal(EVP_DecryptUpdate(ctx, opened, &n, wrapped.bytes + 12, 32), 1);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, 16, wrapped.bytes + 44), 1);
    assert_int_equal(EVP_DecryptFinal_ex(ctx, opened + n, &n), 1);
    EVP_CIPHER_CTX_free(ctx);
    assert_memory_equal(opened, row_key, 32);
    secret_dealloc(row_key);
}

/* Every suite of the table: one changed bit anywhere must not open, nor another key. */
static void test_tamper(void **state)
{
    uint8_t *row_key = secret_alloc(ROW_KEY_BYTES);
    unsigned tried = 0;
    (void)state;
    for (size_t s = 0; suite_at(s) != NULL; s++) {
        const struct suite *suite = suite_at(s);
        uint8_t one[32] = {9}, two[32] = {8}, binding[BINDING_BYTES] = {7};
        CK_ATTRIBUTE_TYPE a = suite->wraps ? CKA_WRAP : CKA_ENCRYPT;
        CK_ATTRIBUTE_TYPE b = suite->wraps ? CKA_UNWRAP : CKA_DECRYPT;
        CK_OBJECT_HANDLE key = import(one, a, b), other = import(two, a, b);
        struct wrapped_key wrapped = {0};
        assert_int_equal(suite->make(&session, key, binding, row_key, &wrapped).rv, CKR_OK);
        assert_true(suite_wrapped_fits(suite->id, wrapped.length_bytes));
        for (unsigned bit = 0; bit < 8u * wrapped.length_bytes; bit++, tried++) {
            struct wrapped_key damaged = wrapped;
            damaged.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            struct outcome call = suite->unwrap(&session, key, binding, &damaged, row_key);
            assert_int_not_equal(call.rv, CKR_OK);
            enum ckr_class class = ckr_class(call);
            assert_true(class == CKR_CLASS_ITEM || class == CKR_CLASS_DOUBTFUL);
        }
        assert_int_not_equal(suite->unwrap(&session, other, binding, &wrapped, row_key).rv, CKR_OK);
        assert_int_equal(suite->unwrap(&session, key, binding, &wrapped, row_key).rv, CKR_OK);
    }
    print_message("%u changed bits, none opened\n", tried);
    secret_dealloc(row_key);
}

/* No session object stays behind, however it ends. */
static void test_no_objects_left(void **state)
{
    const struct suite *kw = suite_by_id(SUITE_AES256_KW);
    uint8_t kek[32] = {42}, binding[BINDING_BYTES] = {0};
    uint8_t *row_key = secret_alloc(ROW_KEY_BYTES);
    CK_OBJECT_HANDLE found[64];
    CK_ULONG before = 0, after = 0;
    (void)state;
    CK_OBJECT_HANDLE key = import(kek, CKA_WRAP, CKA_UNWRAP);
    CK_OBJECT_HANDLE unfit = import(kek, CKA_ENCRYPT, CKA_DECRYPT);
    struct wrapped_key wrapped = {0}, out;
    assert_int_equal(kw->make(&session, key, binding, row_key, &wrapped).rv, CKR_OK);
    for (unsigned round = 0; round < 2; round++) {
        CK_ULONG *count = round == 0 ? &before : &after;
        assert_int_equal(CALL(module, FindObjectsInit, session.handle, NULL, 0).rv, CKR_OK);
        assert_int_equal(CALL(module, FindObjects, session.handle, found, 64, count).rv, CKR_OK);
        assert_int_equal(CALL(module, FindObjectsFinal, session.handle).rv, CKR_OK);
        for (unsigned i = 0; i < 5; i++) {
            assert_int_not_equal(kw->rewrap(&session, key, 9999, &wrapped, &out).rv, CKR_OK);
            (void)kw->rewrap(&session, key, unfit, &wrapped, &out);
            assert_int_equal(kw->rewrap(&session, key, key, &wrapped, &out).rv, CKR_OK);
            assert_int_equal(kw->unwrap(&session, key, binding, &wrapped, row_key).rv, CKR_OK);
        }
    }
    assert_int_equal(before, after);
    secret_dealloc(row_key);
}

/* Two objects that fit are refused with their number. */
static void test_ambiguous_key(void **state)
{
    struct generation_key generation = {
        .system_id = {1}, .number = 5, .secret_id = {6}, .suite = SUITE_AES256_KW};
    struct sso_error err = {0};
    CK_OBJECT_HANDLE key, second;
    char label[GENERATION_LABEL_SIZE];
    CK_ULONG bytes = 32;
    (void)state;
    assert_ok(key_generate(&session, &generation, &key, &err), &err);
    assert_ok(key_check(&session, key, suite_by_id(generation.suite), &err), &err);
    assert_int_equal(key_generate(&session, &generation, &second, &err), SSO_ALREADY_EXISTS);
    generation_label(generation.system_id, generation.number, label);
    CK_ATTRIBUTE template[] = {
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_VALUE_LEN, &bytes, sizeof bytes},
        {CKA_ID, generation.secret_id, 16},
        {CKA_LABEL, label, strlen(label)},
        {CKA_SENSITIVE, &yes, sizeof yes},
        {CKA_EXTRACTABLE, &no, sizeof no},
        {CKA_CLASS, &class_secret, sizeof class_secret},
    };
    CK_MECHANISM generate = {.mechanism = CKM_AES_KEY_GEN};
    assert_int_equal(CALL(module, GenerateKey, session.handle, &generate, template, 7, &second).rv,
                     CKR_OK);
    assert_int_equal(key_find(&session, &generation, &key, &err), SSO_NO_MASTER_SECRET);
    assert_non_null(strstr(err.detail, "holds 2 keys"));
    print_message("%s\n", err.detail);
    assert_ok(key_destroy(&session, second, &err), &err);
    assert_ok(key_find(&session, &generation, &key, &err), &err);
    assert_ok(key_destroy(&session, key, &err), &err);
}

/* A key with one attribute or usage that a master secret must not have. */
static void test_forbidden(void **state)
{
    static const CK_ATTRIBUTE_TYPE wrong[] = {CKA_ENCRYPT, CKA_DECRYPT,   CKA_SIGN,
                                              CKA_VERIFY,  CKA_SENSITIVE, CKA_EXTRACTABLE};
    static const char *const words[] = {"encrypt", "decrypt",   "sign",
                                        "verify",  "sensitive", "extractable"};
    const struct suite *kw = suite_by_id(SUITE_AES256_KW);
    (void)state;
    for (size_t w = 0; w < sizeof wrong / sizeof wrong[0]; w++) {
        struct generation_key generation = {.number = 1, .suite = SUITE_AES256_KW};
        CK_ATTRIBUTE_TYPE types[] = {CKA_SENSITIVE, CKA_EXTRACTABLE, CKA_WRAP,   CKA_UNWRAP,
                                     CKA_ENCRYPT,   CKA_DECRYPT,     CKA_SIGN,   CKA_VERIFY,
                                     CKA_DERIVE,    CKA_TOKEN,       CKA_PRIVATE};
        CK_ULONG bytes = 32;
        CK_ATTRIBUTE template[12] = {{CKA_VALUE_LEN, &bytes, sizeof bytes}};
        for (size_t i = 0; i < 11; i++) {
            bool value = types[i] == CKA_SENSITIVE || types[i] == CKA_WRAP ||
                         types[i] == CKA_UNWRAP || types[i] == CKA_PRIVATE;
            value ^= types[i] == wrong[w];
            template[i + 1] = (CK_ATTRIBUTE){types[i], value ? &yes : &no, sizeof yes};
        }
        CK_MECHANISM generate = {.mechanism = CKM_AES_KEY_GEN};
        CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
        struct sso_error err = {0};
        struct evidence evidence;
        assert_int_equal(
            CALL(module, GenerateKey, session.handle, &generate, template, 12, &key).rv, CKR_OK);
        assert_int_equal(key_check(&session, key, kw, &err), SSO_KEY_NOT_ACCEPTABLE);
        assert_non_null(strstr(err.detail, words[w]));
        assert_ok(canary_make(&session, key, kw, &generation, &err), &err);
        assert_ok(evidence_take(&session, &generation, key, false, &evidence, &err), &err);
        print_message("%s: weak=%s usages=%s\n", words[w], evidence.weak, evidence.usages);
        assert_true(evidence.canary && !evidence.accepted);
        assert_int_equal(evidence_verdict(&evidence, &token, &err), SSO_KEY_NOT_ACCEPTABLE);
        assert_int_equal(CALL(module, DestroyObject, session.handle, key).rv, CKR_OK);
    }
}

static void test_names(void **state)
{
    char name[CKR_NAME_SIZE];
    (void)state;
    assert_string_equal(ckr_name(CKR_KEY_UNEXTRACTABLE, name), "CKR_KEY_UNEXTRACTABLE");
    assert_string_equal(ckr_name(0x80000001, name), "CKR_0x80000001");
    assert_string_equal(module_function_name(FN_WrapKey), "C_WrapKey");
    /* A code means what it means for its function. */
    assert_int_equal(ckr_class((struct outcome){FN_UnwrapKey, CKR_GENERAL_ERROR}),
                     CKR_CLASS_DOUBTFUL);
    assert_int_equal(ckr_class((struct outcome){FN_WrapKey, CKR_GENERAL_ERROR}), CKR_CLASS_SESSION);
    assert_int_equal(ckr_class((struct outcome){FN_OpenSession, CKR_ARGUMENTS_BAD}),
                     CKR_CLASS_RETRY);
    assert_int_equal(ckr_class((struct outcome){FN_Login, CKR_PIN_LOCKED}), CKR_CLASS_PIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc3394),       cmocka_unit_test(test_gcm_layout),
        cmocka_unit_test(test_tamper),        cmocka_unit_test(test_no_objects_left),
        cmocka_unit_test(test_ambiguous_key), cmocka_unit_test(test_forbidden),
        cmocka_unit_test(test_names),
    };
    struct sso_error err = {0};
    wiping_allocator_install();
    if (secret_memory_init((size_t)1 << 20, &err) != SSO_OK) {
        fprintf(stderr, "%s\n", err.detail);
        return 1;
    }
    if (access("/usr/lib/softhsm/libsofthsm2.so", R_OK) != 0)
        return 77;
    return cmocka_run_group_tests(tests, setup, teardown);
}
