#include <stdlib.h>

#include "common/json.h"
#include "custodian/application_access.h"
#include "custodian/custodian.h"
#include "custodian/operations.h"
#include "custodian/snapshot.h"

static json_int_t rows_of(const struct generation_rows *rows, size_t count, uint32_t generation)
{
    for (size_t i = 0; i < count; i++) {
        if (rows[i].generation == generation)
            return (json_int_t)rows[i].credentials;
    }
    return 0;
}

/* What another hand changed is shown as damaged, with its number and nothing else. */
static void drop_tampered(struct custodian *custodian, struct snapshot *now)
{
    for (size_t i = 0; i < now->generation_count; i++) {
        struct generation *generation = &now->generation[i];
        struct sso_error problem = {0};
        enum sso_code rc = policy_check_generation(&custodian->policy, generation, &problem);
        if (policy_alarm(custodian, rc, &problem) != SSO_OK)
            *generation = (struct generation){.number = generation->number};
    }
    for (size_t i = 0; i < now->token_count; i++) {
        struct generation_token *token = &now->token[i];
        struct sso_error problem = {0};
        enum sso_code rc = policy_check_generation_token(&custodian->policy, token, &problem);
        if (policy_alarm(custodian, rc, &problem) != SSO_OK)
            *token = (struct generation_token){0}; /* of no generation */
    }
}

static json_t *list_json(const struct snapshot *now, const struct generation_rows *rows,
                         size_t row_count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < now->generation_count; i++) {
        const struct generation *generation = &now->generation[i];
        json_array_append_new(list, json_generation(generation, now->token, now->token_count,
                                                    rows_of(rows, row_count, generation->number)));
    }
    return json_pack("{s:o}", "generations", list);
}

enum sso_code op_generation_list(struct request *request, struct sso_error *err)
{
    struct custodian *custodian = request->custodian;
    struct snapshot now = {0};
    struct generation_rows *rows = NULL;
    size_t row_count = 0;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = snapshot_read(custodian->store, &now, err);
    if (rc != SSO_OK || (rc = store_begin(custodian->store, STORE_READ, &tx, err)) != SSO_OK ||
        (rc = store_count_by_generation(tx, &rows, &row_count, err)) != SSO_OK)
        goto out;
    drop_tampered(custodian, &now);
    request->reply = list_json(&now, rows, row_count);
    if (request->reply == NULL)
        rc = sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
out:
    free(rows);
    snapshot_free(&now);
    return rc;
}
