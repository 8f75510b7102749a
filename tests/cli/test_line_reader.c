#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/line_reader.h"
#include "common/secret.h"

static int file_of(const char *text, size_t length)
{
    int fd = memfd_create("lines", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, length), (ssize_t)length);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void expect_line(struct line_reader *reader, const char *expected, uint64_t number)
{
    const char *line = NULL;
    size_t length = 0;
    bool too_long = false;
    assert_int_equal(line_reader_next(reader, &line, &length, &too_long, NULL), SSO_OK);
    if (expected == NULL) {
        assert_null(line);
        return;
    }
    assert_non_null(line);
    assert_false(too_long);
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(line, expected, length);
    assert_int_equal(reader->line, number);
}

static void expect_too_long(struct line_reader *reader, uint64_t number)
{
    const char *line = NULL;
    size_t length = 1;
    bool too_long = false;
    assert_int_equal(line_reader_next(reader, &line, &length, &too_long, NULL), SSO_OK);
    assert_true(too_long);
    assert_int_equal(length, 0);
    assert_int_equal(reader->line, number);
}

static void test_lines_with_and_without_end(void **state)
{
    (void)state;
    static const char text[] = "one\n\nthree";
    struct line_reader reader;
    int fd = file_of(text, sizeof text - 1);
    line_reader_init(&reader, fd, 16);
    expect_line(&reader, "one", 1);
    expect_line(&reader, "", 2);
    expect_line(&reader, "three", 3);
    expect_line(&reader, NULL, 0);
    expect_line(&reader, NULL, 0);
    line_reader_free(&reader);
    close(fd);
}

static void test_empty_file(void **state)
{
    (void)state;
    struct line_reader reader;
    int fd = file_of("", 0);
    line_reader_init(&reader, fd, 16);
    expect_line(&reader, NULL, 0);
    line_reader_free(&reader);
    close(fd);
}

/* Longer than several reads, in the middle and at the end: skipped, counted, the rest is fine. */
static void test_long_lines_are_skipped(void **state)
{
    (void)state;
    size_t long_bytes = 1 << 20, length = 0;
    char *text = malloc(2 * long_bytes + 64);
    assert_non_null(text);
    memcpy(text, "a\n", 2);
    length = 2;
    memset(text + length, 'x', long_bytes);
    length += long_bytes;
    memcpy(text + length, "\nb\n12345678\n123456789\n", 22);
    length += 22;
    memset(text + length, 'y', long_bytes);
    length += long_bytes;

    struct line_reader reader;
    int fd = file_of(text, length);
    line_reader_init(&reader, fd, 8);
    expect_line(&reader, "a", 1);
    expect_too_long(&reader, 2);
    expect_line(&reader, "b", 3);
    expect_line(&reader, "12345678", 4);
    expect_too_long(&reader, 5);
    expect_too_long(&reader, 6);
    expect_line(&reader, NULL, 0);
    line_reader_free(&reader);
    close(fd);
    free(text);
}

static void test_read_whole_is_bounded(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length = 0;
    int fd = file_of("12345678", 8);
    assert_int_equal(read_whole(fd, 8, &text, &length, NULL), SSO_OK);
    assert_int_equal(length, 8);
    assert_string_equal(text, "12345678");
    wiping_free(text);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_int_equal(read_whole(fd, 7, &text, &length, NULL), SSO_TOO_LARGE);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_with_and_without_end),
        cmocka_unit_test(test_empty_file),
        cmocka_unit_test(test_long_lines_are_skipped),
        cmocka_unit_test(test_read_whole_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
