#include "custodian/live_latency.h"

#include "common/clock.h"

#define NOW_WEIGHT 64
/* Slow to learn, so that a rotation at its slowest does not pass for the usual at once; where the
 * machine has something else to do for long, it is the usual. */
#define USUAL_WEIGHT 1024
#define USUAL_KNOWN_AFTER 32
#define FORGOTTEN_AFTER_MS 1000
/* What every rotation costs, however slow it is: a row that was moved has its key opened anew. */
#define UNAVOIDABLE_MICROSECONDS 200
/* One request that took very long says no more than this: the average would swing with such. */
#define OUTLIER_TIMES 4

static void average(atomic_uint *place, unsigned sample, unsigned weight)
{
    unsigned old = atomic_load_explicit(place, memory_order_relaxed);
    uint64_t next = old == 0 ? sample : ((uint64_t)old * (weight - 1) + sample) / weight;
    /* Whole microseconds: a small step upwards would else be none. */
    next += sample > next && next == old;
    atomic_store_explicit(place, next == 0 ? 1 : (unsigned)next, memory_order_relaxed);
}

void live_latency_add(struct live_latency *latency, enum live_kind kind, unsigned microseconds)
{
    unsigned usual =
        atomic_load_explicit(&latency->kind[kind].usual_microseconds, memory_order_relaxed);
    if (usual != 0 && microseconds / OUTLIER_TIMES > usual)
        microseconds = usual * OUTLIER_TIMES;
    average(&latency->kind[kind].now_microseconds, microseconds, NOW_WEIGHT);
    if (!atomic_load_explicit(&latency->beside, memory_order_relaxed)) {
        unsigned count =
            atomic_load_explicit(&latency->kind[kind].usual_count, memory_order_relaxed);
        count += count < USUAL_WEIGHT;
        average(&latency->kind[kind].usual_microseconds, microseconds, count);
        atomic_store_explicit(&latency->kind[kind].usual_count, count, memory_order_relaxed);
    }
    atomic_store_explicit(&latency->kind[kind].last_ms, boot_clock_ms(), memory_order_relaxed);
    atomic_fetch_add_explicit(&latency->count, 1, memory_order_relaxed);
}

static bool is_recent(struct live_latency *latency, enum live_kind kind)
{
    int64_t last_ms = atomic_load_explicit(&latency->kind[kind].last_ms, memory_order_relaxed);
    return last_ms != 0 && boot_clock_ms() - last_ms <= FORGOTTEN_AFTER_MS;
}

static unsigned percent_of(struct live_latency *latency, enum live_kind kind)
{
    uint64_t now =
        atomic_load_explicit(&latency->kind[kind].now_microseconds, memory_order_relaxed);
    uint64_t usual =
        atomic_load_explicit(&latency->kind[kind].usual_microseconds, memory_order_relaxed);
    if (atomic_load_explicit(&latency->kind[kind].usual_count, memory_order_relaxed) <
        USUAL_KNOWN_AFTER)
        return 0;
    if (now <= usual + UNAVOIDABLE_MICROSECONDS)
        return 100;
    uint64_t percent = 100 + (now - usual - UNAVOIDABLE_MICROSECONDS) * 100 / usual;
    return percent < 10000 ? (unsigned)percent : 10000;
}

bool live_latency_percent(struct live_latency *latency, unsigned *percent)
{
    bool any = false;
    *percent = 0;
    for (enum live_kind kind = 0; kind < LIVE_KINDS; kind++) {
        if (!is_recent(latency, kind))
            continue;
        unsigned here = percent_of(latency, kind);
        *percent = here > *percent ? here : *percent;
        any = true;
    }
    return any;
}
