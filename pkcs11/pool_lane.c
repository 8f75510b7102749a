/* The thread that keeps one worker going and carries frames to and from it. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "pkcs11/pool.h"

/* A limit below what a fresh worker needs would replace workers for ever. */
#define GROWTH_BYTES_MIN (1024 * 1024)
/* A module that leaks (SoftHSM: 245 bytes at each unwrap) has its worker replaced long before the
 * limit. One that grows so much within fewer items fills caches of its own, and is let be. */
#define LEAK_BYTES ((uint64_t)12 * 1024 * 1024)
#define LEAK_ITEMS_MIN 20000

enum serve_end { SERVE_STOP, SERVE_REPLACE, SERVE_DIED };

void lane_wake(struct lane *lane)
{
    uint64_t one = 1;
    (void)!write(lane->wake, &one, sizeof one);
}

static struct frame *free_frame(struct lane *lane)
{
    for (size_t i = 0; i <= lane->sessions; i++) {
        if (lane->frames[i].used && lane->frames[i].suspect)
            return NULL; /* nothing else may be in flight with it */
    }
    for (size_t i = 0; i <= lane->sessions; i++)
        if (!lane->frames[i].used)
            return &lane->frames[i];
    return NULL;
}

static void encode_frame(struct lane *lane, const struct frame *frame)
{
    struct encoder *out = &lane->process.out;
    frame_begin_request(out, frame->id, frame->kind);
    encode_u32(out, frame->to);
    encode_u32(out, (uint32_t)frame->count);
    for (size_t i = 0; i < frame->count; i++)
        frame_put_item(out, frame->kind, &frame->item[i].batch->items[frame->item[i].index]);
}

/* The oldest frames are at work, one in each session; a frame that waits in the socket behind them
 * begins when one is answered. */
static void begin_frames(struct lane *lane)
{
    size_t begun = 0;
    for (size_t i = 0; i <= lane->sessions; i++)
        begun += lane->frames[i].used && lane->frames[i].begun_ms != 0;
    for (; begun < lane->sessions; begun++) {
        struct frame *next = NULL;
        for (size_t i = 0; i <= lane->sessions; i++) {
            struct frame *frame = &lane->frames[i];
            if (frame->used && frame->begun_ms == 0 && (next == NULL || frame->id < next->id))
                next = frame;
        }
        if (next == NULL)
            return;
        next->begun_ms = boot_clock_ms();
    }
}

/* When the first of the frames at work is overdue; INT64_MAX where there is none. */
static int64_t overdue_ms(const struct lane *lane)
{
    int64_t first = INT64_MAX;
    for (size_t i = 0; i <= lane->sessions; i++) {
        const struct frame *frame = &lane->frames[i];
        if (frame->used && frame->begun_ms != 0 && frame->begun_ms < first)
            first = frame->begun_ms;
    }
    return first == INT64_MAX ? first : first + lane->hsm->section->deadline_ms;
}

/* Takes a frame and sends it. 1: sent, 0: nothing to send, -1: the worker does not take it. The
 * mutex is held at entry and exit, not while sending. */
static int send_next(struct lane *lane)
{
    struct hsm *hsm = lane->hsm;
    struct frame *frame = free_frame(lane);
    if (frame == NULL || !queue_take(hsm, lane, frame))
        return 0;
    frame->used = true;
    frame->id = ++lane->process.next_id;
    frame->begun_ms = 0;
    frame->worker_since_ms = lane->up_since_ms;
    lane->in_flight++;
    begin_frames(lane);
    encode_frame(lane, frame);
    if (frame_finish(&lane->process.out, NULL) != SSO_OK) {
        queue_fail_frame(hsm, frame, SSO_INTERNAL, "a batch does not fit into a frame");
        frame->used = false;
        lane->in_flight--;
        return 1;
    }
    pthread_mutex_unlock(&hsm->mutex);
    bool sent = frame_send(lane->process.socket, &lane->process.out,
                           boot_clock_ms() + hsm->section->deadline_ms);
    pthread_mutex_lock(&hsm->mutex);
    if (sent)
        return 1;
    queue_return(hsm, frame, false); /* the worker was gone before it had the frame whole */
    lane->in_flight--;
    return -1;
}

static bool nobody_is_replaced(const struct hsm *hsm)
{
    for (unsigned i = 0; i < hsm->lane_count; i++)
        if (hsm->lanes[i].replace)
            return false;
    return true;
}

static void replace_leaking(struct lane *lane, const struct reply_header *header)
{
    char text[32];
    /* One at a time: the others serve meanwhile. */
    if (lane->items < LEAK_ITEMS_MIN || !nobody_is_replaced(lane->hsm) ||
        header->resident_bytes < lane->first_resident_bytes + LEAK_BYTES)
        return;
    snprintf(text, sizeof text, "%llu", (unsigned long long)header->resident_bytes);
    log_line(LOG_LEVEL_INFO, "a worker whose module leaks memory is replaced", "bytes", text, NULL);
    lane->replace = true;
}

static void check_size(struct lane *lane, const struct reply_header *header)
{
    struct hsm *hsm = lane->hsm;
    /* Early enough: the worker serves, and grows, until another is ready in its place. */
    uint64_t limit = hsm->section->worker_memory_limit_bytes;
    limit -= limit / 8;
    char text[32];
    if (lane->first_resident_bytes == 0)
        lane->first_resident_bytes = header->resident_bytes;
    if (limit == 0 || header->resident_bytes <= limit || lane->replace)
        return;
    bool grown = header->resident_bytes >= lane->first_resident_bytes + GROWTH_BYTES_MIN;
    if (!grown && lane->size_warned)
        return;
    snprintf(text, sizeof text, "%llu", (unsigned long long)header->resident_bytes);
    log_line(grown ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING,
             grown ? "a worker has grown up to worker_memory_limit and is replaced"
                   : "worker_memory_limit is less than a fresh worker needs",
             "bytes", text, NULL);
    lane->replace = grown;
    lane->size_warned = !grown;
}

static void note_speed(struct hsm *hsm, const struct frame *frame,
                       const struct reply_header *header)
{
    double each = (double)header->work_microseconds / (double)(frame->count > 0 ? frame->count : 1);
    double *known = &hsm->item_microseconds[frame->kind];
    *known = *known <= 0 ? each : (*known * 7 + each) / 8;
    hsm->call_microseconds[frame->kind] += header->work_microseconds;
}

/* Its frames were more than this token does in time, or it does nothing at all: those to come are
 * smaller, until it shows that it is faster. */
static void note_hang(struct lane *lane)
{
    struct hsm *hsm = lane->hsm;
    lane->hung = true;
    sso_fail(&hsm->last_error, SSO_HSM_UNAVAILABLE,
             "a worker did not answer in time: the module or its token hangs");
    for (size_t i = 0; i <= lane->sessions; i++) {
        const struct frame *frame = &lane->frames[i];
        if (!frame->used || frame->begun_ms == 0)
            continue;
        double each = 1000.0 * hsm->section->deadline_ms / (double)frame->count;
        if (each > hsm->item_microseconds[frame->kind])
            hsm->item_microseconds[frame->kind] = each;
    }
}

/* False: the worker must go. */
static bool handle_reply(struct lane *lane, struct decoder *reply)
{
    struct hsm *hsm = lane->hsm;
    struct reply_header header;
    struct frame *frame = NULL;
    if (!frame_get_reply_header(reply, &header))
        return false;
    for (size_t i = 0; i <= lane->sessions; i++)
        if (lane->frames[i].used && lane->frames[i].id == header.id)
            frame = &lane->frames[i];
    if (frame == NULL)
        return false;
    lane->served = true;
    hsm->served_ms = boot_clock_ms();
    if (header.code != SSO_OK) {
        char text[SSO_ERROR_DETAIL_BYTES] = "";
        decode_text(reply, text, sizeof text);
        log_line(LOG_LEVEL_WARNING, "a worker could not do a frame", "reason", text, NULL);
        if ((header.flags & REPLY_REPLACE_ME) == 0) {
            queue_fail_frame(hsm, frame, header.code, text);
            frame->used = false;
            lane->in_flight--;
            return true;
        }
        sso_fail(&hsm->last_error, header.code, "%s", text);
        hsm->failures++; /* the token may be gone: the next worker waits a moment */
        lane->gave_up = true;
        queue_return(hsm, frame, false);
        lane->in_flight--;
        return false;
    }
    note_speed(hsm, frame, &header);
    lane->items += frame->count;
    check_size(lane, &header);
    if (lane->incomplete_until_ms != 0 && boot_clock_ms() >= lane->incomplete_until_ms &&
        nobody_is_replaced(hsm))
        lane->replace = true;
    replace_leaking(lane, &header);
    if (!queue_complete(hsm, frame, reply))
        return false;
    frame->used = false;
    lane->in_flight--;
    return true;
}

/* Reads what came. False: the worker has ended or talks nonsense. */
static bool receive(struct lane *lane)
{
    struct decoder reply;
    int got = frame_fill(&lane->process.reader, lane->process.socket, MSG_DONTWAIT);
    bool good = got >= 0;
    pthread_mutex_lock(&lane->hsm->mutex);
    while (good && frame_next(&lane->process.reader, &reply))
        good = handle_reply(lane, &reply);
    begin_frames(lane);
    good = good && !frame_reader_broken(&lane->process.reader);
    pthread_mutex_unlock(&lane->hsm->mutex);
    return good;
}

/* The mutex is held at entry and exit. False: the worker died over it. */
static bool run_control(struct lane *lane)
{
    struct hsm *hsm = lane->hsm;
    struct control *control = lane->control;
    struct decoder reply = {0};
    pthread_mutex_unlock(&hsm->mutex);
    control->code =
        worker_process_call(&lane->process, control->kind, control->body, control->deadline_ms,
                            &reply, &control->died, &control->err);
    if (control->code == SSO_OK)
        encode_fixed(&control->reply, reply.next, reply.left_bytes);
    pthread_mutex_lock(&hsm->mutex);
    lane->control = NULL;
    control->done = true;
    pthread_cond_broadcast(&hsm->changed);
    return !control->died;
}

/* Does anybody still wait for what this worker has in hand? */
static bool anybody_waits(const struct lane *lane)
{
    for (size_t i = 0; i <= lane->sessions; i++)
        for (size_t n = 0; lane->frames[i].used && n < lane->frames[i].count; n++)
            if (lane->frames[i].item[n].batch != NULL)
                return true;
    return false;
}

/* Sends as long as there is something to send and room for it. The mutex is held. */
static bool feed(struct lane *lane, enum serve_end *end)
{
    struct hsm *hsm = lane->hsm;
    for (;;) {
        bool leaving = hsm->stopping || lane->replace;
        /* What was given to this worker before it was to go is still done by it. */
        if (lane->in_flight == 0 && leaving && (hsm->stopping || lane->control == NULL)) {
            *end = hsm->stopping ? SERVE_STOP : SERVE_REPLACE;
            lane->up = false; /* nothing more is given to it */
            return false;
        }
        if (hsm->stopping && !anybody_waits(lane)) {
            *end = SERVE_DIED; /* it may hang, and must not make us wait */
            return false;
        }
        if (lane->in_flight == 0 && lane->control != NULL) {
            if (run_control(lane))
                continue;
            *end = SERVE_DIED;
            return false;
        }
        int sent = leaving || lane->control != NULL ? 0 : send_next(lane);
        if (sent == 0)
            break;
        if (sent < 0) {
            *end = SERVE_DIED;
            return false;
        }
    }
    lane->waiting = true;
    return true;
}

static enum serve_end serve(struct lane *lane)
{
    struct hsm *hsm = lane->hsm;
    for (;;) {
        enum serve_end end = SERVE_DIED;
        pthread_mutex_lock(&hsm->mutex);
        bool goes_on = feed(lane, &end);
        int64_t overdue = overdue_ms(lane), left = overdue - boot_clock_ms();
        pthread_mutex_unlock(&hsm->mutex);
        if (!goes_on)
            return end;
        struct pollfd wait[] = {{.fd = lane->process.socket, .events = POLLIN},
                                {.fd = lane->wake, .events = POLLIN}};
        int n = poll(wait, 2, overdue == INT64_MAX ? -1 : left > 0 ? (int)left : 0);
        if (left <= 0 && (n == 0 || wait[0].revents == 0)) {
            log_line(LOG_LEVEL_WARNING, "a worker hangs and is replaced", NULL);
            pthread_mutex_lock(&hsm->mutex);
            note_hang(lane);
            pthread_mutex_unlock(&hsm->mutex);
            return SERVE_DIED;
        }
        uint64_t wakes;
        if (wait[1].revents != 0)
            (void)!read(lane->wake, &wakes, sizeof wakes);
        if (n > 0 && wait[0].revents != 0 && !receive(lane))
            return SERVE_DIED;
    }
}

static int older(const void *a, const void *b)
{
    const struct frame *x = *(struct frame *const *)a, *y = *(struct frame *const *)b;
    return x->id < y->id ? -1 : 1;
}

/* Frames that were at work when the worker died may have killed it; what waited behind them had not
 * begun. Where it hung, only those that took too long did that. */
static bool is_suspect(const struct lane *lane, const struct frame *frame)
{
    if (frame->begun_ms == 0)
        return false;
    return !lane->hung || boot_clock_ms() >= frame->begun_ms + lane->hsm->section->deadline_ms;
}

static void return_frames(struct lane *lane, bool died)
{
    struct frame *frames[SESSIONS_MAX + 1];
    size_t count = 0;
    for (size_t i = 0; i <= lane->sessions; i++)
        if (lane->frames[i].used)
            frames[count++] = &lane->frames[i];
    qsort(frames, count, sizeof frames[0], older);
    for (size_t i = 0; i < count; i++)
        queue_return(lane->hsm, frames[i], died && is_suspect(lane, frames[i]));
    lane->in_flight = 0;
}

static void end_worker(struct lane *lane, enum serve_end end)
{
    struct hsm *hsm = lane->hsm;
    worker_process_end(&lane->process, end == SERVE_DIED);
    pthread_mutex_lock(&hsm->mutex);
    lane->up = false;
    lane->waiting = false;
    hsm->ready--;
    hsm->replaced += end != SERVE_STOP;
    hsm->lost += end == SERVE_DIED;
    if (end == SERVE_DIED && !lane->served)
        hsm->failures++;
    if (hsm->ready == 0 && !hsm->stopping)
        pool_note_state(hsm, HSM_STARTING, end == SERVE_DIED ? "the last worker ended" : "");
    return_frames(lane, end == SERVE_DIED && !lane->gave_up);
    if (lane->control != NULL) {
        lane->control->code = sso_fail(&lane->control->err, SSO_HSM_UNAVAILABLE,
                                       "the worker that was to do this ended");
        lane->control->died = lane->control->done = true;
        lane->control = NULL;
    }
    pthread_cond_broadcast(&hsm->changed);
    pthread_mutex_unlock(&hsm->mutex);
}

void *lane_main(void *arg)
{
    struct lane *lane = arg;
    for (;;) {
        pthread_mutex_lock(&lane->hsm->mutex);
        bool goes_on = lane_wait_for_turn(lane);
        pthread_mutex_unlock(&lane->hsm->mutex);
        if (!goes_on)
            return NULL;
        if (lane_start(lane))
            end_worker(lane, serve(lane));
    }
}
