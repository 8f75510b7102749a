/* A whole batch on its way: the pool that reads a worker's answer to it, and the worker that reads
 * the pool's request, each with any bytes from the other side. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/secret.h"
#include "pkcs11/pool.h"
#include "pkcs11/worker.h"

#define ITEMS 4

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const enum frame_kind batches[] = {FRAME_MAKE, FRAME_WRAP, FRAME_UNWRAP, FRAME_REWRAP};
static uint8_t *keys;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    if (secret_memory_init((size_t)1 << 20, NULL) != SSO_OK)
        abort();
    keys = secret_alloc((size_t)(ITEMS + 1) * ROW_KEY_BYTES);
    return keys != NULL ? 0 : -1;
}

/* What could not be read is still to be done, and nothing is done twice. */
static void answer_to_pool(enum frame_kind kind, const uint8_t *data, size_t size)
{
    static struct hsm hsm;
    static struct frame frame;
    struct key_item items[ITEMS] = {0};
    struct batch batch = {
        .kind = kind, .items = items, .count = ITEMS, .next = ITEMS, .left = ITEMS};
    struct decoder in = {.next = data, .left_bytes = size};
    pthread_cond_init(&batch.finished, NULL);
    frame.kind = kind;
    frame.count = ITEMS;
    for (uint32_t i = 0; i < ITEMS; i++) {
        items[i].row_key = keys + i * ROW_KEY_BYTES;
        frame.item[i] = (struct frame_item){.batch = &batch, .index = i};
    }
    bool whole = queue_complete(&hsm, &frame, &in);
    size_t waiting = 0;
    for (uint32_t i = 0; i < ITEMS; i++)
        waiting += frame.item[i].batch != NULL;
    if (waiting != batch.left || batch.done != (batch.left == 0) || (whole && waiting > 0))
        abort();
    pthread_cond_destroy(&batch.finished);
}

/* No generation is open, so no token is asked: each item is read, and refused by its number. */
static void request_to_worker(enum frame_kind kind, const uint8_t *data, size_t size)
{
    static struct worker worker;
    static struct worker_thread thread;
    static uint8_t room[FRAME_BYTES_MAX];
    struct decoder in = {.next = data, .left_bytes = size};
    struct reply_header header = {0};
    struct sso_error err = {0};
    thread.worker = &worker;
    thread.session.table = &worker.table;
    thread.row_key = keys + ITEMS * ROW_KEY_BYTES;
    thread.reply = (struct encoder){.data = room, .capacity_bytes = sizeof room, .fixed = true};
    frame_begin_reply(&thread.reply, &header);
    enum sso_code code = worker_batch(&thread, kind, &in, &err);
    if (code == SSO_OK && (in.failed || in.left_bytes != 0 || thread.reply.failed))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > FRAME_BYTES_MAX)
        return 0;
    enum frame_kind kind = batches[data[0] / 2 % 4];
    if (data[0] % 2 == 0)
        answer_to_pool(kind, data + 1, size - 1);
    else
        request_to_worker(kind, data + 1, size - 1);
    return 0;
}
