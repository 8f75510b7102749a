#include "common/state_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum sso_code state_lock_take(const char *folder, int *fd, struct sso_error *err)
{
    char *path = NULL;
    *fd = -1;
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno,
                              "[system] state_directory: %s cannot be made", folder);
    if (asprintf(&path, "%s/custodian.lock", folder) < 0)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a path");
    enum sso_code rc = SSO_OK;
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*fd < 0)
        rc = sso_fail_errno(err, SSO_CONFIG_ERROR, errno,
                            "[system] state_directory: %s cannot be opened", path);
    else if (flock(*fd, LOCK_EX | LOCK_NB) != 0)
        rc = errno == EWOULDBLOCK
                 ? sso_fail(err, SSO_IN_USE,
                            "another custodian runs on the state directory %s (it holds %s)",
                            folder, path)
                 : sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "%s cannot be locked", path);
    if (rc != SSO_OK && *fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    free(path);
    return rc;
}
