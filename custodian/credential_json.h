/* A credential as JSON: what a write says, and the object of `cred get` (INTERFACE §3). */
#ifndef SSO_CUSTODIAN_CREDENTIAL_JSON_H
#define SSO_CUSTODIAN_CREDENTIAL_JSON_H

#include <jansson.h>
#include <stdbool.h>

#include "common/error.h"
#include "common/policy.h"
#include "common/row.h"

/* Views into the JSON text that was parsed, whose memory wipes itself when freed. */
struct credential_input {
    const char *external_user; /* "" where there is none */
    const json_t *fields;      /* an object: exactly the fields of the application, all text */
};

/* Holds an object of labels and texts against the application's fields; `all`: each must be there.
 * SSO_BAD_REQUEST names the field, and the object by `word`, never a value. */
enum sso_code credential_fields_check(const json_t *fields, const struct application *application,
                                      bool all, const char *word, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Reads "external_user" and "fields" of `object` and holds them against the application.
 * SSO_BAD_REQUEST names the field that is missing, surplus, no text or too long, never a value. */
enum sso_code credential_input_read(const json_t *object, const struct application *application,
                                    struct credential_input *out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* What row_seal takes, in the order of the application; views into the input, storage empty. */
void credential_input_fields(const struct credential_input *input,
                             const struct application *application, struct credential_fields *out);

/* The object without "fields" where `fields` is NULL. NULL: no memory. */
json_t *credential_json(const char *application, const struct credential_row *row,
                        const struct credential_fields *fields);

#endif
