/* Recomputes a node's audit chain from its records and names what does not fit. */
#ifndef SSO_CLI_AUDIT_CHAIN_H
#define SSO_CLI_AUDIT_CHAIN_H

#include <jansson.h>

#include "common/audit_head.h"
#include "common/error.h"
#include "store/store.h"

/* The last number and hash of a chain, as it is known from elsewhere. */
struct chain_anchor {
    uint64_t number; /* 0: none */
    uint8_t hash[AUDIT_HASH_BYTES];
    const char *where; /* for the text of a finding */
};

/* What of each chain is added here. */
struct chain_report {
    json_t *findings; /* array */
    /* Array of {"node","number","time","actor","known","detail"}: records which say that the
     * database was put back and accepted. What the chain held behind the one before is not in it.
     */
    json_t *accepted;
    uint64_t records;
};

/* `base` names the node, and the record after which its chain begins: number 0 where nothing was
 * pruned. */
enum sso_code chain_verify(struct store_tx *tx, const struct audit_head *base,
                           const struct chain_anchor *anchors, size_t anchor_count,
                           struct chain_report *report, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
