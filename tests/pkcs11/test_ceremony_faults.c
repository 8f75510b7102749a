/* Each call of a ceremony failing, by function and kind of error: what fails says so and leaves no
 * key that it does not name, and the ceremony goes through as soon as the fault is gone. On a token
 * that gives row keys by reading, and on ones that do not. SSO_HSM_LONG=1: every case. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/row.h"
#include "rig.h"

static struct rig rig;

/* Tokens: as it is; one that wants a transport key for row keys; one that takes no wrapping key in
 * the clear either, so that a pair of RSA is made for each: too slow for the short form. */
enum kind { PLAIN, SHUT, SHUT_WHOLLY };
static const char *const kinds[] = {"", "refuse-non-sensitive\n",
                                    "refuse-non-sensitive\nrefuse-plaintext\n"};

/* What a worker calls in a ceremony. */
static const struct {
    const char *name;
    enum kind kind;
} functions[] = {
    {"C_GenerateRandom", PLAIN},
    {"C_CreateObject", PLAIN},
    {"C_GenerateKey", PLAIN},
    {"C_WrapKey", PLAIN},
    {"C_UnwrapKey", PLAIN},
    {"C_DestroyObject", PLAIN},
    {"C_FindObjectsInit", PLAIN},
    {"C_FindObjects", PLAIN},
    {"C_FindObjectsFinal", PLAIN},
    {"C_GetAttributeValue", PLAIN},
    {"C_CopyObject", PLAIN},
    {"C_SetAttributeValue", PLAIN},
    {"C_OpenSession", PLAIN},
    {"C_CloseSession", PLAIN},
    {"C_EncryptInit", PLAIN},
    {"C_DecryptInit", PLAIN},
    {"C_SignInit", PLAIN},
    {"C_Sign", PLAIN},
    {"C_VerifyInit", PLAIN},
    {"C_DeriveKey", PLAIN},
    {"C_GenerateKeyPair", PLAIN},
    {"C_CreateObject", SHUT},
    {"C_GenerateKey", SHUT},
    {"C_WrapKey", SHUT},
    {"C_UnwrapKey", SHUT},
    {"C_DestroyObject", SHUT},
    {"C_GenerateKeyPair", SHUT_WHOLLY},
    {"C_GetAttributeValue", SHUT_WHOLLY},
    {"C_UnwrapKey", SHUT_WHOLLY},
    {"C_DestroyObject", SHUT_WHOLLY},
};
/* One of each class, and a vendor's own; in the short form one for each function, in turn. */
static const char *const codes[] = {
    "CKR_GENERAL_ERROR",         "CKR_DEVICE_REMOVED",         "CKR_HOST_MEMORY",
    "CKR_DEVICE_MEMORY",         "CKR_SESSION_HANDLE_INVALID", "CKR_CRYPTOKI_NOT_INITIALIZED",
    "CKR_WRAPPED_KEY_INVALID",   "CKR_MECHANISM_INVALID",      "CKR_ATTRIBUTE_VALUE_INVALID",
    "CKR_TEMPLATE_INCONSISTENT", "CKR_SESSION_COUNT",          "0x80000001",
};
#define CODES (sizeof codes / sizeof *codes)

struct ceremony {
    uint8_t *wrapping_key, *other_key; /* locked */
    uint32_t number;                   /* none is used twice */
    struct audit_key audit;
};

static struct ceremony ceremony = {.number = 100}; /* the rows are under 1 to 3 */

struct tally {
    unsigned cases, refused, left;
};

/* A step that failed must leave no key, or say that it may have. */
static void check_left(const struct generation_key *key, enum sso_code code,
                       const struct sso_error *said, struct tally *tally)
{
    struct sso_error err = {0};
    if (code == SSO_OK)
        return;
    tally->refused++;
    test_token_control(&rig.token, "%s", "");
    rig_await_service(&rig);
    enum sso_code gone = hsm_destroy_key(rig.hsm, key, &err);
    if (gone == SSO_NOT_FOUND)
        return;
    if (gone != SSO_OK || strstr(said->detail, "left in the token") == NULL)
        print_error("%s; a key was there: %s\n", said->detail, err.detail);
    assert_int_equal(gone, SSO_OK);
    assert_non_null(strstr(said->detail, "left in the token"));
    tally->left++;
}

/* All that ceremonies ask of a pool, one after the other, as far as it goes. */
static void hold_ceremony(struct tally *tally)
{
    struct sso_error err = {0};
    struct evidence evidence;
    struct hsm_samples none = {0};
    struct generation_key key = {
        .system_id = {7}, .number = ++ceremony.number, .suite = SUITE_AES256_KW};
    struct hsm_backup backup = {.wrapping_key = ceremony.wrapping_key},
                      moved = {.wrapping_key = ceremony.other_key};
    uint8_t digest[AUDIT_DIGEST_BYTES] = {1}, signature[AUDIT_SIGNATURE_BYTES];
    assert_int_equal(random_bytes(key.secret_id, SECRET_ID_BYTES, &err), SSO_OK);
    enum sso_code code = hsm_random(rig.hsm, ceremony.wrapping_key, &err);
    if (code == SSO_OK)
        code = hsm_generate_backed(rig.hsm, &key, &backup, &evidence, &err);
    check_left(&key, code, &err, tally);
    if (code != SSO_OK)
        return;
    code = hsm_rewrap_backup(rig.hsm, &key, &backup, &moved, &err);
    if (code == SSO_OK)
        code = hsm_try_backup(rig.hsm, &key, &moved, &none, &err);
    if (code == SSO_OK)
        code = hsm_evidence(rig.hsm, &key, &evidence, &err);
    tally->refused += code != SSO_OK;
    if (hsm_destroy_key(rig.hsm, &key, &err) != SSO_OK) {
        test_token_control(&rig.token, "%s", "");
        rig_await_service(&rig);
        enum sso_code again = hsm_destroy_key(rig.hsm, &key, &err);
        assert_true(again == SSO_OK || again == SSO_NOT_FOUND);
    } else if (code == SSO_OK) {
        code = hsm_install_backup(rig.hsm, &key, &moved, &evidence, &err);
        check_left(&key, code, &err, tally);
        if (code == SSO_OK)
            (void)!hsm_destroy_key(rig.hsm, &key, &err);
    }
    ceremony.audit = (struct audit_key){.since_ms = 1};
    if (hsm_audit_make(rig.hsm, key.system_id, &ceremony.audit, &err) == SSO_OK) {
        tally->refused +=
            hsm_audit_sign(rig.hsm, &ceremony.audit, digest, signature, &err) != SSO_OK;
        (void)!hsm_audit_destroy(rig.hsm, &ceremony.audit, &err);
    }
}

/* False: the fault did not come, there is no n-th call. */
static bool one_case(const char *kind, const char *function, const char *code, unsigned n,
                     struct tally *tally)
{
    struct tally after = {0};
    test_token_control(&rig.token, "%s%s at %u return %s", kind, function, n, code);
    hold_ceremony(tally);
    /* check_left() takes the fault away, which is only done once it has come. */
    bool fired = test_token_count(&rig.token, "fired") > 0 || tally->refused > 0;
    test_token_control(&rig.token, "%s", kind);
    rig_await_service(&rig);
    hold_ceremony(&after);
    assert_int_equal(after.refused, 0);
    tally->cases += fired;
    return fired;
}

static unsigned every_call(size_t f, const char *code, unsigned most, struct tally *all)
{
    unsigned cases = 0;
    bool more = true;
    for (unsigned n = 1; more && n <= most; n++) {
        struct tally tally = {0};
        more = one_case(kinds[functions[f].kind], functions[f].name, code, n, &tally);
        cases += tally.cases;
        all->cases += tally.cases;
        all->refused += tally.refused;
        all->left += tally.left;
    }
    return cases;
}

/* Workers find out at their start. */
static void become(enum kind kind)
{
    test_token_control(&rig.token, "%s", kinds[kind]);
    rig_close(&rig);
    rig_open(&rig);
    for (uint32_t n = 1; n <= 3; n++) {
        struct sso_error err = {0};
        assert_int_equal(hsm_open_generation(rig.hsm, &rig.key[n], false, &err), SSO_OK);
    }
}

static void test_every_fault_of_a_ceremony(void **state)
{
    bool whole = getenv("SSO_HSM_LONG") != NULL;
    enum kind kind = PLAIN;
    struct tally tally = {0};
    (void)state;
    ceremony.wrapping_key = secret_alloc(WRAPPING_KEY_BYTES);
    ceremony.other_key = secret_alloc(WRAPPING_KEY_BYTES);
    assert_true(ceremony.wrapping_key != NULL && ceremony.other_key != NULL);
    memset(ceremony.other_key, 9, WRAPPING_KEY_BYTES);
    rig.token.section.workers = 1;
    rig_open(&rig);
    rig_fill(&rig, 2);
    for (size_t f = 0; f < sizeof functions / sizeof *functions; f++) {
        unsigned cases = 0;
        if (functions[f].kind == SHUT_WHOLLY && !whole)
            break;
        if (functions[f].kind != kind)
            become(kind = functions[f].kind);
        for (size_t c = 0; whole && c < CODES; c++)
            cases += every_call(f, codes[c], ~0U, &tally);
        if (!whole)
            cases = every_call(f, codes[f % CODES], 1, &tally);
        print_message("%s%s: %u cases\n", functions[f].name,
                      kind == PLAIN  ? ""
                      : kind == SHUT ? " (transport)"
                                     : " (RSA)",
                      cases);
        assert_true(cases > 0); /* a function that is not called is none of the list */
    }
    print_message("%u cases: %u calls refused, %u keys left and named; no other was there, and the "
                  "ceremony went through each time once the fault was gone\n",
                  tally.cases, tally.refused, tally.left);
    secret_dealloc(ceremony.wrapping_key);
    secret_dealloc(ceremony.other_key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(test_every_fault_of_a_ceremony),
    };
    int rc = rig_prepare();
    return rc != 0 ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
