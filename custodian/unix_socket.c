#include "custodian/unix_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum sso_code unix_socket_folder(const char *path, uid_t user, gid_t group, struct sso_error *err)
{
    const char *slash = strrchr(path, '/');
    if (path[0] != '/' || slash == NULL)
        return sso_fail(err, SSO_CONFIG_ERROR, "[listen] socket: %s is no absolute path", path);
    if (slash == path)
        return SSO_OK;
    char *folder = strndup(path, (size_t)(slash - path));
    if (folder == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a path");
    enum sso_code rc = SSO_OK;
    if (mkdir(folder, 0755) == 0) {
        /* The umask may have taken what others need to reach the socket. */
        if (chmod(folder, 0755) != 0 || (geteuid() == 0 && chown(folder, user, group) != 0))
            rc = sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "the folder %s cannot be set up",
                                folder);
    } else if (errno != EEXIST) {
        rc = sso_fail_errno(err, SSO_CONFIG_ERROR, errno,
                            "[listen] socket: the folder %s cannot be made", folder);
    }
    free(folder);
    return rc;
}

static enum sso_code address_of(const char *path, struct sockaddr_un *out, struct sso_error *err)
{
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof out->sun_path)
        return sso_fail(err, SSO_CONFIG_ERROR, "[listen] socket: the path is longer than %zu bytes",
                        sizeof out->sun_path - 1);
    memcpy(out->sun_path, path, strlen(path) + 1);
    return SSO_OK;
}

/* Only a socket is ever removed: the path may be a mistake. */
static enum sso_code clear_place(int fd, const struct sockaddr_un *address, struct sso_error *err)
{
    struct stat found;
    const char *path = address->sun_path;
    if (lstat(path, &found) != 0)
        return SSO_OK;
    if (!S_ISSOCK(found.st_mode))
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "[listen] socket: %s is there and is no socket; remove it or choose "
                        "another path",
                        path);
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN)
        return sso_fail(err, SSO_IN_USE, "another process already serves %s", path);
    if (unlink(path) != 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "the old socket %s cannot be removed",
                              path);
    return SSO_OK;
}

static int new_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

enum sso_code unix_socket_bind(const char *path, int *out, struct sso_error *err)
{
    struct sockaddr_un address;
    int probe = new_socket(), fd = new_socket();
    enum sso_code rc = address_of(path, &address, err);
    if (rc != SSO_OK)
        goto failed;
    if (probe < 0 || fd < 0) {
        rc = sso_fail_errno(err, SSO_INTERNAL, errno, "no socket");
        goto failed;
    }
    if ((rc = clear_place(probe, &address, err)) != SSO_OK)
        goto failed;
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || chmod(path, 0666) != 0) {
        rc = sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "[listen] socket: cannot be made at %s",
                            path);
        goto failed;
    }
    close(probe);
    *out = fd;
    return SSO_OK;
failed:
    if (probe >= 0)
        close(probe);
    if (fd >= 0)
        close(fd);
    return rc;
}
