/* The second step of `key destroy`: the keys go. Each step is durable before the next begins, and
 * saying the command again goes on from wherever it was ended. */
#include <stdio.h>
#include <string.h>

#include "cli/ceremony/destruction.h"
#include "common/clock.h"
#include "common/fault.h"

/* 1: counted anew, and what was counted is in the audit before anything is destroyed. */
static enum sso_code count_anew(struct destroying *self, struct sso_error *err)
{
    struct audit_record record;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(self->ceremony->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = destruction_count(self, tx, err);
    if (rc == SSO_OK && self->generation.state != GENERATION_DESTROYING)
        rc = sso_fail(err, SSO_VERSION_CONFLICT, "somebody took generation %u back meanwhile",
                      self->generation.number);
    if (rc == SSO_OK)
        rc = console_record(self->ceremony, "generation.destroy", self->statement, &record, err);
    if (rc == SSO_OK)
        rc = store_audit_append(tx, &record, 1, err);
    if (rc == SSO_OK)
        rc = store_commit(&tx, err);
    if (rc == SSO_OK)
        console_keep_head(self->ceremony, &record, false);
    return rc;
}

static struct hsm *pool_of(struct ceremony *ceremony, const struct token_identity *token)
{
    for (size_t i = 0; i < CONFIG_HSM_MAX; i++) {
        struct hsm_status status;
        if (ceremony->pool[i] == NULL)
            continue;
        hsm_status(ceremony->pool[i], &status);
        if (token_identity_same(&status.token, token))
            return ceremony->pool[i];
    }
    return NULL;
}

/* 2: the key in one token, then its row. A key that is gone already was destroyed by a run that was
 * ended before it could write so. */
static enum sso_code destroy_in(struct destroying *self, struct hsm *pool,
                                struct generation_token *token, struct sso_error *err)
{
    struct generation_key key;
    struct sso_error problem = {0};
    STORE_TX_AUTO tx = NULL;
    generation_key_of(self->ceremony->system.id, &self->generation, &key);
    enum sso_code rc = hsm_destroy_key(pool, &key, &problem);
    if (rc != SSO_OK && rc != SSO_NOT_FOUND)
        return sso_fail(err, rc, "%s", problem.detail);
    fault_point("destroy.object");
    token->destroyed_ms = wall_clock_ms();
    token->version++;
    policy_tag_generation_token(&self->ceremony->policy, token);
    rc = store_begin(self->ceremony->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = store_generation_token_put(tx, token, err);
    if (rc == SSO_OK)
        rc = store_commit(&tx, err);
    if (rc == SSO_OK)
        fault_point("destroy.token");
    return rc;
}

/* 3: nobody holds it any more. */
static enum sso_code write_destroyed(struct destroying *self, struct sso_error *err)
{
    struct audit_record record;
    char target[32];
    STORE_TX_AUTO tx = NULL;
    snprintf(target, sizeof target, "generation %u", self->generation.number);
    enum sso_code rc = store_begin(self->ceremony->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = destruction_count(self, tx, err);
    if (rc != SSO_OK)
        return rc;
    self->generation.state = GENERATION_DESTROYED;
    self->generation.version++;
    policy_tag_generation(&self->ceremony->policy, &self->generation);
    rc = store_generation_update(tx, &self->generation, err);
    if (rc == SSO_OK)
        rc = console_record(self->ceremony, "generation.destroyed", target, &record, err);
    if (rc == SSO_OK)
        rc = store_audit_append(tx, &record, 1, err);
    if (rc == SSO_OK)
        rc = store_commit(&tx, err);
    if (rc == SSO_OK)
        console_keep_head(self->ceremony, &record, false);
    return rc;
}

enum sso_code destruction_finish(struct destroying *self, struct sso_error *err)
{
    struct ceremony *ceremony = self->ceremony;
    const struct generation_token *left = NULL;
    enum sso_code rc = count_anew(self, err);
    if (rc != SSO_OK)
        return rc;
    fault_point("destroy.counted");
    for (size_t i = 0; rc == SSO_OK && i < ceremony->token_count; i++) {
        struct generation_token *token = &ceremony->token[i];
        if (token->number != self->generation.number || token->destroyed_ms != 0)
            continue;
        struct hsm *pool = pool_of(ceremony, &token->token);
        if (pool != NULL)
            rc = destroy_in(self, pool, token, err);
        else
            left = token;
    }
    if (rc == SSO_OK && left != NULL) {
        char uri[TOKEN_URI_SIZE];
        token_identity_uri(&left->token, uri);
        return sso_fail(err, SSO_HSM_UNAVAILABLE,
                        "generation %u is still in %.300s (node %s), which does not open here: say "
                        "this again where it does",
                        self->generation.number, uri, left->node);
    }
    return rc == SSO_OK ? write_destroyed(self, err) : rc;
}
