/* Names of mapping states, as the API writes them. */
#ifndef SSO_CUSTODIAN_OP_MAPPINGS_H
#define SSO_CUSTODIAN_OP_MAPPINGS_H

#include "common/policy.h"

/* "enabled", "disabled_by_user", "disabled_by_admin" */
const char *mapping_state_name(enum mapping_state state);

#endif
