#include <string.h>

#include "store/postgresql.h"

/* --- connections --- */

static enum sso_code take_writer(struct postgresql_store *store, struct postgresql_connection **out,
                                 struct sso_error *err)
{
    enum fair_lock_result turn = fair_lock_take(&store->write_turn, POSTGRESQL_WAIT_MS);
    if (turn == FAIR_LOCK_OWN)
        return sso_fail(err, SSO_INTERNAL,
                        "a write transaction was begun inside a write transaction of the thread");
    if (turn == FAIR_LOCK_TIMEOUT)
        return sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                        "other transactions of this program have been writing to %s for %u ms",
                        store->name, POSTGRESQL_WAIT_MS);
    if (store->writer != NULL && !postgresql_is_alive(store->writer))
        postgresql_disconnect(&store->writer);
    enum sso_code rc = store->writer == NULL
                           ? postgresql_connect(store, STORE_WRITE, &store->writer, err)
                           : SSO_OK;
    if (rc != SSO_OK)
        fair_lock_release(&store->write_turn);
    *out = store->writer;
    return rc;
}

static enum sso_code take_reader(struct postgresql_store *store, struct postgresql_connection **out,
                                 struct sso_error *err)
{
    void *idle = NULL;
    enum sso_code rc =
        reader_pool_take(&store->readers, store->name, POSTGRESQL_WAIT_MS, &idle, err);
    *out = idle;
    if (rc != SSO_OK)
        return rc;
    if (*out != NULL && !postgresql_is_alive(*out))
        postgresql_disconnect(out);
    rc = *out == NULL ? postgresql_connect(store, STORE_READ, out, err) : SSO_OK;
    if (rc != SSO_OK)
        reader_pool_drop(&store->readers);
    return rc;
}

static void end(struct postgresql_tx *tx)
{
    struct postgresql_connection *connection = tx->connection;
    struct postgresql_store *store = connection->store;
    bool writes = tx->base.access == STORE_WRITE, drop = connection->unusable;
    if (drop && writes)
        postgresql_disconnect(&store->writer);
    else if (drop)
        postgresql_disconnect(&connection);
    if (writes)
        fair_lock_release(&store->write_turn);
    else if (drop)
        reader_pool_drop(&store->readers);
    else
        reader_pool_return(&store->readers, connection);
}

/* --- transactions --- */

static enum sso_code run(struct postgresql_tx *tx, const char *sql, PGresult **result,
                         struct sso_error *err)
{
    const struct postgresql_query query = {.sql = sql};
    struct sso_error why = {0};
    enum sso_code rc = result == NULL ? postgresql_queue(tx->connection, &query, &why)
                                      : postgresql_ask(tx->connection, &query, result, &why);
    return rc == SSO_OK ? rc : postgresql_tx_failed(tx, &why, err);
}

enum sso_code postgresql_begin(struct store *base, enum store_access access, struct store_tx **out,
                               struct sso_error *err)
{
    struct postgresql_store *store = (struct postgresql_store *)base;
    struct postgresql_connection *connection = NULL;
    enum sso_code rc = access == STORE_WRITE ? take_writer(store, &connection, err)
                                             : take_reader(store, &connection, err);
    if (rc != SSO_OK)
        return rc;
    connection->tx =
        (struct postgresql_tx){.base = {.store = base, .access = access}, .connection = connection};
    connection->answer_ms = POSTGRESQL_ANSWER_MS;
    rc = run(&connection->tx,
             access == STORE_WRITE ? "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE"
                                   : "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
             NULL, err);
    if (rc != SSO_OK)
        end(&connection->tx);
    else
        *out = &connection->tx.base;
    return rc;
}

/* Of a transaction that a failed statement has undone PostgreSQL answers COMMIT with ROLLBACK. */
static enum sso_code commit(struct postgresql_tx *tx, struct sso_error *err)
{
    PGresult *result = NULL;
    if (tx->undone)
        return sso_fail(err, tx->why.code, "the transaction was undone before: %s", tx->why.detail);
    enum sso_code rc = run(tx, "COMMIT", &result, err);
    if (rc == SSO_OK && strcmp(PQcmdStatus(result), "COMMIT") != 0)
        rc = sso_fail(err, SSO_DATABASE_UNAVAILABLE, "%s undid the transaction",
                      tx->connection->store->name);
    PQclear(result);
    /* Also where the server ended the session: it may have been waiting for a standby then. */
    bool unknown = rc != SSO_OK && tx->connection->unusable && tx->base.access == STORE_WRITE;
    if (tx->base.access == STORE_WRITE)
        tx->base.store->commit_unknown = unknown;
    if (unknown)
        rc = sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                      "the answer to a commit did not come, so it is not known whether what was "
                      "written is there: look before you do it again (%s)",
                      tx->why.detail);
    return rc;
}

enum sso_code postgresql_commit(struct store_tx *base, struct sso_error *err)
{
    struct postgresql_tx *tx = (struct postgresql_tx *)base;
    enum sso_code rc = commit(tx, err);
    if (rc != SSO_OK)
        postgresql_rollback(base);
    else
        end(tx);
    return rc;
}

void postgresql_rollback(struct store_tx *base)
{
    struct postgresql_tx *tx = (struct postgresql_tx *)base;
    PGresult *result = NULL;
    (void)postgresql_settle(tx->connection, NULL); /* or its failure would be that of ROLLBACK */
    if (!tx->connection->unusable && PQtransactionStatus(tx->connection->conn) != PQTRANS_IDLE &&
        run(tx, "ROLLBACK", &result, NULL) != SSO_OK)
        tx->connection->unusable = true; /* closing it undoes what is left */
    PQclear(result);
    end(tx);
}

/* --- parts of one --- */

enum sso_code postgresql_savepoint(struct store_tx *base, struct sso_error *err)
{
    struct postgresql_tx *tx = (struct postgresql_tx *)base;
    if (tx->savepoint)
        return sso_fail(err, SSO_INTERNAL, "savepoints do not nest");
    enum sso_code rc = run(tx, "SAVEPOINT part", NULL, err);
    tx->savepoint = rc == SSO_OK;
    return rc;
}

static enum sso_code end_savepoint(struct postgresql_tx *tx, const char *sql, struct sso_error *err)
{
    PGresult *result = NULL;
    if (!tx->savepoint)
        return sso_fail(err, SSO_INTERNAL, "there is no savepoint to end");
    enum sso_code rc = run(tx, sql, &result, err);
    PQclear(result);
    if (rc == SSO_OK)
        tx->savepoint = false;
    return rc;
}

/* Waits for what was queued, so that a part is kept only whole. */
enum sso_code postgresql_savepoint_keep(struct store_tx *base, struct sso_error *err)
{
    return end_savepoint((struct postgresql_tx *)base, "RELEASE SAVEPOINT part", err);
}

enum sso_code postgresql_savepoint_undo(struct store_tx *base, struct sso_error *err)
{
    struct postgresql_tx *tx = (struct postgresql_tx *)base;
    PGresult *result = NULL;
    if (!tx->savepoint)
        return sso_fail(err, SSO_INTERNAL, "there is no savepoint to end");
    (void)postgresql_settle(tx->connection, NULL);
    enum sso_code rc = run(tx, "ROLLBACK TO SAVEPOINT part", &result, err);
    PQclear(result);
    if (rc != SSO_OK)
        return rc;
    tx->undone = false;
    return end_savepoint(tx, "RELEASE SAVEPOINT part", err);
}
