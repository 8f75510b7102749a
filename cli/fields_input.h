/* Where the values of fields come from: standard input, or a person who types them without echo.
 * Never the command line, where others could see them. */
#ifndef SSO_CLI_FIELDS_INPUT_H
#define SSO_CLI_FIELDS_INPUT_H

#include <jansson.h>

#include "cli/arguments.h"
#include "cli/command.h"

/* One JSON text from standard input; owned by the caller. */
enum sso_code fields_from_stdin(json_t **object, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Asks for the fields of the application in its order, or only for those in `labels` (NULL: all);
 * {label: value}, owned by the caller. SSO_USAGE where nobody is at standard input, SSO_NOT_FOUND
 * where a label is none of the application's. */
enum sso_code fields_from_terminal(struct cli *cli, const char *application,
                                   const struct arguments *labels, json_t **fields,
                                   struct sso_error *err) __attribute__((warn_unused_result));

#endif
