/* Which nodes may have keys: rows of the nodes table that an administrator approved, under the
 * policy tag, and not before the last time that a node was taken out. An older approval, put back
 * by whoever owns the database, names an older number of revocations, and that number cannot go
 * back unnoticed (common/high_water.h). */
#ifndef SSO_CUSTODIAN_NODES_H
#define SSO_CUSTODIAN_NODES_H

#include "common/node.h"
#include "common/policy.h"
#include "store/store.h"

/* SSO_NOT_FOUND: nobody joined under this name. Its tag is not checked. */
enum sso_code nodes_find(struct store_tx *tx, const char *name, struct node *out,
                         struct sso_error *err) __attribute__((warn_unused_result));
/* The setting system.revocation, its tag checked. */
enum sso_code nodes_revocation(struct store_tx *tx, const struct policy *policy, uint64_t *out,
                               struct sso_error *err) __attribute__((warn_unused_result));
/* Is it approved, now? SSO_FORBIDDEN: not approved. SSO_POLICY_TAMPERED: changed by another hand,
 * or an older approval. */
enum sso_code node_check(const struct policy *policy, const struct node *node, uint64_t revocation,
                         struct sso_error *err) __attribute__((warn_unused_result));

/* Writes `node` as approved now. */
enum sso_code nodes_approve(struct store_tx *tx, const struct policy *policy, struct node *node,
                            struct sso_error *err) __attribute__((warn_unused_result));
/* Takes it out, raises the number of revocations, and says of all others that were approved until
 * now that they still are. SSO_NOT_FOUND. */
enum sso_code nodes_remove(struct store_tx *tx, const struct policy *policy, const char *name,
                           struct sso_error *err) __attribute__((warn_unused_result));

#endif
