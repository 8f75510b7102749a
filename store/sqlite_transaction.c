#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "store/sql_statement.h"
#include "store/sqlite.h"

/* Writing into a file that was deleted or replaced would succeed and be lost. */
static enum sso_code still_the_same_file(const struct sqlite_store *store, struct sso_error *err)
{
    struct stat now;
    if (stat(store->path, &now) != 0)
        return sso_fail_errno(err, SSO_DATABASE_UNAVAILABLE, errno, "%s is gone", store->path);
    if (now.st_dev == store->device && now.st_ino == store->inode)
        return SSO_OK;
    return sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                    "%s was replaced by another file while it was in use: start the program anew",
                    store->path);
}

static enum sso_code run(struct sqlite_tx *tx, const char *sql, struct sso_error *err)
{
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(&tx->base, sql, &statement, err);
    return rc != SSO_OK ? rc : sql_run(&statement, NULL, err);
}

/* --- the writer --- */

static enum sso_code take_writer(struct sqlite_store *store, struct sqlite_connection **out,
                                 struct sso_error *err)
{
    enum fair_lock_result turn = fair_lock_take(&store->write_turn, store->busy_timeout_ms);
    if (turn == FAIR_LOCK_OWN)
        return sso_fail(err, SSO_INTERNAL,
                        "a write transaction was begun inside a write transaction of the thread");
    if (turn == FAIR_LOCK_TIMEOUT)
        return sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                        "other transactions of this program have been writing to %s for %u ms",
                        store->path, store->busy_timeout_ms);
    if (store->writer == NULL) {
        enum sso_code rc = sqlite_connect(store, STORE_WRITE, &store->writer, err);
        if (rc != SSO_OK) {
            fair_lock_release(&store->write_turn);
            return rc;
        }
    }
    *out = store->writer;
    return SSO_OK;
}

static void return_writer(struct sqlite_store *store)
{
    if (store->writer->unusable)
        sqlite_disconnect(&store->writer);
    fair_lock_release(&store->write_turn);
}

/* --- readers --- */

static enum sso_code take_reader(struct sqlite_store *store, struct sqlite_connection **out,
                                 struct sso_error *err)
{
    void *idle = NULL;
    enum sso_code rc =
        reader_pool_take(&store->readers, store->path, store->busy_timeout_ms, &idle, err);
    *out = idle;
    if (rc != SSO_OK || *out != NULL)
        return rc;
    rc = sqlite_connect(store, STORE_READ, out, err);
    if (rc != SSO_OK)
        reader_pool_drop(&store->readers);
    return rc;
}

static void return_reader(struct sqlite_store *store, struct sqlite_connection *connection)
{
    if (!connection->unusable) {
        reader_pool_return(&store->readers, connection);
        return;
    }
    sqlite_disconnect(&connection);
    reader_pool_drop(&store->readers);
}

/* --- transactions --- */

static void end(struct sqlite_tx *tx)
{
    struct sqlite_connection *connection = tx->connection;
    if (tx->base.access == STORE_WRITE)
        return_writer(connection->store);
    else
        return_reader(connection->store, connection);
}

enum sso_code sqlite_begin(struct store *base, enum store_access access, struct store_tx **out,
                           struct sso_error *err)
{
    struct sqlite_store *store = (struct sqlite_store *)base;
    struct sqlite_connection *connection = NULL;
    enum sso_code rc = still_the_same_file(store, err);
    int64_t busy_until_ms = boot_clock_ms() + store->busy_timeout_ms;
    if (rc == SSO_OK)
        rc = access == STORE_WRITE ? take_writer(store, &connection, err)
                                   : take_reader(store, &connection, err);
    if (rc != SSO_OK)
        return rc;
    connection->busy_until_ms = busy_until_ms;
    connection->tx =
        (struct sqlite_tx){.base = {.store = base, .access = access}, .connection = connection};
    /* IMMEDIATE: a reader that becomes a writer would fail at once where another one wrote. */
    rc = run(&connection->tx, access == STORE_WRITE ? "BEGIN IMMEDIATE" : "BEGIN", err);
    if (rc != SSO_OK) {
        end(&connection->tx);
        return rc;
    }
    *out = &connection->tx.base;
    return SSO_OK;
}

enum sso_code sqlite_commit(struct store_tx *base, struct sso_error *err)
{
    struct sqlite_tx *tx = (struct sqlite_tx *)base;
    tx->connection->busy_until_ms = boot_clock_ms() + tx->connection->store->busy_timeout_ms;
    enum sso_code rc = run(tx, "COMMIT", err);
    if (rc != SSO_OK)
        sqlite_rollback(base);
    else
        end(tx);
    return rc;
}

void sqlite_rollback(struct store_tx *base)
{
    struct sqlite_tx *tx = (struct sqlite_tx *)base;
    bool open = !sqlite3_get_autocommit(tx->connection->db);
    tx->undone = false; /* lets this one statement through */
    if (open && run(tx, "ROLLBACK", NULL) != SSO_OK)
        tx->connection->unusable = true; /* closing it undoes what is left */
    end(tx);
}

/* --- parts of one --- */

enum sso_code sqlite_savepoint(struct store_tx *base, struct sso_error *err)
{
    struct sqlite_tx *tx = (struct sqlite_tx *)base;
    if (tx->savepoint)
        return sso_fail(err, SSO_INTERNAL, "savepoints do not nest");
    enum sso_code rc = run(tx, "SAVEPOINT part", err);
    tx->savepoint = rc == SSO_OK;
    return rc;
}

static enum sso_code end_savepoint(struct store_tx *base, const char *sql, struct sso_error *err)
{
    struct sqlite_tx *tx = (struct sqlite_tx *)base;
    if (!tx->savepoint)
        return sso_fail(err, SSO_INTERNAL, "there is no savepoint to end");
    enum sso_code rc = run(tx, sql, err);
    if (rc == SSO_OK)
        tx->savepoint = false;
    return rc;
}

enum sso_code sqlite_savepoint_keep(struct store_tx *base, struct sso_error *err)
{
    return end_savepoint(base, "RELEASE part", err);
}

enum sso_code sqlite_savepoint_undo(struct store_tx *base, struct sso_error *err)
{
    struct sqlite_tx *tx = (struct sqlite_tx *)base;
    enum sso_code rc = tx->savepoint ? run(tx, "ROLLBACK TO part", err) : SSO_OK;
    return rc != SSO_OK ? rc : end_savepoint(base, "RELEASE part", err);
}
