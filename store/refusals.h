/* PINs that a token refused, by node (DESIGN §4.2). A part of store/store.h. They carry no tag: who
 * writes the database can keep nodes from a token, and cannot make one try. */
#ifndef SSO_STORE_REFUSALS_H
#define SSO_STORE_REFUSALS_H

#include <stdbool.h>

#include "common/error.h"
#include "common/generation.h"

struct store_tx;

/* Idempotent. */
enum sso_code store_refusal_put(struct store_tx *tx, const struct token_identity *token,
                                const char *node, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Was a node other than `node` refused? `other` gets its name, "" where none was. */
enum sso_code store_refusal_of_others(struct store_tx *tx, const struct token_identity *token,
                                      const char *node, char other[static 65],
                                      struct sso_error *err) __attribute__((warn_unused_result));
/* Forgets all of this token. */
enum sso_code store_refusal_clear(struct store_tx *tx, const struct token_identity *token,
                                  struct sso_error *err) __attribute__((warn_unused_result));

#endif
