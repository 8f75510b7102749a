/* A rotation as the object of `rotate status`, and the list of quarantined rows (INTERFACE §3). */
#ifndef SSO_CUSTODIAN_ROTATION_STATUS_H
#define SSO_CUSTODIAN_ROTATION_STATUS_H

#include <jansson.h>
#include <stdint.h>

#include "store/store.h"

/* NULL: there never was a rotation. rows_per_second is of a running one; for one that has ended it
 * is worked out from its times. NULL is returned where memory has run out. */
json_t *rotation_json(const struct rotation *rotation, uint64_t rows_per_second);

json_t *quarantine_json(const struct quarantine_entry *entries, size_t count);

#endif
