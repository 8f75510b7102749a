/* The second step of `key destroy`: the keys go. Each step is durable before the next begins, and
 * saying the command again goes on from wherever it was ended. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ceremony/destruction.h"
#include "common/clock.h"
#include "common/fault.h"

/* A key that is about to be destroyed was seen in this token. */
#define OBJECT_OPERATION "generation.destroy-object"

/* From here on there is no way back: the row says so, and its version is a mark of this node, so
 * that an older row in its place is told. */
static enum sso_code begin_going(struct destroying *self, struct store_tx *tx,
                                 struct sso_error *err)
{
    if (self->generation.going_ms != 0)
        return SSO_OK;
    self->generation.going_ms = wall_clock_ms();
    self->generation.version++;
    policy_tag_generation(&self->ceremony->policy, &self->generation);
    return store_generation_update(tx, &self->generation, err);
}

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
        rc = begin_going(self, tx, err);
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

static void name_object(const struct generation_token *token, char out[static 512])
{
    char uri[TOKEN_URI_SIZE];
    token_identity_uri(&token->token, uri);
    snprintf(out, 512, "generation %u in %s of %s", token->number, uri, token->node);
}

static enum sso_code record_object(struct destroying *self, const char *operation,
                                   const char *target, struct sso_error *err)
{
    struct audit_record record;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = console_record(self->ceremony, operation, target, &record, err);
    if (rc == SSO_OK)
        rc = store_begin(self->ceremony->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = store_audit_append(tx, &record, 1, err);
    if (rc == SSO_OK)
        rc = store_commit(&tx, err);
    if (rc == SSO_OK)
        console_keep_head(self->ceremony, &record, false);
    return rc;
}

/* Did a run before this one find the key there, so that it is gone because that run destroyed it?
 */
static enum sso_code was_found(struct destroying *self, const char *target, bool *found,
                               struct sso_error *err)
{
    struct audit_record *records = NULL;
    size_t count = 0;
    STORE_TX_AUTO tx = NULL;
    *found = false;
    enum sso_code rc = store_begin(self->ceremony->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_audit_of_operation(tx, OBJECT_OPERATION, &records, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++)
        *found = *found || (strcmp(records[i].target, target) == 0 &&
                            records[i].time_ms >= self->generation.going_ms);
    free(records);
    return rc;
}

/* In every token that looks like the row's, since some vendors' tokens all look alike. */
static enum sso_code destroy_objects(struct destroying *self, const struct generation_token *token,
                                     const char *target, bool *gone, struct sso_error *err)
{
    struct generation_key key;
    generation_key_of(self->ceremony->system.id, &self->generation, &key);
    for (size_t i = 0; i < CONFIG_HSM_MAX; i++) {
        struct hsm *pool = self->ceremony->pool[i];
        struct hsm_status status;
        struct evidence evidence;
        struct sso_error problem = {0};
        if (pool == NULL)
            continue;
        hsm_status(pool, &status);
        if (!token_identity_same(&status.token, &token->token))
            continue;
        enum sso_code rc = hsm_evidence(pool, &key, &evidence, &problem);
        if (rc == SSO_NO_MASTER_SECRET)
            continue;
        if (rc == SSO_OK)
            rc = record_object(self, OBJECT_OPERATION, target, &problem);
        if (rc == SSO_OK)
            rc = hsm_destroy_key(pool, &key, &problem);
        if (rc != SSO_OK)
            return sso_fail(err, rc, "%s", problem.detail);
        *gone = true;
    }
    return SSO_OK;
}

static enum sso_code write_token(struct destroying *self, struct generation_token *token,
                                 struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    token->destroyed_ms = wall_clock_ms();
    token->version++;
    policy_tag_generation_token(&self->ceremony->policy, token);
    enum sso_code rc = store_begin(self->ceremony->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = store_generation_token_put(tx, token, err);
    return rc == SSO_OK ? store_commit(&tx, err) : rc;
}

/* 2: the key in one token, then its row. That a token does not hold it says nothing unless it was
 * seen there: it may be another that looks like it. */
static enum sso_code destroy_in(struct destroying *self, struct generation_token *token, bool *left,
                                struct sso_error *err)
{
    char target[512];
    bool gone = false;
    name_object(token, target);
    enum sso_code rc = destroy_objects(self, token, target, &gone, err);
    if (rc == SSO_OK && !gone)
        rc = was_found(self, target, &gone, err);
    if (rc == SSO_OK && gone)
        fault_point("destroy.object");
    if (rc == SSO_OK && !gone && self->request->token_lost) {
        rc = record_object(self, "generation.token-lost", target, err);
        console_warn("%s: written off as lost", target);
        gone = true;
    }
    *left = rc == SSO_OK && !gone;
    if (rc == SSO_OK && gone)
        rc = write_token(self, token, err);
    if (rc == SSO_OK && gone)
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
    const struct generation_token *first_left = NULL;
    enum sso_code rc = count_anew(self, err);
    if (rc != SSO_OK)
        return rc;
    fault_point("destroy.counted");
    for (size_t i = 0; rc == SSO_OK && i < ceremony->token_count; i++) {
        struct generation_token *token = &ceremony->token[i];
        bool left = false;
        if (token->number != self->generation.number || token->destroyed_ms != 0)
            continue;
        rc = destroy_in(self, token, &left, err);
        first_left = left ? token : first_left;
    }
    if (rc == SSO_OK && first_left != NULL) {
        char target[512];
        name_object(first_left, target);
        return sso_fail(err, SSO_HSM_UNAVAILABLE,
                        "%.400s is not found: say this again where that token is configured and "
                        "opens, or with --token-lost where it is lost or was wiped",
                        target);
    }
    return rc == SSO_OK ? write_destroyed(self, err) : rc;
}
