/* The pace of a rotation beside a service whose requests take the longer the faster rows go. Time
 * is a model's: engine_sleep passes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "rewrap/engine.h"

#define FASTEST 10000.0 /* rows a second that the token does */
#define SLOWEST 500.0   /* throttle.c */

static double now_ms;

int64_t __wrap_boot_clock_ms(void);
int64_t __wrap_boot_clock_ms(void)
{
    return (int64_t)now_ms;
}

bool engine_is_ending(struct engine *engine)
{
    (void)engine;
    return false;
}

bool engine_sleep(struct engine *engine, unsigned milliseconds)
{
    (void)engine;
    now_ms += milliseconds;
    return true;
}

struct model {
    double requests_per_second, speed; /* of the last rows */
    double rows_of_one_percent; /* so many rows a second make requests slower by one percent */
    double other_percent;       /* what else makes them slow */
    bool learns;                /* takes what it sees at the slowest pace for the usual */
    double usual_percent;
};

static void live_requests(void *context, bool slowest, struct live_requests *out)
{
    struct model *model = context;
    double percent = 100 + model->other_percent;
    if (model->rows_of_one_percent > 0)
        percent += model->speed / model->rows_of_one_percent;
    if (slowest && model->learns)
        model->usual_percent = percent;
    out->any = model->requests_per_second > 0;
    out->percent = (unsigned)(percent * 100 / model->usual_percent);
    out->count = (unsigned)(now_ms * model->requests_per_second / 1000);
}

struct run {
    struct engine engine;
    struct rewrap_job job;
    struct throttle throttle;
    struct model model;
};

static void run_init(struct run *run, double requests_per_second)
{
    *run =
        (struct run){.model = {.requests_per_second = requests_per_second, .usual_percent = 100}};
    now_ms = 1000;
    run->engine.job = &run->job;
    atomic_init(&run->engine.batch_rows, BATCH_ROWS);
    run->job.live_requests = live_requests;
    run->job.context = &run->model;
    run->throttle.engine = &run->engine;
}

/* Rows a second over so many seconds. */
static double speed_over(struct run *run, double seconds)
{
    double begun_ms = now_ms, rows = 0;
    while (now_ms < begun_ms + seconds * 1000) {
        size_t batch = throttle_batch_rows(&run->throttle);
        double before_ms = now_ms;
        assert_true(throttle_wait(&run->throttle, batch));
        now_ms += (double)batch * 1000 / FASTEST > now_ms - before_ms
                      ? (double)batch * 1000 / FASTEST - (now_ms - before_ms)
                      : 0;
        double speed = (double)batch * 1000 / (now_ms - before_ms);
        run->model.speed += (speed - run->model.speed) / 8;
        rows += (double)batch;
    }
    return rows * 1000 / (now_ms - begun_ms);
}

static void alone_it_takes_all(void **state)
{
    (void)state;
    struct run run;
    run_init(&run, 0);
    assert_true(speed_over(&run, 2) > FASTEST * 0.99);
    assert_int_equal(throttle_batch_rows(&run.throttle), BATCH_ROWS);
}

static void what_harms_nobody_is_not_slowed_down(void **state)
{
    (void)state;
    struct run run;
    run_init(&run, 400);
    speed_over(&run, 10);
    assert_true(speed_over(&run, 10) > FASTEST * 0.9);
}

/* 25 percent are tolerated: at 6,250 rows a second here. */
static void it_settles_where_requests_still_fare_well(void **state)
{
    (void)state;
    struct run run;
    run_init(&run, 400);
    run.model.rows_of_one_percent = 250;
    speed_over(&run, 10);
    for (int second = 0; second < 20; second++) {
        double speed = speed_over(&run, 1);
        assert_true(speed > 3000 && speed < 7500);
    }
}

static void it_gives_way_and_comes_back(void **state)
{
    (void)state;
    struct run run;
    run_init(&run, 400);
    run.model.rows_of_one_percent = 250;
    speed_over(&run, 10);
    run.model.other_percent = 300;
    speed_over(&run, 2);
    double slowest = speed_over(&run, 5);
    assert_true(slowest > SLOWEST * 0.9 && slowest < SLOWEST * 1.1);
    run.model.other_percent = 0;
    speed_over(&run, 10);
    assert_true(speed_over(&run, 5) > 2500);
    run.model.requests_per_second = 0;
    speed_over(&run, 1);
    assert_true(speed_over(&run, 2) > FASTEST * 0.9);
}

static void a_machine_that_is_slow_for_another_reason_does_not_hold_it_up(void **state)
{
    (void)state;
    struct run run;
    run_init(&run, 400);
    run.model.rows_of_one_percent = 250;
    run.model.other_percent = 300;
    run.model.learns = true;
    speed_over(&run, 10);
    assert_true(speed_over(&run, 10) > 4000);
}

static void a_cap_is_a_cap(void **state)
{
    (void)state;
    struct run run;
    run_init(&run, 400);
    atomic_store(&run.job.rate, 300);
    double speed = speed_over(&run, 20);
    assert_true(speed > 270 && speed < 330);
    atomic_store(&run.job.rate, 2000);
    speed_over(&run, 5);
    speed = speed_over(&run, 20);
    assert_true(speed > 1800 && speed < 2100);
}

static void full_speed_gives_no_way(void **state)
{
    (void)state;
    struct run run;
    run_init(&run, 400);
    run.model.other_percent = 900;
    run.job.rotation.full_speed = true;
    assert_true(speed_over(&run, 2) > FASTEST * 0.99);
    assert_true(atomic_load(&run.engine.beside_live)); /* but its commits and frames are small */
    run.model.requests_per_second = 0;
    speed_over(&run, 1);
    assert_false(atomic_load(&run.engine.beside_live));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone_it_takes_all),
        cmocka_unit_test(what_harms_nobody_is_not_slowed_down),
        cmocka_unit_test(it_settles_where_requests_still_fare_well),
        cmocka_unit_test(it_gives_way_and_comes_back),
        cmocka_unit_test(a_machine_that_is_slow_for_another_reason_does_not_hold_it_up),
        cmocka_unit_test(a_cap_is_a_cap),
        cmocka_unit_test(full_speed_gives_no_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
