/* The generation that a rotation goes to: made here for --no-backup, taken up where a ceremony made
 * it. */
#ifndef SSO_CUSTODIAN_ROTATION_GENERATION_H
#define SSO_CUSTODIAN_ROTATION_GENERATION_H

#include <stdint.h>

#include "common/error.h"
#include "custodian/request.h"

struct custodian;

/* Makes the next generation in the token of this section (NULL: in the active one's), without a
 * backup, and stores it as pending with its audit record. On error no key is left in the token, or
 * the text says which. */
enum sso_code rotation_generation_make(struct request *request, const char *token, uint32_t *number,
                                       struct sso_error *err) __attribute__((warn_unused_result));
/* SSO_OK where the token of the section `name` ("hsm": of [hsm]) is there and another one than that
 * of the active generation. Names do not tell tokens apart, a key in it does. */
enum sso_code rotation_token_is_another(struct custodian *custodian, const char *name,
                                        struct sso_error *err) __attribute__((warn_unused_result));
/* SSO_OK where the generation, which is open, is in the token of the section `name`. */
enum sso_code rotation_generation_is_in(struct custodian *custodian, uint32_t number,
                                        const char *name, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Reads the generation from the database, checks its tags, and has all workers open it. */
enum sso_code rotation_generation_open(struct custodian *custodian, uint32_t number,
                                       struct sso_error *err) __attribute__((warn_unused_result));

#endif
