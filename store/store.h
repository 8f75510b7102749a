/*
 * The credential database (DESIGN §6): one interface, back ends behind it. Everything happens in a
 * transaction. A read transaction sees one snapshot; write transactions may wait for each other
 * (SQLite has one writer), so they are short, and no HSM or network call is made inside one. A
 * store is thread-safe; a transaction belongs to one thread.
 *
 * Rows come back as the structs of common/. Arrays are from malloc: free(3), unless a function to
 * free them stands here. SSO_DATABASE_UNAVAILABLE: busy for longer than the back end waits, full,
 * gone, or read-only; nothing of the transaction stays. Bytes that cannot be a row of ours (wrong
 * length, wrong type) are SSO_ROW_CORRUPT for credentials and SSO_POLICY_TAMPERED for rows with a
 * tag.
 */
#ifndef SSO_STORE_STORE_H
#define SSO_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct store;
struct store_tx;

/* `url` as in [database]: postgresql://… as libpq takes it, without a password in it, for a
 * database that must exist (store_create makes the tables in it); or sqlite:/absolute/path, perhaps
 * with ?busy_timeout=200ms (how long to wait for other programs, 5s where not said) and
 * &max_pages=N (the file grows no further; 0: no bound). SSO_CONFIG_ERROR where it is no such
 * thing. SSO_DATABASE_UNAVAILABLE where there is none, SSO_SCHEMA_NEWER, SSO_SCHEMA_OLDER,
 * SSO_DATABASE_OF_OTHER_SYSTEM where it is some other program's. */
enum sso_code store_open(const char *url, struct store **out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Makes the database where there is none, in a folder that must exist, and brings an empty one to
 * the newest schema; the file gets mode 0600. An existing one is opened as it is. */
enum sso_code store_create(const char *url, struct store **out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Could store_create make it? Changes nothing. *there: it is there already, and store_open tells of
 * it. SSO_DATABASE_UNAVAILABLE where it cannot be made. */
enum sso_code store_may_create(const char *url, bool *there, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Migrates an older schema to the newest. */
enum sso_code store_upgrade(const char *url, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Safe on NULL. No transaction may be open. */
void store_close(struct store **store);

/* How long the master lease lasts (10 s where nobody says). A third of it after a process was
 * stopped or cut off inside a write transaction the database undoes that, where it can tell, so
 * that the process does not stand in its successor's way. */
void store_use_lease(struct store *store, unsigned lease_ms);

/* Which process, of this or another program, holds the lock of the one writer: of SQLite, as far as
 * the kernel tells. False where none does. */
bool store_write_holder(struct store *store, int *pid);

const char *store_kind(const struct store *store); /* "sqlite", "postgresql" */
unsigned store_schema(const struct store *store);  /* number of the last migration */

/* --- transactions --- */
enum store_access { STORE_READ, STORE_WRITE };
enum sso_code store_begin(struct store *store, enum store_access access, struct store_tx **out,
                          struct sso_error *err) __attribute__((warn_unused_result));
/* Durable when it returns SSO_OK. The transaction is gone in any case; *tx becomes NULL. */
enum sso_code store_commit(struct store_tx **tx, struct sso_error *err)
    __attribute__((warn_unused_result));
/* After a failed commit: may it have taken place all the same, since its answer did not come? For
 * programs that write from one thread. */
bool store_commit_unknown(const struct store *store);
/* Safe on NULL: the cleanup function of STORE_TX_AUTO. */
void store_rollback(struct store_tx **tx);
#define STORE_TX_AUTO __attribute__((cleanup(store_rollback))) struct store_tx *
/* One part of a transaction that can be undone alone; they do not nest. */
enum sso_code store_savepoint(struct store_tx *tx, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code store_savepoint_keep(struct store_tx *tx, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code store_savepoint_undo(struct store_tx *tx, struct sso_error *err)
    __attribute__((warn_unused_result));

/* --- checks --- */
/* What the back end itself finds wrong with its structure, one line each, and rows that point
 * nowhere; none on a sound database. It reads everything: not for a request. */
enum sso_code store_check_structure(struct store_tx *tx, char ***lines, size_t *count,
                                    struct sso_error *err) __attribute__((warn_unused_result));
/* A consistent copy of all there is, as one file of mode 0600 that must not exist yet
 * (SSO_ALREADY_EXISTS) and that store_open takes; durable when it returns SSO_OK. Others read and
 * write meanwhile. On error no file is left. */
enum sso_code store_backup(struct store *store, const char *path, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Everything into an empty database of any kind, in one transaction, every row compared before it
 * is committed: all or nothing. SSO_ALREADY_EXISTS where `to` is not empty; SSO_POLICY_TAMPERED
 * where a row of `from` cannot stand in another database. *rows: how many went over. */
enum sso_code store_copy(struct store *from, struct store *to, uint64_t *rows,
                         struct sso_error *err) __attribute__((warn_unused_result));
void store_lines_free(char ***lines, size_t count);

#include "store/applications.h"
#include "store/audit.h"
#include "store/credentials.h"
#include "store/destructions.h"
#include "store/high_water.h"
#include "store/keys.h"
#include "store/master_lease.h"
#include "store/nodes.h"
#include "store/refusals.h"
#include "store/rotation.h"
#include "store/scan.h"
#include "store/system.h"
#include "store/tickets.h"

#endif
