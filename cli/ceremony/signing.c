#include "cli/ceremony/signing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/encode.h"
#include "common/fault.h"
#include "common/row.h"

#define TRIES 3 /* another program of this node may sign at the same moment */

enum sso_code signing_keys(const struct ceremony *ceremony, struct audit_key **out, size_t *count,
                           struct sso_error *err)
{
    struct audit_key *keys = NULL;
    size_t read = 0, good = 0;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(ceremony->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_audit_key_list(tx, &keys, &read, err);
    if (rc != SSO_OK)
        return rc;
    for (size_t i = 0; i < read; i++) {
        struct sso_error problem = {0};
        if (policy_check_audit_key(&ceremony->policy, &keys[i], &problem) == SSO_OK)
            keys[good++] = keys[i];
        else
            console_warn("%s", problem.detail);
    }
    *out = keys;
    *count = good;
    return SSO_OK;
}

enum sso_code signer_sign(const struct ceremony *ceremony, const struct signer *signer,
                          const struct signed_text *text,
                          uint8_t signature[static AUDIT_SIGNATURE_BYTES], struct sso_error *err)
{
    uint8_t digest[AUDIT_DIGEST_BYTES];
    if (!signer->present)
        return sso_fail(err, SSO_TOKEN_NOT_SUITABLE, "no token here has an audit signing key");
    audit_text_digest(ceremony->system.id, text->kind, text->bytes, text->count, digest);
    return hsm_audit_sign(signer->pool, &signer->key, digest, signature, err);
}

/* Two tokens may look alike: which of them holds the key only using it tells. */
static enum sso_code find(struct ceremony *ceremony, struct hsm *pool, struct signer *out,
                          struct sso_error *err)
{
    static const struct signed_text trial = {.kind = "trial", .bytes = "", .count = 0};
    struct audit_key *keys = NULL;
    struct hsm_status status;
    size_t count = 0;
    *out = (struct signer){.pool = pool};
    enum sso_code rc = signing_keys(ceremony, &keys, &count, err);
    hsm_status(pool, &status);
    for (size_t i = 0; rc == SSO_OK && i < count && !out->present; i++) {
        uint8_t signature[AUDIT_SIGNATURE_BYTES];
        if (!token_identity_same(&keys[i].token, &status.token))
            continue;
        out->key = keys[i];
        out->present = true;
        rc = signer_sign(ceremony, out, &trial, signature, err);
        out->present = rc == SSO_OK;
        if (rc == SSO_NOT_FOUND || rc == SSO_WRONG_MASTER_SECRET)
            rc = SSO_OK;
    }
    free(keys);
    return rc;
}

enum sso_code signer_find(struct ceremony *ceremony, struct signer *out, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    *out = (struct signer){0};
    for (size_t i = 0; rc == SSO_OK && !out->present && i < CONFIG_HSM_MAX; i++) {
        if (ceremony->pool[i] != NULL)
            rc = find(ceremony, ceremony->pool[i], out, err);
    }
    return rc;
}

enum sso_code signer_open(struct ceremony *ceremony, struct hsm *pool, struct journal *journal,
                          struct signer *out, struct sso_error *err)
{
    struct sso_error problem = {0};
    enum sso_code rc = find(ceremony, pool, out, err);
    if (rc != SSO_OK || out->present)
        return rc;
    struct audit_key *key = &out->key;
    *key = (struct audit_key){.since_ms = wall_clock_ms()};
    snprintf(key->node, sizeof key->node, "%s", ceremony->config->cluster.node);
    rc = random_bytes(key->id, sizeof key->id, err);
    if (rc == SSO_OK)
        rc = journal_note_audit_key(journal, key->id, err);
    if (rc != SSO_OK)
        return rc;
    rc = hsm_audit_make(pool, ceremony->system.id, key, &problem);
    fault_point("ceremony.audit-key");
    if (rc == SSO_TOKEN_NOT_SUITABLE || rc == SSO_KEY_NOT_ACCEPTABLE) {
        console_warn("the audit is not signed with this token: %s", problem.detail);
        return SSO_OK;
    }
    if (rc != SSO_OK)
        return sso_fail(err, rc, "%s", problem.detail);
    policy_tag_audit_key(&ceremony->policy, key);
    out->present = out->fresh = true;
    return SSO_OK;
}

enum sso_code signer_store(struct ceremony *ceremony, const struct signer *signer,
                           struct store_tx *tx, struct sso_error *err)
{
    struct audit_record record;
    char target[AUDIT_KEY_TARGET_SIZE];
    if (!signer->fresh)
        return SSO_OK;
    audit_key_target(&signer->key, target);
    enum sso_code rc = store_audit_key_insert(tx, &signer->key, err);
    if (rc == SSO_OK)
        rc = console_record(ceremony, AUDIT_KEY_OPERATION, target, &record, err);
    return rc == SSO_OK ? store_audit_append(tx, &record, 1, err) : rc;
}

void signer_undo(const struct signer *signer)
{
    struct sso_error problem = {0};
    if (signer->fresh && hsm_audit_destroy(signer->pool, &signer->key, &problem) != SSO_OK)
        console_warn("an audit signing key that nothing knows of is left in the token: %s",
                     problem.detail);
}

void signer_sign_heads(const struct ceremony *ceremony, const struct signer *signer)
{
    struct sso_error problem = {0};
    struct audit_signature *signature = signer->present ? calloc(1, sizeof *signature) : NULL;
    enum sso_code rc = signature != NULL ? SSO_VERSION_CONFLICT : SSO_OK;
    for (unsigned i = 0; i < TRIES && rc == SSO_VERSION_CONFLICT; i++) {
        uint8_t digest[AUDIT_DIGEST_BYTES];
        bool news = false;
        rc = store_audit_to_sign(ceremony->store, signature, &news, &problem);
        if (rc != SSO_OK || !news)
            break;
        memcpy(signature->key_id, signer->key.id, sizeof signature->key_id);
        audit_signature_digest(ceremony->system.id, signature, digest);
        rc = hsm_audit_sign(signer->pool, &signer->key, digest, signature->signature, &problem);
        if (rc == SSO_OK)
            rc = store_audit_sign(ceremony->store, signature, &problem);
    }
    free(signature);
    if (rc != SSO_OK)
        console_warn("the end of the audit was not signed now: %s", problem.detail);
}
