/*
 * How fast rows go: the cap, and yielding to live requests.
 *
 * Yielding is a pace in rows a second, kept by short portions at even distances, and looked at ten
 * times a second: down by a seventh while live requests take more than TOLERATED_PERCENT of what
 * they usually do (by half where it is far more), up by a little while they take clearly less, and
 * quickly until it was once too fast. Never above what the rows really go at, never below
 * SLOWEST_ROWS_PER_SECOND. At that pace what live requests take is not the rotation's doing: it
 * counts as usual from then on, so that a machine with other work does not hold the rotation up.
 * At full speed there is no pace; that requests are there makes commits and frames small all the
 * same.
 */
#include "rewrap/engine.h"

#include "common/clock.h"

#define LOOK_MS 100
#define LOOK_REQUESTS 8
#define TOLERATED_PERCENT 125
#define CALM_PERCENT 115
#define BAD_PERCENT 200
#define SLOWEST_ROWS_PER_SECOND 500.0
/* Where live requests came while it went as fast as it could. */
#define FIRST_ROWS_PER_SECOND 1000.0
#define STEP_UP 1.08
#define STEP_UP_AT_FIRST 1.3
#define STEP_DOWN 0.85
#define STEP_DOWN_BAD 0.5
#define AHEAD_OF_ROWS 1.5
/* Rows go in this many portions a second under a cap; under a pace in more, so that a live request
 * that comes between finds a worker, or the database, busy for a millisecond or two. */
#define PORTIONS_PER_SECOND 10
#define PORTIONS_PER_SECOND_YIELDING 200
#define PORTION_ROWS_YIELDING_MIN 16
#define PORTION_ROWS_YIELDING_MAX 128

size_t throttle_batch_rows(const struct throttle *throttle)
{
    size_t rows = atomic_load(&throttle->engine->batch_rows);
    size_t rate = atomic_load(&throttle->engine->job->rate);
    if (throttle->pace > 0) {
        size_t portion = (size_t)(throttle->pace / PORTIONS_PER_SECOND_YIELDING);
        if (portion < PORTION_ROWS_YIELDING_MIN)
            portion = PORTION_ROWS_YIELDING_MIN;
        if (portion > PORTION_ROWS_YIELDING_MAX)
            portion = PORTION_ROWS_YIELDING_MAX;
        rows = portion < rows ? portion : rows;
    }
    if (rate != 0 && rate / PORTIONS_PER_SECOND < rows)
        rows = rate / PORTIONS_PER_SECOND;
    return rows != 0 ? rows : 1;
}

static double next_pace(struct throttle *throttle, unsigned percent, double rows_per_second)
{
    double pace = throttle->pace;
    if (percent >= BAD_PERCENT)
        pace *= STEP_DOWN_BAD;
    else if (percent > TOLERATED_PERCENT)
        pace *= STEP_DOWN;
    else if (percent <= CALM_PERCENT)
        pace *= throttle->was_too_fast ? STEP_UP : STEP_UP_AT_FIRST;
    throttle->was_too_fast = throttle->was_too_fast || percent > TOLERATED_PERCENT;
    if (pace > throttle->pace && pace > rows_per_second * AHEAD_OF_ROWS)
        pace = throttle->pace;
    return pace > SLOWEST_ROWS_PER_SECOND ? pace : SLOWEST_ROWS_PER_SECOND;
}

/* Live requests are asked about now and then, where there were enough of them to tell. */
static void look(struct throttle *throttle)
{
    struct rewrap_job *job = throttle->engine->job;
    int64_t now_ms = boot_clock_ms();
    int64_t elapsed_ms = now_ms - throttle->looked_ms;
    struct live_requests live = {0};
    if (job->live_requests == NULL || elapsed_ms < LOOK_MS)
        return;
    bool slowest = throttle->pace > 0 && throttle->pace <= SLOWEST_ROWS_PER_SECOND;
    job->live_requests(job->context, slowest, &live);
    atomic_store(&throttle->engine->beside_live, live.any);
    if (job->rotation.full_speed) {
        throttle->looked_ms = now_ms;
        return;
    }
    if (live.any && throttle->pace > 0 && live.count - throttle->seen < LOOK_REQUESTS)
        return;
    if (!live.any)
        throttle->pace = 0;
    else if (live.percent == 0)
        throttle->pace = SLOWEST_ROWS_PER_SECOND;
    else if (throttle->pace <= 0)
        throttle->pace = FIRST_ROWS_PER_SECOND;
    else
        throttle->pace =
            next_pace(throttle, live.percent, (double)throttle->rows * 1000 / (double)elapsed_ms);
    throttle->seen = live.count;
    throttle->looked_ms = now_ms;
    throttle->rows = 0;
}

/* The cap and the pace, whichever is less; 0: neither. */
static double rows_per_second(const struct throttle *throttle)
{
    double rate = atomic_load(&throttle->engine->job->rate);
    if (rate <= 0)
        return throttle->pace;
    return throttle->pace > 0 && throttle->pace < rate ? throttle->pace : rate;
}

bool throttle_wait(struct throttle *throttle, size_t rows)
{
    struct engine *engine = throttle->engine;
    look(throttle);
    throttle->rows += rows;
    double speed = rows_per_second(throttle);
    if (speed <= 0)
        return !engine_is_ending(engine);

    double from = (double)boot_clock_ms();
    /* Time in which nothing went (a pause, an outage) is not made up for by a burst. */
    if (throttle->allowed_from_ms > from)
        from = throttle->allowed_from_ms;
    throttle->allowed_from_ms = from + (double)rows * 1000 / speed;
    unsigned rate = atomic_load(&engine->job->rate);
    for (double wait = from - (double)boot_clock_ms(); wait >= 1;
         wait = from - (double)boot_clock_ms()) {
        if (atomic_load(&engine->job->rate) != rate) {
            throttle->allowed_from_ms = 0; /* a cap that was changed or lifted counts at once */
            break;
        }
        if (!engine_sleep(engine, wait < 100 ? (unsigned)wait : 100))
            return false;
    }
    return !engine_is_ending(engine);
}
