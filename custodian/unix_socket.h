/* The place of the Unix socket: a folder of mode 0755, a socket of mode 0666. Roles decide who may
 * do what, not file modes. */
#ifndef SSO_CUSTODIAN_UNIX_SOCKET_H
#define SSO_CUSTODIAN_UNIX_SOCKET_H

#include <sys/types.h>

#include "common/error.h"

/* Makes the folder of `path` where it is missing (not those above it), for `user` and `group` where
 * root asks. */
enum sso_code unix_socket_folder(const char *path, uid_t user, gid_t group, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Bound, not listening yet. A socket that a dead process left is removed; SSO_IN_USE where somebody
 * still answers. */
enum sso_code unix_socket_bind(const char *path, int *out, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
