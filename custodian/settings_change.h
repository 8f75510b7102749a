/* A change of settings inside a transaction: op_settings.c. */
#ifndef SSO_CUSTODIAN_SETTINGS_CHANGE_H
#define SSO_CUSTODIAN_SETTINGS_CHANGE_H

#include <jansson.h>

#include "common/audit_record.h"
#include "common/policy.h"
#include "store/store.h"

struct settings_change {
    const struct policy *policy;
    const json_t *wanted; /* an object: name and value */
    uint64_t if_match;    /* 0: any */
    const char *principal;
    struct audit_record *record; /* its target and outcome are set */
    bool confirming;
    bool proposed; /* out: another administrator must confirm it */
    struct setting *row;
    size_t count; /* as read; row is to be freed */
};

/* A committer_write; `context` is the struct. */
enum sso_code settings_change_write(struct store_tx *tx, void *context, struct sso_error *err);

#endif
