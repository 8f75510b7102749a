/*
 * The one thread that writes. Requests and the rotation hand it their writes; it does all that wait
 * in one transaction, each in a savepoint of its own, appends their audit records to the node's
 * chain in the same transaction, commits, and wakes them. So a write and its record are durable
 * together or not at all, and fsync is paid once for all that wait.
 */
#ifndef SSO_CUSTODIAN_COMMITTER_H
#define SSO_CUSTODIAN_COMMITTER_H

#include "common/audit_record.h"
#include "common/error.h"
#include "custodian/journal.h"
#include "store/store.h"

struct committer;

enum sso_code committer_new(struct store *store, const char *node, const char *state_directory,
                            struct committer **out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* What waits is still done. */
void committer_free(struct committer **committer);

/* A write: runs on the committer's thread inside the transaction, may run again after a failure of
 * the database, and touches nothing but `tx` and `context`. What it returns other than SSO_OK is
 * undone and returned to the caller (its record is then written with that outcome). NULL: nothing
 * but the records. The records are read after it ran: it may set their outcome, and one whose
 * operation it has made empty is not written. */
typedef enum sso_code (*committer_write)(struct store_tx *tx, void *context, struct sso_error *err);

/* Waits until write and records are durable. record->node, number, hash are set; record->time_ms
 * where it is 0. On SSO_OK the outcome of each record is "ok" unless it was set.
 * SSO_DATABASE_UNAVAILABLE: nothing happened; SSO_AUDIT_UNAVAILABLE where there was nothing to
 * write but records. */
enum sso_code committer_run(struct committer *committer, committer_write write, void *context,
                            struct audit_record *records, size_t record_count,
                            struct sso_error *err) __attribute__((warn_unused_result));

/* A record without a write, and nobody waits: `done` is called on the committer's thread with how
 * it ended, once the record is durable or lost; maybe before this returns. `record` must last until
 * then. Where this fails `done` is not called. */
typedef void (*committer_done)(const struct sso_error *outcome, void *context);
enum sso_code committer_submit(struct committer *committer, struct audit_record *record,
                               committer_done done, void *context, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Records that may follow the reply (`audit.lookups = relaxed`): queued without waiting. Where too
 * many wait already it waits like committer_run. */
void committer_post(struct committer *committer, const struct audit_record *record);

/* Asked once in each transaction that has a write, before the first: SSO_OK where this node may
 * write until it ends. SSO_DATABASE_UNAVAILABLE fails the transaction, any other code every write
 * of it; records without a write go on. */
typedef enum sso_code (*committer_hold)(void *context, struct store_tx *tx, struct sso_error *err);
void committer_guard(struct committer *committer, committer_hold hold, void *context);

/* While `why` is not SSO_OK every write is refused with it; records without a write go on. */
void committer_bar(struct committer *committer, const struct sso_error *why);
/* SSO_OK, or why the last transaction failed. */
enum sso_code committer_health(struct committer *committer, struct sso_error *err);

/* That it tells of the ends of the chain: for journal_use and journal_state. */
struct journal *committer_journal(struct committer *committer);

/* SSO_OK, or SSO_ROW_CORRUPT where the node's chain in the database no longer has the record that
 * state_directory/audit-head knows. As of the start or the last record. */
enum sso_code committer_chain(struct committer *committer, struct sso_error *err);

#endif
