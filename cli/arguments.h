/* Options and arguments of one command, over getopt_long(3). */
#ifndef SSO_CLI_ARGUMENTS_H
#define SSO_CLI_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define OPTION_VALUES_MAX 64

enum option_kind {
    OPTION_FLAG,        /* target: bool */
    OPTION_TEXT,        /* target: const char *; given twice is an error */
    OPTION_NUMBER,      /* target: uint64_t, from 1 */
    OPTION_EACH,        /* target: struct option_values, one more each time */
    OPTION_LATER,       /* refused: comes in a later version; `why` may say more */
    OPTION_LATER_VALUE, /* the same for an option with a value */
};

struct option_values {
    const char *value[OPTION_VALUES_MAX];
    size_t count;
};

struct option_row {
    const char *name;
    enum option_kind kind;
    void *target;
    const char *why;
};

struct arguments {
    char **value; /* what is left when the options are taken out */
    int count;
};

/* `rows` ends with a NULL name and may be NULL. SSO_USAGE, naming the option, where something is
 * unknown, incomplete, repeated or of a later version. */
enum sso_code arguments_parse(int argc, char **argv, const struct option_row *rows,
                              struct arguments *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* SSO_USAGE unless there are `minimum` to `maximum` of them. */
enum sso_code arguments_expect(const struct arguments *arguments, int minimum, int maximum,
                               struct sso_error *err) __attribute__((warn_unused_result));

/* A decimal number from 1 to maximum and nothing else. */
bool argument_number(const char *text, uint64_t maximum, uint64_t *out);

#endif
