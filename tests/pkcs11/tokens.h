/* Tokens for the contract tests, each in a folder of its own that goes away with the test. */
#ifndef SSO_TESTS_PKCS11_TOKENS_H
#define SSO_TESTS_PKCS11_TOKENS_H

#include <stdbool.h>

#include "common/config.h"
#include "pkcs11/hsm.h"

#define TEST_PIN "1234-test"

struct test_token {
    char folder[64];
    char state[80]; /* state directory */
    struct config_hsm section;
};

/* NSS: softoken, which needs weak_token = accept. NSS_FIPS: the same in FIPS mode, through
 * nss_fips_module.c: it neither takes nor gives a key in the clear. The others are SoftHSM through
 * faulty-module, as tokens that we cannot have here: SHUT gives and takes no key in the clear,
 * LENGTH wants CKA_VALUE_LEN at C_UnwrapKey, IV_… make their own IVs (faulty/faulty.h). */
enum token_kind {
    TOKEN_SOFTHSM,
    TOKEN_NSS,
    TOKEN_NSS_FIPS,
    TOKEN_SHUT,
    TOKEN_LENGTH,
    TOKEN_IV_PARAM,
    TOKEN_IV_ZEROS,
    TOKEN_IV_FRONT,
    TOKEN_IV_WITHIN,
    TOKEN_IV_APPENDED
};
#define TOKEN_KINDS (TOKEN_IV_APPENDED + 1)

/* "softhsm", "nss-fips", "iv-param" …; TOKEN_SOFTHSM for NULL. */
enum token_kind test_token_kind(const char *name);
const char *test_token_kind_name(enum token_kind kind);

/* False where the module is not installed. Tokens labelled with `labels`, NULL-ended; NSS has the
 * first of them only. */
bool test_token_new(struct test_token *token, enum token_kind kind, const char *const *labels);
void test_token_free(struct test_token *token);

/* Writes the PIN file anew, with mode 0600. */
void test_token_set_pin(struct test_token *token, const char *pin);
/* pkcs11:token=LABEL with the folder's PIN file. */
void test_token_select(struct test_token *token, const char *label);

/* The same token through faulty-module (faulty/faulty.h), with its files in the token's folder. */
void test_token_make_faulty(struct test_token *token);
/* What the module is to obey from now on; "" for nothing. Counts of calls begin anew. */
__attribute__((format(printf, 2, 3))) void test_token_control(const struct test_token *token,
                                                              const char *format, ...);
/* Bytes in one of its files: "fired", "logins". */
long test_token_count(const struct test_token *token, const char *name);

/* For a test that loads the token's module itself: what its workers would find in their
 * environment, in ours. */
void test_token_environment(const struct test_token *token);

/* A spawner that knows the token's section as it is now, in place of *spawner (NULL: the first). */
bool test_token_spawner(const struct test_token *token, struct spawner **spawner);

/* The pids of the workers below the spawner; returns how many. */
int test_worker_pids(int *pids, int maximum);

#endif
