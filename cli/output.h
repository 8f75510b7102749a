/* What sso-hsm prints. Standard output is for results, standard error for errors and progress.
 * What may hold decoded fields goes out by write(2) from wiping buffers and never through stdio. */
#ifndef SSO_CLI_OUTPUT_H
#define SSO_CLI_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

/* One object on one line. */
enum sso_code output_json(const json_t *value, struct sso_error *err)
    __attribute__((warn_unused_result));
/* `label: value` with control characters shown as \xNN, so that a stored value cannot steer the
 * terminal of who reads it. */
enum sso_code output_secret_field(const char *label, const char *value, size_t value_bytes,
                                  struct sso_error *err) __attribute__((warn_unused_result));
/* A secret and nothing else on a line. */
enum sso_code output_secret_line(const char *value, size_t value_bytes, struct sso_error *err)
    __attribute__((warn_unused_result));
/* The same escaping for text that is no secret, by stdio, without an end of line. */
void output_clean(const char *text);

/* `sso-hsm: CODE: text`, or the problem object, on standard error. */
void output_error(const struct sso_error *error, bool json);

/* "-" where the member is absent or null; texts and numbers as text. `room` holds numbers. */
#define MEMBER_ROOM 32
const char *member_text(const json_t *object, const char *name, char room[static MEMBER_ROOM]);
json_int_t member_number(const json_t *object, const char *name);

/* What a person must know of a printed line: everything on standard output really went out. */
enum sso_code output_finish(struct sso_error *err) __attribute__((warn_unused_result));

#endif
