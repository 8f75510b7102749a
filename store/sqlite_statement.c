/* The driver of sql_statement.h for SQLite. */
#include "store/sql_statement.h"

#include "store/sqlite.h"

static struct sqlite_tx *tx_of(const struct sql_statement *statement)
{
    return (struct sqlite_tx *)statement->tx;
}

static enum sso_code find_cached(struct sqlite_connection *connection, const char *sql, void **out,
                                 struct sso_error *err)
{
    size_t slot = ((uintptr_t)sql >> 4) % SQLITE_STATEMENTS_MAX;
    while (connection->cached[slot].sql != NULL && connection->cached[slot].sql != sql)
        slot = (slot + 1) % SQLITE_STATEMENTS_MAX;
    if (connection->cached[slot].sql == NULL) {
        if (connection->cached_count + 1 == SQLITE_STATEMENTS_MAX)
            return sso_fail(err, SSO_INTERNAL, "the cache of statements is full");
        sqlite3_stmt *handle = NULL;
        int result =
            sqlite3_prepare_v3(connection->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &handle, NULL);
        if (result != SQLITE_OK)
            return sqlite_failed(connection, result, err);
        connection->cached[slot].sql = sql;
        connection->cached[slot].handle = handle;
        connection->cached_count++;
    }
    *out = connection->cached[slot].handle;
    return SSO_OK;
}

static enum sso_code prepare(struct sql_statement *statement, const char *sql,
                             struct sso_error *err)
{
    struct sqlite_tx *tx = tx_of(statement);
    if (tx->undone)
        return sso_fail(err, tx->why.code, "the transaction was undone before: %s", tx->why.detail);
    return find_cached(tx->connection, sql, &statement->handle, err);
}

static void finish(struct sql_statement *statement)
{
    sqlite3_reset(statement->handle);
    sqlite3_clear_bindings(statement->handle);
}

/* Fails only for what sql_statement.c does not bind: the lengths are far below SQLite's limit. */
static void bind(struct sql_statement *statement, int parameter, const struct sql_value *value)
{
    int result;
    if (value->type == SQL_INTEGER)
        result = sqlite3_bind_int64(statement->handle, parameter, value->integer);
    else if (value->type == SQL_TEXT)
        result = sqlite3_bind_text64(statement->handle, parameter, value->bytes, value->length,
                                     SQLITE_STATIC, SQLITE_UTF8);
    else
        result = sqlite3_bind_blob64(statement->handle, parameter, value->bytes, value->length,
                                     SQLITE_STATIC);
    if (result != SQLITE_OK)
        statement->unfit = true;
}

static enum sso_code step_failed(struct sql_statement *statement, int result, struct sso_error *err)
{
    struct sqlite_tx *tx = tx_of(statement);
    struct sso_error why = {0};
    enum sso_code rc = sqlite_failed(tx->connection, result, &why);
    if (tx->base.access == STORE_WRITE &&
        (rc == SSO_DATABASE_UNAVAILABLE || sqlite3_get_autocommit(tx->connection->db))) {
        tx->undone = true;
        tx->why = why;
    }
    if (err != NULL)
        *err = why;
    return rc;
}

static enum sso_code step(struct sql_statement *statement, bool *row, struct sso_error *err)
{
    int result = sqlite3_step(statement->handle);
    *row = result == SQLITE_ROW;
    return result == SQLITE_ROW || result == SQLITE_DONE ? SSO_OK
                                                         : step_failed(statement, result, err);
}

static enum sso_code run(struct sql_statement *statement, uint64_t *changed, struct sso_error *err)
{
    bool row;
    enum sso_code rc = step(statement, &row, err);
    if (rc == SSO_OK && changed != NULL)
        *changed = (uint64_t)sqlite3_changes64(tx_of(statement)->connection->db);
    sqlite3_reset(statement->handle);
    return rc;
}

/* By its value: one thread has a connection at a time, so it needs no protection, and asking for
 * type, bytes and length of each through the statement was a good part of reading a row. */
static struct sql_value column(const struct sql_statement *statement, int number)
{
    sqlite3_value *value = sqlite3_column_value(statement->handle, number);
    struct sql_value out = {.type = SQL_OTHER};
    switch (sqlite3_value_type(value)) {
    case SQLITE_NULL:
        out.type = SQL_NULL;
        break;
    case SQLITE_INTEGER:
        out.type = SQL_INTEGER;
        out.integer = sqlite3_value_int64(value);
        break;
    case SQLITE_TEXT:
        out.type = SQL_TEXT;
        out.bytes = sqlite3_value_text(value);
        out.length = (size_t)sqlite3_value_bytes(value);
        break;
    case SQLITE_BLOB:
        out.type = SQL_BYTES;
        out.bytes = sqlite3_value_blob(value);
        out.length = (size_t)sqlite3_value_bytes(value);
        if (out.bytes == NULL && out.length == 0)
            out.bytes = ""; /* SQLite's empty blob */
        break;
    default:
        break;
    }
    return out;
}

/* The write transaction is every lock: SQLite has one writer. */
static enum sso_code lock(struct store_tx *tx, const struct sql_lock *wanted, struct sso_error *err)
{
    (void)tx, (void)wanted, (void)err;
    return SSO_OK;
}

/* It waits for locks only, and has them. */
static void be_patient(struct store_tx *tx)
{
    (void)tx;
}

static const char *name(const struct store *store)
{
    return ((const struct sqlite_store *)store)->path;
}

static const char *const own_checks[] = {
    "PRAGMA integrity_check(1000)",

    "SELECT 'the ' || type || ' ' || name || ' is not ours' FROM sqlite_schema"
    " WHERE type IN ('trigger', 'view') ORDER BY name LIMIT 1000",

    NULL,
};

const struct sql_driver sqlite_driver = {
    .prepare = prepare,
    .finish = finish,
    .bind = bind,
    .step = step,
    .run = run,
    .column = column,
    .lock = lock,
    .be_patient = be_patient,
    .own_checks = own_checks,
    .name = name,
};
