/* An application for people. */
#ifndef SSO_CLI_APPLICATION_OUTPUT_H
#define SSO_CLI_APPLICATION_OUTPUT_H

#include <jansson.h>

#include "cli/command.h"

void application_print(const json_t *application);
/* The object as one line of JSON, or as text. */
enum sso_code application_output(const struct cli *cli, const json_t *application,
                                 struct sso_error *err) __attribute__((warn_unused_result));

#endif
