/*
 * The PostgreSQL back end: connections, transactions, and what runs in them.
 *
 * A read transaction is REPEATABLE READ, READ ONLY: one snapshot. A write transaction is READ
 * COMMITTED: each statement sees what was committed before it, so that what is read behind a lock
 * is what the lock protects. What SQLite's one writer gives for nothing is kept by
 *   - the lock of a generation (shared by who writes rows under it, exclusive for switch, finish,
 *     retire and destroy), by advisory locks, which queue: new sharers do not pass who waits;
 *   - the lock of a node's audit chain, exclusive until its transaction ends;
 *   - compare-and-swap on version, row id, generation and wrapped key, in the WHERE of the update;
 *   - foreign keys, checked at the commit, from credentials and mappings to their application.
 * A process has one write transaction at a time, so that it cannot lock itself out; the processes
 * of several nodes write together. What a statement that nobody asks about (sql_run without
 * `changed`) does is sent with the next one: BEGIN, audit records and COMMIT are one round trip.
 *
 * A connection that is lost ends its transaction, and nothing is tried again by itself: what had
 * not been committed is not there, and of a COMMIT that got no answer that is said.
 */
#ifndef SSO_STORE_POSTGRESQL_H
#define SSO_STORE_POSTGRESQL_H

#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>

#include "common/encode.h"
#include "store/backend.h"
#include "store/fair_lock.h"
#include "store/reader_pool.h"
#include "store/sql_statement.h"

#define POSTGRESQL_SCHEME "postgresql"
#define POSTGRESQL_STATEMENTS_MAX 256 /* cached per connection; a power of two */
#define POSTGRESQL_PARAMETERS_MAX 32
#define LEASE_MS_DEFAULT 10000               /* until the settings are known */
#define POSTGRESQL_WAIT_MS 5000              /* for locks, and for a connection of the pool */
#define POSTGRESQL_ANSWER_MS 30000           /* for the answer to a statement */
#define POSTGRESQL_COUNT_MS (10 * 60 * 1000) /* for the count of all rows */
#define POSTGRESQL_PATIENT_MS (24 * 3600 * 1000)

/* The types that we have columns of (pg_type.dat). */
#define POSTGRESQL_BYTEA 17
#define POSTGRESQL_INT8 20
#define POSTGRESQL_INT4 23
#define POSTGRESQL_TEXT 25
#define POSTGRESQL_BYTEA_ARRAY 1001
#define POSTGRESQL_INT8_ARRAY 1016

struct postgresql_store;

/* One statement of a connection; in use by one sql_statement at a time. */
struct postgresql_prepared {
    const char *sql; /* the address is the key: statements are string constants */
    unsigned number; /* its name at the server */
    bool known;      /* to the server */
    int parameters;
    Oid type[POSTGRESQL_PARAMETERS_MAX];
    const char *value[POSTGRESQL_PARAMETERS_MAX];
    int length[POSTGRESQL_PARAMETERS_MAX];
    uint64_t integer[POSTGRESQL_PARAMETERS_MAX]; /* big-endian */
    PGresult *result;
    int row; /* the next; the one before is the current one */
    bool streaming;
};

/* Lives in its connection: a connection has at most one transaction. */
struct postgresql_tx {
    struct store_tx base;
    struct postgresql_connection *connection;
    bool savepoint;
    /* A statement failed: PostgreSQL runs nothing more in it but an undoing. */
    bool undone;
    struct sso_error why;
};

struct postgresql_connection {
    struct postgresql_store *store;
    PGconn *conn;
    bool unusable;     /* to be closed when it comes back, and not used again */
    unsigned lease_ms; /* as it was set up for */
    int64_t answer_ms;
    unsigned queued; /* sent in pipeline mode, answers not yet read */
    struct postgresql_tx tx;
    unsigned prepared_count;
    struct postgresql_prepared *prepared[POSTGRESQL_STATEMENTS_MAX];
};

struct postgresql_store {
    struct store base;
    char *url;
    char name[256]; /* for texts */
    unsigned schema;
    bool has_system; /* it was there when the store was opened */
    uint8_t system_id[SYSTEM_ID_BYTES];
    atomic_uint lease_ms; /* of the master */

    struct fair_lock write_turn;
    struct postgresql_connection *writer; /* only who holds write_turn looks at it */
    struct reader_pool readers;

    pthread_mutex_t retry_lock; /* of what follows */
    unsigned failures;          /* to connect, one after another */
    int64_t retry_ms;           /* not before, on the boot clock */
    struct sso_error why;
};

/* --- postgresql_url.c --- */
/* SSO_CONFIG_ERROR for what is no URL of PostgreSQL's, or has a password in it. Fills in url and
 * name. */
enum sso_code postgresql_parse_url(struct postgresql_store *store, const char *url,
                                   struct sso_error *err);
/* What libpq is told; names and values end with NULL. */
struct postgresql_parameters {
    const char *name[20], *value[20];
    char number[3][24];
};
void postgresql_parameters(const struct postgresql_store *store, unsigned lease_ms,
                           struct postgresql_parameters *out);

/* --- postgresql_connection.c --- */
/* At once with the last error where an attempt failed a moment ago. `access`: of the transactions
 * that it is for. */
enum sso_code postgresql_connect(struct postgresql_store *store, enum store_access access,
                                 struct postgresql_connection **out, struct sso_error *err);
void postgresql_disconnect(struct postgresql_connection **connection);
/* Is an idle connection still one, as far as can be seen without asking the server, and set up for
 * the lease as it is now? */
bool postgresql_is_alive(struct postgresql_connection *connection);

/* --- postgresql_exchange.c --- */
/* Statements without parameters and results, outside any transaction of the store's. */
enum sso_code postgresql_execute(struct postgresql_connection *connection, const char *sql,
                                 struct sso_error *err);
struct postgresql_query {
    const char *sql;                      /* without parameters and results … */
    struct postgresql_prepared *prepared; /* … or this, bound … */
    const char *name_to_prepare;          /* … or sql made known by this name, with its types */
};
/* Sends it to be done before the next one; its failure is told by a later call. */
enum sso_code postgresql_queue(struct postgresql_connection *connection,
                               const struct postgresql_query *query, struct sso_error *err);
/* Sends it and reads the answers to it and to all that were queued. *out, to be cleared, is NULL on
 * error. */
enum sso_code postgresql_ask(struct postgresql_connection *connection,
                             const struct postgresql_query *query, PGresult **out,
                             struct sso_error *err);
/* Reads the answers to all that were queued. */
enum sso_code postgresql_settle(struct postgresql_connection *connection, struct sso_error *err);
/* Sends it alone; its rows come one by one by postgresql_next_row: *out NULL at the end. */
enum sso_code postgresql_stream(struct postgresql_connection *connection,
                                const struct postgresql_query *query, struct sso_error *err);
enum sso_code postgresql_next_row(struct postgresql_connection *connection, PGresult **out,
                                  struct sso_error *err);
/* Reads what is left of a stream. */
void postgresql_end_stream(struct postgresql_connection *connection);

/* --- postgresql_error.c --- */
/* Translates what went wrong: the one place where codes of PostgreSQL get our codes and a text for
 * the operator. `result` NULL: the connection itself. */
enum sso_code postgresql_failed(struct postgresql_connection *connection, const PGresult *result,
                                struct sso_error *err);

/* --- postgresql_statement.c --- */
extern const struct sql_driver postgresql_driver;
/* Notes that the transaction is undone; returns err's code. */
enum sso_code postgresql_tx_failed(struct postgresql_tx *tx, const struct sso_error *why,
                                   struct sso_error *err);
/* A parameter of any type in binary form; the bytes live until the statement has run. */
void postgresql_bind(struct sql_statement *statement, Oid type, const void *bytes, size_t count);

/* --- postgresql_schema.c --- */
enum postgresql_content { POSTGRESQL_NONE, POSTGRESQL_OURS };
/* SSO_DATABASE_OF_OTHER_SYSTEM where it is another program's. Changes nothing. */
enum sso_code postgresql_look(struct postgresql_connection *connection,
                              enum postgresql_content *out, struct sso_error *err);
/* SSO_SCHEMA_NEWER, SSO_SCHEMA_OLDER unless it is exactly this program's. */
enum sso_code postgresql_check_schema(struct postgresql_connection *connection, unsigned *schema,
                                      struct sso_error *err);
/* Applies in one transaction what is missing. */
enum sso_code postgresql_migrate(struct postgresql_connection *connection, struct sso_error *err);

/* --- postgresql_transaction.c --- */
enum sso_code postgresql_begin(struct store *store, enum store_access access, struct store_tx **out,
                               struct sso_error *err);
enum sso_code postgresql_commit(struct store_tx *tx, struct sso_error *err);
void postgresql_rollback(struct store_tx *tx);
enum sso_code postgresql_savepoint(struct store_tx *tx, struct sso_error *err);
enum sso_code postgresql_savepoint_keep(struct store_tx *tx, struct sso_error *err);
enum sso_code postgresql_savepoint_undo(struct store_tx *tx, struct sso_error *err);

/* --- postgresql_scan.c, postgresql_swap.c --- */
extern const struct store_scan_ops postgresql_scan_ops;
enum sso_code postgresql_swap(struct store_tx *tx, struct key_swap *swaps, size_t count,
                              struct sso_error *err);

#endif
