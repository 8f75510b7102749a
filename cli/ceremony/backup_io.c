#include "cli/ceremony/backup_io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fault.h"

static enum sso_code read_all(int fd, struct backup_text *out, struct sso_error *err)
{
    const size_t room = BACKUP_FILE_BYTES_MAX + 1;
    out->bytes = malloc(room);
    if (out->bytes == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a backup file");
    ssize_t got = 1;
    while (got > 0 && out->length < room) {
        got = read(fd, out->bytes + out->length, room - out->length);
        if (got > 0)
            out->length += (size_t)got;
    }
    return got < 0 ? sso_fail_errno(err, SSO_BACKUP_INVALID, errno, "it cannot be read") : SSO_OK;
}

enum sso_code backup_load(const char *path, struct backup_text *out, struct sso_error *err)
{
    *out = (struct backup_text){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return sso_fail(err, SSO_NOT_FOUND, "there is no backup file %s", path);
    if (fd < 0)
        return sso_fail_errno(err, SSO_BACKUP_INVALID, errno, "the backup file %s", path);
    enum sso_code rc = read_all(fd, out, err);
    close(fd);
    if (rc == SSO_OK)
        rc = backup_file_parse(out->bytes, out->length, &out->file, err);
    if (rc != SSO_OK) {
        backup_text_free(out);
        if (err != NULL)
            sso_error_context(err, "%s", path);
    }
    return rc;
}

void backup_text_free(struct backup_text *text)
{
    free(text->bytes);
    text->bytes = NULL;
    text->length = 0;
}

static void folder_of(const char *path, char out[static PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s", path);
    char *slash = strrchr(out, '/');
    if (slash == NULL)
        strcpy(out, ".");
    else
        slash[slash == out] = '\0';
}

enum sso_code new_file_check(const char *path, struct sso_error *err)
{
    char folder[PATH_MAX];
    struct stat status;
    if (strlen(path) >= PATH_MAX - 16)
        return sso_fail(err, SSO_CONFIG_ERROR, "the path %.100s… is too long", path);
    if (lstat(path, &status) == 0)
        return sso_fail(err, SSO_ALREADY_EXISTS, "%s is there already: name a new file", path);
    folder_of(path, folder);
    if (access(folder, W_OK | X_OK) != 0)
        return sso_fail_errno(
            err, SSO_CONFIG_ERROR, errno,
            "the folder %s for a new file, as user id %u, whom [system] user names", folder,
            (unsigned)geteuid());
    return SSO_OK;
}

static bool sync_folder(const char *path)
{
    char folder[PATH_MAX];
    folder_of(path, folder);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return good;
}

/* Written beside its place and linked there when it is whole: a file of this name is never half a
 * one. */
enum sso_code new_file_write(const char *path, const void *bytes, size_t count, mode_t mode,
                             struct sso_error *err)
{
    char part[PATH_MAX + 8];
    snprintf(part, sizeof part, "%s.part", path);
    unlink(part);
    int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "%s cannot be written", path);
    errno = ENOSPC;
    bool good = write(fd, bytes, count) == (ssize_t)count && fsync(fd) == 0 &&
                !fault_point("ceremony.file") && link(part, path) == 0 && sync_folder(path);
    int why = errno;
    close(fd);
    unlink(part);
    if (good)
        return SSO_OK;
    return sso_fail_errno(err, why == EEXIST ? SSO_ALREADY_EXISTS : SSO_CONFIG_ERROR, why,
                          "%s cannot be written", path);
}

void absolute_path(const char *path, char out[static PATH_MAX])
{
    char here[PATH_MAX] = "";
    size_t used = 0;
    if (path[0] != '/' && getcwd(here, sizeof here) != NULL)
        used = (size_t)snprintf(out, PATH_MAX, "%s/", here);
    if (used < PATH_MAX)
        snprintf(out + used, PATH_MAX - used, "%s", path);
}
