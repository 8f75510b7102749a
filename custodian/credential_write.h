/*
 * The write path, for one credential and for a batch (DESIGN §5.1): the rows are read, their new
 * row keys made by the HSM under the active generation, the rows sealed, and then stored in one
 * transaction that holds the generation's lock and finds it still active. What was outrun, by a
 * rotation or by another writer, is made anew until the request's deadline.
 */
#ifndef SSO_CUSTODIAN_CREDENTIAL_WRITE_H
#define SSO_CUSTODIAN_CREDENTIAL_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/policy.h"
#include "common/row.h"
#include "custodian/credential_json.h"
#include "custodian/request.h"

struct credential_item {
    /* In. An item whose problem.code is not SSO_OK is left alone. */
    const char *principal;
    struct credential_input input;
    uint64_t if_match; /* a version that the row must have; 0: any, or none */

    /* Out. */
    struct sso_error problem;  /* code SSO_OK: stored */
    bool recorded;             /* its outcome stands in the audit */
    bool created;              /* there was no credential before */
    struct credential_row row; /* as stored, without ciphertext */
    uint64_t old_version;
    bool pending; /* between the calls below only */
};

/* Writes all items whose problem is SSO_OK; principals are valid, the application's tag checked. A
 * principal may stand in a batch more than once: its items are done in their order, so the last
 * wins. Any code but SSO_OK means that nothing was stored; once a part was, the others have their
 * problem in the item. */
enum sso_code credential_write(struct request *request, const struct application *application,
                               struct credential_item *items, size_t count, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
