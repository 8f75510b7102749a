#include "pkcs11/frame.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/row.h"

#define LENGTH_BYTES 4
#define REPLY_HEADER_BYTES 19
#define BATCH_HEADER_BYTES 8

enum sso_code frame_buffer_new(uint8_t **out, struct sso_error *err)
{
    *out = secret_alloc(FRAME_BYTES_MAX);
    if (*out == NULL)
        return sso_fail(err, SSO_NO_MEMORY,
                        "no locked memory is left for a worker's frames; raise RLIMIT_MEMLOCK");
    return SSO_OK;
}

void frame_begin_request(struct encoder *out, uint32_t id, enum frame_kind kind)
{
    out->length_bytes = 0;
    out->failed = false;
    encode_u32(out, 0);
    encode_u32(out, id);
    encode_u8(out, (uint8_t)kind);
}

static void put_reply_header(struct encoder *out, const struct reply_header *header)
{
    encode_u32(out, 0);
    encode_u32(out, header->id);
    encode_u8(out, header->flags);
    encode_u16(out, (uint16_t)header->code);
    encode_u64(out, header->resident_bytes);
    encode_u32(out, header->work_microseconds);
}

void frame_begin_reply(struct encoder *out, const struct reply_header *header)
{
    out->length_bytes = 0;
    out->failed = false;
    put_reply_header(out, header);
}

void frame_patch_reply(struct encoder *out, const struct reply_header *header)
{
    struct encoder head = {.data = out->data, .capacity_bytes = out->capacity_bytes, .fixed = true};
    put_reply_header(&head, header);
}

enum sso_code frame_finish(struct encoder *out, struct sso_error *err)
{
    if (out->failed || out->length_bytes > FRAME_BYTES_MAX)
        return sso_fail(err, SSO_TOO_LARGE, "a frame for a worker would exceed %d bytes",
                        FRAME_BYTES_MAX);
    struct encoder head = {.data = out->data, .capacity_bytes = LENGTH_BYTES, .fixed = true};
    encode_u32(&head, (uint32_t)(out->length_bytes - LENGTH_BYTES));
    return SSO_OK;
}

bool frame_reader_broken(const struct frame_reader *reader)
{
    return reader->have_bytes == SIZE_MAX;
}

bool frame_next(struct frame_reader *reader, struct decoder *out)
{
    if (frame_reader_broken(reader))
        return false;
    if (reader->taken_bytes > 0) {
        reader->have_bytes -= reader->taken_bytes;
        memmove(reader->buffer, reader->buffer + reader->taken_bytes, reader->have_bytes);
        reader->taken_bytes = 0;
    }
    if (reader->have_bytes < LENGTH_BYTES)
        return false;
    struct decoder head = {.next = reader->buffer, .left_bytes = LENGTH_BYTES};
    size_t length = decode_u32(&head);
    if (length > FRAME_BYTES_MAX - LENGTH_BYTES) {
        reader->have_bytes = SIZE_MAX;
        return false;
    }
    if (reader->have_bytes < LENGTH_BYTES + length)
        return false;
    *out = (struct decoder){.next = reader->buffer + LENGTH_BYTES, .left_bytes = length};
    reader->taken_bytes = LENGTH_BYTES + length;
    return true;
}

int frame_fill(struct frame_reader *reader, int socket, int flags)
{
    if (frame_reader_broken(reader) || reader->have_bytes == FRAME_BYTES_MAX)
        return -1;
    ssize_t got;
    do
        got = recv(socket, reader->buffer + reader->have_bytes,
                   FRAME_BYTES_MAX - reader->have_bytes, flags);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
    reader->have_bytes += (size_t)got;
    return got > 0 ? 1 : -1;
}

bool frame_send(int socket, const struct encoder *frame, int64_t deadline_ms)
{
    for (size_t sent = 0; sent < frame->length_bytes;) {
        ssize_t n = send(socket, frame->data + sent, frame->length_bytes - sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            sent += (size_t)n;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return false;
        int64_t left = deadline_ms > 0 ? deadline_ms - boot_clock_ms() : -1;
        if (deadline_ms > 0 && left <= 0)
            return false;
        struct pollfd room = {.fd = socket, .events = POLLOUT};
        if (poll(&room, 1, (int)left) < 0 && errno != EINTR)
            return false;
    }
    return true;
}

bool frame_get_request_header(struct decoder *in, uint32_t *id, enum frame_kind *kind)
{
    *id = decode_u32(in);
    unsigned number = decode_u8(in);
    *kind = (enum frame_kind)number;
    return !in->failed && number >= FRAME_HELLO && number < FRAME_KINDS;
}

static enum sso_code get_code(struct decoder *in)
{
    unsigned number = decode_u16(in);
    if (number >= SSO_CODES)
        in->failed = true;
    return (enum sso_code)number;
}

bool frame_get_reply_header(struct decoder *in, struct reply_header *out)
{
    out->id = decode_u32(in);
    out->flags = decode_u8(in);
    out->code = get_code(in);
    out->resident_bytes = decode_u64(in);
    out->work_microseconds = decode_u32(in);
    return !in->failed;
}

void frame_put_hello(struct encoder *out, const struct hello_request *hello)
{
    /* With their NUL, so that the worker can use them where they lie. */
    encode_bytes(out, hello->module, strlen(hello->module) + 1);
    encode_bytes(out, hello->init_args, strlen(hello->init_args) + 1);
    encode_bytes(out, hello->token, strlen(hello->token) + 1);
    encode_u32(out, hello->sessions);
    encode_u8(out, hello->weak_token_accepted);
}

void frame_put_hello_reply(struct encoder *out, const struct hello_reply *reply)
{
    encode_text(out, reply->token.token);
    encode_text(out, reply->token.serial);
    encode_text(out, reply->token.manufacturer);
    encode_text(out, reply->token.model);
    encode_text(out, reply->firmware);
    encode_u8(out, reply->pin_count_low);
    encode_u8(out, reply->pin_final_try);
    encode_u8(out, reply->pin_locked);
    encode_u32(out, reply->sessions_max);
    encode_text(out, reply->pin.source);
    encode_u64(out, reply->pin.device);
    encode_u64(out, reply->pin.inode);
    encode_u64(out, reply->pin.size_bytes);
    encode_u64(out, (uint64_t)reply->pin.modified_ns);
}

bool frame_get_hello_reply(struct decoder *in, struct hello_reply *out)
{
    decode_text(in, out->token.token, sizeof out->token.token);
    decode_text(in, out->token.serial, sizeof out->token.serial);
    decode_text(in, out->token.manufacturer, sizeof out->token.manufacturer);
    decode_text(in, out->token.model, sizeof out->token.model);
    decode_text(in, out->firmware, sizeof out->firmware);
    out->pin_count_low = decode_u8(in) != 0;
    out->pin_final_try = decode_u8(in) != 0;
    out->pin_locked = decode_u8(in) != 0;
    out->sessions_max = decode_u32(in);
    decode_text(in, out->pin.source, sizeof out->pin.source);
    out->pin.device = decode_u64(in);
    out->pin.inode = decode_u64(in);
    out->pin.size_bytes = decode_u64(in);
    out->pin.modified_ns = (int64_t)decode_u64(in);
    return decode_end(in, "hello reply", NULL) == SSO_OK;
}

void frame_put_measurement(struct encoder *out, const struct measurement *measurement)
{
    encode_u32(out, measurement->sessions);
    encode_u32(out, measurement->operations);
    encode_u32(out, measurement->wall_microseconds);
    encode_u32(out, measurement->best_microseconds);
    encode_u32(out, measurement->cpu_microseconds);
}

bool frame_get_measurement(struct decoder *in, struct measurement *out)
{
    out->sessions = decode_u32(in);
    out->operations = decode_u32(in);
    out->wall_microseconds = decode_u32(in);
    out->best_microseconds = decode_u32(in);
    out->cpu_microseconds = decode_u32(in);
    return decode_end(in, "measurement", NULL) == SSO_OK;
}

void frame_put_wrapped(struct encoder *out, const struct wrapped_key *wrapped)
{
    /* A length that no suite has ever written is sent as 0, which the worker refuses as corrupt. */
    uint8_t length = wrapped->length_bytes <= WRAPPED_KEY_BYTES_MAX ? wrapped->length_bytes : 0;
    encode_u8(out, length);
    encode_fixed(out, wrapped->bytes, length);
}

void frame_get_wrapped(struct decoder *in, struct wrapped_key *wrapped)
{
    uint8_t length = decode_u8(in);
    if (length > WRAPPED_KEY_BYTES_MAX) {
        in->failed = true;
        return;
    }
    wrapped->length_bytes = length;
    decode_fixed(in, wrapped->bytes, length);
}

void frame_put_generation(struct encoder *out, const struct generation_key *key)
{
    encode_fixed(out, key->system_id, sizeof key->system_id);
    encode_u32(out, key->number);
    encode_fixed(out, key->secret_id, sizeof key->secret_id);
    encode_u8(out, (uint8_t)key->suite);
    frame_put_wrapped(out, &key->canary.wrapped);
    encode_fixed(out, key->canary.mac, sizeof key->canary.mac);
}

bool frame_get_generation(struct decoder *in, struct generation_key *out)
{
    decode_fixed(in, out->system_id, sizeof out->system_id);
    out->number = decode_u32(in);
    decode_fixed(in, out->secret_id, sizeof out->secret_id);
    out->suite = (enum suite_id)decode_u8(in);
    frame_get_wrapped(in, &out->canary.wrapped);
    decode_fixed(in, out->canary.mac, sizeof out->canary.mac);
    return !in->failed;
}

bool pin_source_same(const struct pin_source_facts *a, const struct pin_source_facts *b)
{
    return strcmp(a->source, b->source) == 0 && a->device == b->device && a->inode == b->inode &&
           a->size_bytes == b->size_bytes && a->modified_ns == b->modified_ns;
}

void frame_put_evidence(struct encoder *out, const struct evidence *evidence)
{
    encode_u8(out, evidence->accepted);
    encode_u8(out, evidence->sensitive);
    encode_u8(out, evidence->extractable);
    encode_u8(out, evidence->canary);
    encode_u8(out, (uint8_t)(evidence->modifiable + 1));
    encode_u8(out, (uint8_t)(evidence->copyable + 1));
    encode_u8(out, (uint8_t)(evidence->local + 1));
    encode_u8(out, (uint8_t)(evidence->never_extractable + 1));
    encode_u8(out, (uint8_t)(evidence->always_sensitive + 1));
    encode_text(out, evidence->read_value);
    encode_text(out, evidence->wrap);
    encode_text(out, evidence->copy);
    encode_text(out, evidence->set_extractable);
    encode_text(out, evidence->usages);
    encode_text(out, evidence->weak);
    encode_text(out, evidence->gcm_iv);
}

bool frame_get_evidence(struct decoder *in, struct evidence *out)
{
    out->accepted = decode_u8(in) != 0;
    out->sensitive = decode_u8(in) != 0;
    out->extractable = decode_u8(in) != 0;
    out->canary = decode_u8(in) != 0;
    out->modifiable = decode_u8(in) - 1;
    out->copyable = decode_u8(in) - 1;
    out->local = decode_u8(in) - 1;
    out->never_extractable = decode_u8(in) - 1;
    out->always_sensitive = decode_u8(in) - 1;
    decode_text(in, out->read_value, sizeof out->read_value);
    decode_text(in, out->wrap, sizeof out->wrap);
    decode_text(in, out->copy, sizeof out->copy);
    decode_text(in, out->set_extractable, sizeof out->set_extractable);
    decode_text(in, out->usages, sizeof out->usages);
    decode_text(in, out->weak, sizeof out->weak);
    decode_text(in, out->gcm_iv, sizeof out->gcm_iv);
    return !in->failed;
}

void frame_put_check(struct encoder *out, const struct check *check)
{
    encode_text(out, check->id);
    encode_u8(out, (uint8_t)check->result);
    encode_text(out, check->detail);
    encode_text(out, check->remedy);
}

bool frame_get_check(struct decoder *in, struct check *out)
{
    decode_text(in, out->id, sizeof out->id);
    unsigned result = decode_u8(in);
    decode_text(in, out->detail, sizeof out->detail);
    decode_text(in, out->remedy, sizeof out->remedy);
    out->result = (enum check_result)result;
    return !in->failed && result <= CHECK_SKIP;
}

void frame_put_token_key(struct encoder *out, const struct token_key *key)
{
    encode_u32(out, key->number);
    encode_fixed(out, key->secret_id, sizeof key->secret_id);
    encode_u8(out, (uint8_t)key->suite);
}

bool frame_get_token_key(struct decoder *in, struct token_key *out)
{
    out->number = decode_u32(in);
    decode_fixed(in, out->secret_id, sizeof out->secret_id);
    unsigned suite = decode_u8(in);
    out->suite = (enum suite_id)suite;
    return !in->failed && suite <= SUITE_AES256_GCM;
}

void frame_put_item(struct encoder *out, enum frame_kind kind, const struct key_item *item)
{
    encode_u32(out, item->generation);
    encode_fixed(out, item->binding, sizeof item->binding);
    if (kind == FRAME_WRAP)
        encode_fixed(out, item->row_key, ROW_KEY_BYTES);
    else if (kind != FRAME_MAKE)
        frame_put_wrapped(out, &item->wrapped);
}

void frame_get_item(struct decoder *in, enum frame_kind kind, struct key_item *item)
{
    item->generation = decode_u32(in);
    decode_fixed(in, item->binding, sizeof item->binding);
    if (kind == FRAME_WRAP)
        decode_fixed(in, item->row_key, ROW_KEY_BYTES);
    else if (kind != FRAME_MAKE)
        frame_get_wrapped(in, &item->wrapped);
}

void frame_put_result(struct encoder *out, enum frame_kind kind, const struct key_item *item)
{
    encode_u16(out, (uint16_t)item->code);
    if (item->code != SSO_OK)
        return;
    if (kind == FRAME_MAKE || kind == FRAME_UNWRAP)
        encode_fixed(out, item->row_key, ROW_KEY_BYTES);
    if (kind != FRAME_UNWRAP)
        frame_put_wrapped(out, &item->wrapped);
}

void frame_get_result(struct decoder *in, enum frame_kind kind, struct key_item *item)
{
    item->code = get_code(in);
    if (item->code != SSO_OK || in->failed)
        return;
    if (kind == FRAME_MAKE || kind == FRAME_UNWRAP)
        decode_fixed(in, item->row_key, ROW_KEY_BYTES);
    if (kind != FRAME_UNWRAP)
        frame_get_wrapped(in, &item->wrapped);
}

size_t frame_capacity(enum frame_kind kind)
{
    const size_t wrapped = 1 + WRAPPED_KEY_BYTES_MAX, bound = sizeof(uint32_t) + BINDING_BYTES;
    size_t request = bound + (kind == FRAME_WRAP   ? ROW_KEY_BYTES
                              : kind != FRAME_MAKE ? wrapped
                                                   : 0);
    size_t reply = 2 + (kind == FRAME_MAKE || kind == FRAME_UNWRAP ? ROW_KEY_BYTES : 0) +
                   (kind != FRAME_UNWRAP ? wrapped : 0);
    size_t item = request > reply ? request : reply;
    size_t fit = (FRAME_BYTES_MAX - LENGTH_BYTES - REPLY_HEADER_BYTES - BATCH_HEADER_BYTES) / item;
    return fit < FRAME_ITEMS_MAX ? fit : FRAME_ITEMS_MAX;
}
