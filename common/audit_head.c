#include "common/audit_head.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/encode.h"

void audit_head_read(const char *state_directory, struct audit_head *out)
{
    char *path = NULL, hash[2 * AUDIT_HASH_BYTES + 1];
    unsigned long long number = 0;
    *out = (struct audit_head){0};
    if (asprintf(&path, "%s/" AUDIT_HEAD_FILE, state_directory) < 0)
        return;
    FILE *file = fopen(path, "re");
    free(path);
    if (file == NULL)
        return;
    if (fscanf(file, "%llu %64s", &number, hash) == 2 &&
        hex_decode(hash, out->hash, sizeof out->hash))
        out->number = number;
    fclose(file);
}

static bool write_draft(const char *path, const struct audit_record *last, bool durable)
{
    char hash[2 * AUDIT_HASH_BYTES + 1];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return false;
    hex_encode(last->hash, sizeof last->hash, hash);
    bool ok = dprintf(fd, "%llu %s\n", (unsigned long long)last->number, hash) > 0;
    if (ok && durable)
        ok = fsync(fd) == 0;
    return close(fd) == 0 && ok;
}

bool audit_head_write(const char *state_directory, const struct audit_record *last, bool durable)
{
    char *path = NULL, *draft = NULL;
    bool ok = false;
    /* With the pid: the service and direct commands of the same node write this file. */
    if (asprintf(&path, "%s/" AUDIT_HEAD_FILE, state_directory) < 0)
        return false;
    if (asprintf(&draft, "%s.%ld", path, (long)getpid()) >= 0) {
        ok = write_draft(draft, last, durable) && rename(draft, path) == 0;
        if (!ok)
            unlink(draft);
        free(draft);
    }
    free(path);
    return ok;
}
