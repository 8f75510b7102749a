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

#include "common/audit_record.h"
#include "common/error.h"
#include "common/generation.h"
#include "common/policy.h"
#include "common/row.h"

struct store;
struct store_tx;

/* `url` as in [database]: sqlite:/path. SSO_DATABASE_UNAVAILABLE where there is none,
 * SSO_SCHEMA_NEWER, SSO_SCHEMA_OLDER, SSO_DATABASE_OF_OTHER_SYSTEM where it is some other
 * program's. */
enum sso_code store_open(const char *url, struct store **out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Makes the database where there is none and brings an empty one to the newest schema; the file
 * gets mode 0600. An existing one is opened as it is. */
enum sso_code store_create(const char *url, struct store **out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Migrates an older schema to the newest. */
enum sso_code store_upgrade(const char *url, struct sso_error *err)
    __attribute__((warn_unused_result));
void store_close(struct store **store);

const char *store_kind(const struct store *store); /* "sqlite" */
unsigned store_schema(const struct store *store);  /* number of the last migration */

/* --- transactions --- */
enum store_access { STORE_READ, STORE_WRITE };
enum sso_code store_begin(struct store *store, enum store_access access, struct store_tx **out,
                          struct sso_error *err) __attribute__((warn_unused_result));
/* Durable when it returns SSO_OK. The transaction is gone in any case; *tx becomes NULL. */
enum sso_code store_commit(struct store_tx **tx, struct sso_error *err)
    __attribute__((warn_unused_result));
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

/* --- system and settings --- */
struct system_row {
    uint8_t id[SYSTEM_ID_BYTES];
    char name[129];
    int64_t created_ms;
};
/* SSO_NOT_FOUND before init. */
enum sso_code store_system_get(struct store_tx *tx, struct system_row *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* SSO_ALREADY_EXISTS where there is one. */
enum sso_code store_system_insert(struct store_tx *tx, const struct system_row *row,
                                  struct sso_error *err) __attribute__((warn_unused_result));

enum sso_code store_setting_list(struct store_tx *tx, struct setting **out, size_t *count,
                                 struct sso_error *err) __attribute__((warn_unused_result));
/* Inserts version 1, or replaces version - 1: else SSO_VERSION_CONFLICT. */
enum sso_code store_setting_put(struct store_tx *tx, const struct setting *setting,
                                struct sso_error *err) __attribute__((warn_unused_result));

/* --- generations and sealed keys --- */
/* Takes the generation's lock, held to the end of the transaction, then reads the row in a
 * statement of its own (DESIGN §5.1). */
enum store_lock { STORE_SHARED, STORE_EXCLUSIVE };
enum sso_code store_generation_hold(struct store_tx *tx, uint32_t number, enum store_lock lock,
                                    struct generation *out, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code store_generation_list(struct store_tx *tx, struct generation **out, size_t *count,
                                    struct sso_error *err)
    __attribute__((warn_unused_result)); /* by number */
enum sso_code store_generation_insert(struct store_tx *tx, const struct generation *generation,
                                      struct sso_error *err) __attribute__((warn_unused_result));
/* All but number, secret id, wraps; replaces version - 1: else SSO_VERSION_CONFLICT. */
enum sso_code store_generation_update(struct store_tx *tx, const struct generation *generation,
                                      struct sso_error *err) __attribute__((warn_unused_result));
/* Adds to the wrap counter and gives its new value. SSO_WRAPS_EXHAUSTED where it would pass `limit`
 * (0: none); unchanged then. */
enum sso_code store_generation_add_wraps(struct store_tx *tx, uint32_t number, uint64_t wraps,
                                         uint64_t limit, uint64_t *total, struct sso_error *err)
    __attribute__((warn_unused_result));

enum sso_code store_generation_token_list(struct store_tx *tx, struct generation_token **out,
                                          size_t *count, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code store_generation_token_put(struct store_tx *tx, const struct generation_token *token,
                                         struct sso_error *err)
    __attribute__((warn_unused_result)); /* as setting_put; key: number, token, node */

enum sso_code store_sealed_key_list(struct store_tx *tx, struct sealed_key **out, size_t *count,
                                    struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code store_sealed_key_insert(struct store_tx *tx, const struct sealed_key *key,
                                      struct sso_error *err) __attribute__((warn_unused_result));
/* Compare-and-swap of generation and wrapped on (key id, old generation, old wrapped). */
enum sso_code store_sealed_key_swap(struct store_tx *tx, const struct sealed_key *old_key,
                                    const struct sealed_key *new_key, bool *swapped,
                                    struct sso_error *err) __attribute__((warn_unused_result));

/* --- applications and mappings --- */
/* By name without regard to ASCII case. SSO_NOT_FOUND. */
enum sso_code store_application_get(struct store_tx *tx, const char *name, struct application *out,
                                    struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code store_application_get_by_id(struct store_tx *tx,
                                          const uint8_t id[static APPLICATION_ID_BYTES],
                                          struct application *out, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code store_application_list(struct store_tx *tx, struct application **out, size_t *count,
                                     struct sso_error *err)
    __attribute__((warn_unused_result)); /* by name */
enum sso_code store_application_insert(struct store_tx *tx, const struct application *application,
                                       struct sso_error *err)
    __attribute__((warn_unused_result)); /* SSO_ALREADY_EXISTS */
enum sso_code store_application_update(struct store_tx *tx, const struct application *application,
                                       struct sso_error *err)
    __attribute__((warn_unused_result)); /* replaces version - 1: else SSO_VERSION_CONFLICT */
/* Its mappings, credentials and quarantine entries go with it, or, where `keep_application`, they
 * alone (purge). */
enum sso_code store_application_delete(struct store_tx *tx,
                                       const uint8_t id[static APPLICATION_ID_BYTES],
                                       bool keep_application, uint64_t *credentials_deleted,
                                       struct sso_error *err) __attribute__((warn_unused_result));

enum sso_code store_mapping_get(struct store_tx *tx,
                                const uint8_t application_id[static APPLICATION_ID_BYTES],
                                const char *principal, struct mapping *out, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code store_mapping_put(struct store_tx *tx, const struct mapping *mapping,
                                struct sso_error *err)
    __attribute__((warn_unused_result)); /* as setting_put */
enum sso_code store_mapping_delete(struct store_tx *tx,
                                   const uint8_t application_id[static APPLICATION_ID_BYTES],
                                   const char *principal, struct sso_error *err)
    __attribute__((warn_unused_result));

/* --- credentials --- */
/* Everything that a lookup must know, read in one statement (DESIGN §5.1). Tags are not checked
 * here. */
struct lookup_view {
    struct application application;
    bool has_mapping, has_row, has_generation;
    struct mapping mapping;
    struct credential_row row;    /* with ciphertext */
    struct generation generation; /* of the row */
    struct setting system_enabled, revocation;
};
void lookup_view_free(struct lookup_view *view);
/* SSO_NOT_FOUND where there is no such application; has_… say what else there is. */
enum sso_code store_lookup(struct store_tx *tx, const char *application, const char *principal,
                           struct lookup_view *out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* With ciphertext. SSO_NOT_FOUND. */
enum sso_code store_credential_get(struct store_tx *tx,
                                   const uint8_t application_id[static APPLICATION_ID_BYTES],
                                   const char *principal, struct credential_row *out,
                                   struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code store_credential_get_by_id(struct store_tx *tx,
                                         const uint8_t row_id[static ROW_ID_BYTES],
                                         struct credential_row *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Inserts where old_version is 0, else replaces the row with this row id at old_version:
 * SSO_VERSION_CONFLICT where that is not what is there. The caller holds the generation's lock and
 * has seen it active. A quarantine entry of the row goes. */
enum sso_code store_credential_put(struct store_tx *tx, const struct credential_row *row,
                                   uint64_t old_version, struct sso_error *err)
    __attribute__((warn_unused_result));
/* SSO_NOT_FOUND; SSO_VERSION_CONFLICT where version is not 0 and not the row's. A quarantine entry
 * goes. */
enum sso_code store_credential_delete(struct store_tx *tx,
                                      const uint8_t application_id[static APPLICATION_ID_BYTES],
                                      const char *principal, uint64_t version,
                                      struct sso_error *err) __attribute__((warn_unused_result));

/* One page by principal, after `after` ("" for the first): rows without ciphertext, and their
 * mappings side by side (state 0 where a row has none). */
struct credential_page {
    struct credential_row *row;
    struct mapping *mapping;
    size_t count;
};
void credential_page_free(struct credential_page *page);
enum sso_code store_credential_page(struct store_tx *tx,
                                    const uint8_t application_id[static APPLICATION_ID_BYTES],
                                    const char *after, size_t limit, struct credential_page *out,
                                    struct sso_error *err) __attribute__((warn_unused_result));

/* Keyset scan in key order: rows with generation < below (0: all) and key greater than *position,
 * at most `limit` rows and about `limit_bytes` of ciphertext. Begins where position->started is
 * false; advances it; *count 0 at the end. Rows in quarantine are left out where
 * `skip_quarantined`. The array is the caller's, with room for `limit`; each row to be freed with
 * credential_row_free. A row whose bytes cannot be one comes back with format 0 and what could be
 * read, so that a scan never stops at it. */
struct scan_position {
    bool started;
    uint32_t generation;
    uint8_t row_id[ROW_ID_BYTES];
};
struct scan_options {
    uint32_t below;
    bool with_ciphertext;
    bool skip_quarantined;
    size_t limit;
    size_t limit_bytes;
};
enum sso_code store_credential_scan(struct store_tx *tx, const struct scan_options *options,
                                    struct scan_position *position, struct credential_row *rows,
                                    size_t *count, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Compare-and-swap of many rows on (row id, old generation, old wrapped row key); `swapped` tells
 * of each. */
struct key_swap {
    uint8_t row_id[ROW_ID_BYTES];
    uint32_t old_generation, new_generation;
    struct wrapped_key old_wrapped, new_wrapped;
    bool swapped;
};
enum sso_code store_credential_swap(struct store_tx *tx, struct key_swap *swaps, size_t count,
                                    struct sso_error *err) __attribute__((warn_unused_result));

/* Rows of each generation, by number. */
struct generation_rows {
    uint32_t generation;
    uint64_t credentials, sealed_keys;
};
enum sso_code store_count_by_generation(struct store_tx *tx, struct generation_rows **out,
                                        size_t *count, struct sso_error *err)
    __attribute__((warn_unused_result));

/* --- rotation and quarantine --- */
/* The numbers are stored: never renumber. */
enum rotation_state {
    ROTATION_NONE = 0,
    ROTATION_PREPARING,
    ROTATION_RUNNING,
    ROTATION_PAUSED,
    ROTATION_CANCELLED,
    ROTATION_COMPLETED,
    ROTATION_COMPLETED_WITH_ERRORS,
    ROTATION_FAILED
};
enum rotation_phase { PHASE_PREPARE = 1, PHASE_SWITCH, PHASE_STREAM, PHASE_FINISH, PHASE_VERIFY };
enum rotation_verify { VERIFY_SAMPLE = 1, VERIFY_FULL };
const char *rotation_state_name(enum rotation_state state);
const char *rotation_phase_name(enum rotation_phase phase);

struct rotation {
    uint64_t id; /* 1, 2, 3 … */
    enum rotation_state state;
    enum rotation_phase phase;
    uint32_t to;
    char from[128]; /* "1,2": generations below `to` that held rows at the start */
    uint64_t total, done, skipped, failed;
    uint64_t rate; /* rows per second; 0: no cap */
    bool dry_run, reencrypt, full_speed;
    enum rotation_verify verify;
    struct scan_position position; /* only saves time: the rows' generation is the truth */
    char without[257];
    int64_t started_ms, finished_ms;
    char error[SSO_ERROR_DETAIL_BYTES];
};
/* The latest one; SSO_NOT_FOUND where there never was one. */
enum sso_code store_rotation_latest(struct store_tx *tx, struct rotation *out,
                                    struct sso_error *err) __attribute__((warn_unused_result));
/* SSO_ROTATION_IN_PROGRESS where one is preparing, running or paused. Sets rotation->id. */
enum sso_code store_rotation_insert(struct store_tx *tx, struct rotation *rotation,
                                    struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code store_rotation_update(struct store_tx *tx, const struct rotation *rotation,
                                    struct sso_error *err) __attribute__((warn_unused_result));

struct quarantine_entry {
    uint8_t row_id[ROW_ID_BYTES];
    uint32_t generation;
    enum sso_code code;
    char reason[257];
    unsigned tries;
    int64_t since_ms;
    char application[APPLICATION_NAME_BYTES_MAX + 1]; /* out only; "" where unknown */
    char principal[PRINCIPAL_BYTES_MAX + 1];          /* out only */
};
/* Inserts, or counts another try. */
enum sso_code store_quarantine_put(struct store_tx *tx, const struct quarantine_entry *entry,
                                   struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code store_quarantine_list(struct store_tx *tx, struct quarantine_entry **out,
                                    size_t *count, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code store_quarantine_clear(struct store_tx *tx, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code store_quarantine_count(struct store_tx *tx, uint64_t *count, struct sso_error *err)
    __attribute__((warn_unused_result));

/* --- audit --- */
/* Continues the chain of records[0].node (all of one node): sets number and hash of each. The
 * chain's lock is held to the end of the transaction, so that daemon and CLI of one node can both
 * write to it. */
enum sso_code store_audit_append(struct store_tx *tx, struct audit_record *records, size_t count,
                                 struct sso_error *err) __attribute__((warn_unused_result));
/* Records of `node` (NULL: of all nodes, by node) with number > after, at most `limit`. */
enum sso_code store_audit_list(struct store_tx *tx, const char *node, uint64_t after, size_t limit,
                               struct audit_record **out, size_t *count, struct sso_error *err)
    __attribute__((warn_unused_result));
struct audit_head {
    char node[65];
    uint64_t number; /* of the last record */
    uint8_t hash[AUDIT_HASH_BYTES];
};
enum sso_code store_audit_heads(struct store_tx *tx, struct audit_head **out, size_t *count,
                                struct sso_error *err) __attribute__((warn_unused_result));

/* --- checks --- */
/* What the back end itself finds wrong with its structure, one line each, and rows that point
 * nowhere; none on a sound database. */
enum sso_code store_check_structure(struct store_tx *tx, char ***lines, size_t *count,
                                    struct sso_error *err) __attribute__((warn_unused_result));

#endif
