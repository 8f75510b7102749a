/* The end of this node's audit chain as its state directory keeps it (common/audit_head.h), beside
 * what the database says. */
#ifndef SSO_CUSTODIAN_KEPT_HEAD_H
#define SSO_CUSTODIAN_KEPT_HEAD_H

#include "store/store.h"

/* What is kept must still stand in the database. Where it does not, records were taken away or
 * changed, or the database was put back: that is *gone (SSO_ROW_CORRUPT), and the file is to stay
 * as it is, so that the chain never again fits it and audit verify finds the hole. */
enum sso_code kept_head_check(const char *state_directory, const char *node, struct store_tx *tx,
                              struct sso_error *gone, struct sso_error *err)
    __attribute__((warn_unused_result));

/* A failure is logged. */
void kept_head_move(const char *state_directory, const struct audit_record *last);

#endif
