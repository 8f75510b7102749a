/*
 * The rotation engine (DESIGN §7): prepare, switch, stream, finish. It runs in the caller's thread
 * (with threads of its own for reading, HSM work and writing) until the job ends, is paused or
 * cancelled, or the process stops; what it had not done is done by the next rewrap_run with the
 * same rotation row: the rows' generation is the truth.
 */
#ifndef SSO_REWRAP_REWRAP_H
#define SSO_REWRAP_REWRAP_H

#include <stdatomic.h>
#include <stdbool.h>

#include "common/policy.h"
#include "pkcs11/keyring.h"
#include "store/store.h"
#include "store/wrap_budget.h"

enum rewrap_request { REWRAP_GO, REWRAP_PAUSE, REWRAP_CANCEL, REWRAP_STOP };

struct live_requests {
    bool any;         /* in the last second */
    unsigned percent; /* of the time that they usually take; 0: not known */
    unsigned count;   /* goes up by one with each */
};

typedef enum sso_code (*rewrap_write)(struct store_tx *tx, void *context, struct sso_error *err);

struct rewrap_job {
    struct store *store;
    struct keyring *keyring;
    const struct policy *policy;
    struct wrap_budget *budget;
    char node[65];
    /* As in the database; the engine keeps both up to date. While it runs, other threads read the
     * atomics below and the members that never change (id, to, from, options, started). */
    struct rotation rotation;

    /* What others ask of the running job. REWRAP_STOP: the process ends; the state in the database
     * stays as it is. */
    atomic_int request; /* enum rewrap_request */
    atomic_uint rate;   /* rows per second; 0: no cap; goes into the row with the next commit */

    /* How live requests fare; NULL where nobody measures. The engine backs off. `slowest`: it gives
     * way as far as it can, and what they take now is not its doing. */
    void (*live_requests)(void *context, bool slowest, struct live_requests *out);
    /* Makes the workers of all pools open the target generation (phase prepare); it is known to the
     * keyring when this returns SSO_OK. */
    enum sso_code (*open_target)(void *context, uint32_t number, struct sso_error *err);
    /* After the switch and after the finish: generation states have changed. */
    void (*states_changed)(void *context);
    /* Runs `run` in a write transaction, appends `record` to the node's audit chain where `run`
     * gave it an operation, and commits; all so that fsync is paid once for the engine and for live
     * requests. `run` may run on another thread, beside writes of others, and again after a failure
     * of the database. Where it or the commit fails nothing of it is there; only a commit that is
     * told as SSO_DATABASE_UNAVAILABLE may stand. Any other failure fails the job. */
    enum sso_code (*write)(void *context, rewrap_write run, void *run_context,
                           struct audit_record *record, struct sso_error *err);
    /* Fills actor, how and request id of whoever started the job. */
    void (*audit_actor)(void *context, struct audit_record *record);
    void *context;

    /* Progress for readers in other threads. */
    atomic_uint_fast64_t done, skipped, failed, total;
    atomic_uint_fast64_t rows_per_second;
    atomic_int phase; /* enum rotation_phase */
    atomic_int state; /* enum rotation_state */
};

/* Guards of a start, in the caller's write transaction: no rotation in progress, `to` pending and
 * backed up (or made without), its number above every generation that was ever active. Fills what
 * is not an option (state, phase, from, total, renew_born, started) and inserts the row; the caller
 * audits. Rows born up to a generation that is marked compromised are to be renewed, with
 * `reencrypt` all. Quarantined rows get another chance, unless it is a dry run. */
enum sso_code rewrap_plan(struct store_tx *tx, const struct policy *policy,
                          struct rotation *rotation, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Changes of the latest rotation while no engine runs it, in the caller's write transaction; each
 * reads the row into `rotation`, is idempotent, and leaves the auditing to the caller.
 * SSO_NOT_FOUND where there never was a rotation, SSO_BAD_REQUEST where its state does not allow
 * the change. While an engine runs it in this process, set job->request and job->rate instead: only
 * the engine writes the row then. */
enum sso_code rewrap_pause(struct store_tx *tx, struct rotation *rotation, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code rewrap_cancel(struct store_tx *tx, struct rotation *rotation, struct sso_error *err)
    __attribute__((warn_unused_result));
/* A paused, cancelled or failed rotation is to go on: rewrap_run takes it up. */
enum sso_code rewrap_reopen(struct store_tx *tx, const struct policy *policy,
                            struct rotation *rotation, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Quarantined rows are to be tried again and, where there are any, the rotation is reopened; else
 * it stays as it is, to be seen in rotation->state. */
enum sso_code rewrap_retry_quarantined(struct store_tx *tx, const struct policy *policy,
                                       struct rotation *rotation, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Rows of the quarantine that somebody repaired: changed since they were quarantined, or of a
 * generation that was open in no token and is now. malloc: free(3). Finds none where the latest
 * rotation did not end with errors, or was a dry run, or where more rows are in quarantine than can
 * be looked at now and then. *settled: rows left the quarantine by themselves, so that finish may
 * count less. Calls the HSM. */
struct repaired {
    uint8_t (*row_id)[ROW_ID_BYTES];
    size_t count;
    bool settled;
};
enum sso_code rewrap_find_repaired(struct store *store, struct keyring *keyring,
                                   const struct policy *policy, struct repaired *out,
                                   struct sso_error *err) __attribute__((warn_unused_result));
/* They are to be tried again, and the rotation is reopened. */
enum sso_code rewrap_reopen_repaired(struct store_tx *tx, const struct policy *policy,
                                     const struct repaired *repaired, struct rotation *rotation,
                                     struct sso_error *err) __attribute__((warn_unused_result));

/* Runs the job until it ends; job->rotation.state is preparing or running. SSO_OK: it ended or
 * stopped as asked, job->rotation says how. Any other: the job is `failed`, or, where
 * job->rotation.state is still preparing or running, it was asked to stop while the database could
 * not be written and is to be resumed. A database or HSM that is not available is waited for. */
enum sso_code rewrap_run(struct rewrap_job *job, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
