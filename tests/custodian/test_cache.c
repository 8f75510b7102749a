#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/clock.h"
#include "common/secret.h"
#include "custodian/row_key_cache.h"

#define LEASE_MS 1000

static int64_t now_ms;

int64_t __wrap_boot_clock_ms(void);
int64_t __wrap_boot_clock_ms(void)
{
    return now_ms;
}

static struct credential_row row_of(uint8_t number, uint64_t version)
{
    struct credential_row row = {.generation = 1, .version = version};
    memset(row.row_id, number, sizeof row.row_id);
    memset(row.row_key_id, (int)version, sizeof row.row_key_id);
    memset(row.application_id, number & 1, sizeof row.application_id);
    row.wrapped.length_bytes = 40;
    memset(row.wrapped.bytes, number, 40);
    return row;
}

static void put(struct row_key_cache *cache, uint8_t number, uint64_t version)
{
    struct credential_row row = row_of(number, version);
    uint8_t key[ROW_KEY_BYTES];
    memset(key, number + (int)version, sizeof key);
    row_key_cache_put(cache, &row, key);
}

static enum cache_answer get(struct row_key_cache *cache, uint8_t number, uint64_t version)
{
    struct credential_row row = row_of(number, version);
    uint8_t key[ROW_KEY_BYTES] = {0}, expected[ROW_KEY_BYTES];
    enum cache_answer answer = row_key_cache_get(cache, &row, key);
    memset(expected, answer == CACHE_HIT ? number + (int)version : 0, sizeof expected);
    assert_memory_equal(key, expected, sizeof key);
    return answer;
}

static struct row_key_cache *make(unsigned entries, uint64_t lease_ms)
{
    struct row_key_cache *cache = NULL;
    now_ms = 5;
    assert_int_equal(row_key_cache_new(entries, lease_ms, &cache, NULL), SSO_OK);
    return cache;
}

static unsigned entries(struct row_key_cache *cache)
{
    struct row_key_cache_status status;
    row_key_cache_status(cache, &status);
    return status.entries;
}

static void answers_by_row_and_version(void **state)
{
    (void)state;
    struct row_key_cache *cache = make(4, LEASE_MS);
    assert_int_equal(get(cache, 1, 3), CACHE_MISS);
    put(cache, 1, 3);
    assert_int_equal(get(cache, 1, 3), CACHE_HIT);
    assert_int_equal(get(cache, 1, 4), CACHE_MISS);
    assert_int_equal(get(cache, 1, 2), CACHE_ROW_WENT_BACK);
    assert_int_equal(get(cache, 2, 3), CACHE_MISS);
    put(cache, 1, 2);
    assert_int_equal(get(cache, 1, 3), CACHE_HIT);
    assert_int_equal(row_key_cache_version(cache, row_of(1, 0).row_id), 3);
    assert_int_equal(row_key_cache_version(cache, row_of(2, 0).row_id), 0);
    row_key_cache_free(&cache);
    assert_null(cache);
    row_key_cache_free(&cache);
}

static void tells_a_row_that_was_rewrapped_or_edited(void **state)
{
    (void)state;
    struct row_key_cache *cache = make(4, LEASE_MS);
    uint8_t key[ROW_KEY_BYTES];
    put(cache, 1, 1);
    struct credential_row row = row_of(1, 1);
    row.wrapped.bytes[39] ^= 1;
    assert_int_equal(row_key_cache_get(cache, &row, key), CACHE_REWRAPPED);
    assert_int_equal(key[0], 2);
    row = row_of(1, 1);
    row.generation = 2;
    assert_int_equal(row_key_cache_get(cache, &row, key), CACHE_REWRAPPED);
    row = row_of(1, 1);
    row.row_key_id[0] ^= 1;
    assert_int_equal(row_key_cache_get(cache, &row, key), CACHE_MISS);
    row_key_cache_free(&cache);
}

static void least_recently_used_goes_first(void **state)
{
    (void)state;
    struct row_key_cache *cache = make(3, LEASE_MS);
    put(cache, 1, 1);
    put(cache, 2, 1);
    put(cache, 3, 1);
    assert_int_equal(get(cache, 1, 1), CACHE_HIT);
    put(cache, 4, 1);
    assert_int_equal(entries(cache), 3);
    assert_int_equal(get(cache, 2, 1), CACHE_MISS);
    assert_int_equal(get(cache, 1, 1), CACHE_HIT);
    assert_int_equal(get(cache, 3, 1), CACHE_HIT);
    assert_int_equal(get(cache, 4, 1), CACHE_HIT);
    row_key_cache_free(&cache);
}

static void lease_runs_from_the_opening(void **state)
{
    (void)state;
    struct row_key_cache *cache = make(4, LEASE_MS);
    put(cache, 1, 1);
    now_ms += LEASE_MS / 2;
    put(cache, 2, 1);
    assert_int_equal(get(cache, 1, 1), CACHE_HIT); /* use does not lengthen it */
    now_ms += LEASE_MS / 2;
    assert_int_equal(get(cache, 1, 1), CACHE_MISS);
    assert_int_equal(get(cache, 2, 1), CACHE_HIT);
    now_ms += LEASE_MS;
    row_key_cache_expire(cache);
    assert_int_equal(entries(cache), 0);
    row_key_cache_free(&cache);
}

static void a_lease_can_be_changed(void **state)
{
    (void)state;
    struct row_key_cache *cache = make(4, LEASE_MS);
    put(cache, 1, 1);
    row_key_cache_set_lease(cache, 2 * LEASE_MS);
    assert_int_equal(get(cache, 1, 1), CACHE_HIT);
    put(cache, 2, 1);
    now_ms += LEASE_MS;
    assert_int_equal(get(cache, 1, 1), CACHE_MISS); /* opened under the old one */
    assert_int_equal(get(cache, 2, 1), CACHE_HIT);
    row_key_cache_set_lease(cache, LEASE_MS);
    assert_int_equal(entries(cache), 0);
    row_key_cache_set_lease(cache, 0);
    put(cache, 3, 1);
    assert_int_equal(entries(cache), 0);
    row_key_cache_set_lease(cache, UINT64_MAX);
    put(cache, 3, 1);
    assert_int_equal(get(cache, 3, 1), CACHE_HIT);
    row_key_cache_free(&cache);
}

static void removes_by_row_and_by_application(void **state)
{
    (void)state;
    struct row_key_cache *cache = make(16, LEASE_MS);
    for (uint8_t i = 0; i < 8; i++)
        put(cache, i, 1);
    row_key_cache_remove(cache, row_of(2, 1).row_id);
    assert_int_equal(get(cache, 2, 1), CACHE_MISS);
    row_key_cache_remove_application(cache, row_of(1, 1).application_id);
    assert_int_equal(entries(cache), 3);
    assert_int_equal(get(cache, 3, 1), CACHE_MISS);
    assert_int_equal(get(cache, 4, 1), CACHE_HIT);
    row_key_cache_clear(cache);
    assert_int_equal(entries(cache), 0);
    put(cache, 9, 1);
    assert_int_equal(get(cache, 9, 1), CACHE_HIT);
    row_key_cache_free(&cache);
}

static void keeps_nothing_where_it_is_off(void **state)
{
    (void)state;
    struct row_key_cache *none = make(0, LEASE_MS), *no_lease = make(10, 0);
    put(none, 1, 1);
    put(no_lease, 1, 1);
    assert_int_equal(get(none, 1, 1), CACHE_MISS);
    assert_int_equal(get(no_lease, 1, 1), CACHE_MISS);
    assert_int_equal(entries(none), 0);
    row_key_cache_free(&none);
    row_key_cache_free(&no_lease);
}

/* Against a model: random puts and removes over more rows than there is room for. */
static void stays_bounded_and_right(void **state)
{
    (void)state;
    struct row_key_cache *cache = make(20, LEASE_MS);
    uint32_t seed = 12345;
    for (int i = 0; i < 20000; i++) {
        seed = seed * 1664525 + 1013904223;
        uint8_t number = (uint8_t)(seed >> 24) % 40;
        if ((seed >> 8) % 4 == 0)
            row_key_cache_remove(cache, row_of(number, 1).row_id);
        else if ((seed >> 8) % 4 == 1)
            get(cache, number, 1); /* checks the key of a hit */
        else
            put(cache, number, 1);
        if ((seed >> 10) % 64 == 0)
            now_ms += LEASE_MS / 4;
        assert_in_range(entries(cache), 0, 20);
    }
    row_key_cache_free(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_by_row_and_version),
        cmocka_unit_test(tells_a_row_that_was_rewrapped_or_edited),
        cmocka_unit_test(least_recently_used_goes_first),
        cmocka_unit_test(lease_runs_from_the_opening),
        cmocka_unit_test(a_lease_can_be_changed),
        cmocka_unit_test(removes_by_row_and_by_application),
        cmocka_unit_test(keeps_nothing_where_it_is_off),
        cmocka_unit_test(stays_bounded_and_right),
    };
    wiping_allocator_install();
    if (secret_memory_init(1u << 20, NULL) != SSO_OK)
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
