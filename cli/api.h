/* Calls to the custodian, as the commands make them. */
#ifndef SSO_CLI_API_H
#define SSO_CLI_API_H

#include <jansson.h>

#include "cli/command.h"

/* The path is made of `format`, in which each %s takes the next argument percent-encoded as one
 * segment. The connection is opened at the first call and kept. `body` may be NULL and stays the
 * caller's; `reply` may be NULL. */
struct api_request {
    const char *method;
    const json_t *body;
    unsigned timeout_ms; /* 0: the client's default */
};
enum sso_code api_call(struct cli *cli, const struct api_request *request, json_t **reply,
                       struct sso_error *err, const char *format, ...)
    __attribute__((warn_unused_result, format(printf, 5, 6)));
enum sso_code api_get(struct cli *cli, json_t **reply, struct sso_error *err, const char *format,
                      ...) __attribute__((warn_unused_result, format(printf, 4, 5)));

/* A text is set where it is not NULL. */
void body_set_text(json_t *body, const char *name, const char *value);
/* "a,b" as ["a","b"]; blanks around names are cut, "" is []. */
json_t *list_from_commas(const char *text);

#endif
