/* The file of high-water marks: written, raised, compared; cut anywhere it is refused. */
#include "common/high_water.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/common/testing.h"

static char folder[] = "/tmp/sso-hsm-marks-XXXXXX";

static struct generation row(uint32_t number, uint64_t version, uint64_t wraps)
{
    struct generation generation = {.number = number,
                                    .secret_id = {(uint8_t)number, 3},
                                    .suite = SUITE_AES256_KW,
                                    .state = GENERATION_ACTIVE,
                                    .created_ms = 5,
                                    .canary = {.wrapped = {.bytes = {9}, .length_bytes = 40}},
                                    .wraps = wraps,
                                    .version = version,
                                    .tag = {4}};
    strcpy(generation.share_set, "a set");
    return generation;
}

static struct high_water seen(struct generation *generation, size_t count, struct audit_head *head)
{
    return (struct high_water){.system_id = {1, 2},
                               .highest = 2,
                               .revocation = 7,
                               .generation = generation,
                               .generation_count = count,
                               .head = head,
                               .head_count = 1};
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder + sizeof folder - 7, "XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static void what_was_seen_is_read_again(void **state)
{
    (void)state;
    HIGH_WATER_AUTO marks = {0};
    struct generation generation[] = {row(1, 3, 100), row(2, 1, 0)};
    struct audit_head head = {.node = "node1", .number = 12, .hash = {8}};
    const struct high_water now = seen(generation, 2, &head);
    assert_int_equal(high_water_read(folder, &marks, NULL), SSO_NOT_FOUND);
    assert_int_equal(high_water_raise(folder, &now, NULL), SSO_OK);
    assert_int_equal(high_water_read(folder, &marks, NULL), SSO_OK);
    assert_int_equal(marks.highest, 2);
    assert_int_equal(marks.revocation, 7);
    assert_int_equal(marks.generation_count, 2);
    const struct generation *first = high_water_generation(&marks, 1);
    assert_memory_equal(first->secret_id, generation[0].secret_id, SECRET_ID_BYTES);
    assert_memory_equal(first->tag, generation[0].tag, TAG_BYTES);
    assert_string_equal(first->share_set, "a set");
    assert_int_equal(first->wraps, 100);
    assert_int_equal(first->version, 3);
    assert_null(high_water_generation(&marks, 3));
    assert_int_equal(marks.head_count, 1);
    assert_string_equal(marks.head[0].node, "node1");
    assert_int_equal(high_water_compare(&marks, &now, NULL), SSO_OK);
}

static void marks_only_rise(void **state)
{
    (void)state;
    HIGH_WATER_AUTO marks = {0};
    struct generation high[] = {row(1, 3, 100)}, low[] = {row(1, 2, 200)};
    struct generation wraps[] = {{.number = 1, .wraps = 300}, {.number = 9, .wraps = 1}};
    struct audit_head head = {.node = "node1", .number = 12},
                      older = {.node = "node1", .number = 4};
    struct high_water first = seen(high, 1, &head), second = seen(low, 1, &older);
    struct high_water third = seen(wraps, 2, &older), other = seen(high, 1, &head);
    second.highest = 1;
    assert_int_equal(high_water_raise(folder, &first, NULL), SSO_OK);
    assert_int_equal(high_water_raise(folder, &second, NULL), SSO_OK);
    assert_int_equal(high_water_raise(folder, &third, NULL), SSO_OK);
    other.system_id[0] = 99;
    assert_int_equal(high_water_raise(folder, &other, NULL), SSO_DATABASE_OF_OTHER_SYSTEM);
    assert_int_equal(high_water_read(folder, &marks, NULL), SSO_OK);
    assert_int_equal(marks.highest, 2);
    assert_int_equal(marks.generation_count, 1);
    assert_int_equal(marks.generation[0].version, 3);
    assert_int_equal(marks.generation[0].wraps, 300);
    assert_int_equal(marks.head[0].number, 12);
}

static void below_a_mark_is_told(void **state)
{
    (void)state;
    struct sso_error err;
    struct generation high[] = {row(1, 3, 100)}, low[] = {row(1, 2, 100)}, few[] = {row(1, 3, 99)};
    struct generation other[] = {row(1, 3, 100)};
    struct audit_head head = {.node = "node1", .number = 12};
    const struct high_water marks = seen(high, 1, &head);
    struct high_water now = seen(low, 1, &head);
    assert_int_equal(high_water_compare(&marks, &now, &err), SSO_DATABASE_WENT_BACK);
    assert_non_null(strstr(err.detail, "row version of generation 1 was 3, here it is 2"));
    now = seen(few, 1, &head);
    assert_int_equal(high_water_compare(&marks, &now, &err), SSO_DATABASE_WENT_BACK);
    assert_non_null(strstr(err.detail, "wraps"));
    other[0].secret_id[0]++;
    now = seen(other, 1, &head);
    assert_int_equal(high_water_compare(&marks, &now, &err), SSO_DATABASE_WENT_BACK);
    now = seen(NULL, 0, &head);
    assert_int_equal(high_water_compare(&marks, &now, &err), SSO_DATABASE_WENT_BACK);
    now = seen(high, 1, &head);
    now.revocation--;
    assert_int_equal(high_water_compare(&marks, &now, &err), SSO_DATABASE_WENT_BACK);
    now = seen(high, 1, &head);
    now.highest--;
    assert_int_equal(high_water_compare(&marks, &now, &err), SSO_DATABASE_WENT_BACK);
    now = seen(high, 1, &head);
    now.system_id[3]++;
    assert_int_equal(high_water_compare(&marks, &now, &err), SSO_DATABASE_OF_OTHER_SYSTEM);
}

/* At every length, and every byte changed. */
static void a_damaged_file_is_refused(void **state)
{
    (void)state;
    char path[64];
    uint8_t bytes[2048];
    struct generation generation[] = {row(1, 3, 100)};
    struct audit_head head = {.node = "node1", .number = 12};
    const struct high_water now = seen(generation, 1, &head);
    assert_int_equal(high_water_raise(folder, &now, NULL), SSO_OK);
    snprintf(path, sizeof path, "%s/" HIGH_WATER_FILE, folder);
    int fd = open(path, O_RDWR);
    ssize_t size = read(fd, bytes, sizeof bytes);
    assert_in_range(size, 100, sizeof bytes - 1);
    for (ssize_t i = 0; i < size; i++) {
        struct high_water marks;
        struct sso_error err;
        bytes[i] ^= 0x40;
        assert_int_equal(pwrite(fd, bytes + i, 1, i), 1);
        assert_int_equal(high_water_read(folder, &marks, &err), SSO_DATABASE_WENT_BACK);
        assert_non_null(strstr(err.detail, "high-water, is damaged"));
        bytes[i] ^= 0x40;
        assert_int_equal(pwrite(fd, bytes + i, 1, i), 1);
    }
    for (ssize_t length = size - 1; length >= 0; length--) {
        struct high_water marks;
        assert_int_equal(ftruncate(fd, length), 0);
        assert_int_equal(high_water_read(folder, &marks, NULL), SSO_DATABASE_WENT_BACK);
        assert_int_equal(marks.generation_count, 0);
    }
    close(fd);
    /* Only whoever accepts a database writes it anew. */
    assert_int_equal(high_water_raise(folder, &now, NULL), SSO_DATABASE_WENT_BACK);
    assert_int_equal(high_water_replace(folder, &now, NULL), SSO_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_seen_is_read_again, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(marks_only_rise, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(below_a_mark_is_told, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_damaged_file_is_refused, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
