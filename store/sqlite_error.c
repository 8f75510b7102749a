#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "store/sqlite.h"

/* Where the lock of the one writer is in the -shm file (sqlite.org/walformat.html §2.3.1). */
#define WAL_WRITE_LOCK_BYTE 120

/* The process that holds the write lock, 0 where that cannot be seen. Read from /proc/locks, since
 * to open and close the -shm file ourselves would drop all locks of this process on it. */
static long lock_holder(const struct sqlite_store *store)
{
    char path[4096];
    struct stat shm;
    int length = snprintf(path, sizeof path, "%s-shm", store->path);
    if (length < 0 || (size_t)length >= sizeof path || stat(path, &shm) != 0)
        return 0;
    FILE *locks = fopen("/proc/locks", "re");
    if (locks == NULL)
        return 0;
    char line[256];
    long holder = 0;
    while (holder == 0 && fgets(line, sizeof line, locks) != NULL) {
        long process;
        unsigned device_major, device_minor;
        uintmax_t inode, first, last;
        if (sscanf(line, "%*s POSIX %*s WRITE %ld %x:%x:%ju %ju %ju", &process, &device_major,
                   &device_minor, &inode, &first, &last) == 6 &&
            inode == shm.st_ino && device_major == major(shm.st_dev) &&
            device_minor == minor(shm.st_dev) && first <= WAL_WRITE_LOCK_BYTE &&
            last >= WAL_WRITE_LOCK_BYTE)
            holder = process;
    }
    fclose(locks);
    return holder;
}

static enum sso_code busy(const struct sqlite_store *store, struct sso_error *err)
{
    char who[48] = "another program";
    long holder = lock_holder(store);
    if (holder > 0)
        snprintf(who, sizeof who, "another program (process %ld)", holder);
    return sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                    "%s holds the lock of %s and did not free it within %u ms; look what it does, "
                    "then try again",
                    who, store->path, store->busy_timeout_ms);
}

static enum sso_code input_output(struct sqlite_connection *connection, int result,
                                  struct sso_error *err)
{
    const char *path = connection->store->path;
    int system_error = sqlite3_system_errno(connection->db);
    connection->unusable = true;
    if (system_error == ENOSPC || system_error == EDQUOT)
        return sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                        "no room is left for %s: make room on its disk, then try again", path);
    if (system_error != 0)
        return sso_fail_errno(err, SSO_DATABASE_UNAVAILABLE, system_error,
                              "%s could not be read or written (SQLite %d)", path, result);
    return sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                    "%s could not be read or written (SQLite %d): look at its disk and the "
                    "system's log",
                    path, result);
}

static enum sso_code full(const struct sqlite_store *store, struct sso_error *err)
{
    if (store->max_pages > 0)
        return sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                        "no room is left for %s: its disk is full or it has grown to max_pages=%u",
                        store->path, store->max_pages);
    return sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                    "no room is left for %s: make room on its disk, then try again", store->path);
}

enum sso_code sqlite_failed(struct sqlite_connection *connection, int result, struct sso_error *err)
{
    const struct sqlite_store *store = connection->store;
    switch (result & 0xff) { /* the rest tells kinds of it */
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return busy(store, err);
    case SQLITE_FULL:
        return full(store, err);
    case SQLITE_IOERR:
        return input_output(connection, result, err);
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        connection->unusable = true;
        return sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                        "%s cannot be written: the file and its folder must belong to the user "
                        "who runs this",
                        store->path);
    case SQLITE_CANTOPEN:
        connection->unusable = true;
        return sso_fail_errno(err, SSO_DATABASE_UNAVAILABLE, sqlite3_system_errno(connection->db),
                              "%s, or %s-wal or %s-shm beside it, cannot be opened: the file and "
                              "its folder must belong to the user who runs this",
                              store->path, store->path, store->path);
    case SQLITE_CORRUPT:
        connection->unusable = true;
        return sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                        "the structure of %s is damaged (SQLite %d): stop the service, keep a "
                        "copy, and put a backup back",
                        store->path, result);
    case SQLITE_NOTADB:
        connection->unusable = true;
        return sso_fail(err, SSO_DATABASE_OF_OTHER_SYSTEM,
                        "%s is not a database of sso-hsm: it is no SQLite file at all",
                        store->path);
    case SQLITE_NOMEM:
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a statement on %s", store->path);
    case SQLITE_TOOBIG:
        return sso_fail(err, SSO_TOO_LARGE, "a value is too large for %s", store->path);
    case SQLITE_CONSTRAINT:
        return sso_fail(err, SSO_ALREADY_EXISTS, "%s: %s", store->path,
                        sqlite3_errmsg(connection->db));
    case SQLITE_ERROR:
    case SQLITE_SCHEMA:
        return sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                        "the tables of %s are not as they were made: %s", store->path,
                        sqlite3_errmsg(connection->db));
    default:
        return sso_fail(err, SSO_INTERNAL, "%s: SQLite %d: %s", store->path, result,
                        sqlite3_errstr(result));
    }
}
