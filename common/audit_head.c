#include "common/audit_head.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/encode.h"

/* The number in 20 digits, a blank, the hash, a newline: always as long, so that the file is
 * overwritten where it stands and takes no block more. */
#define FILE_BYTES (20 + 1 + 2 * AUDIT_HASH_BYTES + 1)

/* The service and direct commands of the same node write this file; the lock ends with the
 * descriptor. -1 where it cannot be had. */
static int open_locked(const char *state_directory, int flags, int lock)
{
    char *path = NULL;
    if (asprintf(&path, "%s/" AUDIT_HEAD_FILE, state_directory) < 0)
        return -1;
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    free(path);
    if (fd >= 0 && flock(fd, lock) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

void audit_head_read(const char *state_directory, struct audit_head *out)
{
    char text[FILE_BYTES + 1] = "", hash[2 * AUDIT_HASH_BYTES + 1];
    unsigned long long number = 0;
    *out = (struct audit_head){0};
    int fd = open_locked(state_directory, O_RDONLY, LOCK_SH);
    if (fd < 0)
        return;
    if (pread(fd, text, FILE_BYTES, 0) > 0 && sscanf(text, "%llu %64s", &number, hash) == 2 &&
        hex_decode(hash, out->hash, sizeof out->hash))
        out->number = number;
    close(fd);
}

bool audit_head_write(const char *state_directory, const struct audit_record *last, bool durable)
{
    char text[FILE_BYTES + 1], hash[2 * AUDIT_HASH_BYTES + 1];
    int fd = open_locked(state_directory, O_WRONLY | O_CREAT, LOCK_EX);
    if (fd < 0)
        return false;
    hex_encode(last->hash, sizeof last->hash, hash);
    snprintf(text, sizeof text, "%020llu %s\n", (unsigned long long)last->number, hash);
    bool ok = pwrite(fd, text, FILE_BYTES, 0) == FILE_BYTES;
    if (ok && durable)
        ok = fsync(fd) == 0;
    return close(fd) == 0 && ok;
}
