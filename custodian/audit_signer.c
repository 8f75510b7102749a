#include "custodian/audit_signer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/encode.h"
#include "common/log.h"
#include "custodian/custodian.h"
#include "custodian/events.h"

#define INTERVAL_MS 60000
#define RETRY_MS 20000 /* a token that hangs takes the time of who looks after all else */

struct audit_signer {
    int64_t next_ms; /* boot clock; 0: at once */
    struct audit_signature signature;
};

struct audit_signer *audit_signer_new(void)
{
    return calloc(1, sizeof(struct audit_signer));
}

void audit_signer_free(struct audit_signer *signer)
{
    free(signer);
}

static enum sso_code read_keys(struct custodian *custodian, struct audit_key **out, size_t *count,
                               struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(custodian->store, STORE_READ, &tx, err);
    return rc == SSO_OK ? store_audit_key_list(tx, out, count, err) : rc;
}

/* With the first key that is right and is in one of our tokens. */
static enum sso_code sign(struct audit_signer *self, struct custodian *custodian,
                          const struct audit_key *keys, size_t count, struct sso_error *err)
{
    struct hsm *pool[CONFIG_HSM_MAX];
    size_t pools = custodian_pools(custodian, pool);
    enum sso_code rc = sso_fail(err, SSO_NOT_FOUND,
                                "no token in use has an audit signing key: sso-hsm key generate "
                                "makes one in the token that it uses");
    for (size_t i = 0; i < count; i++) {
        struct sso_error tampered = {0};
        uint8_t digest[AUDIT_DIGEST_BYTES];
        if (policy_check_audit_key(&custodian->policy, &keys[i], &tampered) != SSO_OK) {
            rc = sso_fail(err, tampered.code, "%s", tampered.detail);
            continue;
        }
        memcpy(self->signature.key_id, keys[i].id, sizeof keys[i].id);
        audit_signature_digest(custodian->system.id, &self->signature, digest);
        for (size_t p = 0; p < pools; p++) {
            struct sso_error problem = {0};
            struct hsm_status status;
            hsm_status(pool[p], &status);
            if (!token_identity_same(&status.token, &keys[i].token))
                continue;
            rc = hsm_audit_sign(pool[p], &keys[i], digest, self->signature.signature, &problem);
            if (rc == SSO_OK)
                return rc;
            (void)sso_fail(err, rc, "%s", problem.detail);
        }
    }
    return rc;
}

/* For the journal: with these numbers and hashes a cut tail of the database's chains can be told.
 */
static void tell(const struct audit_signature *signature)
{
    for (size_t i = 0; i < signature->head_count; i++) {
        char number[32], hash[2 * AUDIT_HASH_BYTES + 1];
        snprintf(number, sizeof number, "%llu", (unsigned long long)signature->head[i].number);
        hex_encode(signature->head[i].hash, AUDIT_HASH_BYTES, hash);
        log_line(LOG_LEVEL_INFO, "audit head signed", "chain", signature->head[i].node, "number",
                 number, "hash", hash, NULL);
    }
}

static enum sso_code run(struct audit_signer *self, struct custodian *custodian,
                         struct sso_error *err)
{
    struct audit_key *keys = NULL;
    size_t count = 0;
    bool news = false;
    enum sso_code rc = store_audit_to_sign(custodian->store, &self->signature, &news, err);
    if (rc != SSO_OK || !news)
        return rc;
    rc = read_keys(custodian, &keys, &count, err);
    if (rc == SSO_OK)
        rc = sign(self, custodian, keys, count, err);
    free(keys);
    if (rc != SSO_OK)
        return rc;
    rc = store_audit_sign(custodian->store, &self->signature, err);
    /* A ceremony of this node signed at the same moment: the next minute is ours. */
    if (rc == SSO_VERSION_CONFLICT)
        return SSO_OK;
    if (rc == SSO_OK)
        tell(&self->signature);
    return rc;
}

void audit_signer_look(struct audit_signer *self, struct custodian *custodian)
{
    struct sso_error problem = {0};
    int64_t now_ms = boot_clock_ms();
    if (now_ms < self->next_ms)
        return;
    bool done = run(self, custodian, &problem) == SSO_OK;
    self->next_ms = now_ms + (done ? INTERVAL_MS : RETRY_MS);
    if (done)
        event_clear(custodian->events, EVENT_AUDIT_UNSIGNED);
    else
        event_raise(custodian->events, EVENT_AUDIT_UNSIGNED, "%s", problem.detail);
}

void audit_signer_sign_now(struct custodian *custodian)
{
    struct sso_error problem = {0};
    struct audit_signer *signer = audit_signer_new();
    if (signer == NULL || run(signer, custodian, &problem) != SSO_OK)
        log_line(LOG_LEVEL_WARNING, "the audit was not signed", "reason", problem.detail, NULL);
    audit_signer_free(signer);
}
