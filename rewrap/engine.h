/*
 * Inside the rotation engine: one run of a job, and the batches that travel through it.
 *
 *   reader thread ──to_move──► mover threads ──moved──► writer (the caller's thread)
 *        ▲                                                      │
 *        └────────────────────────idle◄─────────────────────────┘
 *
 * There is a fixed number of batches, so memory is bounded whatever waits for whatever.
 */
#ifndef SSO_REWRAP_ENGINE_H
#define SSO_REWRAP_ENGINE_H

#include <pthread.h>

#include "rewrap/rewrap.h"

#define BATCH_ROWS 256

/* What became of a row of a batch. */
enum fate {
    FATE_WAITING,       /* for the HSM */
    FATE_WAITING_ALONE, /* it was in flight when workers died: again, but by itself */
    FATE_MOVED,         /* `fresh` is its wrapped key under the target; in a dry run: it opens */
    FATE_BAD            /* it cannot be moved: `code` and `reason` */
};

struct row_outcome {
    enum fate fate;
    enum sso_code code;
    char reason[160];
};

struct batch {
    struct batch *next;
    size_t count;
    bool abandoned; /* the job was asked to end before the batch was done: nothing to be written */
    struct credential_row row[BATCH_ROWS];
    struct wrapped_key fresh[BATCH_ROWS];
    struct row_outcome outcome[BATCH_ROWS];
    /* BATCH_ROWS of them where the job renews rows, else NULL. Row i is renewed where its
     * ciphertext is there; this owns it. */
    struct row_renewal *renewal;
};

struct batch *batch_new(bool renewing); /* NULL: no memory */
/* Row i as it is to stand in the database. Owns nothing. */
struct credential_row batch_row_as_written(const struct batch *batch, size_t i, uint32_t to);

void batch_clear(struct batch *batch);
struct batch *batch_free(struct batch *batch); /* returns the next one */

/* A queue of batches, first in, first out but for queue_push_first. Closed: what is in it still
 * comes out, then NULL. */
struct queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct batch *first, *last;
    bool closed;
};
enum sso_code queue_init(struct queue *queue, struct sso_error *err)
    __attribute__((warn_unused_result));
void queue_destroy(struct queue *queue); /* frees the batches in it */
void queue_push(struct queue *queue, struct batch *batch);
/* Comes out next: for the idle ones, of which the last used is still in the processor's cache. */
void queue_push_first(struct queue *queue, struct batch *batch);
void queue_close(struct queue *queue);
/* NULL when `timeout_ms` (< 0: for ever) is over or the queue is closed and empty (*ended). */
struct batch *queue_pop(struct queue *queue, int timeout_ms, bool *ended);

/* Two services that the engine waits for when they fail. Log lines are written when one begins to
 * fail and when it is back, not at every try. */
enum service { SERVICE_HSM, SERVICE_DATABASE, SERVICES };

struct engine {
    struct rewrap_job *job;
    /* All generations, their tags checked, as they were when streaming began. */
    struct generation *generation;
    size_t generation_count;
    const struct generation *target; /* one of them */
    uint32_t exposed_born;           /* the highest that is marked compromised; 0: none */
    /* Rows born up to this generation are renewed. At least as high as the rotation's row says,
     * which carries no tag. */
    uint32_t renew_born;

    struct queue idle, to_move, moved;
    atomic_uint batch_rows;      /* rows per batch, fitted to the token's speed */
    atomic_uint movers_running;  /* the last one closes `moved` */
    pthread_mutex_t opening_row; /* one decoded row at a time: locked memory is scarce */

    atomic_bool beside_live; /* requests were there when they were last looked at; throttle.c */

    atomic_bool failing; /* `failure` is set: everyone stops */
    pthread_mutex_t failure_lock;
    struct sso_error failure; /* the first one */
    atomic_bool service_down[SERVICES];

    struct audit_record record; /* of the write that runs; without an operation there is none */

    bool counted;              /* the totals were taken anew in this run */
    unsigned fruitless_passes; /* in a row: nothing was moved, and yet rows are below */
    uint64_t settled_before;   /* done and failed at the last finish */
};

/* The job is asked to pause, to end or to stop, or has failed: nothing new is begun. */
bool engine_is_ending(struct engine *engine);
void engine_fail(struct engine *engine, const struct sso_error *error);
/* Its row was changed by another hand: only the number is left of it, in no state at all. */
void generation_distrust(struct generation *generation);
const struct generation *engine_generation(const struct engine *engine, uint32_t number);

/* --- patience.c: waiting for what is not available --- */
struct patience {
    struct engine *engine;
    bool until_stop; /* gives up at REWRAP_STOP only: for what must still be written */
    unsigned delay_ms;
    bool waited_for[SERVICES];
};
/* Is this a failure of a service that may come back, and not of the job? */
bool failure_is_transient(enum sso_code code);
/* Waits a while that grows with every call. False where the job shall not wait any more. */
bool patience_wait(struct patience *patience, const struct sso_error *error);
void patience_over(struct patience *patience);
/* Sleeps; false where the engine began to end meanwhile. */
bool engine_sleep(struct engine *engine, unsigned milliseconds);

/* --- throttle.c: the rate cap, and yielding to live requests --- */
struct throttle {
    struct engine *engine;
    double allowed_from_ms; /* boot clock: the next row may go */
    double pace;            /* rows a second, so as to give way; 0: nobody asks for anything */
    bool was_too_fast;      /* the pace, at least once */
    int64_t looked_ms;      /* boot clock: at live requests */
    unsigned seen;          /* of them by then */
    uint64_t rows;          /* that went since then */
};
/* How many rows the next batch may have. */
size_t throttle_batch_rows(const struct throttle *throttle);
/* Waits until `rows` rows may go. False where the engine began to end. */
bool throttle_wait(struct throttle *throttle, size_t rows);

/* --- transaction.c: everything that the engine writes --- */
/* Runs in a write transaction, on whatever thread, and may run again; `next` is the rotation's row,
 * written and then taken over with the transaction. Touches nothing that stays but `tx`, `next` and
 * what `context` can be run over again. */
typedef enum sso_code (*engine_write)(struct engine *engine, struct store_tx *tx,
                                      struct rotation *next, void *context, struct sso_error *err);
/* Repeats until it is durable; gives up at REWRAP_STOP, or for what is not transient. */
enum sso_code engine_commit(struct engine *engine, engine_write write, void *context,
                            struct sso_error *err) __attribute__((warn_unused_result));
/* From a write: its record, about the target generation. */
void engine_audit(struct engine *engine, const char *operation, const char *outcome);
/* Takes over what changes in a rotation's row; the rest other threads read without a lock. */
void engine_take_over(struct engine *engine, const struct rotation *row);
/* Copies counters, phase and state to where other threads read them. */
void engine_publish(struct engine *engine);

/* --- move.c, check.c: the work of one mover thread --- */
struct mover {
    struct engine *engine;
    struct key_item item[BATCH_ROWS];
    size_t index[BATCH_ROWS]; /* item[k] is of row[index[k]] */
    size_t item_count;
    uint8_t *row_keys;  /* BATCH_ROWS * ROW_KEY_BYTES of locked memory */
    uint8_t *spare_key; /* behind row_keys: of one row that is looked at by itself */
    uint32_t lost;     /* a generation whose key is in no token: its rows need no asking; 0: none */
    bool renewing;     /* the items are rows to be renewed */
    uint8_t *new_keys; /* as row_keys; NULL where the job renews nothing */
    struct patience patience;
};
/* Moves one batch to the target, or in a dry run opens it: every row's outcome is set, or the batch
 * abandoned. */
void move_batch(struct mover *mover, struct batch *batch);
/* --- renew.c --- */
/* Does the job give this row a new row key and ciphertext, and not only move its key? */
bool engine_renews(const struct engine *engine, const struct credential_row *row);
/* The rows of the mover's items that are FATE_MOVED, their old keys in row_keys, get new keys under
 * the target and new ciphertexts. On error they wait again. */
enum sso_code renew_rows(struct mover *mover, struct batch *batch, struct sso_error *err)
    __attribute__((warn_unused_result));
/* The rows of the mover's items that are FATE_MOVED wait again. */
void hand_back(const struct mover *mover, struct batch *batch);

/* Opens moved rows from their fresh wrapped keys: one, or with verify full each. SSO_OK: what is
 * still FATE_MOVED may be written. Others: nothing of the batch may be (a transient one: try
 * again).
 */
enum sso_code check_batch(struct mover *mover, struct batch *batch, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Row i of the batch cannot be moved. */
void outcome_bad(struct batch *batch, size_t i, enum sso_code code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Opens the seal and forgets the fields at once. */
enum sso_code open_seal(struct engine *engine, const struct credential_row *row,
                        const uint8_t row_key[static ROW_KEY_BYTES], struct sso_error *err)
    __attribute__((warn_unused_result));
int64_t hsm_deadline_ms(void);

/* --- quarantine.c --- */
/* Digest of the row as it stands, to see later whether somebody repaired it; zeros where it is gone
 * or cannot be a row of ours. */
enum sso_code quarantine_see(struct store_tx *tx, const uint8_t row_id[static ROW_ID_BYTES],
                             uint8_t seen[static QUARANTINE_SEEN_BYTES], struct sso_error *err)
    __attribute__((warn_unused_result));

/* --- the phases: each may be entered again after a crash in the middle of it --- */
enum sso_code phase_prepare(struct engine *engine, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code phase_switch(struct engine *engine, struct sso_error *err)
    __attribute__((warn_unused_result));
/* One pass over sealed keys and credentials. */
enum sso_code phase_stream(struct engine *engine, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Sets phase back to stream where rows were found that are still to be moved. */
enum sso_code phase_finish(struct engine *engine, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code move_sealed_keys(struct engine *engine, struct sso_error *err)
    __attribute__((warn_unused_result));

/* --- write.c: what the movers did goes into the database, in the caller's thread. Ends with the
 * queue of moved batches; a failure is engine->failure. --- */
void write_moved_batches(struct engine *engine);

#endif
