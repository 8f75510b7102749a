/* What every unit test of common/ starts from. */
#ifndef SSO_TESTS_COMMON_TESTING_H
#define SSO_TESTS_COMMON_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/error.h"
#include "common/secret.h"

#define TEST_HEAP_BYTES (1 << 20)

/* First thing in main, as in the programs. */
static inline void testing_start(void)
{
    struct sso_error err;
    wiping_allocator_install();
    if (secret_memory_init(TEST_HEAP_BYTES, &err) != SSO_OK) {
        fprintf(stderr, "%s\n", err.detail);
        exit(77); /* skipped: no memory may be locked here */
    }
}

/* The outcome and, where `part` is not NULL, a part of the text. */
static inline void check_failure(enum sso_code rc, enum sso_code wanted,
                                 const struct sso_error *err, const char *part)
{
    assert_string_equal(sso_code_facts(rc)->name, sso_code_facts(wanted)->name);
    assert_int_equal(err->code, wanted);
    if (part != NULL && strstr(err->detail, part) == NULL)
        fail_msg("\"%s\" does not contain \"%s\"", err->detail, part);
}

#endif
