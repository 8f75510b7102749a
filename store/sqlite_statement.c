#include "store/sqlite_statement.h"

#include <stdlib.h>
#include <string.h>

#include "common/encode.h"

static enum sso_code find_cached(struct sqlite_connection *connection, const char *sql,
                                 sqlite3_stmt **out, struct sso_error *err)
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

enum sso_code sqlite_prepare(struct store_tx *tx, const char *sql, struct sqlite_statement *out,
                             struct sso_error *err)
{
    *out = (struct sqlite_statement){.tx = (struct sqlite_tx *)tx};
    if (out->tx->undone)
        return sso_fail(err, out->tx->why.code, "the transaction was undone before: %s",
                        out->tx->why.detail);
    return find_cached(out->tx->connection, sql, &out->handle, err);
}

void sqlite_finish(struct sqlite_statement *statement)
{
    if (statement->handle == NULL)
        return;
    sqlite3_reset(statement->handle);
    sqlite3_clear_bindings(statement->handle);
    statement->handle = NULL;
}

static enum sso_code step_failed(struct sqlite_statement *statement, int result,
                                 struct sso_error *err)
{
    struct sqlite_tx *tx = statement->tx;
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

enum sso_code sqlite_step(struct sqlite_statement *statement, bool *row, struct sso_error *err)
{
    *row = false;
    if (statement->failed != SQLITE_OK)
        return sqlite_failed(statement->tx->connection, statement->failed, err);
    statement->column = 0;
    statement->damaged = false;
    int result = sqlite3_step(statement->handle);
    *row = result == SQLITE_ROW;
    return result == SQLITE_ROW || result == SQLITE_DONE ? SSO_OK
                                                         : step_failed(statement, result, err);
}

enum sso_code sqlite_run(struct sqlite_statement *statement, uint64_t *changed,
                         struct sso_error *err)
{
    bool row;
    enum sso_code rc = sqlite_step(statement, &row, err);
    if (rc == SSO_OK && changed != NULL)
        *changed = (uint64_t)sqlite3_changes64(statement->tx->connection->db);
    sqlite3_reset(statement->handle);
    statement->parameter = 0;
    return rc;
}

/* --- parameters --- */

static void bound(struct sqlite_statement *statement, int result)
{
    if (statement->failed == SQLITE_OK)
        statement->failed = result;
}

void sqlite_bind_integer(struct sqlite_statement *statement, int64_t value)
{
    bound(statement, sqlite3_bind_int64(statement->handle, ++statement->parameter, value));
}

void sqlite_bind_u64(struct sqlite_statement *statement, uint64_t value)
{
    if (value > INT64_MAX)
        bound(statement, SQLITE_RANGE);
    sqlite_bind_integer(statement, (int64_t)value);
}

void sqlite_bind_text(struct sqlite_statement *statement, const char *value)
{
    bound(statement, sqlite3_bind_text64(statement->handle, ++statement->parameter, value,
                                         strlen(value), SQLITE_STATIC, SQLITE_UTF8));
}

void sqlite_bind_bytes(struct sqlite_statement *statement, const void *bytes, size_t count)
{
    /* A null pointer would bind NULL and not the empty blob. */
    bound(statement, sqlite3_bind_blob64(statement->handle, ++statement->parameter,
                                         bytes != NULL ? bytes : "", count, SQLITE_STATIC));
}

void sqlite_bind_wrapped(struct sqlite_statement *statement, const struct wrapped_key *wrapped)
{
    if (wrapped->length_bytes > sizeof wrapped->bytes)
        bound(statement, SQLITE_RANGE);
    else
        sqlite_bind_bytes(statement, wrapped->bytes, wrapped->length_bytes);
}

/* --- columns --- */

/* By their values: one thread has a connection at a time, so they need no protection, and asking
 * for type, bytes and length of each through the statement was a good part of reading a row. */

int64_t sqlite_read_integer(struct sqlite_statement *statement, int64_t lowest, int64_t highest)
{
    sqlite3_value *column = sqlite3_column_value(statement->handle, statement->column++);
    int64_t value = sqlite3_value_int64(column);
    if (sqlite3_value_type(column) != SQLITE_INTEGER || value < lowest || value > highest) {
        statement->damaged = true;
        return 0;
    }
    return value;
}

uint64_t sqlite_read_u64(struct sqlite_statement *statement)
{
    return (uint64_t)sqlite_read_integer(statement, 0, INT64_MAX);
}

uint32_t sqlite_read_u32(struct sqlite_statement *statement)
{
    return (uint32_t)sqlite_read_integer(statement, 0, UINT32_MAX);
}

int64_t sqlite_read_time(struct sqlite_statement *statement)
{
    return sqlite_read_integer(statement, 0, INT64_MAX);
}

bool sqlite_read_bool(struct sqlite_statement *statement)
{
    return sqlite_read_integer(statement, 0, 1) == 1;
}

static const void *view(struct sqlite_statement *statement, int type, size_t maximum, size_t *count)
{
    sqlite3_value *column = sqlite3_column_value(statement->handle, statement->column++);
    *count = 0;
    if (sqlite3_value_type(column) != type) {
        statement->damaged = true;
        return NULL;
    }
    const void *bytes =
        type == SQLITE_TEXT ? (const void *)sqlite3_value_text(column) : sqlite3_value_blob(column);
    size_t length = (size_t)sqlite3_value_bytes(column);
    /* SQLite gives NULL for the empty blob, and where memory ran out. */
    if (length > maximum || (bytes == NULL && (length > 0 || type == SQLITE_TEXT))) {
        statement->damaged = true;
        return NULL;
    }
    *count = length;
    return bytes != NULL ? bytes : "";
}

const void *sqlite_view_bytes(struct sqlite_statement *statement, size_t maximum, size_t *count)
{
    return view(statement, SQLITE_BLOB, maximum, count);
}

const char *sqlite_view_text(struct sqlite_statement *statement, size_t maximum, size_t *count)
{
    return view(statement, SQLITE_TEXT, maximum, count);
}

void sqlite_read_text(struct sqlite_statement *statement, char *out, size_t size)
{
    size_t count;
    const char *text = sqlite_view_text(statement, size - 1, &count);
    if (text != NULL && memchr(text, '\0', count) != NULL) {
        statement->damaged = true;
        count = 0;
    }
    if (text != NULL)
        memcpy(out, text, count);
    out[count] = '\0';
}

void sqlite_read_name(struct sqlite_statement *statement, char *out, size_t size)
{
    sqlite_read_text(statement, out, size);
    if (out[0] == '\0' || !text_is_clean_utf8(out, strlen(out))) {
        statement->damaged = true;
        out[0] = '\0';
    }
}

void sqlite_read_note(struct sqlite_statement *statement, char *out, size_t size)
{
    bool damaged = statement->damaged;
    sqlite_read_text(statement, out, size);
    if (!text_is_clean_utf8(out, strlen(out)))
        out[0] = '\0';
    statement->damaged = damaged;
}

void sqlite_read_bytes(struct sqlite_statement *statement, void *out, size_t count)
{
    size_t length;
    const void *bytes = sqlite_view_bytes(statement, count, &length);
    if (bytes != NULL && length == count) {
        memcpy(out, bytes, count);
    } else {
        statement->damaged = true;
        memset(out, 0, count);
    }
}

void sqlite_read_wrapped(struct sqlite_statement *statement, struct wrapped_key *out)
{
    size_t length;
    const void *bytes = sqlite_view_bytes(statement, sizeof out->bytes, &length);
    *out = (struct wrapped_key){.length_bytes = (uint8_t)length};
    if (length == 0)
        statement->damaged = true;
    else
        memcpy(out->bytes, bytes, length);
}

bool sqlite_next_is_null(const struct sqlite_statement *statement)
{
    return sqlite3_column_type(statement->handle, statement->column) == SQLITE_NULL;
}

void sqlite_skip(struct sqlite_statement *statement, int columns)
{
    statement->column += columns;
}

/* --- rows --- */

enum sso_code sqlite_check_row(struct sqlite_statement *statement, const char *what,
                               struct sso_error *err)
{
    if (!statement->damaged)
        return SSO_OK;
    return sso_fail(err, SSO_POLICY_TAMPERED,
                    "%s in %s has a value of a wrong type or length: the database was changed by "
                    "another hand",
                    what, statement->tx->connection->store->path);
}

enum sso_code sqlite_collect(struct sqlite_statement *statement, const struct sqlite_list *list,
                             void *out, size_t *count, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    uint8_t *elements = NULL;
    size_t used = 0, room = 0;
    bool row;
    while ((rc = sqlite_step(statement, &row, err)) == SSO_OK && row) {
        if (used == room) {
            room = room == 0 ? 8 : room * 2;
            uint8_t *larger = reallocarray(elements, room, list->element_bytes);
            if (larger == NULL) {
                rc = sso_fail(err, SSO_NO_MEMORY, "no memory for %zu rows", room);
                break;
            }
            elements = larger;
        }
        void *element = elements + used * list->element_bytes;
        memset(element, 0, list->element_bytes);
        list->read(statement, element);
        if (statement->damaged && list->distrust != NULL)
            list->distrust(element);
        else if ((rc = sqlite_check_row(statement, list->what, err)) != SSO_OK)
            break;
        used++;
    }
    if (rc != SSO_OK) {
        free(elements);
        elements = NULL;
        used = 0;
    }
    memcpy(out, &elements, sizeof elements); /* `out` is the address of a pointer of any type */
    *count = used;
    return rc;
}
