#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "custodian/live_latency.h"

static int64_t now_ms = 1;

int64_t __wrap_boot_clock_ms(void);
int64_t __wrap_boot_clock_ms(void)
{
    return now_ms;
}

static void add(struct live_latency *latency, unsigned microseconds, int times)
{
    for (int i = 0; i < times; i++)
        live_latency_add(latency, LIVE_LOOKUP, microseconds);
}

static unsigned percent(struct live_latency *latency)
{
    unsigned percent = 0;
    return live_latency_percent(latency, &percent) ? percent : 0;
}

static void percent_is_of_the_usual(void **state)
{
    (void)state;
    struct live_latency latency = {0};
    assert_int_equal(percent(&latency), 0);
    add(&latency, 1000, 200);
    assert_int_equal(percent(&latency), 100);
    atomic_store(&latency.beside, true);
    add(&latency, 1000, 200);
    assert_int_equal(percent(&latency), 100);
    add(&latency, 2200, 400);
    assert_in_range(percent(&latency), 195, 200);
    add(&latency, 1000, 400);
    assert_int_equal(percent(&latency), 100);
    assert_int_equal(atomic_load(&latency.count), 1200);
}

static void what_every_rotation_costs_is_no_delay(void **state)
{
    (void)state;
    struct live_latency latency = {0};
    add(&latency, 100, 200);
    atomic_store(&latency.beside, true);
    add(&latency, 300, 400);
    assert_int_equal(percent(&latency), 100);
}

static void the_usual_is_learnt_before_it_counts(void **state)
{
    (void)state;
    struct live_latency latency = {0};
    atomic_store(&latency.beside, true);
    add(&latency, 5000, 100);
    assert_int_equal(percent(&latency), 0);
    atomic_store(&latency.beside, false);
    add(&latency, 1000, 31);
    assert_int_equal(percent(&latency), 0);
    add(&latency, 1000, 1);
    assert_in_range(percent(&latency), 100, 400);
}

static void a_slow_machine_becomes_the_usual(void **state)
{
    (void)state;
    struct live_latency latency = {0};
    add(&latency, 1000, 2000);
    add(&latency, 3000, 100);
    assert_in_range(percent(&latency), 200, 280);
    add(&latency, 3000, 10000);
    assert_int_equal(percent(&latency), 100);
}

static void the_kind_that_fares_worse_counts(void **state)
{
    (void)state;
    struct live_latency latency = {0};
    add(&latency, 1000, 100);
    for (int i = 0; i < 100; i++)
        live_latency_add(&latency, LIVE_WRITE, 9000);
    assert_int_equal(percent(&latency), 100);
    atomic_store(&latency.beside, true);
    for (int i = 0; i < 400; i++)
        live_latency_add(&latency, LIVE_WRITE, 18200);
    assert_in_range(percent(&latency), 195, 200);
}

static void nobody_waits_for_nobody(void **state)
{
    (void)state;
    struct live_latency latency = {0};
    add(&latency, 1000, 100);
    atomic_store(&latency.beside, true);
    add(&latency, 9000, 100);
    assert_in_range(percent(&latency), 250, 400);
    now_ms += 1001;
    assert_int_equal(percent(&latency), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percent_is_of_the_usual),
        cmocka_unit_test(what_every_rotation_costs_is_no_delay),
        cmocka_unit_test(the_usual_is_learnt_before_it_counts),
        cmocka_unit_test(a_slow_machine_becomes_the_usual),
        cmocka_unit_test(the_kind_that_fares_worse_counts),
        cmocka_unit_test(nobody_waits_for_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
