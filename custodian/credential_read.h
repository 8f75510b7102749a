/*
 * The read path, for one lookup and for a batch (DESIGN §5.1): one read transaction for all, one
 * call to the HSM for the row keys that the cache does not hold, then the rows opened one by one.
 * The caller writes the audit records before anything of it leaves.
 */
#ifndef SSO_CUSTODIAN_CREDENTIAL_READ_H
#define SSO_CUSTODIAN_CREDENTIAL_READ_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/policy.h"
#include "common/row.h"
#include "custodian/request.h"

/* The one row of a configuration application. */
#define CONFIG_PRINCIPAL "config"

struct credential_query {
    /* In. An item whose problem.code is not SSO_OK is left alone. */
    const char *application;
    const char *principal; /* NULL: whatever is the caller's own. Set by the call in any case: in
                              a group application it becomes `group` */
    const struct peer *on_behalf; /* NULL: the caller; whose own it is where `principal` is NULL */
    bool configuration; /* of a configuration application, whose principal is CONFIG_PRINCIPAL */
    bool refresh;       /* ask the HSM even where the cache holds the row key */

    /* Out. */
    struct sso_error problem; /* code SSO_OK: `object` is the credential in the clear */
    json_t *object;           /* owned: `cred get` of INTERFACE §3 */
    uint8_t row_id[ROW_ID_BYTES];
    uint64_t row_version;                      /* 0 where no row was read */
    char name[APPLICATION_NAME_BYTES_MAX + 1]; /* of the application, as it is written */
    char group[GROUP_BYTES_MAX + 1];           /* of a group application: the caller's, "": none */
};

/* Checks the caller's right to each item and opens what it may see. Any code but SSO_OK: nothing
 * could be done for any item. */
enum sso_code credential_read(struct request *request, struct credential_query *queries,
                              size_t count, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
