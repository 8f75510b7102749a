#include "tests/common/testing.h"

#include "common/encode.h"

static void fill(struct encoder *encoder)
{
    encode_u8(encoder, 0x12);
    encode_u16(encoder, 0x3456);
    encode_u32(encoder, 0x789abcde);
    encode_u64(encoder, UINT64_C(0xf0e1d2c3b4a59687));
    encode_fixed(encoder, "fix", 3);
    encode_bytes(encoder, "a\0b", 3);
    encode_text(encoder, "text");
}

static const char filled_hex[] = "12"
                                 "3456"
                                 "789abcde"
                                 "f0e1d2c3b4a59687"
                                 "666978"
                                 "00000003610062"
                                 "0000000474657874";

static void check_decodes(const struct encoder *encoder)
{
    struct decoder decoder = {encoder->data, encoder->length_bytes, false};
    char fixed[3], text[5];
    size_t count;
    assert_int_equal(decode_u8(&decoder), 0x12);
    assert_int_equal(decode_u16(&decoder), 0x3456);
    assert_int_equal(decode_u32(&decoder), 0x789abcde);
    assert_true(decode_u64(&decoder) == UINT64_C(0xf0e1d2c3b4a59687));
    decode_fixed(&decoder, fixed, sizeof fixed);
    assert_memory_equal(fixed, "fix", 3);
    assert_memory_equal(decode_bytes(&decoder, 3, &count), "a\0b", 3);
    assert_int_equal(count, 3);
    decode_text(&decoder, text, sizeof text);
    assert_string_equal(text, "text");
    assert_int_equal(decode_end(&decoder, "it", NULL), SSO_OK);
}

static void round_trip_in_each_kind_of_memory(void **state)
{
    (void)state;
    for (int locked = 0; locked < 2; locked++) {
        ENCODER_AUTO encoder = {.locked = locked};
        char hex[sizeof filled_hex];
        fill(&encoder);
        assert_false(encoder.failed);
        assert_int_equal(encoder.length_bytes, sizeof filled_hex / 2);
        hex_encode(encoder.data, encoder.length_bytes, hex);
        assert_string_equal(hex, filled_hex);
        check_decodes(&encoder);
        encoder_clear(&encoder);
        assert_int_equal(encoder.length_bytes, 0);
        fill(&encoder);
        check_decodes(&encoder);
    }
}

static void growth_keeps_what_is_there(void **state)
{
    (void)state;
    for (int locked = 0; locked < 2; locked++) {
        ENCODER_AUTO encoder = {.locked = locked};
        for (uint32_t i = 0; i < 5000; i++)
            encode_u32(&encoder, i);
        struct decoder decoder = {encoder.data, encoder.length_bytes, false};
        for (uint32_t i = 0; i < 5000; i++)
            assert_int_equal(decode_u32(&decoder), i);
        assert_int_equal(decode_end(&decoder, "it", NULL), SSO_OK);
    }
}

static void a_fixed_array_is_not_outgrown(void **state)
{
    (void)state;
    uint8_t room[8];
    struct encoder encoder = {.data = room, .capacity_bytes = sizeof room, .fixed = true};
    encode_u32(&encoder, 1);
    encode_u64(&encoder, 2);
    assert_true(encoder.failed);
    assert_int_equal(encoder.length_bytes, 4);
    encode_u32(&encoder, 3); /* would fit, but the first fault sticks */
    assert_int_equal(encoder.length_bytes, 4);
    encoder_free(&encoder);
    assert_int_equal(room[3], 0);
}

static void a_used_up_locked_heap_is_a_fault(void **state)
{
    (void)state;
    ENCODER_AUTO encoder = {.locked = true};
    static const uint8_t block[65536];
    void *taken[64];
    size_t count = 0;
    while (count < 64 && (taken[count] = secret_alloc(sizeof block)) != NULL)
        count++;
    encode_bytes(&encoder, block, sizeof block);
    assert_true(encoder.failed);
    while (count > 0)
        secret_dealloc(taken[--count]);
}

static void reserved_room_is_exact_and_kept(void **state)
{
    (void)state;
    for (int locked = 0; locked < 2; locked++) {
        ENCODER_AUTO encoder = {.locked = locked};
        encode_u32(&encoder, 7);
        encoder_reserve(&encoder, 1000003);
        assert_int_equal(encoder.capacity_bytes, 1000003);
        assert_int_equal(encoder.data[3], 7);
        const uint8_t *place = encoder.data;
        for (int i = 0; i < 999999; i++)
            encode_u8(&encoder, 1);
        assert_ptr_equal(encoder.data, place);
        assert_false(encoder.failed);
    }
    uint8_t room[4];
    struct encoder fixed = {.data = room, .capacity_bytes = sizeof room, .fixed = true};
    encoder_reserve(&fixed, 4);
    assert_false(fixed.failed);
    encoder_reserve(&fixed, 5);
    assert_true(fixed.failed);
}

static void every_cut_is_a_fault_and_so_is_every_rest(void **state)
{
    (void)state;
    ENCODER_AUTO encoder = {0};
    fill(&encoder);
    for (size_t length = 0; length <= encoder.length_bytes + 1; length++) {
        struct sso_error err;
        uint8_t copy[64] = {0};
        char text[8];
        size_t count;
        memcpy(copy, encoder.data, encoder.length_bytes);
        struct decoder decoder = {copy, length, false};
        decode_u8(&decoder);
        decode_u16(&decoder);
        decode_u32(&decoder);
        decode_u64(&decoder);
        decode_fixed(&decoder, text, 3);
        decode_bytes(&decoder, 3, &count);
        decode_text(&decoder, text, sizeof text);
        enum sso_code rc = decode_end(&decoder, "the frame", &err);
        if (length == encoder.length_bytes)
            assert_int_equal(rc, SSO_OK);
        else
            check_failure(rc, SSO_BAD_REQUEST, &err, "the frame");
    }
}

static void lengths_out_of_bounds_are_faults(void **state)
{
    (void)state;
    static const uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, 1, 2, 3};
    static const uint8_t with_nul[] = {0, 0, 0, 3, 'a', 0, 'b'};
    struct decoder decoder = {huge, sizeof huge, false};
    size_t count = 9;
    assert_null(decode_bytes(&decoder, SIZE_MAX, &count));
    assert_int_equal(count, 0);
    assert_int_equal(decode_u8(&decoder), 0); /* sticks */

    decoder = (struct decoder){with_nul, sizeof with_nul, false};
    assert_null(decode_bytes(&decoder, 2, &count));

    char text[8] = "before";
    decoder = (struct decoder){with_nul, sizeof with_nul, false};
    decode_text(&decoder, text, sizeof text);
    assert_true(decoder.failed);
    assert_string_equal(text, "");

    decoder = (struct decoder){with_nul, sizeof with_nul, false};
    decode_text(&decoder, text, 3);
    assert_true(decoder.failed);
    decode_fixed(&decoder, text, 2);
    assert_int_equal(text[1], 0);
}

static void hex_goes_both_ways(void **state)
{
    (void)state;
    uint8_t bytes[3];
    assert_true(hex_decode("00fFa9", bytes, 3));
    assert_memory_equal(bytes, "\x00\xff\xa9", 3);
    assert_false(hex_decode("00ff", bytes, 3));
    assert_false(hex_decode("00ffa9b", bytes, 3));
    assert_false(hex_decode("00fg a", bytes, 3));
    assert_false(hex_decode("", bytes, 3));
    assert_true(hex_decode("", bytes, 0));
}

static void utf8_is_clean_or_not(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool clean;
    } cases[] = {
        {"", true},
        {"plain ASCII ~", true},
        {"Zo\xc3\xab \xe2\x82\xac \xf0\x9f\x94\x91", true},
        {"\xc2\xa0", true},          /* U+00A0 */
        {"\xf4\x8f\xbf\xbf", true},  /* U+10FFFF */
        {"\xee\x80\x80", true},      /* U+E000 */
        {"a\tb", false},             /* control */
        {"\x7f", false},             /* DEL */
        {"\xc2\x85", false},         /* U+0085 */
        {"\xc0\x80", false},         /* overlong NUL */
        {"\xc1\xbf", false},         /* overlong */
        {"\xe0\x9f\xbf", false},     /* overlong */
        {"\xf0\x8f\xbf\xbf", false}, /* overlong */
        {"\xed\xa0\x80", false},     /* surrogate */
        {"\xf4\x90\x80\x80", false}, /* beyond */
        {"\xf8\x88\x80\x80", false}, /* no lead byte */
        {"\x80", false},             /* lone continuation */
        {"\xe2\x82", false},         /* cut */
        {"\xe2\x82 ", false},        /* broken off */
        {"ok\xff", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (text_is_clean_utf8(cases[i].text, strlen(cases[i].text)) != cases[i].clean)
            fail_msg("case %zu", i);
    assert_false(text_is_clean_utf8("a\0b", 3));
}

int main(void)
{
    testing_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip_in_each_kind_of_memory),
        cmocka_unit_test(growth_keeps_what_is_there),
        cmocka_unit_test(a_fixed_array_is_not_outgrown),
        cmocka_unit_test(a_used_up_locked_heap_is_a_fault),
        cmocka_unit_test(reserved_room_is_exact_and_kept),
        cmocka_unit_test(every_cut_is_a_fault_and_so_is_every_rest),
        cmocka_unit_test(lengths_out_of_bounds_are_faults),
        cmocka_unit_test(hex_goes_both_ways),
        cmocka_unit_test(utf8_is_clean_or_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
