/* The nodes of the installation. A part of store/store.h. */
#ifndef SSO_STORE_NODES_H
#define SSO_STORE_NODES_H

#include <stddef.h>

#include "common/error.h"
#include "common/node.h"

struct store_tx;

/* By name, from malloc. A row that cannot be one of ours has no tag and is not approved. */
enum sso_code store_node_list(struct store_tx *tx, struct node **out, size_t *count,
                              struct sso_error *err) __attribute__((warn_unused_result));
/* Inserts version 1, or replaces version - 1: else SSO_VERSION_CONFLICT. */
enum sso_code store_node_put(struct store_tx *tx, const struct node *node, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code store_node_remove(struct store_tx *tx, const char *name, struct sso_error *err)
    __attribute__((warn_unused_result)); /* SSO_NOT_FOUND */

#endif
