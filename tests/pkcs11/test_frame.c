/* The codec of the frames: what goes in comes out, and nothing else is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pkcs11/frame.h"

static uint8_t buffer[FRAME_BYTES_MAX];

static struct encoder over_buffer(void)
{
    return (struct encoder){.data = buffer, .capacity_bytes = sizeof buffer, .fixed = true};
}

static struct key_item item_of(uint8_t *row_key, uint8_t n)
{
    struct key_item item = {.generation = n, .row_key = row_key};
    memset(item.binding, n, sizeof item.binding);
    memset(item.wrapped.bytes, n + 1, sizeof item.wrapped.bytes);
    item.wrapped.length_bytes = WRAPPED_KEY_BYTES_MAX;
    memset(row_key, n + 2, ROW_KEY_BYTES);
    return item;
}

/* A frame of the largest size of each kind fits, both ways, and comes back item for item. */
static void test_batches(void **state)
{
    (void)state;
    for (enum frame_kind kind = FRAME_MAKE; kind <= FRAME_REWRAP; kind++) {
        size_t capacity = frame_capacity(kind);
        assert_in_range(capacity, 200, FRAME_ITEMS_MAX);
        for (unsigned reply = 0; reply < 2; reply++) {
            struct encoder out = over_buffer();
            struct reply_header header = {.id = 77, .work_microseconds = 5};
            uint8_t row_key[ROW_KEY_BYTES], read_key[ROW_KEY_BYTES];
            if (reply)
                frame_begin_reply(&out, &header);
            else
                frame_begin_request(&out, 77, kind);
            for (size_t i = 0; i < capacity; i++) {
                struct key_item item = item_of(row_key, (uint8_t)i);
                reply ? frame_put_result(&out, kind, &item) : frame_put_item(&out, kind, &item);
            }
            assert_int_equal(frame_finish(&out, NULL), SSO_OK);
            struct frame_reader reader = {.buffer = buffer, .have_bytes = out.length_bytes};
            struct decoder in;
            enum frame_kind read_kind = kind;
            uint32_t id = 0;
            assert_true(frame_next(&reader, &in));
            assert_true(reply ? frame_get_reply_header(&in, &header)
                              : frame_get_request_header(&in, &id, &read_kind));
            assert_int_equal(reply ? header.id : id, 77);
            for (size_t i = 0; i < capacity; i++) {
                struct key_item item = item_of(row_key, (uint8_t)i), read = {.row_key = read_key};
                reply ? frame_get_result(&in, kind, &read) : frame_get_item(&in, kind, &read);
                bool wrapped =
                    reply ? kind != FRAME_UNWRAP : kind == FRAME_UNWRAP || kind == FRAME_REWRAP;
                bool key = reply ? kind == FRAME_MAKE || kind == FRAME_UNWRAP : kind == FRAME_WRAP;
                if (wrapped)
                    assert_memory_equal(&read.wrapped, &item.wrapped, sizeof item.wrapped);
                if (key)
                    assert_memory_equal(read_key, row_key, ROW_KEY_BYTES);
            }
            assert_int_equal(decode_end(&in, "test", NULL), SSO_OK);
            assert_false(frame_next(&reader, &in));
        }
    }
}

/* Every prefix of a frame is refused, and so are absurd lengths and values out of range. */
static void test_refusals(void **state)
{
    struct generation_key key = {.number = 3, .suite = SUITE_AES256_KW}, read;
    struct encoder out = over_buffer();
    (void)state;
    key.canary.wrapped.length_bytes = 40;
    frame_put_generation(&out, &key);
    for (size_t n = 0; n < out.length_bytes; n++) {
        struct decoder in = {.next = buffer, .left_bytes = n};
        assert_false(frame_get_generation(&in, &read));
    }
    struct decoder whole = {.next = buffer, .left_bytes = out.length_bytes};
    assert_true(frame_get_generation(&whole, &read));
    buffer[16 + 4 + 16 + 1] = WRAPPED_KEY_BYTES_MAX + 1;
    whole = (struct decoder){.next = buffer, .left_bytes = out.length_bytes};
    assert_false(frame_get_generation(&whole, &read));

    struct decoder in;
    struct frame_reader reader = {.buffer = buffer, .have_bytes = 4};
    memset(buffer, 0xff, 4);
    assert_false(frame_next(&reader, &in));
    assert_true(frame_reader_broken(&reader));

    struct reply_header header = {.code = SSO_CODES};
    out = over_buffer();
    frame_begin_reply(&out, &header);
    in = (struct decoder){.next = buffer + 4, .left_bytes = out.length_bytes - 4};
    assert_false(frame_get_reply_header(&in, &header));
    struct key_item item = {.wrapped = {.length_bytes = 255}};
    out = over_buffer();
    frame_put_item(&out, FRAME_UNWRAP, &item);
    in = (struct decoder){.next = buffer, .left_bytes = out.length_bytes};
    frame_get_item(&in, FRAME_UNWRAP, &item);
    assert_int_equal(item.wrapped.length_bytes, 0);
}

/* Frames that arrive in pieces of any size. */
static void test_pieces(void **state)
{
    int fds[2];
    uint8_t sent[4096], in_buffer[FRAME_BYTES_MAX];
    struct frame_reader reader = {.buffer = in_buffer};
    struct decoder in;
    size_t length = 0;
    unsigned frames = 0;
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        struct encoder out = over_buffer();
        frame_begin_request(&out, i, FRAME_PROBE);
        encode_fixed(&out, sent, i);
        assert_int_equal(frame_finish(&out, NULL), SSO_OK);
        memcpy(sent + length, buffer, out.length_bytes);
        length += out.length_bytes;
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    for (size_t at = 0; at < length;) {
        size_t piece = 1 + at % 7;
        piece = piece < length - at ? piece : length - at;
        assert_int_equal(write(fds[0], sent + at, piece), (ssize_t)piece);
        at += piece;
        assert_int_equal(frame_fill(&reader, fds[1], MSG_DONTWAIT), 1);
        while (frame_next(&reader, &in)) {
            uint32_t id;
            enum frame_kind kind;
            assert_true(frame_get_request_header(&in, &id, &kind));
            assert_int_equal(id, frames);
            assert_int_equal(in.left_bytes, frames);
            frames++;
        }
    }
    assert_int_equal(frames, 20);
    close(fds[0]);
    assert_int_equal(frame_fill(&reader, fds[1], MSG_DONTWAIT), -1);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
