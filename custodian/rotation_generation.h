/* The generation that a rotation goes to: made here for --no-backup, taken up where a ceremony made
 * it. */
#ifndef SSO_CUSTODIAN_ROTATION_GENERATION_H
#define SSO_CUSTODIAN_ROTATION_GENERATION_H

#include <stdint.h>

#include "common/error.h"
#include "custodian/request.h"

struct custodian;

/* Makes the next generation in the active one's token, without a backup, and stores it as pending
 * with its audit record. On error no key is left in the token, or the text says which. */
enum sso_code rotation_generation_make(struct request *request, uint32_t *number,
                                       struct sso_error *err) __attribute__((warn_unused_result));

/* Reads the generation from the database, checks its tags, and has all workers open it. */
enum sso_code rotation_generation_open(struct custodian *custodian, uint32_t number,
                                       struct sso_error *err) __attribute__((warn_unused_result));

#endif
