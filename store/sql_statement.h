/*
 * The SQL that is the same for every back end is written once, in sql_<noun>.c, over the few
 * functions of a driver. It is SQL that both SQLite and PostgreSQL take; parameters are ? or ?1,
 * and what only one of them needs stands in comments that the other passes over: FOR UPDATE between
 * comment marks: where there is more than one writer the rows are locked.
 *
 * A statement in use. Parameters are bound and columns read in the order in which they stand in the
 * SQL; a value that does not fit its column sticks as `damaged` and reads as zero, so that a row is
 * checked once, when all of it was read. Values are always bound, and must live until the statement
 * has run; at its end nothing of them stays in it, and it holds no snapshot open.
 */
#ifndef SSO_STORE_SQL_STATEMENT_H
#define SSO_STORE_SQL_STATEMENT_H

#include "store/backend.h"

enum sql_type { SQL_NULL, SQL_INTEGER, SQL_TEXT, SQL_BYTES, SQL_OTHER };
struct sql_value {
    enum sql_type type;
    int64_t integer;
    const void *bytes; /* of text and bytes; NULL where memory ran out */
    size_t length;
};

struct sql_statement {
    struct store_tx *tx;
    void *handle;  /* the driver's; NULL: none in use */
    int parameter; /* bound so far */
    int column;    /* read so far of this row */
    bool streams;  /* many rows come: they are not gathered first (set before the first step) */
    bool unfit;    /* a value was bound that no column holds */
    bool damaged;
};

/* Something that writers lock, by a noun and its bytes. */
struct sql_lock {
    const char *noun;
    const void *id;
    size_t id_bytes;
    enum store_lock mode;
};

struct sql_driver {
    /* Sets handle. */
    enum sso_code (*prepare)(struct sql_statement *statement, const char *sql,
                             struct sso_error *err);
    void (*finish)(struct sql_statement *statement);
    /* Never SQL_NULL. */
    void (*bind)(struct sql_statement *statement, int parameter, const struct sql_value *value);
    enum sso_code (*step)(struct sql_statement *statement, bool *row, struct sso_error *err);
    enum sso_code (*run)(struct sql_statement *statement, uint64_t *changed, struct sso_error *err);
    struct sql_value (*column)(const struct sql_statement *statement, int column);
    /* Keeps others from locking the same thing until the transaction ends, or, shared, from locking
     * it exclusively. Nothing where there is one writer. */
    enum sso_code (*lock)(struct store_tx *tx, const struct sql_lock *lock, struct sso_error *err);
    /* What follows in the transaction may take hours. */
    void (*be_patient)(struct store_tx *tx);
    /* What only this database has to be asked, each a statement that gives a line for each thing
     * found; NULL at the end. */
    const char *const *own_checks;
    /* The database by a name for texts; no password in it. */
    const char *(*name)(const struct store *store);
};

enum sso_code sql_lock(struct store_tx *tx, const struct sql_lock *lock, struct sso_error *err);
void sql_be_patient(struct store_tx *tx);
const char *sql_name(const struct store_tx *tx);

/* `sql` is a string constant: prepared once per connection, found again by its address. */
enum sso_code sql_prepare(struct store_tx *tx, const char *sql, struct sql_statement *out,
                          struct sso_error *err);
void sql_finish(struct sql_statement *statement);
#define SQL_STATEMENT_AUTO __attribute__((cleanup(sql_finish))) struct sql_statement

/* *row: whether there is one more. */
enum sso_code sql_step(struct sql_statement *statement, bool *row, struct sso_error *err);
/* Runs a statement that gives no rows; *changed rows. Afterwards it may be bound and run again.
 * `changed` NULL: nobody asks, and the driver may run it later, with others; its failure is then
 * that of a later call, of the commit at the latest. */
enum sso_code sql_run(struct sql_statement *statement, uint64_t *changed, struct sso_error *err);
/* Runs an INSERT … ON CONFLICT DO NOTHING of one row: SSO_ALREADY_EXISTS where a key is taken, and
 * the transaction goes on. */
enum sso_code sql_insert(struct sql_statement *statement, struct sso_error *err);

void sql_bind_integer(struct sql_statement *statement, int64_t value);
void sql_bind_u64(struct sql_statement *statement, uint64_t value); /* up to INT64_MAX */
void sql_bind_text(struct sql_statement *statement, const char *value);
void sql_bind_text_of(struct sql_statement *statement, const char *value, size_t length);
void sql_bind_bytes(struct sql_statement *statement, const void *bytes, size_t count);
void sql_bind_wrapped(struct sql_statement *statement, const struct wrapped_key *wrapped);

struct sql_value sql_next_value(struct sql_statement *statement);
int64_t sql_read_integer(struct sql_statement *statement, int64_t lowest, int64_t highest);
uint64_t sql_read_u64(struct sql_statement *statement);
uint32_t sql_read_u32(struct sql_statement *statement);
int64_t sql_read_time(struct sql_statement *statement);
bool sql_read_bool(struct sql_statement *statement);
void sql_read_text(struct sql_statement *statement, char *out, size_t size);
/* Of 1 byte at least, and clean UTF-8 (common/encode.h). */
void sql_read_name(struct sql_statement *statement, char *out, size_t size);
/* For people only: what cannot be read is empty, and no damage. */
void sql_read_note(struct sql_statement *statement, char *out, size_t size);
void sql_read_bytes(struct sql_statement *statement, void *out, size_t count);
void sql_read_wrapped(struct sql_statement *statement, struct wrapped_key *out);
/* A view until the next step; NULL where the column has another type or more bytes. */
const void *sql_view_bytes(struct sql_statement *statement, size_t maximum, size_t *count);
const char *sql_view_text(struct sql_statement *statement, size_t maximum, size_t *count);
/* Is the next column null (an outer join that found nothing)? Reads nothing. */
bool sql_next_is_null(const struct sql_statement *statement);
void sql_skip(struct sql_statement *statement, int columns);

/* All rows of a statement as an array from malloc. */
struct sql_list {
    const char *what; /* "a setting", for the text about a damaged row */
    size_t element_bytes;
    void (*read)(struct sql_statement *statement, void *element);
    /* Makes of what could be read of a damaged row something that nobody takes for a sound one.
     * NULL: a damaged row fails the list. */
    void (*distrust)(void *element);
};
enum sso_code sql_collect(struct sql_statement *statement, const struct sql_list *list, void *out,
                          size_t *count, struct sso_error *err);
/* SSO_POLICY_TAMPERED where what was read of a row cannot be one of ours. */
enum sso_code sql_check_row(struct sql_statement *statement, const char *what,
                            struct sso_error *err);

#endif
