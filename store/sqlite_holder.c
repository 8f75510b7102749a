#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "store/sqlite.h"

/* The byte of the -shm file whose lock is that of the one writer (the WAL-index format). */
#define WRITE_LOCK_BYTE 120

/* From /proc/locks: opening the file here would, at closing it, drop the locks that SQLite has on
 * it. Devices are not compared: file systems in layers show other ones there. */
bool sqlite_write_holder(struct store *base, int *pid)
{
    const struct sqlite_store *store = (const struct sqlite_store *)base;
    char *path = NULL, line[256];
    struct stat facts;
    bool found = false;
    if (asprintf(&path, "%s-shm", store->path) < 0)
        return false;
    FILE *locks = stat(path, &facts) == 0 ? fopen("/proc/locks", "re") : NULL;
    free(path);
    while (locks != NULL && !found && fgets(line, sizeof line, locks) != NULL) {
        unsigned long long inode, start, end;
        found = sscanf(line, "%*s POSIX %*s WRITE %d %*x:%*x:%llu %llu %llu", pid, &inode, &start,
                       &end) == 4 &&
                inode == facts.st_ino && start <= WRITE_LOCK_BYTE && end >= WRITE_LOCK_BYTE &&
                *pid > 0;
    }
    if (locks != NULL)
        fclose(locks);
    return found;
}
