/* The audit chains. A part of store/store.h. */
#ifndef SSO_STORE_AUDIT_H
#define SSO_STORE_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/audit_head.h"
#include "common/audit_record.h"
#include "common/error.h"

struct store_tx;

/* Continues the chain of records[0].node (all of one node): sets number and hash of each. The
 * chain's lock is held to the end of the transaction, so that daemon and CLI of one node can both
 * write to it. */
enum sso_code store_audit_append(struct store_tx *tx, struct audit_record *records, size_t count,
                                 struct sso_error *err) __attribute__((warn_unused_result));
/* Records of `node` (NULL: of all nodes, by node) with number > after, at most `limit`. What
 * cannot be read of one is empty, so that its hash does not fit. */
enum sso_code store_audit_list(struct store_tx *tx, const char *node, uint64_t after, size_t limit,
                               struct audit_record **out, size_t *count, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Is that record of its node's chain there, with that hash? Yes for number 0. Records are only ever
 * added, so what was once the end of a chain stays in it. */
enum sso_code store_audit_holds(struct store_tx *tx, const struct audit_head *head, bool *holds,
                                struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code store_audit_heads(struct store_tx *tx, struct audit_head **out, size_t *count,
                                struct sso_error *err) __attribute__((warn_unused_result));

#endif
