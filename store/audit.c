#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
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

static bool same_heads(const struct audit_signature *a, const struct audit_signature *b)
{
    if (a->head_count != b->head_count)
        return false;
    for (size_t i = 0; i < a->head_count; i++)
        if (strcmp(a->head[i].node, b->head[i].node) != 0 ||
            a->head[i].number != b->head[i].number ||
            memcmp(a->head[i].hash, b->head[i].hash, AUDIT_HASH_BYTES) != 0)
            return false;
    return true;
}

enum sso_code store_audit_to_sign(struct store *store, struct audit_signature *out, bool *news,
                                  struct sso_error *err)
{
    struct audit_head *heads = NULL;
    size_t count = 0;
    struct audit_signature last;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_audit_signature_latest(tx, &last, err);
    if (rc == SSO_OK)
        rc = store_audit_heads(tx, &heads, &count, err);
    if (rc == SSO_OK && count > AUDIT_HEADS_MAX)
        rc =
            sso_fail(err, SSO_TOO_LARGE, "more than %d nodes have an audit chain", AUDIT_HEADS_MAX);
    if (rc == SSO_OK && last.number >= AUDIT_SIGNATURES_MAX)
        rc = sso_fail(err, SSO_POLICY_TAMPERED,
                      "signature %llu of the audit was put into the database by another hand: "
                      "nothing is signed before the row of that number is taken out of "
                      "audit_signatures",
                      (unsigned long long)last.number);
    if (rc == SSO_OK) {
        *out = (struct audit_signature){
            .number = last.number + 1, .time_ms = wall_clock_ms(), .head_count = count};
        if (count > 0)
            memcpy(out->head, heads, count * sizeof *heads);
        *news = !same_heads(out, &last);
    }
    free(heads);
    return rc;
}

enum sso_code store_audit_sign(struct store *store, const struct audit_signature *signature,
                               struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = store_audit_signature_insert(tx, signature, err);
    return rc == SSO_OK ? store_commit(&tx, err) : rc;
}
