/* faulty-module itself: each setting and action does what faulty/faulty.h says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tokens.h"

static struct test_token token;
static CK_FUNCTION_LIST *p11;
static CK_SLOT_ID slot;
static CK_SESSION_HANDLE session;

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
static CK_OBJECT_CLASS secret = CKO_SECRET_KEY;
static CK_KEY_TYPE aes = CKK_AES;

static CK_SESSION_HANDLE open_session(void)
{
    CK_SESSION_HANDLE out;
    assert_int_equal(
        p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &out), CKR_OK);
    return out;
}

static CK_RV generate(CK_BBOOL sensitive, CK_OBJECT_HANDLE *out)
{
    CK_ULONG length = 32;
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &secret, sizeof secret},
                               {CKA_KEY_TYPE, &aes, sizeof aes},
                               {CKA_TOKEN, &no, sizeof no},
                               {CKA_SENSITIVE, &sensitive, sizeof sensitive},
                               {CKA_ENCRYPT, &yes, sizeof yes},
                               {CKA_DECRYPT, &yes, sizeof yes},
                               {CKA_VALUE_LEN, &length, sizeof length}};
    return p11->C_GenerateKey(session, &mechanism, template, sizeof template / sizeof *template,
                              out);
}

static CK_RV log_in(const char *pin)
{
    return p11->C_Login(session, CKU_USER, (CK_BYTE *)pin, strlen(pin));
}

static int setup(void **state)
{
    static const char *const labels[] = {"first", NULL};
    CK_C_GetFunctionList get = NULL;
    CK_SLOT_ID slots[4];
    CK_ULONG count = 4;
    char variable[128];
    (void)state;
    if (!test_token_new(&token, TOKEN_SOFTHSM, labels))
        return -1;
    snprintf(variable, sizeof variable, "%s/softhsm2.conf", token.folder);
    setenv("SOFTHSM2_CONF", variable, 1);
    test_token_make_faulty(&token);
    snprintf(variable, sizeof variable, "%s/faulty", token.folder);
    setenv("FAULTY_FOLDER", variable, 1);
    void *library = dlopen(getenv("FAULTY_MODULE"), RTLD_NOW);
    setenv("FAULTY_MODULE", "/usr/lib/softhsm/libsofthsm2.so", 1);
    void *symbol = library != NULL ? dlsym(library, "C_GetFunctionList") : NULL;
    memcpy(&get, &symbol, sizeof get);
    if (get == NULL || get(&p11) != CKR_OK || p11->C_Initialize(NULL) != CKR_OK ||
        p11->C_GetSlotList(CK_TRUE, slots, &count) != CKR_OK)
        return -1;
    slot = slots[0];
    session = open_session();
    return log_in(TEST_PIN) == CKR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    p11->C_Finalize(NULL);
    test_token_free(&token);
    return 0;
}

static void test_rules(void **state)
{
    CK_SESSION_INFO info;
    CK_RV rv[6];
    (void)state;
    test_token_control(&token, "C_GetSessionInfo at 3 return CKR_DEVICE_ERROR\n"
                               "C_GetSessionInfo from 5 times 1 return 0x80000001\n");
    for (size_t i = 0; i < 6; i++)
        rv[i] = p11->C_GetSessionInfo(session, &info);
    const CK_RV wanted[] = {CKR_OK, CKR_OK, CKR_DEVICE_ERROR, CKR_OK, 0x80000001, CKR_OK};
    assert_memory_equal(rv, wanted, sizeof rv);
    assert_int_equal(test_token_count(&token, "fired"), 2);
    /* Counted over all processes, and a crash is one. */
    test_token_control(&token, "log\nC_GetSessionInfo at 2 crash # the child's\n");
    assert_int_equal(p11->C_GetSessionInfo(session, &info), CKR_OK);
    pid_t pid = fork();
    if (pid == 0) {
        p11->C_GetSessionInfo(session, &info);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(p11->C_GetSessionInfo(session, &info), CKR_OK);
    assert_true(test_token_count(&token, "calls") > 0);
    test_token_control(&token, "* rate 1.0 after return CKR_HOST_MEMORY\n");
    assert_int_equal(p11->C_GetSessionInfo(session, &info), CKR_HOST_MEMORY);
    test_token_control(&token, "%s", "");
}

static void test_broken_session(void **state)
{
    CK_SESSION_INFO info;
    (void)state;
    CK_SESSION_HANDLE other = open_session();
    test_token_control(&token, "C_GetSessionInfo times 1 break-session CKR_DEVICE_ERROR\n");
    for (int i = 0; i < 3; i++)
        assert_int_equal(p11->C_GetSessionInfo(other, &info), CKR_DEVICE_ERROR);
    assert_int_equal(p11->C_GetSessionInfo(session, &info), CKR_OK);
    assert_int_equal(p11->C_CloseSession(other), CKR_DEVICE_ERROR);
    other = open_session();
    assert_int_equal(p11->C_GetSessionInfo(other, &info), CKR_OK);
    assert_int_equal(p11->C_CloseSession(other), CKR_OK);
}

static void test_session_limit(void **state)
{
    CK_SESSION_HANDLE second, third;
    CK_TOKEN_INFO info;
    (void)state;
    test_token_control(&token, "sessions 2\n");
    second = open_session();
    assert_int_equal(p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &third),
                     CKR_SESSION_COUNT);
    assert_int_equal(p11->C_GetTokenInfo(slot, &info), CKR_OK);
    assert_int_equal(info.ulMaxSessionCount, 2);
    test_token_control(&token, "sessions 2 CKR_ARGUMENTS_BAD\nhide-session-limit\n");
    assert_int_equal(p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &third),
                     CKR_ARGUMENTS_BAD);
    p11->C_CloseSession(second);
    second = open_session();
    p11->C_CloseSession(second);
}

static void test_pin_tries(void **state)
{
    static const CK_FLAGS flags[] = {0, CKF_USER_PIN_COUNT_LOW,
                                     CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY,
                                     CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_LOCKED};
    CK_TOKEN_INFO info;
    (void)state;
    assert_int_equal(p11->C_Logout(session), CKR_OK);
    test_token_control(&token, "pin-tries 3\n");
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(p11->C_GetTokenInfo(slot, &info), CKR_OK);
        assert_int_equal(
            info.flags & (CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED),
            flags[i]);
        assert_int_equal(log_in("wrong"), i < 3 ? CKR_PIN_INCORRECT : CKR_PIN_LOCKED);
    }
    assert_int_equal(log_in(TEST_PIN), CKR_PIN_LOCKED);
    test_token_control(&token, "%s", "");
    assert_int_equal(log_in(TEST_PIN), CKR_OK);
    assert_int_equal(test_token_count(&token, "logins"), 7);
}

static void test_token_changes(void **state)
{
    CK_SESSION_INFO session_info;
    CK_TOKEN_INFO info;
    CK_ULONG count = 9;
    CK_OBJECT_HANDLE found;
    (void)state;
    test_token_control(&token, "gone\n");
    assert_int_equal(p11->C_GetSessionInfo(session, &session_info), CKR_DEVICE_REMOVED);
    assert_int_equal(p11->C_GetSlotList(CK_TRUE, NULL, &count), CKR_OK);
    assert_int_equal(count, 0);
    test_token_control(&token, "serial ANOTHER\nemptied\n");
    assert_int_equal(p11->C_GetSessionInfo(session, &session_info), CKR_SESSION_HANDLE_INVALID);
    assert_int_equal(p11->C_GetTokenInfo(slot, &info), CKR_OK);
    assert_memory_equal(info.serialNumber, "ANOTHER         ", 16);
    session = open_session();
    assert_int_equal(p11->C_FindObjectsInit(session, NULL, 0), CKR_USER_NOT_LOGGED_IN);
    assert_int_equal(log_in(TEST_PIN), CKR_OK);
    assert_int_equal(p11->C_FindObjectsInit(session, NULL, 0), CKR_OK);
    assert_int_equal(p11->C_FindObjects(session, &found, 1, &count), CKR_OK);
    assert_int_equal(count, 0);
    assert_int_equal(p11->C_FindObjectsFinal(session), CKR_OK);
}

static void test_templates(void **state)
{
    CK_OBJECT_HANDLE key;
    (void)state;
    assert_int_equal(generate(CK_FALSE, &key), CKR_OK);
    test_token_control(&token, "refuse-non-sensitive\nrefuse-copyable\n");
    assert_int_equal(generate(CK_FALSE, &key), CKR_ATTRIBUTE_VALUE_INVALID);
    assert_int_equal(generate(CK_TRUE, &key), CKR_OK);
    CK_ATTRIBUTE copyable = {CKA_COPYABLE, &no, sizeof no};
    assert_int_equal(p11->C_CreateObject(session, &copyable, 1, &key), CKR_ATTRIBUTE_TYPE_INVALID);
    test_token_control(&token, "want-unwrap-length\n");
    CK_MECHANISM kw = {CKM_AES_KEY_WRAP, NULL, 0};
    assert_int_equal(p11->C_UnwrapKey(session, &kw, 1, (CK_BYTE *)"", 0, &copyable, 1, &key),
                     CKR_TEMPLATE_INCOMPLETE);
    test_token_control(&token, "refuse-plaintext\n");
    CK_ATTRIBUTE plain = {CKA_CLASS, &secret, sizeof secret};
    assert_int_equal(p11->C_CreateObject(session, &plain, 1, &key), CKR_ATTRIBUTE_VALUE_INVALID);
}

/* What the token's own IV sealed opens with the IV that it told, or where it put it. */
static void test_gcm_iv(void **state)
{
    static const struct {
        const char *mode;
        size_t given, where, iv_bytes; /* `where`: of the IV in what C_Encrypt gave */
        bool within;
    } modes[] = {{"param", 12, 0, 0, false},
                 {"zeros", 12, 0, 0, false},
                 {"front", 12, 0, 12, false},
                 {"within", 0, 0, 12, true},
                 {"appended", 0, 48, 16, false}};
    CK_BYTE plain[32] = "a key", zeros[16] = {0};
    CK_OBJECT_HANDLE key;
    (void)state;
    assert_int_equal(generate(CK_TRUE, &key), CKR_OK);
    for (size_t m = 0; m < 5; m++) {
        size_t given = modes[m].given, iv_bytes = modes[m].iv_bytes;
        CK_BYTE iv[16] = {0}, sealed[64], opened[64];
        CK_GCM_PARAMS params = {given > 0 ? iv : NULL, given, given * 8, NULL, 0, 128};
        CK_MECHANISM mechanism = {CKM_AES_GCM, &params, sizeof params};
        CK_ULONG length = sizeof sealed, size = sizeof opened;
        test_token_control(&token, "gcm-iv %s\n", modes[m].mode);
        assert_int_equal(p11->C_EncryptInit(session, &mechanism, key), CKR_OK);
        assert_int_equal(p11->C_Encrypt(session, plain, sizeof plain, sealed, &length), CKR_OK);
        assert_int_equal(length, 48 + iv_bytes);
        assert_int_equal(memcmp(iv, zeros, sizeof iv) == 0, iv_bytes > 0);
        CK_BYTE *body = modes[m].where == 0 ? sealed + iv_bytes : sealed;
        if (modes[m].within) {
            body = sealed;
        } else if (iv_bytes > 0) {
            memcpy(iv, sealed + modes[m].where, iv_bytes);
            params = (CK_GCM_PARAMS){iv, iv_bytes, iv_bytes * 8, NULL, 0, 128};
        }
        assert_int_equal(p11->C_DecryptInit(session, &mechanism, key), CKR_OK);
        assert_int_equal(
            p11->C_Decrypt(session, body, modes[m].within ? length : 48, opened, &size), CKR_OK);
        assert_memory_equal(opened, plain, sizeof plain);
    }
    CK_BYTE iv[12] = {1};
    CK_GCM_PARAMS params = {iv, sizeof iv, 96, NULL, 0, 128};
    CK_MECHANISM mechanism = {CKM_AES_GCM, &params, sizeof params};
    assert_int_equal(p11->C_EncryptInit(session, &mechanism, key), CKR_MECHANISM_PARAM_INVALID);
    test_token_control(&token, "gcm-iv zeros\n");
    assert_int_equal(p11->C_EncryptInit(session, &mechanism, key), CKR_ARGUMENTS_BAD);
}

static bool log_has(const char *text)
{
    char path[128], line[512];
    bool found = false;
    snprintf(path, sizeof path, "%s/faulty/calls", token.folder);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        found = found || strstr(line, text) != NULL;
    if (file != NULL)
        fclose(file);
    return found;
}

/* A handle of one session used in another still works, and the log says so. */
static void test_stale_handles(void **state)
{
    CK_OBJECT_HANDLE key;
    CK_ATTRIBUTE type = {CKA_KEY_TYPE, &aes, sizeof aes};
    (void)state;
    test_token_control(&token, "log\n");
    assert_int_equal(generate(CK_TRUE, &key), CKR_OK);
    assert_int_equal(p11->C_GetAttributeValue(session, key, &type, 1), CKR_OK);
    assert_false(log_has("stale"));
    CK_SESSION_HANDLE other = open_session();
    assert_int_equal(p11->C_GetAttributeValue(other, key, &type, 1), CKR_OK);
    assert_true(log_has("stale"));
    p11->C_CloseSession(other);
}

/* A token object that another process makes is found only by processes that begin later. */
static void test_foreign_objects(void **state)
{
    CK_BYTE id[16] = "made elsewhere!";
    CK_ULONG length = 32, count = 0;
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    CK_ATTRIBUTE template[] = {{CKA_TOKEN, &yes, sizeof yes},
                               {CKA_ID, id, sizeof id},
                               {CKA_VALUE_LEN, &length, sizeof length}};
    CK_OBJECT_HANDLE key, found;
    (void)state;
    for (int hidden = 1; hidden >= 0; hidden--) {
        test_token_control(&token, "%s\n", hidden ? "hide-foreign" : "");
        pid_t pid = hidden ? fork() : 0;
        if (pid == 0 && hidden)
            _exit(p11->C_GenerateKey(session, &mechanism, template, 3, &key) == CKR_OK ? 0 : 1);
        int status = 0;
        assert_true(!hidden || (waitpid(pid, &status, 0) == pid && status == 0));
        assert_int_equal(p11->C_FindObjectsInit(session, &template[1], 1), CKR_OK);
        assert_int_equal(p11->C_FindObjects(session, &found, 1, &count), CKR_OK);
        assert_int_equal(count, hidden ? 0 : 1);
        assert_int_equal(p11->C_FindObjectsFinal(session), CKR_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),           cmocka_unit_test(test_broken_session),
        cmocka_unit_test(test_session_limit),   cmocka_unit_test(test_templates),
        cmocka_unit_test(test_gcm_iv),          cmocka_unit_test(test_stale_handles),
        cmocka_unit_test(test_foreign_objects), cmocka_unit_test(test_pin_tries),
        cmocka_unit_test(test_token_changes),
    };
    if (access("/usr/lib/softhsm/libsofthsm2.so", R_OK) != 0)
        return 77;
    return cmocka_run_group_tests(tests, setup, teardown);
}
