/* Files with secrets: readable by their owner alone, who is the one who reads them, or root. */
#ifndef SSO_COMMON_PRIVATE_FILE_H
#define SSO_COMMON_PRIVATE_FILE_H

#include <sys/types.h>

#include "common/error.h"

/* Opens it for reading; the descriptor is the caller's. `what` is the key of the configuration that
 * names it, for people. SSO_CONFIG_ERROR. */
enum sso_code private_file_open(const char *path, const char *what, uid_t owner, int *out,
                                struct sso_error *err) __attribute__((warn_unused_result));

#endif
