/* Each token that is configured or said to hold a generation: what is on it, and whether it may be
 * switched off. */
#ifndef SSO_CUSTODIAN_TOKEN_STATUS_H
#define SSO_CUSTODIAN_TOKEN_STATUS_H

#include <jansson.h>

#include "store/store.h"

struct custodian;

/* [{"token","section","generations","kept","rows","sealed_keys","audit_key","may_be_switched_off"}]
 * `generations`: those that can be on the way of a row: pending, active, retiring. `kept`: retired
 * ones, and destroyed ones whose grace is not over: they open older backups of the database.
 * `audit_key`: the only audit signing key of this system is in it. `rows` are those of
 * each generation. Null where the database is away. */
json_t *token_status_json(struct custodian *custodian, const struct generation_rows *rows,
                          size_t row_count);

#endif
