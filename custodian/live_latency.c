#include "custodian/live_latency.h"

#include <time.h>

#include "common/clock.h"

#define NOW_WEIGHT 8
#define QUIET_WEIGHT 64
#define FORGOTTEN_AFTER_MS 1000

int64_t live_latency_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void average(atomic_uint *place, unsigned sample, unsigned weight)
{
    unsigned old = atomic_load_explicit(place, memory_order_relaxed);
    uint64_t next = old == 0 ? sample : ((uint64_t)old * (weight - 1) + sample) / weight;
    atomic_store_explicit(place, next == 0 ? 1 : (unsigned)next, memory_order_relaxed);
}

void live_latency_add(struct live_latency *latency, unsigned microseconds, bool quiet)
{
    average(&latency->now_microseconds, microseconds, NOW_WEIGHT);
    unsigned baseline = atomic_load_explicit(&latency->quiet_microseconds, memory_order_relaxed);
    /* A rotation that goes on after a restart has no quiet time to compare with: then the fastest
     * call is the baseline. */
    if (quiet)
        average(&latency->quiet_microseconds, microseconds, QUIET_WEIGHT);
    else if (baseline == 0 || microseconds < baseline)
        atomic_store_explicit(&latency->quiet_microseconds, microseconds == 0 ? 1 : microseconds,
                              memory_order_relaxed);
    atomic_store_explicit(&latency->last_ms, boot_clock_ms(), memory_order_relaxed);
}

unsigned live_latency_delay(struct live_latency *latency)
{
    int64_t last_ms = atomic_load_explicit(&latency->last_ms, memory_order_relaxed);
    unsigned now = atomic_load_explicit(&latency->now_microseconds, memory_order_relaxed);
    unsigned quiet = atomic_load_explicit(&latency->quiet_microseconds, memory_order_relaxed);
    if (now <= quiet || boot_clock_ms() - last_ms > FORGOTTEN_AFTER_MS)
        return 0;
    return now - quiet;
}
