/* An application as the object of `app list` (INTERFACE §3), and what a request may say of one. */
#ifndef SSO_CUSTODIAN_APPLICATION_JSON_H
#define SSO_CUSTODIAN_APPLICATION_JSON_H

#include <jansson.h>
#include <stdbool.h>

#include "common/error.h"
#include "common/policy.h"

/* [A-Za-z0-9._-]{1,64} */
bool application_name_is_valid(const char *name);
/* 1 to 256 bytes of UTF-8 without control characters. */
bool principal_is_valid(const char *principal);

/* NULL: no memory. */
json_t *application_json(const struct application *application);

/* The body of a creation into *out, all but id, times, version and tag. SSO_BAD_REQUEST names the
 * member. */
enum sso_code application_from_json(const json_t *body, struct application *out,
                                    struct sso_error *err) __attribute__((warn_unused_result));

/* The members of a change over what *application holds. Name, type and fields never change. */
enum sso_code application_change_from_json(const json_t *body, struct application *application,
                                           struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
