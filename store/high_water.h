/* What the database says of the things that have a high-water mark (common/high_water.h). A part of
 * store/store.h. */
#ifndef SSO_STORE_HIGH_WATER_H
#define SSO_STORE_HIGH_WATER_H

#include "common/error.h"
#include "common/high_water.h"
#include "common/policy.h"

struct store_tx;

/* A setting that is there once the database was put back: no number up to it is used again. */
#define SETTING_GENERATION_FLOOR "system.generation_floor"

/* Everything, believed or not. */
enum sso_code store_high_water_read(struct store_tx *tx, struct high_water *out,
                                    struct sso_error *err) __attribute__((warn_unused_result));
/* The same of what carries a tag that fits: only that raises a mark. */
enum sso_code store_high_water_trusted(struct store_tx *tx, const struct policy *policy,
                                       struct high_water *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* The marks of this node, with the end of its own chain as audit-head has it, where that is
 * further. SSO_NOT_FOUND: neither is there. As high_water_read otherwise. */
enum sso_code store_high_water_marks(const char *state_directory, const char *node,
                                     struct high_water *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* SSO_DATABASE_WENT_BACK where the database is below a mark or lacks the end of a chain that was
 * seen, pruned ones of other nodes than `node` apart: where `policy` is not NULL, those whose row
 * says so under its tag. Read the marks before the transaction begins. */
enum sso_code store_high_water_check(struct store_tx *tx, const struct high_water *marks,
                                     const char *node, const struct policy *policy,
                                     struct sso_error *err) __attribute__((warn_unused_result));

/* The number that the next generation gets. SSO_INTERNAL: there is none left. */
enum sso_code store_generation_next(struct store_tx *tx, uint32_t *number, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
