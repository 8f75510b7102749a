/* The steps of `key destroy`, and what both are held to. */
#ifndef SSO_CLI_CEREMONY_DESTRUCTION_H
#define SSO_CLI_CEREMONY_DESTRUCTION_H

#include "cli/ceremony/signing.h"

#define STATEMENT_BYTES 600

struct destroying {
    struct ceremony *ceremony;
    const struct destroy_request *request;
    struct generation generation; /* as last read under its lock */
    struct destruction row;
    struct signer signer;
    bool was_destroyed;
    int64_t check_ms;                /* of the last full check that found nothing */
    char statement[STATEMENT_BYTES]; /* of what was counted; stands in the audit, and is signed */
};

/* Fills check_ms from the audit, which has to be read whole: in a transaction of its own, so that
 * the service writes meanwhile. What is found later only comes later. */
enum sso_code destruction_last_check(struct destroying *self, struct sso_error *err)
    __attribute__((warn_unused_result));
/* In a transaction: takes the generation's lock exclusively, reads and believes the rows, and
 * refuses where something still needs it, or no full check was made since it retired. */
enum sso_code destruction_count(struct destroying *self, struct store_tx *tx, struct sso_error *err)
    __attribute__((warn_unused_result));
/* What a first step wants beside: a drill or --for-ever; *too_early: keys.retired_keep has not
 * passed, and `keep` says how long it is. */
enum sso_code destruction_conditions(struct destroying *self, struct store_tx *tx, bool *too_early,
                                     char keep[static 24], struct sso_error *err)
    __attribute__((warn_unused_result));
/* Is it confirmed by a second administrator, or not to be? */
enum sso_code destruction_confirmed(struct destroying *self, struct store_tx *tx, bool *confirmed,
                                    struct sso_error *err) __attribute__((warn_unused_result));
/* The second step, once the grace is over. */
enum sso_code destruction_finish(struct destroying *self, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
