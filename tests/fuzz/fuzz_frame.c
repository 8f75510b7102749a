/* What a worker, whose module may have gone wild, can send: the reader of frames under any bytes,
 * and each decoder of their bodies. What a decoder took and wrote again must be read as the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/encode.h"
#include "pkcs11/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct body {
    union {
        struct generation_key generation;
        struct evidence evidence;
        struct check check;
        struct hello_reply hello;
        struct measurement measurement;
    };
    struct key_item item;
    uint8_t row_key[ROW_KEY_BYTES];
};

enum body_kind {
    BODY_GENERATION,
    BODY_EVIDENCE,
    BODY_CHECK,
    BODY_HELLO,
    BODY_MEASUREMENT,
    BODY_ITEM,
    BODY_RESULT,
    BODIES
};

static bool get(struct decoder *in, enum body_kind kind, enum frame_kind batch, struct body *body)
{
    switch (kind) {
    case BODY_GENERATION:
        return frame_get_generation(in, &body->generation);
    case BODY_EVIDENCE:
        return frame_get_evidence(in, &body->evidence);
    case BODY_CHECK:
        return frame_get_check(in, &body->check);
    case BODY_HELLO:
        return frame_get_hello_reply(in, &body->hello);
    case BODY_MEASUREMENT:
        return frame_get_measurement(in, &body->measurement);
    case BODY_ITEM:
        frame_get_item(in, batch, &body->item);
        return !in->failed;
    case BODY_RESULT:
    case BODIES:
        frame_get_result(in, batch, &body->item);
        return !in->failed;
    }
    return false;
}

static void put(struct encoder *out, enum body_kind kind, enum frame_kind batch,
                const struct body *body)
{
    switch (kind) {
    case BODY_GENERATION:
        frame_put_generation(out, &body->generation);
        break;
    case BODY_EVIDENCE:
        frame_put_evidence(out, &body->evidence);
        break;
    case BODY_CHECK:
        frame_put_check(out, &body->check);
        break;
    case BODY_HELLO:
        frame_put_hello_reply(out, &body->hello);
        break;
    case BODY_MEASUREMENT:
        frame_put_measurement(out, &body->measurement);
        break;
    case BODY_ITEM:
        frame_put_item(out, batch, &body->item);
        break;
    case BODY_RESULT:
    case BODIES:
        frame_put_result(out, batch, &body->item);
        break;
    }
}

/* True where `data` begins with such a body; `out` is what it is when written again. */
static bool rewritten(const uint8_t *data, size_t size, enum body_kind kind, enum frame_kind batch,
                      struct encoder *out)
{
    struct body body = {0};
    body.item.row_key = body.row_key;
    struct decoder in = {.next = data, .left_bytes = size};
    if (!get(&in, kind, batch, &body) || in.failed)
        return false;
    put(out, kind, batch, &body);
    return true;
}

static void one_body(const uint8_t *data, size_t size, enum body_kind kind, enum frame_kind batch)
{
    ENCODER_AUTO once = {0};
    ENCODER_AUTO twice = {0};
    if (!rewritten(data, size, kind, batch, &once))
        return;
    if (once.failed || !rewritten(once.data, once.length_bytes, kind, batch, &twice) ||
        once.length_bytes != twice.length_bytes ||
        memcmp(once.data, twice.data, once.length_bytes) != 0)
        abort();
}

static void whole_frames(const uint8_t *data, size_t size)
{
    struct frame_reader reader = {.buffer = malloc(FRAME_BYTES_MAX)};
    if (reader.buffer == NULL || size > FRAME_BYTES_MAX)
        goto out;
    memcpy(reader.buffer, data, size);
    reader.have_bytes = size;
    struct decoder frame;
    while (frame_next(&reader, &frame)) {
        struct decoder again = frame;
        struct reply_header reply;
        enum frame_kind kind;
        uint32_t id;
        (void)!frame_get_reply_header(&frame, &reply);
        (void)!frame_get_request_header(&again, &id, &kind);
    }
out:
    free(reader.buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum frame_kind batches[] = {FRAME_MAKE, FRAME_WRAP, FRAME_UNWRAP, FRAME_REWRAP};
    if (size == 0)
        return 0;
    unsigned choice = data[0];
    if (choice % (BODIES + 1) == BODIES)
        whole_frames(data + 1, size - 1);
    else
        one_body(data + 1, size - 1, (enum body_kind)(choice % (BODIES + 1)),
                 batches[choice / (BODIES + 1) % 4]);
    return 0;
}
