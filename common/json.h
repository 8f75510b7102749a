/* Helpers on jansson for the shapes of INTERFACE §3 and §4 that more than one program writes. */
#ifndef SSO_COMMON_JSON_H
#define SSO_COMMON_JSON_H

#include <jansson.h>
#include <stddef.h>

#include "common/audit_record.h"
#include "common/error.h"
#include "common/generation.h"

/* Parses one JSON text (duplicate keys refused, depth as compiled into jansson). The error names
 * line and column and never quotes the input. NULL on error: SSO_BAD_REQUEST. */
json_t *json_parse(const char *text, size_t count, struct sso_error *err);

/* At least as many as the text has values, counted without parsing it. */
size_t json_value_bound(const char *text, size_t count);

/* One line, UTF-8, no spaces, from wiping_malloc: to be freed with wiping_free. */
char *json_line(const json_t *value);

json_t *json_time(int64_t wall_ms); /* RFC 3339, or null for 0 */
json_t *json_hex(const uint8_t *bytes, size_t count);
json_t *json_text_or_null(const char *text); /* "" becomes null */

/* The object of RFC 9457; request_id may be NULL ("request_id":null). */
json_t *json_problem(enum sso_code code, const char *detail,
                     const uint8_t request_id[REQUEST_ID_BYTES]);
/* The way back: code and detail of a problem object into err; SSO_INTERNAL where it is none.
 * Returns the code. */
enum sso_code json_problem_read(const json_t *problem, struct sso_error *err);

/* The object of `key list`. `tokens`: only those of this generation are taken. rows < 0: null. */
json_t *json_generation(const struct generation *generation, const struct generation_token *tokens,
                        size_t token_count, int64_t rows);

/* Reads members of an object by name and refuses what is missing, surplus or of a wrong type, by
 * name: SSO_BAD_REQUEST. `allowed` ends with NULL. */
enum sso_code json_only_members(const json_t *object, const char *const *allowed,
                                struct sso_error *err);
/* Required text of 1 to maximum bytes of clean UTF-8; a view into the object. */
enum sso_code json_get_text(const json_t *object, const char *name, size_t maximum_bytes,
                            const char **out, struct sso_error *err);

#endif
