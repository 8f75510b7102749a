/* The fields of a credential as the bytes that are sealed (common/row.h). For common/row.c, its
 * tests and its fuzzer only. */
#ifndef SSO_COMMON_ROW_FIELDS_H
#define SSO_COMMON_ROW_FIELDS_H

#include "common/encode.h"
#include "common/row.h"

/* Appends the padded encoding to a locked encoder. */
enum sso_code credential_fields_encode(const struct credential_fields *fields, struct encoder *out,
                                       struct sso_error *err) __attribute__((warn_unused_result));

/* fields->storage holds the padded encoding; the views into it are filled in. */
bool credential_fields_decode(struct credential_fields *fields) __attribute__((warn_unused_result));

#endif
