/* How a token wants things done, found out inside the worker's library, on every kind of token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pkcs11/canary.h"
#include "pkcs11/ckr.h"
#include "pkcs11/evidence.h"
#include "pkcs11/gcm.h"
#include "pkcs11/key.h"
#include "pkcs11/key_list.h"
#include "pkcs11/release.h"
#include "pkcs11/session_copy.h"
#include "pkcs11/suite.h"
#include "tokens.h"

static enum token_kind kind;
static struct test_token folder;
static struct module *module;
static struct token token;
static struct generation_table table;
static struct session session;

static void assert_ok(enum sso_code code, const struct sso_error *err)
{
    if (code != SSO_OK)
        print_error("%s: %s\n", sso_code_facts(code)->name, err->detail);
    assert_int_equal(code, SSO_OK);
}

static void assert_done(struct outcome call)
{
    char name[CKR_NAME_SIZE];
    if (call.rv != CKR_OK)
        print_error("%s: %s\n", module_function_name(call.function), ckr_name(call.rv, name));
    assert_int_equal(call.rv, CKR_OK);
}

static int setup(void **state)
{
    static const char *const labels[] = {"first", NULL};
    struct sso_error err = {0};
    (void)state;
    if (!test_token_new(&folder, kind, labels))
        return -1;
    test_token_environment(&folder);
    SECRET_AUTO pin = {0};
    assert_ok(module_load(folder.section.module, folder.section.init_args, &module, &err), &err);
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
    test_token_free(&folder);
    return 0;
}

static bool is_shut(void)
{
    return kind == TOKEN_NSS_FIPS || kind == TOKEN_SHUT;
}

/* A token in FIPS mode gives no key in the clear; every token gives one under a transport key. */
static void test_release_ways(void **state)
{
    char name[CKR_NAME_SIZE];
    (void)state;
    struct outcome read = release_try(&session, RELEASE_READ);
    print_message("reading: %s %s\n", module_function_name(read.function), ckr_name(read.rv, name));
    assert_int_equal(read.rv == CKR_OK, !is_shut());
    assert_true(read.own); /* no row could be to blame */
    assert_done(release_try(&session, RELEASE_TRANSPORT));
    assert_int_equal(atomic_load(&token.ways.release),
                     RELEASE_UNKNOWN); /* trying chooses nothing */
}

static void test_chosen_way(void **state)
{
    const struct suite *kw = suite_by_id(SUITE_AES256_KW);
    uint8_t binding[BINDING_BYTES] = {0};
    uint8_t *row_key = secret_alloc(ROW_KEY_BYTES), *opened = secret_alloc(ROW_KEY_BYTES);
    struct wrapped_key wrapped = {0};
    CK_OBJECT_HANDLE key;
    (void)state;
    assert_done(key_generate_session(&session, CKA_WRAP, &key));
    assert_done(kw->make(&session, key, binding, row_key, &wrapped));
    assert_int_equal(atomic_load(&token.ways.release),
                     is_shut() ? RELEASE_TRANSPORT : RELEASE_READ);
    assert_done(kw->unwrap(&session, key, binding, &wrapped, opened));
    assert_memory_equal(row_key, opened, ROW_KEY_BYTES);
    secret_dealloc(row_key);
    secret_dealloc(opened);
}

/* What went in by one way comes out by the other, and a renewed session has a transport key anew.
 */
static void test_both_ways_agree(void **state)
{
    uint8_t *row_key = secret_alloc(ROW_KEY_BYTES), *opened = secret_alloc(ROW_KEY_BYTES);
    struct session second = {0};
    struct sso_error err = {0};
    struct wrapped_key wrapped = {0}, again = {0};
    CK_OBJECT_HANDLE key, object;
    int chosen = atomic_load(&token.ways.release);
    (void)state;
    assert_ok(session_open(&second, &token, &table, &err), &err);
    assert_done(key_generate_session(&second, CKA_WRAP, &key));
    for (unsigned i = 0; i < 4; i++) {
        enum release_way in = i & 1 ? RELEASE_TRANSPORT : RELEASE_READ;
        enum release_way out = i & 2 ? RELEASE_TRANSPORT : RELEASE_READ;
        if (is_shut() && (in == RELEASE_READ || out == RELEASE_READ))
            continue;
        assert_int_equal(RAND_bytes(row_key, ROW_KEY_BYTES), 1);
        atomic_store(&token.ways.release, (int)in);
        assert_done(release_admit(&session, row_key, &object));
        assert_done(release_wrap(&session, key, object, &wrapped));
        atomic_store(&token.ways.release, (int)out);
        assert_ok(session_renew(&session, &err), &err);
        assert_done(release_open(&session, key, &wrapped, opened));
        assert_memory_equal(row_key, opened, ROW_KEY_BYTES);
        assert_done(release_unwrap(&session, key, &wrapped, &object));
        assert_done(release_wrap(&session, key, object, &again));
        assert_memory_equal(wrapped.bytes, again.bytes, KEY_WRAPPED_BYTES);
        wrapped.bytes[9] ^= 4;
        struct outcome call = release_open(&session, key, &wrapped, opened);
        assert_int_not_equal(call.rv, CKR_OK);
        assert_false(call.own);
        assert_int_equal(call.function, FN_UnwrapKey);
    }
    atomic_store(&token.ways.release, chosen);
    session_close(&second);
    secret_dealloc(row_key);
    secret_dealloc(opened);
}

static void test_unwrap_template(void **state)
{
    (void)state;
    assert_int_equal(atomic_load(&token.ways.unwrap_names_length), kind == TOKEN_LENGTH);
}

/* Whoever makes the IV, a wrapped row key is IV ‖ ciphertext ‖ tag, no IV comes twice, and what was
 * changed or belongs to another row does not open. */
static void test_gcm(void **state)
{
    static const enum gcm_iv wanted[TOKEN_KINDS] = {
        [TOKEN_IV_PARAM] = GCM_IV_PARAMETER,   [TOKEN_IV_ZEROS] = GCM_IV_PARAMETER,
        [TOKEN_IV_FRONT] = GCM_IV_FRONT,       [TOKEN_IV_WITHIN] = GCM_IV_FRONT,
        [TOKEN_IV_APPENDED] = GCM_IV_APPENDED,
    };
    const struct suite *suite = suite_by_id(SUITE_AES256_GCM);
    uint8_t *row_key = secret_alloc(ROW_KEY_BYTES), *opened = secret_alloc(ROW_KEY_BYTES);
    uint8_t binding[BINDING_BYTES] = {7}, other[BINDING_BYTES] = {8};
    struct wrapped_key wrapped = {0}, last = {0};
    struct gcm_way way;
    CK_OBJECT_HANDLE key;
    (void)state;
    assert_done(key_generate_session(&session, CKA_ENCRYPT, &key));
    assert_done(gcm_way(&session, &way));
    print_message("IV: %s, %zu bytes\n", gcm_iv_name(way.iv), way.iv_bytes);
    assert_int_equal(way.iv, wanted[kind] != GCM_IV_UNKNOWN ? wanted[kind] : GCM_IV_CALLER);
    assert_int_equal(way.iv_bytes, kind == TOKEN_IV_APPENDED ? 16 : 12);
    assert_int_equal(way.decrypts_within, kind == TOKEN_IV_WITHIN);
    for (unsigned i = 0; i < 100; i++, last = wrapped) {
        assert_done(suite->make(&session, key, binding, row_key, &wrapped));
        assert_int_equal(wrapped.length_bytes, way.iv_bytes + 48);
        assert_memory_not_equal(wrapped.bytes, last.bytes, 12);
        assert_done(suite->unwrap(&session, key, binding, &wrapped, opened));
        assert_memory_equal(row_key, opened, ROW_KEY_BYTES);
        assert_int_not_equal(suite->unwrap(&session, key, other, &wrapped, opened).rv, CKR_OK);
        wrapped.bytes[i % wrapped.length_bytes] ^= 1;
        assert_int_not_equal(suite->unwrap(&session, key, binding, &wrapped, opened).rv, CKR_OK);
        wrapped.bytes[i % wrapped.length_bytes] ^= 1;
    }
    secret_dealloc(row_key);
    secret_dealloc(opened);
}

/* Evidence of a gcm generation says whose the IV is; of the other suite there is none. */
static void test_evidence_of_iv(void **state)
{
    struct generation_key generation = {.number = 1, .suite = SUITE_AES256_GCM};
    struct evidence evidence;
    struct sso_error err = {0};
    struct gcm_way way;
    CK_OBJECT_HANDLE key;
    (void)state;
    assert_done(gcm_way(&session, &way));
    for (unsigned i = 0; i < 2; i++) {
        generation.suite = i == 0 ? SUITE_AES256_GCM : SUITE_AES256_KW;
        const struct suite *suite = suite_by_id(generation.suite);
        assert_ok(key_generate_trial(&session, &generation, &key, &err), &err);
        assert_ok(canary_make(&session, key, suite, &generation, &err), &err);
        assert_ok(evidence_take(&session, &generation, key, true, &evidence, &err), &err);
        assert_true(evidence.canary && evidence.accepted);
        assert_string_equal(evidence.gcm_iv, i == 0 ? gcm_iv_name(way.iv) : "");
        assert_ok(key_destroy(&session, key, &err), &err);
    }
}

/* NSS softoken reads a token object from its database at every use, so there is a session copy; it
 * is what the master secret is, is taken for none, and goes when it shall. SoftHSM allows none. */
static void test_session_copy(void **state)
{
    const struct suite *kw = suite_by_id(SUITE_AES256_KW);
    struct generation_key generation = {.number = 7, .suite = SUITE_AES256_KW};
    const struct session_key *key = NULL;
    CK_OBJECT_HANDLE made, found;
    struct sso_error err = {0};
    (void)state;
    memset(generation.secret_id, 7, sizeof generation.secret_id);
    assert_ok(key_generate(&session, &generation, &made, &err), &err);
    assert_ok(canary_make(&session, made, kw, &generation, &err), &err);
    assert_true(generation_table_put(&table, &generation));
    session_refresh(&session);
    assert_ok(session_key(&session, 7, &key, &err), &err);
    if (kind == TOKEN_NSS)
        assert_true(key->is_copy);
    if (kind == TOKEN_SOFTHSM)
        assert_false(key->is_copy);
    assert_ok(key_find(&session, &generation, &found, &err), &err);
    assert_int_equal(key_attribute(&session, found, CKA_TOKEN), 1);
    CK_OBJECT_HANDLE copy = key->handle;
    assert_int_equal(key_attribute(&session, copy, CKA_TOKEN), !key->is_copy);
    assert_ok(key_check(&session, copy, kw, &err), &err);
    uint8_t *value = secret_alloc(ROW_KEY_BYTES);
    CK_ATTRIBUTE read = {CKA_VALUE, value, ROW_KEY_BYTES};
    assert_int_not_equal(CALL(module, GetAttributeValue, session.handle, copy, &read, 1).rv,
                         CKR_OK);
    secret_dealloc(value);
    bool was_copy = key->is_copy;
    session_copies_drop(&session);
    session.key_count = 0;
    assert_int_equal(key_attribute(&session, copy, CKA_SENSITIVE), was_copy ? -1 : 1);
    assert_ok(key_destroy(&session, found, &err), &err);
}

/* All keys of the system, or an error: never a list that was cut. */
static void test_key_list(void **state)
{
    struct generation_key generation[2] = {{.number = 11, .suite = SUITE_AES256_KW},
                                           {.number = 12, .suite = SUITE_AES256_GCM}};
    CK_OBJECT_HANDLE made[2];
    struct token_key keys[2] = {{0}};
    struct sso_error err = {0};
    size_t count = 0;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        memset(generation[i].system_id, 0x5a, SYSTEM_ID_BYTES);
        memset(generation[i].secret_id, (int)(11 + i), SECRET_ID_BYTES);
        assert_ok(key_generate(&session, &generation[i], &made[i], &err), &err);
    }
    assert_ok(key_list(&session, generation[0].system_id, keys, 2, &count, &err), &err);
    assert_int_equal(count, 2);
    assert_int_equal(keys[0].number + keys[1].number, 11 + 12);
    assert_int_equal(key_list(&session, generation[0].system_id, keys, 1, &count, &err),
                     SSO_TOKEN_NOT_SUITABLE);
    for (size_t i = 0; i < 2; i++)
        assert_ok(key_destroy(&session, made[i], &err), &err);
    assert_ok(key_list(&session, generation[0].system_id, keys, 2, &count, &err), &err);
    assert_int_equal(count, 0);
}

/* A child of fork() has the module's state and must not use it: the parent's sessions are in it. */
static void test_no_call_in_a_child(void **state)
{
    CK_TOKEN_INFO info;
    CK_SESSION_HANDLE opened;
    int status = -1;
    (void)state;
    assert_done(CALL(module, GetTokenInfo, token.slot, &info));
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct outcome calls[] = {
            CALL(module, GetTokenInfo, token.slot, &info),
            CALL(module, OpenSession, token.slot, CKF_SERIAL_SESSION, NULL, NULL, &opened),
            CALL(module, CloseSession, session.handle), CALL(module, Finalize, NULL)};
        unsigned refused = 0;
        for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
            refused += calls[i].rv == CKR_CRYPTOKI_NOT_INITIALIZED &&
                       ckr_class(calls[i]) == CKR_CLASS_WORKER;
        _exit(refused == sizeof calls / sizeof calls[0] ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    CK_SESSION_INFO here;
    assert_done(CALL(module, GetSessionInfo, session.handle, &here));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_release_ways),
        cmocka_unit_test(test_chosen_way),
        cmocka_unit_test(test_both_ways_agree),
        cmocka_unit_test(test_unwrap_template),
        cmocka_unit_test(test_gcm),
        cmocka_unit_test(test_evidence_of_iv),
        cmocka_unit_test(test_session_copy),
        cmocka_unit_test(test_key_list),
        cmocka_unit_test(test_no_call_in_a_child),
    };
    static const char *const labels[] = {"first", NULL};
    struct sso_error err = {0};
    wiping_allocator_install();
    kind = test_token_kind(argc > 1 ? argv[1] : NULL);
    if (secret_memory_init((size_t)1 << 20, &err) != SSO_OK) {
        fprintf(stderr, "%s\n", err.detail);
        return 1;
    }
    /* What makes its own IV is SoftHSM otherwise. */
    const struct CMUnitTest of_iv[] = {cmocka_unit_test(test_gcm),
                                       cmocka_unit_test(test_evidence_of_iv)};
    struct test_token here;
    if (!test_token_new(&here, kind, labels))
        return 77;
    test_token_free(&here);
    if (kind >= TOKEN_IV_PARAM)
        return cmocka_run_group_tests(of_iv, setup, teardown);
    return cmocka_run_group_tests(tests, setup, teardown);
}
