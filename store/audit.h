/* The audit chains. A part of store/store.h. */
#ifndef SSO_STORE_AUDIT_H
#define SSO_STORE_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/audit_base.h"
#include "common/audit_head.h"
#include "common/audit_key.h"
#include "common/audit_record.h"
#include "common/error.h"

struct store;
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
/* All records of one operation, by node and number: a pass over everything, not for a request. */
enum sso_code store_audit_of_operation(struct store_tx *tx, const char *operation,
                                       struct audit_record **out, size_t *count,
                                       struct sso_error *err) __attribute__((warn_unused_result));
/* Is that record of its node's chain there, with that hash? Yes for number 0. Records are only ever
 * added, so what was once the end of a chain stays in it. */
enum sso_code store_audit_holds(struct store_tx *tx, const struct audit_head *head, bool *holds,
                                struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code store_audit_heads(struct store_tx *tx, struct audit_head **out, size_t *count,
                                struct sso_error *err) __attribute__((warn_unused_result));

/* SSO_ALREADY_EXISTS. */
enum sso_code store_audit_key_insert(struct store_tx *tx, const struct audit_key *key,
                                     struct sso_error *err) __attribute__((warn_unused_result));
/* By time. A row whose bytes cannot be one comes back with an id, where that can be read, and
 * nothing else: a tag that never fits, and a key that no signature is of. */
enum sso_code store_audit_key_list(struct store_tx *tx, struct audit_key **out, size_t *count,
                                   struct sso_error *err) __attribute__((warn_unused_result));
/* The last one; number 0 where there is none. */
enum sso_code store_audit_signature_latest(struct store_tx *tx, struct audit_signature *out,
                                           struct sso_error *err)
    __attribute__((warn_unused_result));
/* SSO_VERSION_CONFLICT unless its number is the next. */
enum sso_code store_audit_signature_insert(struct store_tx *tx,
                                           const struct audit_signature *signature,
                                           struct sso_error *err)
    __attribute__((warn_unused_result));
/* The first with number > after; its number is 0 where there is none. What cannot be read of one is
 * empty, so that its signature does not fit. */
enum sso_code store_audit_signature_next(struct store_tx *tx, uint64_t after,
                                         struct audit_signature *out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Where chains begin that were pruned, by node. What cannot be read is empty. */
enum sso_code store_audit_base_list(struct store_tx *tx, struct audit_base **out, size_t *count,
                                    struct sso_error *err) __attribute__((warn_unused_result));
/* In place of the one that its node had. */
enum sso_code store_audit_base_put(struct store_tx *tx, const struct audit_base *base,
                                   struct sso_error *err) __attribute__((warn_unused_result));
/* Deletes the first records of a chain but the last of it, or the first signatures, up to the
 * number `through` and at most `limit` at a time; how many. */
enum sso_code store_audit_prune(struct store_tx *tx, const char *node, uint64_t through,
                                size_t limit, uint64_t *pruned, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code store_audit_prune_signatures(struct store_tx *tx, uint64_t through, size_t limit,
                                           uint64_t *pruned, struct sso_error *err)
    __attribute__((warn_unused_result));

/* For whoever signs: the heads as they are now, under the next number. *news: they are not those of
 * the last signature, which makes another one worth while. Key and signature are the caller's, who
 * hands it to store_audit_sign (a transaction of its own; SSO_VERSION_CONFLICT: begin anew). */
enum sso_code store_audit_to_sign(struct store *store, struct audit_signature *out, bool *news,
                                  struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code store_audit_sign(struct store *store, const struct audit_signature *signature,
                               struct sso_error *err) __attribute__((warn_unused_result));

#endif
