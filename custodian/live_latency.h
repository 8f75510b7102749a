/* How much slower the HSM answers live requests than it does when nothing else runs: what the
 * rotation engine yields to (DESIGN §7). All zero is a fresh one. Thread-safe; an update lost
 * between two threads does no harm. */
#ifndef SSO_CUSTODIAN_LIVE_LATENCY_H
#define SSO_CUSTODIAN_LIVE_LATENCY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct live_latency {
    atomic_uint now_microseconds;   /* moving average of late calls; 0: no call yet */
    atomic_uint quiet_microseconds; /* the same while no rotation ran; 0: no call yet */
    atomic_int_fast64_t last_ms;    /* boot clock */
};

int64_t live_latency_clock(void); /* microseconds */
/* `quiet`: no rotation runs. */
void live_latency_add(struct live_latency *latency, unsigned microseconds, bool quiet);
/* 0 where nobody has called for a second. */
unsigned live_latency_delay(struct live_latency *latency);

#endif
