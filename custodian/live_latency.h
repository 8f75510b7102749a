/* How long live requests take beside a rotation, against what they usually take: what the engine
 * yields to (DESIGN §7). Lookups and writes by themselves, since they are not alike, and only of
 * few credentials. All zero is a fresh one. Thread-safe; an update lost between two threads does no
 * harm. */
#ifndef SSO_CUSTODIAN_LIVE_LATENCY_H
#define SSO_CUSTODIAN_LIVE_LATENCY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum live_kind { LIVE_LOOKUP, LIVE_WRITE, LIVE_KINDS };

struct live_latency {
    struct {
        atomic_uint now_microseconds;   /* moving average of late requests */
        atomic_uint usual_microseconds; /* the same of those that no rotation was in the way of */
        atomic_uint usual_count;
        atomic_int_fast64_t last_ms; /* boot clock; 0: there was none */
    } kind[LIVE_KINDS];
    atomic_uint count;  /* of all requests */
    atomic_bool beside; /* a rotation runs, and could give way more than it does */
};

void live_latency_add(struct live_latency *latency, enum live_kind kind, unsigned microseconds);
/* Percent of the usual, 100 or more, of the kind that fares worse; 0 where it is not known yet what
 * is usual. False where nobody has asked for a second. */
bool live_latency_percent(struct live_latency *latency, unsigned *percent);

#endif
