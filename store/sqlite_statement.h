/*
 * A statement in use. Parameters are bound and columns read in the order in which they stand in the
 * SQL; a value that does not fit its column sticks as `damaged` and reads as zero, so that a row is
 * checked once, when all of it was read. Values are always bound, and must live until the statement
 * ends; at its end nothing of them stays in it, and it holds no snapshot open.
 */
#ifndef SSO_STORE_SQLITE_STATEMENT_H
#define SSO_STORE_SQLITE_STATEMENT_H

#include "store/sqlite.h"

struct sqlite_statement {
    struct sqlite_tx *tx;
    sqlite3_stmt *handle;
    int parameter; /* bound so far */
    int column;    /* read so far of this row */
    int failed;    /* the first bind that went wrong */
    bool damaged;
};

/* `sql` is a string constant: prepared once per connection, found again by its address. */
enum sso_code sqlite_prepare(struct store_tx *tx, const char *sql, struct sqlite_statement *out,
                             struct sso_error *err);
void sqlite_finish(struct sqlite_statement *statement);
#define SQLITE_STATEMENT_AUTO __attribute__((cleanup(sqlite_finish))) struct sqlite_statement

/* *row: whether there is one more. */
enum sso_code sqlite_step(struct sqlite_statement *statement, bool *row, struct sso_error *err);
/* Runs a statement that gives no rows; *changed (NULL allowed) rows. SSO_ALREADY_EXISTS where a
 * key is taken. Afterwards it may be bound and run again. */
enum sso_code sqlite_run(struct sqlite_statement *statement, uint64_t *changed,
                         struct sso_error *err);

void sqlite_bind_integer(struct sqlite_statement *statement, int64_t value);
void sqlite_bind_u64(struct sqlite_statement *statement, uint64_t value); /* up to INT64_MAX */
void sqlite_bind_text(struct sqlite_statement *statement, const char *value);
void sqlite_bind_bytes(struct sqlite_statement *statement, const void *bytes, size_t count);
void sqlite_bind_wrapped(struct sqlite_statement *statement, const struct wrapped_key *wrapped);

int64_t sqlite_read_integer(struct sqlite_statement *statement, int64_t lowest, int64_t highest);
uint64_t sqlite_read_u64(struct sqlite_statement *statement);
uint32_t sqlite_read_u32(struct sqlite_statement *statement);
int64_t sqlite_read_time(struct sqlite_statement *statement);
bool sqlite_read_bool(struct sqlite_statement *statement);
void sqlite_read_text(struct sqlite_statement *statement, char *out, size_t size);
/* Of 1 byte at least, and clean UTF-8 (common/encode.h). */
void sqlite_read_name(struct sqlite_statement *statement, char *out, size_t size);
/* For people only: what cannot be read is empty, and no damage. */
void sqlite_read_note(struct sqlite_statement *statement, char *out, size_t size);
void sqlite_read_bytes(struct sqlite_statement *statement, void *out, size_t count);
void sqlite_read_wrapped(struct sqlite_statement *statement, struct wrapped_key *out);
/* A view until the next step; NULL where the column has another type or more bytes. */
const void *sqlite_view_bytes(struct sqlite_statement *statement, size_t maximum, size_t *count);
const char *sqlite_view_text(struct sqlite_statement *statement, size_t maximum, size_t *count);
/* Is the next column null (an outer join that found nothing)? Reads nothing. */
bool sqlite_next_is_null(const struct sqlite_statement *statement);
void sqlite_skip(struct sqlite_statement *statement, int columns);

/* All rows of a statement as an array from malloc. */
struct sqlite_list {
    const char *what; /* "a setting", for the text about a damaged row */
    size_t element_bytes;
    void (*read)(struct sqlite_statement *statement, void *element);
    /* Makes of what could be read of a damaged row something that nobody takes for a sound one.
     * NULL: a damaged row fails the list. */
    void (*distrust)(void *element);
};
enum sso_code sqlite_collect(struct sqlite_statement *statement, const struct sqlite_list *list,
                             void *out, size_t *count, struct sso_error *err);
/* SSO_POLICY_TAMPERED where what was read of a row cannot be one of ours. */
enum sso_code sqlite_check_row(struct sqlite_statement *statement, const char *what,
                               struct sso_error *err);

#endif
