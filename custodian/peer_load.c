#include "custodian/peer_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

static const char *name_of(const struct identity *identity)
{
    return identity->name_count > 0 ? identity->name[0] : "";
}

struct peer_load *peer_load_find(struct peer_load **all, const struct identity *identity,
                                 unsigned requests_per_second)
{
    int64_t now_ms = boot_clock_ms();
    for (struct peer_load **at = all; *at != NULL;) {
        struct peer_load *peer = *at;
        if (peer->uid == identity->uid && strcmp(peer->name, name_of(identity)) == 0)
            return peer;
        if (peer->connections == 0 && now_ms - peer->counted_ms > 1000) {
            *at = peer->next;
            free(peer);
            continue;
        }
        at = &peer->next;
    }
    struct peer_load *peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        return NULL;
    peer->uid = identity->uid;
    snprintf(peer->name, sizeof peer->name, "%s", name_of(identity));
    peer->allowance = requests_per_second;
    peer->counted_ms = now_ms;
    peer->next = *all;
    *all = peer;
    return peer;
}

void peer_load_free_all(struct peer_load **all)
{
    for (struct peer_load *peer = *all, *next; peer != NULL; peer = next) {
        next = peer->next;
        free(peer);
    }
    *all = NULL;
}

bool peer_load_takes(struct peer_load *peer, unsigned requests_per_second)
{
    if (requests_per_second == 0)
        return true;
    int64_t now_ms = boot_clock_ms();
    peer->allowance += (double)(now_ms - peer->counted_ms) * requests_per_second / 1000;
    if (peer->allowance > requests_per_second)
        peer->allowance = requests_per_second;
    peer->counted_ms = now_ms;
    if (peer->allowance < 1)
        return false;
    peer->allowance -= 1;
    return true;
}
