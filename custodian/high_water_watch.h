/* Is the database older than what this node has seen (DESIGN §6)? Lookups go on where it is; what
 * would write is refused with database_went_back. */
#ifndef SSO_CUSTODIAN_HIGH_WATER_WATCH_H
#define SSO_CUSTODIAN_HIGH_WATER_WATCH_H

#include <stdbool.h>

#include "common/error.h"
#include "store/store.h"

struct custodian;

/* Compares database and marks, tells the board and the committer what came of it, and where it
 * changed forgets what is cached. SSO_DATABASE_OF_OTHER_SYSTEM: nothing of it may be served.
 * Otherwise SSO_OK, whatever was found: custodian_went_back has it. */
enum sso_code high_water_look(struct custodian *custodian, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Raises the marks to what the database says now, where it is not below them and the policy key is
 * known. */
void high_water_keep(struct custodian *custodian);
/* For a block of wraps that was reserved: durable before the first of them is made. */
enum sso_code high_water_keep_wraps(void *custodian, uint32_t generation, uint64_t total,
                                    struct sso_error *err);

/* SSO_DATABASE_WENT_BACK, as last looked. */
enum sso_code custodian_went_back(struct custodian *custodian, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
