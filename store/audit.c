#include <stdlib.h>
#include <string.h>

#include "store/store.h"

enum sso_code store_audit_holds(struct store_tx *tx, const struct audit_head *head, bool *holds,
                                struct sso_error *err)
{
    struct audit_record *record = NULL;
    size_t count = 0;
    *holds = head->number == 0;
    if (*holds)
        return SSO_OK;
    enum sso_code rc = store_audit_list(tx, head->node, head->number - 1, 1, &record, &count, err);
    if (rc == SSO_OK && count == 1)
        *holds = record->number == head->number &&
                 memcmp(record->hash, head->hash, sizeof head->hash) == 0;
    free(record);
    return rc;
}
