/* The count of rows that status tells of: exact of a small table, kept of a large one. The store is
 * a model that knows one generation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "custodian/row_counts.h"

#define LARGE 1000

static atomic_llong now_ms;
static atomic_uint counted, cost_ms;
static atomic_ullong rows_now;
static atomic_bool away;

int64_t __wrap_boot_clock_ms(void);
int64_t __wrap_boot_clock_ms(void)
{
    return atomic_load(&now_ms);
}

enum sso_code __wrap_store_begin(struct store *store, enum store_access access,
                                 struct store_tx **out, struct sso_error *err);
enum sso_code __wrap_store_begin(struct store *store, enum store_access access,
                                 struct store_tx **out, struct sso_error *err)
{
    (void)store;
    (void)access;
    *out = NULL;
    return atomic_load(&away) ? sso_fail(err, SSO_DATABASE_UNAVAILABLE, "away") : SSO_OK;
}

void __wrap_store_rollback(struct store_tx **tx);
void __wrap_store_rollback(struct store_tx **tx)
{
    *tx = NULL;
}

enum sso_code __wrap_store_count_by_generation(struct store_tx *tx, struct generation_rows **out,
                                               size_t *count, struct sso_error *err);
enum sso_code __wrap_store_count_by_generation(struct store_tx *tx, struct generation_rows **out,
                                               size_t *count, struct sso_error *err)
{
    (void)tx;
    (void)err;
    *out = calloc(1, sizeof **out);
    (*out)->generation = 7;
    (*out)->credentials = atomic_load(&rows_now);
    *count = 1;
    atomic_fetch_add(&now_ms, atomic_load(&cost_ms));
    atomic_fetch_add(&counted, 1);
    return SSO_OK;
}

static int set_up(void **state)
{
    struct row_counts *counts = NULL;
    atomic_store(&now_ms, 1000000);
    atomic_store(&counted, 0);
    atomic_store(&cost_ms, 0);
    atomic_store(&away, false);
    int failed = row_counts_new(LARGE, &counts, NULL) != SSO_OK;
    *state = counts;
    return failed;
}

static int tear_down(void **state)
{
    struct row_counts *counts = *state;
    row_counts_free(&counts);
    return counts != NULL;
}

static uint64_t told(struct row_counts *counts)
{
    struct counted_rows rows = {0};
    assert_int_equal(row_counts_read(counts, NULL, NULL, &rows, NULL), SSO_OK);
    assert_int_equal(rows.count, 1);
    assert_int_equal(rows.rows[0].generation, 7);
    assert_int_not_equal(rows.counted_ms, 0);
    uint64_t credentials = rows.rows[0].credentials;
    free(rows.rows);
    return credentials;
}

/* Whoever counts beside needs a moment of the processor. */
static void wait_until_told(struct row_counts *counts, uint64_t wanted)
{
    struct timespec moment = {.tv_nsec = 1000000};
    while (told(counts) != wanted)
        nanosleep(&moment, NULL);
}

static void a_small_table_is_counted_each_time(void **state)
{
    for (uint64_t rows = 0; rows <= LARGE; rows += LARGE / 10) {
        atomic_store(&rows_now, rows);
        assert_int_equal(told(*state), rows);
    }
    assert_int_equal(atomic_load(&counted), 11);
}

static void the_count_of_a_large_table_is_kept(void **state)
{
    atomic_store(&rows_now, LARGE + 1);
    assert_int_equal(told(*state), LARGE + 1);
    atomic_store(&rows_now, LARGE + 2);
    for (int i = 0; i < 100; i++)
        assert_int_equal(told(*state), LARGE + 1);
    atomic_fetch_add(&now_ms, 4999);
    assert_int_equal(told(*state), LARGE + 1);
    assert_int_equal(atomic_load(&counted), 1);
    atomic_fetch_add(&now_ms, 1);
    wait_until_told(*state, LARGE + 2);
    assert_int_equal(atomic_load(&counted), 2);
}

static void what_costs_more_is_done_less_often(void **state)
{
    atomic_store(&rows_now, LARGE + 1);
    atomic_store(&cost_ms, 2000);
    assert_int_equal(told(*state), LARGE + 1);
    atomic_store(&rows_now, LARGE + 2);
    atomic_fetch_add(&now_ms, 39999);
    assert_int_equal(told(*state), LARGE + 1);
    assert_int_equal(atomic_load(&counted), 1);
    atomic_fetch_add(&now_ms, 1);
    wait_until_told(*state, LARGE + 2);
    assert_int_equal(atomic_load(&counted), 2);
}

static void an_outdated_count_is_renewed_at_once(void **state)
{
    atomic_store(&rows_now, LARGE + 1);
    assert_int_equal(told(*state), LARGE + 1);
    atomic_store(&rows_now, LARGE + 2);
    row_counts_outdated(*state);
    wait_until_told(*state, LARGE + 2);
    assert_int_equal(atomic_load(&counted), 2);
    assert_int_equal(told(*state), LARGE + 2);
    assert_int_equal(atomic_load(&counted), 2);
}

static void a_table_that_shrank_is_counted_each_time(void **state)
{
    atomic_store(&rows_now, LARGE + 1);
    assert_int_equal(told(*state), LARGE + 1);
    atomic_store(&rows_now, 5);
    row_counts_outdated(*state);
    wait_until_told(*state, 5);
    atomic_store(&rows_now, 6);
    assert_int_equal(told(*state), 6);
}

static void what_was_known_stays_while_the_database_is_away(void **state)
{
    atomic_store(&rows_now, LARGE + 1);
    assert_int_equal(told(*state), LARGE + 1);
    atomic_store(&away, true);
    row_counts_outdated(*state);
    assert_int_equal(told(*state), LARGE + 1);
    atomic_store(&away, false);
    atomic_store(&rows_now, LARGE + 2);
    wait_until_told(*state, LARGE + 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_small_table_is_counted_each_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_count_of_a_large_table_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_costs_more_is_done_less_often, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_outdated_count_is_renewed_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_table_that_shrank_is_counted_each_time, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_was_known_stays_while_the_database_is_away, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
