#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "pkcs11/pool.h"

/* A frame is this much work, so that a live request never waits long behind a bulk one. Of a worker
 * with several sessions one is free so much sooner, and its bulk frames may be longer: a slow token
 * would else get single rows, each in a frame of its own. */
#define FRAME_MICROSECONDS 5000.0
/* While requests come, one that finds every worker busy waits for what is in hand: so that is less.
 */
#define FRAME_MICROSECONDS_BESIDE_LIVE 1000.0
#define LIVE_RECENT_MS 500
#define BULK_STRETCH_MAX 4
#define FIRST_GUESS_MICROSECONDS 50.0
#define FRAME_ITEMS_MIN                                                                            \
    16 /* splitting finer costs more in frames than it gains in parallel work                      \
        */
#define DEATHS_ALONE_MAX 2

static void enqueue(struct hsm *hsm, struct batch *batch, bool in_front)
{
    enum hsm_priority p = batch->priority;
    batch->before = in_front ? NULL : hsm->last[p];
    batch->after = in_front ? hsm->first[p] : NULL;
    if (batch->before != NULL)
        batch->before->after = batch;
    else
        hsm->first[p] = batch;
    if (batch->after != NULL)
        batch->after->before = batch;
    else
        hsm->last[p] = batch;
    batch->queued = true;
}

static size_t waiting_items(const struct batch *batch)
{
    return batch->count - batch->next + batch->again_count;
}

static void dequeue(struct hsm *hsm, struct batch *batch)
{
    enum hsm_priority p = batch->priority;
    if (!batch->queued)
        return;
    if (batch->before != NULL)
        batch->before->after = batch->after;
    else
        hsm->first[p] = batch->after;
    if (batch->after != NULL)
        batch->after->before = batch->before;
    else
        hsm->last[p] = batch->before;
    batch->queued = false;
}

/* Sessions of the workers that are up; 1 at least. */
static unsigned sessions_up(const struct hsm *hsm)
{
    unsigned sessions = 0;
    for (unsigned i = 0; i < hsm->lane_count; i++)
        sessions += hsm->lanes[i].up ? hsm->lanes[i].sessions : 0;
    return sessions > 0 ? sessions : 1;
}

static size_t frame_limit(const struct hsm *hsm, enum frame_kind kind, double microseconds)
{
    double each = hsm->item_microseconds[kind];
    if (each <= 0)
        each = FIRST_GUESS_MICROSECONDS;
    double fit = microseconds / each;
    size_t most = frame_capacity(kind);
    return fit >= (double)most ? most : fit < 1 ? 1 : (size_t)fit;
}

static double frame_microseconds(const struct hsm *hsm, enum hsm_priority priority,
                                 unsigned sessions)
{
    if (priority != HSM_BULK)
        return FRAME_MICROSECONDS;
    double most = FRAME_MICROSECONDS;
    if (hsm->live_ms != 0 && boot_clock_ms() - hsm->live_ms <= LIVE_RECENT_MS)
        most = FRAME_MICROSECONDS_BESIDE_LIVE;
    unsigned stretch = hsm->ready > 0 ? sessions / hsm->ready : 1;
    stretch = stretch < BULK_STRETCH_MAX ? stretch : BULK_STRETCH_MAX;
    return most * (stretch > 0 ? stretch : 1);
}

/* The limit, or an even share of what waits where that is less. */
static size_t frame_size(const struct hsm *hsm, enum frame_kind kind, enum hsm_priority priority)
{
    unsigned sessions = sessions_up(hsm);
    size_t limit = frame_limit(hsm, kind, frame_microseconds(hsm, priority, sessions));
    size_t share = (hsm->queued_items[priority] + sessions - 1) / sessions;
    if (share < FRAME_ITEMS_MIN)
        share = FRAME_ITEMS_MIN;
    return share < limit ? share : limit;
}

/* Idle workers first: one with a frame in hand would only let it wait. */
static void wake_lanes(struct hsm *hsm, size_t frames)
{
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; frames > 0 && i < hsm->lane_count; i++) {
            struct lane *lane = &hsm->lanes[i];
            if (!lane->up || !lane->waiting || (lane->in_flight > 0) != (round == 1))
                continue;
            lane->waiting = false;
            lane_wake(lane);
            frames--;
        }
}

static void announce(struct hsm *hsm, const struct batch *batch)
{
    size_t size = frame_size(hsm, batch->kind, batch->priority);
    wake_lanes(hsm, (waiting_items(batch) + size - 1) / size);
}

void queue_put(struct hsm *hsm, struct batch *batch)
{
    enqueue(hsm, batch, false);
    if (batch->priority == HSM_LIVE)
        hsm->live_ms = boot_clock_ms();
    hsm->queued_items[batch->priority] += batch->count;
    announce(hsm, batch);
}

static void finish(struct batch *batch)
{
    batch->done = true;
    pthread_cond_signal(&batch->finished);
}

static void forget_in_frames(struct hsm *hsm, const struct batch *batch)
{
    for (unsigned i = 0; i < hsm->lane_count; i++)
        for (size_t f = 0; f <= hsm->lanes[i].sessions && hsm->lanes[i].frames != NULL; f++) {
            struct frame *frame = &hsm->lanes[i].frames[f];
            for (size_t n = 0; frame->used && n < frame->count; n++)
                if (frame->item[n].batch == batch)
                    frame->item[n].batch = NULL;
        }
}

void queue_withdraw(struct hsm *hsm, struct batch *batch)
{
    if (batch->queued)
        hsm->queued_items[batch->priority] -= waiting_items(batch);
    dequeue(hsm, batch);
    forget_in_frames(hsm, batch);
}

static void fail_batch(struct hsm *hsm, struct batch *batch, enum sso_code code, const char *detail)
{
    queue_withdraw(hsm, batch);
    batch->code = sso_fail(&batch->err, code, "%s", detail);
    finish(batch);
}

/* Items that wait again go first; those under suspicion only with their like. */
static void take_from(struct hsm *hsm, struct batch *batch, struct frame *out, size_t limit)
{
    size_t before = out->count;
    while (batch->again_count > 0 && out->count < limit) {
        uint32_t index = batch->again[batch->again_count - 1];
        size_t own = batch->history != NULL ? batch->history[index].frame_limit : 0;
        if ((own > 0) != out->suspect && out->count > 0)
            break;
        if (own > 0) {
            out->suspect = true;
            limit = own < limit ? own : limit;
        }
        batch->again_count--;
        out->item[out->count++] = (struct frame_item){batch, index};
    }
    while (!out->suspect && batch->next < batch->count && out->count < limit)
        out->item[out->count++] = (struct frame_item){batch, (uint32_t)batch->next++};
    hsm->queued_items[batch->priority] -= out->count - before;
    if (waiting_items(batch) == 0)
        dequeue(hsm, batch);
}

static bool next_is_suspect(const struct batch *batch)
{
    return batch->again_count > 0 && batch->history != NULL &&
           batch->history[batch->again[batch->again_count - 1]].frame_limit > 0;
}

bool queue_take(struct hsm *hsm, const struct lane *lane, struct frame *out)
{
    for (int priority = HSM_LIVE; priority <= HSM_BULK; priority++) {
        struct batch *batch = hsm->first[priority];
        if (batch == NULL)
            continue;
        if (next_is_suspect(batch) && lane->in_flight > 0)
            return false;
        out->kind = batch->kind;
        out->to = batch->to;
        out->count = 0;
        out->suspect = false;
        size_t limit = frame_size(hsm, batch->kind, batch->priority);
        while (batch != NULL && out->count < limit && !out->suspect) {
            struct batch *after = batch->after;
            bool joins = batch->kind == out->kind && batch->to == out->to &&
                         (out->count == 0 || !next_is_suspect(batch));
            if (joins)
                take_from(hsm, batch, out, limit);
            batch = after;
        }
        return true;
    }
    return false;
}

static void item_done(struct batch *batch)
{
    if (--batch->left == 0)
        finish(batch);
}

bool queue_complete(struct hsm *hsm, struct frame *frame, struct decoder *results)
{
    uint8_t *unwanted = NULL;
    bool whole = true;
    for (size_t i = 0; i < frame->count && whole; i++) {
        struct batch *batch = frame->item[i].batch;
        struct key_item *item = batch != NULL ? &batch->items[frame->item[i].index] : NULL;
        struct key_item read = {.row_key = item != NULL ? item->row_key : unwanted};
        /* Results that nobody waits for any more are read past. */
        if (item == NULL && unwanted == NULL)
            read.row_key = unwanted = secret_alloc(ROW_KEY_BYTES);
        if (read.row_key == NULL && frame->kind != FRAME_REWRAP)
            return false;
        frame_get_result(results, frame->kind, &read);
        whole = !results->failed;
        if (!whole || item == NULL)
            continue;
        item->code = read.code;
        if (read.code == SSO_OK && frame->kind != FRAME_UNWRAP)
            item->wrapped = read.wrapped;
        frame->item[i].batch = NULL;
        item_done(batch);
    }
    secret_dealloc(unwanted);
    hsm->calls[frame->kind] += frame->count;
    return whole && results->left_bytes == 0;
}

/* Room to note what happened to the items of this batch. */
static bool prepare_return(struct batch *batch, bool suspect)
{
    if (batch->again == NULL)
        batch->again = calloc(batch->count, sizeof *batch->again);
    if (suspect && batch->history == NULL)
        batch->history = calloc(batch->count, sizeof *batch->history);
    return batch->again != NULL && (!suspect || batch->history != NULL);
}

static bool is_to_blame(struct item_history *history, const struct frame *frame)
{
    if (frame->count > 1 || frame->worker_since_ms < history->died_ms)
        return false;
    history->died_ms = boot_clock_ms();
    return ++history->deaths_alone >= DEATHS_ALONE_MAX;
}

static void return_item(struct hsm *hsm, struct batch *batch, uint32_t index,
                        const struct frame *frame, bool suspect)
{
    if (!prepare_return(batch, suspect)) {
        fail_batch(hsm, batch, SSO_NO_MEMORY, "no memory to try a batch again");
        return;
    }
    if (suspect) {
        struct item_history *history = &batch->history[index];
        if (is_to_blame(history, frame)) {
            batch->items[index].code = SSO_ROW_KILLS_WORKER;
            item_done(batch);
            return;
        }
        history->frame_limit = frame->count > 1 ? (uint16_t)((frame->count + 1) / 2) : 1;
    }
    if (!batch->queued)
        enqueue(hsm, batch, true);
    batch->again[batch->again_count++] = index;
    hsm->queued_items[batch->priority]++;
}

void queue_return(struct hsm *hsm, struct frame *frame, bool suspect)
{
    /* From the end, so that they come off the list in their order. */
    for (size_t i = frame->count; i-- > 0;) {
        struct batch *batch = frame->item[i].batch;
        frame->item[i].batch = NULL;
        if (batch != NULL)
            return_item(hsm, batch, frame->item[i].index, frame, suspect);
    }
    frame->used = false;
    wake_lanes(hsm, hsm->lane_count);
}

void queue_fail_frame(struct hsm *hsm, struct frame *frame, enum sso_code code, const char *detail)
{
    for (size_t i = 0; i < frame->count; i++)
        if (frame->item[i].batch != NULL)
            fail_batch(hsm, frame->item[i].batch, code, detail);
}

void queue_fail_all(struct hsm *hsm, enum sso_code code, const char *detail)
{
    for (int priority = HSM_LIVE; priority <= HSM_BULK; priority++)
        while (hsm->first[priority] != NULL)
            fail_batch(hsm, hsm->first[priority], code, detail);
}
