/*
 * The inside of struct hsm. Callers put batches into a queue; a lane, one thread for each worker,
 * takes frames from it, sends them and hands the results back. All of it is under one mutex, which
 * nobody holds while reading from or writing to a socket.
 */
#ifndef SSO_PKCS11_POOL_H
#define SSO_PKCS11_POOL_H

#include <pthread.h>

#include "pkcs11/frame.h"
#include "pkcs11/generation_table.h"
#include "pkcs11/hsm.h"
#include "pkcs11/pin_guard.h"
#include "pkcs11/worker_process.h"

#define WORKERS_PER_POOL_MAX 64
/* What `auto` goes up to in each worker: the locked memory of more does not fit RLIMIT_MEMLOCK. */
#define AUTO_SESSIONS_MAX 16

/* What an item has been through. */
struct item_history {
    uint16_t frame_limit; /* 0: any; else it travels in frames of at most so many items */
    /* Workers that died over it while it was the only item in flight, each started after the one
     * before had died: somebody may kill all that are running. */
    uint8_t deaths_alone;
    int64_t died_ms;
};

/* What a caller waits for. It lives on the caller's stack; a caller that gives up withdraws it. */
struct batch {
    enum frame_kind kind;
    enum hsm_priority priority;
    uint32_t to;
    struct key_item *items;
    size_t count, next; /* items before `next` have been taken at least once */
    size_t left;        /* not yet done */
    uint32_t *again;    /* items to be taken once more; NULL until that happens */
    size_t again_count;
    struct item_history *history; /* NULL as long as no worker died */
    bool queued, done;
    enum sso_code code;
    struct sso_error err;
    pthread_cond_t finished;
    struct batch *before, *after; /* in the queue */
};

struct frame_item {
    struct batch *batch; /* NULL: its caller has given up */
    uint32_t index;
};

/* A frame in flight. */
struct frame {
    bool used;
    bool suspect; /* holds items over which a worker may have died: travels alone */
    uint32_t id;
    enum frame_kind kind;
    uint32_t to;
    size_t count;
    int64_t worker_since_ms;
    int64_t begun_ms; /* when a session was free for it, on boot_clock_ms(); 0: not yet */
    struct frame_item item[FRAME_ITEMS_MAX];
};

/* A frame for one particular worker, answered before it takes further batches. */
struct control {
    enum frame_kind kind;
    unsigned deadline_ms;
    const struct encoder *body; /* locked where it holds a wrapping key */
    struct encoder reply;       /* owned by who made the control */
    enum sso_code code;
    struct sso_error err;
    bool died; /* the worker did, so nothing is known of what it did */
    bool done;
};

struct lane {
    struct hsm *hsm;
    pthread_t thread;
    bool thread_started;
    int wake; /* eventfd */
    struct worker_process process;
    /* Under the pool's mutex from here. */
    bool up, waiting, replace;
    unsigned incarnation; /* rises with every worker that comes up or fails to */
    unsigned sessions, wanted_sessions;
    struct frame *frames; /* sessions + 1 may be in flight */
    size_t in_flight;
    struct control *control;
    uint64_t first_resident_bytes;
    uint64_t items; /* done since it came up */
    bool served;    /* at least one frame since it came up */
    bool gave_up;   /* the worker said itself that another must try: no row is to blame */
    bool hung;      /* it was killed for that */
    bool size_warned;
    int64_t up_since_ms;
    int64_t
        incomplete_until_ms; /* not every generation opened: then another is tried; 0: all did */
    int64_t parked_until_ms; /* the token had no session left for it while others serve */
};

struct hsm {
    const struct config_hsm *section;
    struct spawner *spawner;
    struct pin_guard guard;
    pthread_mutex_t login_mutex;   /* one login at a time; guards `guard` */
    pthread_mutex_t control_mutex; /* one control at a time; taken before `mutex` */

    pthread_mutex_t mutex;
    pthread_cond_t changed; /* a lane, a control or the state */
    enum hsm_state state;
    bool stopping;
    struct lane *lanes;
    unsigned lane_count, ready, starting, replaced, lost;
    unsigned failures;   /* starts that failed in a row */
    unsigned incomplete; /* workers in a row that did not open every generation */
    int64_t served_ms;   /* when a worker last served or was expected to for the first time */
    bool sessions_short; /* the token gives fewer than were asked for */
    unsigned pokes;      /* rises when waiting for the next try makes no more sense */
    struct sso_error last_error;
    struct token_identity token;
    char firmware[16];
    /* pool_auto.c; `sessions_per_worker` is what counts, of the configuration or measured. */
    unsigned sessions_per_worker;
    bool measures, measured;
    char auto_serial[33], *auto_path;
    struct generation_key open[GENERATIONS_MAX];
    size_t open_count;
    unsigned open_edition;
    struct batch *first[2], *last[2]; /* by priority */
    size_t queued_items[2];
    int64_t live_ms;                       /* boot clock: of the last batch that was HSM_LIVE */
    double item_microseconds[FRAME_KINDS]; /* smoothed */
    uint64_t calls[FRAME_KINDS], call_microseconds[FRAME_KINDS]; /* of items, by frame */
};

/* pool_queue.c. The mutex is held in all of these. */
void queue_put(struct hsm *hsm, struct batch *batch);
/* The caller gives up: no frame refers to the batch afterwards. */
void queue_withdraw(struct hsm *hsm, struct batch *batch);
/* The next frame for this lane; false: nothing for it now. */
bool queue_take(struct hsm *hsm, const struct lane *lane, struct frame *out);
/* Reads a worker's results into the items. False: the frame is damaged, and what could not be read
 * is still to be returned. */
bool queue_complete(struct hsm *hsm, struct frame *frame, struct decoder *results);
/* The frame's items wait again. `suspect`: a worker died while it may have worked on them. */
void queue_return(struct hsm *hsm, struct frame *frame, bool suspect);
void queue_fail_frame(struct hsm *hsm, struct frame *frame, enum sso_code code, const char *detail);
void queue_fail_all(struct hsm *hsm, enum sso_code code, const char *detail);

/* pool_auto.c. What was measured before, or 1; nothing where the configuration has a number. */
enum sso_code auto_init(struct hsm *hsm, const char *state_directory, struct sso_error *err)
    __attribute__((warn_unused_result));
/* The token of a worker that starts: what was measured for another does not count. Mutex held. */
void auto_see_token(struct hsm *hsm, const struct token_identity *token);
/* The token may have given this worker fewer than it was asked for. Mutex held. */
void auto_push_back(struct lane *lane);
/* Where that has not been done: measures, and gives the workers the sessions that are worth having.
 * control_mutex is held. */
void auto_measure(struct hsm *hsm);

/* pool_lane.c */
void *lane_main(void *lane);
void lane_wake(struct lane *lane);

/* pool_start.c */
/* Logs the change, where it is one. Mutex held. */
void pool_note_state(struct hsm *hsm, enum hsm_state state, const char *reason);
/* Waits out the back-off; and the first worker of a pool starts alone, the others once it serves.
 * False: stopping. Mutex held. */
bool lane_wait_for_turn(struct lane *lane);
/* False: no worker came up; the pool knows why. */
bool lane_start(struct lane *lane);

/* pool_worker.c: from a process that was just spawned to one that may serve. */
enum sso_code lane_start_worker(struct lane *lane, bool *died, struct sso_error *err)
    __attribute__((warn_unused_result));

/* pool_control.c. control_mutex is held. */
/* Asks this worker; SSO_HSM_UNAVAILABLE where it is not up. The outcome is control->code too. */
enum sso_code control_run(struct hsm *hsm, struct lane *lane, struct control *control);
/* Asks any worker that is up, waiting for one. `out_lane` may be NULL. */
enum sso_code control_run_any(struct hsm *hsm, struct control *control, struct lane **out_lane,
                              struct sso_error *err) __attribute__((warn_unused_result));
/* hsm_ceremony.c: a control whose deadline suits a ceremony; what a damaged reply is; the text of a
 * failure after which nobody knows what the token holds. */
struct control ceremony_control(struct hsm *hsm, enum frame_kind kind, const struct encoder *body);
enum sso_code ceremony_damaged(struct sso_error *err);
void ceremony_may_be_left(const struct control *control, const struct generation_key *key,
                          struct sso_error *err);
/* Asks another worker where one died, for frames that change nothing. Takes control_mutex. */
enum sso_code ceremony_ask(struct hsm *hsm, enum frame_kind kind, const struct encoder *body,
                           struct encoder *reply, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Another process in the place of each worker, one after the other, but for `except`. */
enum sso_code replace_workers(struct hsm *hsm, const struct lane *except, struct sso_error *err)
    __attribute__((warn_unused_result));

/* What a request gets while no worker serves: last_error as an API knows it. Mutex held. */
enum sso_code pool_refusal(const struct hsm *hsm, struct sso_error *err);
/* pthread_cond_timedwait with a deadline on boot_clock_ms(). False: it has passed. Mutex held. */
bool pool_wait(struct hsm *hsm, pthread_cond_t *cond, int64_t deadline_ms);

#endif
