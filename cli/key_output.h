/* The object of `key show` for people. */
#ifndef SSO_CLI_KEY_OUTPUT_H
#define SSO_CLI_KEY_OUTPUT_H

#include <jansson.h>

#include "common/error.h"

void key_print(const json_t *key);
/* SSO_USAGE unless it names a suite; NULL is fine. */
enum sso_code suite_option_check(const char *suite, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
