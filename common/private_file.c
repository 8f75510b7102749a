#include "common/private_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static enum sso_code check(int fd, const char *path, const char *what, uid_t owner,
                           struct sso_error *err)
{
    struct stat facts;
    if (fstat(fd, &facts) != 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "%s: %s cannot be looked at", what,
                              path);
    if (!S_ISREG(facts.st_mode))
        return sso_fail(err, SSO_CONFIG_ERROR, "%s: %s is no regular file", what, path);
    if (facts.st_uid != owner && facts.st_uid != 0)
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "%s: %s belongs to user %lu: it must belong to user %lu or root", what,
                        path, (unsigned long)facts.st_uid, (unsigned long)owner);
    if ((facts.st_mode & 0177) != 0)
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "%s: %s has mode %04o, so that others can use what is in it: chmod 0400 %s",
                        what, path, (unsigned)facts.st_mode & 07777, path);
    return SSO_OK;
}

enum sso_code private_file_open(const char *path, const char *what, uid_t owner, int *out,
                                struct sso_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "%s: %s cannot be read", what, path);
    enum sso_code rc = check(fd, path, what, owner, err);
    if (rc != SSO_OK)
        close(fd);
    else
        *out = fd;
    return rc;
}
