/* The options that say how a new master secret is backed up, of `init` and `key generate`. */
#ifndef SSO_CLI_BACKING_ARGUMENTS_H
#define SSO_CLI_BACKING_ARGUMENTS_H

#include <jansson.h>

#include "cli/ceremony/ceremony.h"

/* "M/N" as --shares has it. */
enum sso_code scheme_parse(const char *text, struct slip39_scheme *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Completes `options` from --shares (may be NULL) and checks that they go together. */
enum sso_code backing_options_check(const char *shares, struct backing_options *options,
                                    struct sso_error *err) __attribute__((warn_unused_result));
/* "backup" of a result, for people. */
void backing_print(const json_t *result);
/* "transcript_text" of an object, and where it stands too. */
void transcript_print(const json_t *object);

#endif
