#include "rewrap/engine.h"

#include "common/clock.h"

/* Live requests slower than this are worth giving way for. */
#define NOTICED_DELAY_MICROSECONDS 300
/* However busy the service is, the rotation goes on. */
#define LONGEST_YIELD_MS 50
/* While the job gives way its batches are small: a live request that comes all the same finds a
 * worker busy for a millisecond or two. */
#define YIELDING_BATCH_ROWS 32
/* Under a cap rows go in this many portions a second, not in one burst. */
#define PORTIONS_PER_SECOND 10

size_t throttle_batch_rows(const struct throttle *throttle)
{
    size_t rows = atomic_load(&throttle->engine->batch_rows);
    size_t rate = atomic_load(&throttle->engine->job->rate);
    if (throttle->yield_ms != 0 && rows > YIELDING_BATCH_ROWS)
        rows = YIELDING_BATCH_ROWS;
    if (rate != 0 && rate / PORTIONS_PER_SECOND < rows)
        rows = rate / PORTIONS_PER_SECOND;
    return rows != 0 ? rows : 1;
}

/* The pause doubles while live requests suffer and shrinks by a quarter at a time when they do not:
 * quick to give way, slow to come back. */
static unsigned next_yield_ms(const struct throttle *throttle)
{
    struct rewrap_job *job = throttle->engine->job;
    if (job->rotation.full_speed || job->live_delay_microseconds == NULL)
        return 0;
    if (job->live_delay_microseconds(job->context) <= NOTICED_DELAY_MICROSECONDS)
        return throttle->yield_ms * 3 / 4;
    unsigned doubled = throttle->yield_ms * 2 + 1;
    return doubled < LONGEST_YIELD_MS ? doubled : LONGEST_YIELD_MS;
}

bool throttle_wait(struct throttle *throttle, size_t rows)
{
    struct engine *engine = throttle->engine;
    throttle->yield_ms = next_yield_ms(throttle);
    if (throttle->yield_ms != 0 && !engine_sleep(engine, throttle->yield_ms))
        return false;
    unsigned rate = atomic_load(&engine->job->rate);
    if (rate == 0)
        return !engine_is_ending(engine);

    int64_t from = boot_clock_ms();
    /* Time in which nothing went (a pause, an outage) is not made up for by a burst. */
    if (throttle->allowed_from_ms > from)
        from = throttle->allowed_from_ms;
    throttle->allowed_from_ms = from + (int64_t)((rows * 1000 + rate - 1) / rate);
    for (int64_t wait = from - boot_clock_ms(); wait > 0; wait = from - boot_clock_ms()) {
        if (atomic_load(&engine->job->rate) != rate) {
            throttle->allowed_from_ms = 0; /* a cap that was changed or lifted counts at once */
            break;
        }
        if (!engine_sleep(engine, wait < 100 ? (unsigned)wait : 100))
            return false;
    }
    return !engine_is_ending(engine);
}
