/* A fresh database for each test, of the kind that the program was asked to test, and rows to put
 * into it. */
#ifndef SSO_TESTS_STORE_FIXTURE_H
#define SSO_TESTS_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store.h"

struct fixture {
    char folder[64];
    char url[200];
    struct store *store;
};

/* The kind of store that fixture_setup makes: "sqlite" or "postgresql". */
void fixture_use(const char *kind);
int fixture_setup(void **state);
int fixture_teardown(void **state);
/* One more of the kind, empty; the caller's. */
struct store *fixture_another(const struct fixture *fixture);

#define assert_ok(expression) assert_code(SSO_OK, expression)
/* `expression` uses a `struct sso_error err`, whose text is shown where the code is another one. */
#define assert_code(wanted, expression)                                                            \
    do {                                                                                           \
        enum sso_code got_code = (expression);                                                     \
        if (got_code != (wanted))                                                                  \
            fail_msg("%s: %s, expected %s: %s", #expression, sso_code_facts(got_code)->name,       \
                     sso_code_facts(wanted)->name, err.detail);                                    \
    } while (0)
#define assert_says(text) assert_non_null(strstr(err.detail, text))

struct store_tx *begin(struct store *store, enum store_access access);
void commit(struct store_tx *tx);

struct setting sample_setting(const char *name, const char *value, uint64_t version);
struct generation sample_generation(uint32_t number);
struct application sample_application(uint8_t id, const char *name);
struct mapping sample_mapping(uint8_t application, const char *principal);
/* Row ids rise with `number`; `row` owns its ciphertext. */
struct credential_row sample_row(uint32_t number, uint8_t application, const char *principal);
struct audit_record sample_record(const char *node, const char *target);

/* Generations 1 and 2, application 1 with `rows` credentials user00000 … under generation 1, each
 * with its mapping, and the two settings. */
void fill(struct store *store, uint32_t rows);
uint64_t rows_of_generation(struct store *store, uint32_t generation);

#endif
