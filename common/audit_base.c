#include "common/audit_base.h"

#include <stdio.h>

#include "common/encode.h"

void audit_base_target(const struct audit_base *base, char out[static AUDIT_BASE_TARGET_SIZE])
{
    char hash[2 * AUDIT_HASH_BYTES + 1];
    hex_encode(base->last.hash, sizeof base->last.hash, hash);
    snprintf(out, AUDIT_BASE_TARGET_SIZE, "records of %s through %llu %s", base->last.node,
             (unsigned long long)base->last.number, hash);
}

void audit_signatures_target(uint64_t through, char out[static AUDIT_BASE_TARGET_SIZE])
{
    snprintf(out, AUDIT_BASE_TARGET_SIZE, "signatures through %llu", (unsigned long long)through);
}

uint64_t audit_signatures_through(const char *target)
{
    unsigned long long through = 0;
    return sscanf(target, "signatures through %llu", &through) == 1 ? through : 0;
}
