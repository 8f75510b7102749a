#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "custodian/live_latency.h"

static int64_t now_ms;

int64_t __wrap_boot_clock_ms(void);
int64_t __wrap_boot_clock_ms(void)
{
    return now_ms;
}

static void add(struct live_latency *latency, unsigned microseconds, bool quiet, int times)
{
    for (int i = 0; i < times; i++)
        live_latency_add(latency, microseconds, quiet);
}

static void delay_is_what_comes_on_top(void **state)
{
    (void)state;
    struct live_latency latency = {0};
    assert_int_equal(live_latency_delay(&latency), 0);
    add(&latency, 100, true, 200);
    assert_int_equal(live_latency_delay(&latency), 0);
    add(&latency, 900, false, 200);
    assert_in_range(live_latency_delay(&latency), 700, 800);
    add(&latency, 100, false, 200);
    assert_in_range(live_latency_delay(&latency), 0, 10);
}

static void without_a_quiet_time_the_fastest_counts(void **state)
{
    (void)state;
    struct live_latency latency = {0};
    add(&latency, 100, false, 1);
    add(&latency, 500, false, 200);
    assert_in_range(live_latency_delay(&latency), 350, 400);
}

static void nobody_waits_for_nobody(void **state)
{
    (void)state;
    struct live_latency latency = {0};
    add(&latency, 100, true, 10);
    add(&latency, 900, false, 100);
    assert_int_not_equal(live_latency_delay(&latency), 0);
    now_ms += 1001;
    assert_int_equal(live_latency_delay(&latency), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delay_is_what_comes_on_top),
        cmocka_unit_test(without_a_quiet_time_the_fastest_counts),
        cmocka_unit_test(nobody_waits_for_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
