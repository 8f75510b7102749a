/* What each peer has at a time: connections, bytes on their way, and the requests that it may still
 * make. Kept for a while after its last connection, so that reconnecting does not renew the
 * allowance. For the event loop's thread. */
#ifndef SSO_CUSTODIAN_PEER_LOAD_H
#define SSO_CUSTODIAN_PEER_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "custodian/identity.h"

struct peer_load {
    uid_t uid;
    char name[SAN_BYTES_MAX + 1]; /* of its certificate; "" on the Unix socket */
    unsigned connections;
    size_t arriving_bytes; /* of requests that are not answered yet */
    double allowance;      /* requests it may make now */
    int64_t counted_ms;
    struct peer_load *next;
};

/* Its entry, made where there is none: with the allowance of a whole second. NULL: no memory. Those
 * that have nothing open and have been quiet for long enough to have it back go on the way. */
struct peer_load *peer_load_find(struct peer_load **all, const struct identity *identity,
                                 unsigned requests_per_second);
void peer_load_free_all(struct peer_load **all);

/* May it make a request now? Counts it. 0: no limit. */
bool peer_load_takes(struct peer_load *peer, unsigned requests_per_second);

#endif
