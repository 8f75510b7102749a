/* The lock on a state directory that a custodian holds for as long as it lives, however it ends,
 * and that is taken by what may only be done while it is stopped. */
#ifndef SSO_COMMON_STATE_LOCK_H
#define SSO_COMMON_STATE_LOCK_H

#include "common/error.h"

/* *fd, to be closed, holds it. SSO_IN_USE where another process does. Makes the folder where there
 * is none. */
enum sso_code state_lock_take(const char *folder, int *fd, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
