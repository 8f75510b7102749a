/* A copy of the database while it is in use, by SQLite's own backup (sqlite.org/backup.html). */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/sqlite.h"
#include "store/sqlite_file.h"

enum sso_code sqlite_make_file(const char *path, struct sso_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 && errno == EEXIST)
        return sso_fail(err, SSO_ALREADY_EXISTS, "%s is there already: it is not replaced", path);
    if (fd < 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "the backup %s", path);
    close(fd);
    return SSO_OK;
}

static int end_log(sqlite3 *db)
{
    return sqlite3_exec(db, "PRAGMA journal_mode = DELETE", NULL, NULL, NULL);
}

/* All pages in one step: one snapshot, whatever is written meanwhile. Afterwards the copy is one
 * file that needs no log beside it. */
static int copy(sqlite3 *from, const char *path)
{
    sqlite3 *to = NULL;
    int result = sqlite3_open_v2(path, &to, SQLITE_OPEN_READWRITE, NULL);
    sqlite3_backup *backup =
        result == SQLITE_OK ? sqlite3_backup_init(to, "main", from, "main") : NULL;
    if (backup != NULL) {
        result = sqlite3_backup_step(backup, -1);
        int finished = sqlite3_backup_finish(backup);
        if (result == SQLITE_DONE)
            result = finished;
    } else if (result == SQLITE_OK) {
        result = sqlite3_errcode(to);
    }
    if (result == SQLITE_OK)
        result = end_log(to);
    int closed = sqlite3_close(to);
    return result == SQLITE_OK ? closed : result;
}

static bool sync_path(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    bool done = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return done;
}

static bool sync_file_and_folder(const char *path)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    return sync_path(path, O_RDONLY) && sync_path(dirname(folder), O_RDONLY | O_DIRECTORY);
}

enum sso_code sqlite_close_file(const char *path, struct sso_error *err)
{
    sqlite3 *db = NULL;
    int result = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
    if (result == SQLITE_OK)
        result = end_log(db);
    int closed = sqlite3_close(db);
    if (result == SQLITE_OK)
        result = closed;
    if (result != SQLITE_OK)
        return sso_fail(err, SSO_DATABASE_UNAVAILABLE, "finishing the copy %s: %s", path,
                        sqlite3_errstr(result));
    return sync_file_and_folder(path)
               ? SSO_OK
               : sso_fail_errno(err, SSO_DATABASE_UNAVAILABLE, errno, "writing %s", path);
}

void sqlite_remove_file(const char *path)
{
    static const char *const endings[] = {"", "-wal", "-shm", "-journal"};
    char name[PATH_MAX];
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
        if (snprintf(name, sizeof name, "%s%s", path, endings[i]) < (int)sizeof name)
            unlink(name);
}

enum sso_code sqlite_backup(struct store *base, const char *path, struct sso_error *err)
{
    struct sqlite_store *store = (struct sqlite_store *)base;
    struct sqlite_connection *connection = NULL;
    enum sso_code rc = sqlite_make_file(path, err);
    if (rc != SSO_OK)
        return rc;
    rc = sqlite_connect(store, STORE_READ, &connection, err);
    int result = rc == SSO_OK ? copy(connection->db, path) : SQLITE_OK;
    if (result != SQLITE_OK)
        rc = sso_fail(err, SSO_DATABASE_UNAVAILABLE, "copying the database to %s: %s", path,
                      sqlite3_errstr(result));
    else if (rc == SSO_OK && !sync_file_and_folder(path))
        rc = sso_fail_errno(err, SSO_DATABASE_UNAVAILABLE, errno, "writing %s", path);
    if (connection != NULL)
        sqlite_disconnect(&connection);
    if (rc != SSO_OK)
        unlink(path);
    return rc;
}
