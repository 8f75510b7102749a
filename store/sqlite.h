/* The SQLite back end: connections, transactions, and the one way to run a statement. */
#ifndef SSO_STORE_SQLITE_H
#define SSO_STORE_SQLITE_H

#include <sqlite3.h>
#include <sys/types.h>

#include "store/backend.h"
#include "store/fair_lock.h"
#include "store/reader_pool.h"
#include "store/sqlite_checkpoint.h"

#define SQLITE_APPLICATION_ID                                                                      \
    0x53534f48                    /* "SSOH", in the file's header (sqlite.org/fileformat2)         \
                                   */
#define SQLITE_STATEMENTS_MAX 128 /* cached per connection; a power of two */

struct sqlite_store;
struct sqlite_swap_run;

/* Lives in its connection: a connection has at most one transaction. */
struct sqlite_tx {
    struct store_tx base;
    struct sqlite_connection *connection;
    bool savepoint;
    /* The database failed under the transaction (disk full, I/O error). SQLite may have undone it
     * by itself, and what came next would be committed alone: so nothing more runs in it. */
    bool undone;
    struct sso_error why; /* it was undone */
};

struct sqlite_connection {
    struct sqlite_store *store;
    sqlite3 *db;
    int64_t busy_until_ms; /* on the boot clock */
    bool unusable;         /* to be closed when it comes back, and not used again */
    struct sqlite_tx tx;
    struct sqlite_swap_run *swap_run; /* while sqlite_swap runs */
    struct {
        const char *sql; /* the address is the key: statements are string constants */
        sqlite3_stmt *handle;
    } cached[SQLITE_STATEMENTS_MAX];
    unsigned cached_count;
};

struct sqlite_store {
    struct store base;
    char *path;
    unsigned busy_timeout_ms;
    unsigned max_pages; /* 0: no bound */
    unsigned schema;
    dev_t device; /* of the file as it was opened */
    ino_t inode;

    struct fair_lock write_turn;
    struct sqlite_connection *writer; /* only who holds write_turn looks at it */

    struct reader_pool readers;
    struct sqlite_checkpoint checkpoint;
};

/* --- sqlite_connection.c --- */
enum sso_code sqlite_connect(struct sqlite_store *store, enum store_access access,
                             struct sqlite_connection **out, struct sso_error *err);
void sqlite_disconnect(struct sqlite_connection **connection);
/* Statements without parameters and results. */
enum sso_code sqlite_execute(struct sqlite_connection *connection, const char *sql,
                             struct sso_error *err);
/* The single integer that a statement without parameters gives. */
enum sso_code sqlite_query_integer(struct sqlite_connection *connection, const char *sql,
                                   int64_t *out, struct sso_error *err);

/* --- sqlite_error.c --- */
/* Translates `result` of the last call on the connection: the one place where codes of SQLite get
 * our codes and a text for the operator. */
enum sso_code sqlite_failed(struct sqlite_connection *connection, int result,
                            struct sso_error *err);

/* --- sqlite_schema.c --- */
enum sqlite_content { CONTENT_NONE, CONTENT_OURS };
/* SSO_DATABASE_OF_OTHER_SYSTEM where it is another program's. Changes nothing. */
enum sso_code sqlite_look(struct sqlite_connection *connection, enum sqlite_content *out,
                          struct sso_error *err);
/* SSO_SCHEMA_NEWER, SSO_SCHEMA_OLDER unless it is exactly this program's. */
enum sso_code sqlite_check_schema(struct sqlite_connection *connection, unsigned *schema,
                                  struct sso_error *err);
/* Applies in one transaction what is missing. */
enum sso_code sqlite_migrate(struct sqlite_connection *connection, struct sso_error *err);

/* --- sqlite_transaction.c --- */
enum sso_code sqlite_begin(struct store *store, enum store_access access, struct store_tx **out,
                           struct sso_error *err);
enum sso_code sqlite_commit(struct store_tx *tx, struct sso_error *err);
void sqlite_rollback(struct store_tx *tx);
enum sso_code sqlite_savepoint(struct store_tx *tx, struct sso_error *err);
enum sso_code sqlite_savepoint_keep(struct store_tx *tx, struct sso_error *err);
enum sso_code sqlite_savepoint_undo(struct store_tx *tx, struct sso_error *err);

/* --- sqlite_statement.c --- */
extern const struct sql_driver sqlite_driver;

/* --- sqlite_scan.c --- */
extern const struct store_scan_ops sqlite_scan_ops;

/* --- sqlite_holder.c --- */
bool sqlite_write_holder(struct store *store, int *pid);

/* --- sqlite_backup.c --- */
enum sso_code sqlite_backup(struct store *store, const char *path, struct sso_error *err);

#endif
