#include "store/sql_statement.h"

#include <stdlib.h>
#include <string.h>

#include "common/encode.h"

static const struct sql_driver *driver_of(const struct store_tx *tx)
{
    return tx->store->ops->sql;
}

enum sso_code sql_prepare(struct store_tx *tx, const char *sql, struct sql_statement *out,
                          struct sso_error *err)
{
    *out = (struct sql_statement){.tx = tx};
    return driver_of(tx)->prepare(out, sql, err);
}

void sql_finish(struct sql_statement *statement)
{
    if (statement->handle == NULL)
        return;
    driver_of(statement->tx)->finish(statement);
    statement->handle = NULL;
}

enum sso_code sql_lock(struct store_tx *tx, const struct sql_lock *lock, struct sso_error *err)
{
    return driver_of(tx)->lock(tx, lock, err);
}

void sql_be_patient(struct store_tx *tx)
{
    driver_of(tx)->be_patient(tx);
}

const char *sql_name(const struct store_tx *tx)
{
    return driver_of(tx)->name(tx->store);
}

static enum sso_code check_bound(const struct sql_statement *statement, struct sso_error *err)
{
    if (!statement->unfit)
        return SSO_OK;
    return sso_fail(err, SSO_INTERNAL, "a value is out of the range of its column");
}

enum sso_code sql_step(struct sql_statement *statement, bool *row, struct sso_error *err)
{
    *row = false;
    enum sso_code rc = check_bound(statement, err);
    if (rc != SSO_OK)
        return rc;
    statement->column = 0;
    statement->damaged = false;
    return driver_of(statement->tx)->step(statement, row, err);
}

enum sso_code sql_run(struct sql_statement *statement, uint64_t *changed, struct sso_error *err)
{
    enum sso_code rc = check_bound(statement, err);
    if (rc == SSO_OK)
        rc = driver_of(statement->tx)->run(statement, changed, err);
    statement->parameter = 0;
    return rc;
}

enum sso_code sql_insert(struct sql_statement *statement, struct sso_error *err)
{
    uint64_t inserted = 0;
    enum sso_code rc = sql_run(statement, &inserted, err);
    if (rc != SSO_OK || inserted == 1)
        return rc;
    return sso_fail(err, SSO_ALREADY_EXISTS, "%s has a row with this key already",
                    sql_name(statement->tx));
}

/* --- parameters --- */

static void bind_value(struct sql_statement *statement, struct sql_value value)
{
    driver_of(statement->tx)->bind(statement, ++statement->parameter, &value);
}

void sql_bind_integer(struct sql_statement *statement, int64_t value)
{
    bind_value(statement, (struct sql_value){.type = SQL_INTEGER, .integer = value});
}

void sql_bind_u64(struct sql_statement *statement, uint64_t value)
{
    if (value > INT64_MAX)
        statement->unfit = true;
    sql_bind_integer(statement, (int64_t)value);
}

void sql_bind_text(struct sql_statement *statement, const char *value)
{
    sql_bind_text_of(statement, value, strlen(value));
}

void sql_bind_text_of(struct sql_statement *statement, const char *value, size_t length)
{
    bind_value(statement, (struct sql_value){.type = SQL_TEXT, .bytes = value, .length = length});
}

void sql_bind_bytes(struct sql_statement *statement, const void *bytes, size_t count)
{
    bind_value(statement, (struct sql_value){.type = SQL_BYTES,
                                             .bytes = bytes != NULL ? bytes : "",
                                             .length = count});
}

void sql_bind_wrapped(struct sql_statement *statement, const struct wrapped_key *wrapped)
{
    bool fits = wrapped->length_bytes <= sizeof wrapped->bytes;
    if (!fits)
        statement->unfit = true;
    sql_bind_bytes(statement, wrapped->bytes, fits ? wrapped->length_bytes : 0);
}

/* --- columns --- */

struct sql_value sql_next_value(struct sql_statement *statement)
{
    return driver_of(statement->tx)->column(statement, statement->column++);
}

int64_t sql_read_integer(struct sql_statement *statement, int64_t lowest, int64_t highest)
{
    struct sql_value value = sql_next_value(statement);
    if (value.type != SQL_INTEGER || value.integer < lowest || value.integer > highest) {
        statement->damaged = true;
        return 0;
    }
    return value.integer;
}

uint64_t sql_read_u64(struct sql_statement *statement)
{
    return (uint64_t)sql_read_integer(statement, 0, INT64_MAX);
}

uint32_t sql_read_u32(struct sql_statement *statement)
{
    return (uint32_t)sql_read_integer(statement, 0, UINT32_MAX);
}

int64_t sql_read_time(struct sql_statement *statement)
{
    return sql_read_integer(statement, 0, INT64_MAX);
}

bool sql_read_bool(struct sql_statement *statement)
{
    return sql_read_integer(statement, 0, 1) == 1;
}

static const void *view(struct sql_statement *statement, enum sql_type type, size_t maximum,
                        size_t *count)
{
    struct sql_value value = sql_next_value(statement);
    *count = 0;
    if (value.type != type || value.bytes == NULL || value.length > maximum) {
        statement->damaged = true;
        return NULL;
    }
    *count = value.length;
    return value.bytes;
}

const void *sql_view_bytes(struct sql_statement *statement, size_t maximum, size_t *count)
{
    return view(statement, SQL_BYTES, maximum, count);
}

const char *sql_view_text(struct sql_statement *statement, size_t maximum, size_t *count)
{
    return view(statement, SQL_TEXT, maximum, count);
}

void sql_read_text(struct sql_statement *statement, char *out, size_t size)
{
    size_t count;
    const char *text = sql_view_text(statement, size - 1, &count);
    if (text != NULL && memchr(text, '\0', count) != NULL) {
        statement->damaged = true;
        count = 0;
    }
    if (text != NULL)
        memcpy(out, text, count);
    out[count] = '\0';
}

void sql_read_name(struct sql_statement *statement, char *out, size_t size)
{
    sql_read_text(statement, out, size);
    if (out[0] == '\0' || !text_is_clean_utf8(out, strlen(out))) {
        statement->damaged = true;
        out[0] = '\0';
    }
}

void sql_read_note(struct sql_statement *statement, char *out, size_t size)
{
    bool damaged = statement->damaged;
    sql_read_text(statement, out, size);
    if (!text_is_clean_utf8(out, strlen(out)))
        out[0] = '\0';
    statement->damaged = damaged;
}

void sql_read_bytes(struct sql_statement *statement, void *out, size_t count)
{
    size_t length;
    const void *bytes = sql_view_bytes(statement, count, &length);
    if (bytes != NULL && length == count) {
        memcpy(out, bytes, count);
    } else {
        statement->damaged = true;
        memset(out, 0, count);
    }
}

void sql_read_wrapped(struct sql_statement *statement, struct wrapped_key *out)
{
    size_t length;
    const void *bytes = sql_view_bytes(statement, sizeof out->bytes, &length);
    *out = (struct wrapped_key){.length_bytes = (uint8_t)length};
    if (length == 0)
        statement->damaged = true;
    else
        memcpy(out->bytes, bytes, length);
}

bool sql_next_is_null(const struct sql_statement *statement)
{
    return driver_of(statement->tx)->column(statement, statement->column).type == SQL_NULL;
}

void sql_skip(struct sql_statement *statement, int columns)
{
    statement->column += columns;
}

/* --- rows --- */

enum sso_code sql_check_row(struct sql_statement *statement, const char *what,
                            struct sso_error *err)
{
    if (!statement->damaged)
        return SSO_OK;
    return sso_fail(err, SSO_POLICY_TAMPERED,
                    "%s in %s has a value of a wrong type or length: the database was changed by "
                    "another hand",
                    what, sql_name(statement->tx));
}

enum sso_code sql_collect(struct sql_statement *statement, const struct sql_list *list, void *out,
                          size_t *count, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    uint8_t *elements = NULL;
    size_t used = 0, room = 0;
    bool row;
    while ((rc = sql_step(statement, &row, err)) == SSO_OK && row) {
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
        else if ((rc = sql_check_row(statement, list->what, err)) != SSO_OK)
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
