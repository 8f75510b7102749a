/* The state of a rotation, for people and as a progress bar. */
#ifndef SSO_CLI_ROTATION_OUTPUT_H
#define SSO_CLI_ROTATION_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/command.h"

void rotation_print(const json_t *status);
/* The object as one line of JSON, or as text. */
enum sso_code rotation_output(const struct cli *cli, const json_t *status, struct sso_error *err)
    __attribute__((warn_unused_result));

/* One line on standard error, written over itself; nothing where that is no terminal. */
void progress_show(const json_t *status);
/* Ends that line, so that what comes next begins a new one. */
void progress_end(void);

/* Nothing more will happen to it without somebody asking. */
bool rotation_is_over(const json_t *status);
bool rotation_is_in_state(const json_t *status, const char *state);

#endif
