#include "common/audit_head.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "common/encode.h"

/* The number in 20 digits, a blank, the hash, a newline: always as long, so that the file is
 * overwritten where it stands and takes no block more. */
#define FILE_BYTES (20 + 1 + 2 * AUDIT_HASH_BYTES + 1)

/* Who has the lock writes these few bytes; it may be stopped meanwhile. */
#define LOCK_TRIES 2000
#define LOCK_PAUSE_NS 1000000

static bool lock_in_time(int fd, int lock)
{
    static const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
    for (int i = 0; flock(fd, lock | LOCK_NB) != 0; i++) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || i == LOCK_TRIES)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

/* The service and direct commands of the same node write this file; the lock ends with the
 * descriptor. -1: errno. */
static int open_locked(const char *state_directory, int flags, int lock)
{
    char *path = NULL;
    if (asprintf(&path, "%s/" AUDIT_HEAD_FILE, state_directory) < 0) {
        errno = ENOMEM;
        return -1;
    }
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    free(path);
    if (fd >= 0 && !lock_in_time(fd, lock)) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

/* False: errno, or 0 where it is no such file. An empty one is what a crash left of the first. */
static bool read_head(int fd, struct audit_head *out)
{
    char text[FILE_BYTES + 1] = "", hash[2 * AUDIT_HASH_BYTES + 1];
    unsigned long long number = 0;
    *out = (struct audit_head){0};
    errno = 0;
    ssize_t length = pread(fd, text, FILE_BYTES, 0);
    if (length == 0)
        return true;
    if (length < 0 || sscanf(text, "%llu %64s", &number, hash) != 2 || number == 0 ||
        !hex_decode(hash, out->hash, sizeof out->hash))
        return false;
    out->number = number;
    return true;
}

enum sso_code audit_head_read(const char *state_directory, struct audit_head *out,
                              struct sso_error *err)
{
    *out = (struct audit_head){0};
    int fd = open_locked(state_directory, O_RDONLY, LOCK_SH);
    if (fd < 0 && errno == ENOENT)
        return SSO_OK;
    bool ok = fd >= 0 && read_head(fd, out);
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (ok)
        return SSO_OK;
    if (why != 0)
        return sso_fail_errno(err, SSO_AUDIT_UNAVAILABLE, why,
                              "%s/" AUDIT_HEAD_FILE " cannot be read", state_directory);
    return sso_fail(err, SSO_AUDIT_UNAVAILABLE,
                    "%s/" AUDIT_HEAD_FILE " is damaged: see sso-hsm audit verify, then remove it",
                    state_directory);
}

static bool write_head(const char *state_directory, const struct audit_record *last, bool durable,
                       bool raise)
{
    char text[FILE_BYTES + 1], hash[2 * AUDIT_HASH_BYTES + 1];
    struct audit_head kept = {0};
    int fd = open_locked(state_directory, O_RDWR | O_CREAT, LOCK_EX);
    if (fd < 0)
        return false;
    hex_encode(last->hash, sizeof last->hash, hash);
    snprintf(text, sizeof text, "%020llu %s\n", (unsigned long long)last->number, hash);
    bool ok = !raise || read_head(fd, &kept);
    if (ok && (!raise || kept.number < last->number))
        ok = pwrite(fd, text, FILE_BYTES, 0) == FILE_BYTES;
    if (ok && durable)
        ok = fsync(fd) == 0;
    return close(fd) == 0 && ok;
}

bool audit_head_raise(const char *state_directory, const struct audit_record *last, bool durable)
{
    return write_head(state_directory, last, durable, true);
}

bool audit_head_write(const char *state_directory, const struct audit_record *last)
{
    return write_head(state_directory, last, true, false);
}
