#include <stdlib.h>
#include <time.h>

#include "common/clock.h"
#include "store/sqlite_swap.h"

/* The longest row: 32 fields of 64 KiB and what goes with them. What claims to be longer is refused
 * before memory is taken for it. */
#define VALUE_BYTES_MAX (4 * 1024 * 1024)

/* Gives way to other programs for as long as the transaction may wait. */
static int wait_for_others(void *context, int tries)
{
    const struct sqlite_connection *connection = context;
    if (boot_clock_ms() >= connection->busy_until_ms)
        return 0;
    long milliseconds = tries < 5 ? 1 : 10;
    struct timespec pause = {.tv_nsec = milliseconds * 1000000};
    nanosleep(&pause, NULL);
    return 1;
}

enum sso_code sqlite_execute(struct sqlite_connection *connection, const char *sql,
                             struct sso_error *err)
{
    int result = sqlite3_exec(connection->db, sql, NULL, NULL, NULL);
    return result == SQLITE_OK ? SSO_OK : sqlite_failed(connection, result, err);
}

enum sso_code sqlite_query_integer(struct sqlite_connection *connection, const char *sql,
                                   int64_t *out, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(connection->db, sql, -1, &statement, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    if (result == SQLITE_ROW)
        *out = sqlite3_column_int64(statement, 0);
    else
        rc = sqlite_failed(connection, result == SQLITE_DONE ? SQLITE_ERROR : result, err);
    sqlite3_finalize(statement);
    return rc;
}

/* Our schema has no triggers, views or functions: those in the file are somebody else's, and must
 * not run with our rights. */
static void distrust_schema(sqlite3 *db)
{
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    sqlite3_limit(db, SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX);
    sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
}

static enum sso_code set_up(struct sqlite_connection *connection, enum store_access access,
                            struct sso_error *err)
{
    sqlite3 *db = connection->db;
    connection->busy_until_ms = boot_clock_ms() + connection->store->busy_timeout_ms;
    sqlite3_busy_handler(db, wait_for_others, connection);
    distrust_schema(db);
    if (sqlite3_db_readonly(db, "main") == 1)
        return sqlite_failed(connection, SQLITE_READONLY, err);
    /* temp_store: sorting must not leave rows in files elsewhere. mmap: an I/O error would be a
     * signal. cache_size is in KiB when negative. */
    enum sso_code rc = sqlite_execute(connection,
                                      "PRAGMA secure_delete = ON; PRAGMA synchronous = FULL;"
                                      "PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;",
                                      err);
    if (rc != SSO_OK)
        return rc;
    if (access == STORE_READ)
        return sqlite_execute(connection, "PRAGMA query_only = ON; PRAGMA cache_size = -2048;",
                              err);
    rc = sqlite_execute(connection,
                        "PRAGMA cache_size = -4096; PRAGMA journal_size_limit = 67108864;", err);
    sqlite_checkpoint_watch(connection);
    int result = rc == SSO_OK ? sqlite_swap_functions(connection) : SQLITE_OK;
    if (result != SQLITE_OK)
        rc = sqlite_failed(connection, result, err);
    if (rc != SSO_OK || connection->store->max_pages == 0)
        return rc;
    char *limit = sqlite3_mprintf("PRAGMA max_page_count = %u", connection->store->max_pages);
    rc = limit != NULL ? sqlite_execute(connection, limit, err)
                       : sqlite_failed(connection, SQLITE_NOMEM, err);
    sqlite3_free(limit);
    return rc;
}

/* Without its statistics SQLite takes no lock of the whole process at every allocation. Too late,
 * and harmless, where the program has used SQLite before. */
static void configure_library(void)
{
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

enum sso_code sqlite_connect(struct sqlite_store *store, enum store_access access,
                             struct sqlite_connection **out, struct sso_error *err)
{
    static pthread_once_t library_once = PTHREAD_ONCE_INIT;
    struct sqlite_connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a connection to %s", store->path);
    (void)pthread_once(&library_once, configure_library);
    connection->store = store;
    /* Never SQLITE_OPEN_CREATE: a file that is gone must not come back empty. NOMUTEX: one thread
     * has a connection at a time. */
    int result = sqlite3_open_v2(store->path, &connection->db,
                                 SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
                                     SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE,
                                 NULL);
    enum sso_code rc = result == SQLITE_OK ? set_up(connection, access, err)
                                           : sqlite_failed(connection, result, err);
    if (rc != SSO_OK)
        sqlite_disconnect(&connection);
    *out = connection;
    return rc;
}

void sqlite_disconnect(struct sqlite_connection **connection)
{
    if (*connection == NULL)
        return;
    for (size_t i = 0; i < SQLITE_STATEMENTS_MAX; i++)
        sqlite3_finalize((*connection)->cached[i].handle);
    sqlite3_close((*connection)->db);
    free(*connection);
    *connection = NULL;
}
