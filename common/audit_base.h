/* Where an audit chain begins since its older records were pruned. `audit verify`, which has no
 * policy key, believes a base where a signature (common/audit_key.h) has it among its heads and a
 * record that is still there announces it, so that taking records away and moving the base is
 * found; whoever has the key goes by the tag. */
#ifndef SSO_COMMON_AUDIT_BASE_H
#define SSO_COMMON_AUDIT_BASE_H

#include <stdint.h>

#include "common/audit_head.h"
#include "common/generation.h"

struct audit_base {
    struct audit_head last; /* of the records that were pruned; the chain goes on after it */
    uint64_t signature;     /* number of the signature that names it */
    int64_t time_ms;        /* of that signature */
    uint8_t tag[TAG_BYTES]; /* policy tag (common/policy.h) */
};

/* Announces bases, and through which number signatures were pruned, by its target. */
#define AUDIT_PRUNE_OPERATION "audit.prune"
#define AUDIT_BASE_TARGET_SIZE 192
void audit_base_target(const struct audit_base *base, char out[static AUDIT_BASE_TARGET_SIZE]);
void audit_signatures_target(uint64_t through, char out[static AUDIT_BASE_TARGET_SIZE]);
/* The way back of the latter; 0 where it is another target. */
uint64_t audit_signatures_through(const char *target);

/* `how` of a record that announces a signing key again, since the one before is pruned. */
#define AUDIT_KEY_AGAIN "retention"

#endif
