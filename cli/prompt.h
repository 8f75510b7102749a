/* A value typed at the terminal without echo. */
#ifndef SSO_CLI_PROMPT_H
#define SSO_CLI_PROMPT_H

#include <stdbool.h>

#include "common/error.h"
#include "common/secret.h"

/* Is there a person at standard input? */
bool prompt_possible(void);

/* Shows `label: ` on standard error and reads one line of at most maximum_bytes into `out`, which
 * must be empty. The terminal is put right again also when the person interrupts. SSO_USAGE: end of
 * input, interrupted, or too long. */
enum sso_code prompt_secret(const char *label, size_t maximum_bytes, struct secret *out,
                            struct sso_error *err) __attribute__((warn_unused_result));

#endif
