#include "custodian/rotation_generation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/audit_key.h"
#include "common/clock.h"
#include "common/encode.h"
#include "common/log.h"
#include "common/secret.h"
#include "custodian/application_access.h"
#include "custodian/audit_signer.h"
#include "custodian/custodian.h"
#include "custodian/events.h"
#include "custodian/high_water_watch.h"
#include "pkcs11/keyring.h"
#include "store/store.h"

/* As many keys without a row are passed over; more of them is something to look into. */
#define NUMBERS_PASSED_MAX 16
/* What the section without a name is called where one must be named. */
#define PLAIN_SECTION "hsm"

/* --- taking up --- */

static enum sso_code generation_find(struct store_tx *tx, const struct policy *policy,
                                     uint32_t number, struct generation *out, struct sso_error *err)
{
    struct generation *list = NULL;
    size_t count = 0;
    enum sso_code rc = store_generation_list(tx, &list, &count, err);
    if (rc != SSO_OK)
        return rc;
    rc = sso_fail(err, SSO_NOT_FOUND, "generation %u does not exist", number);
    for (size_t i = 0; i < count; i++) {
        if (list[i].number == number) {
            *out = list[i];
            rc = policy_check_generation(policy, out, err);
        }
    }
    free(list);
    return rc;
}

static enum sso_code tokens_check(const struct policy *policy, uint32_t number,
                                  const struct generation_token *tokens, size_t count,
                                  struct sso_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (tokens[i].number != number)
            continue;
        enum sso_code rc = policy_check_generation_token(policy, &tokens[i], err);
        if (rc != SSO_OK)
            return rc;
    }
    return SSO_OK;
}

enum sso_code rotation_generation_open(struct custodian *custodian, uint32_t number,
                                       struct sso_error *err)
{
    struct generation generation;
    struct generation_token *tokens = NULL;
    size_t count = 0;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc;
    if ((rc = store_begin(custodian->store, STORE_READ, &tx, err)) == SSO_OK &&
        (rc = generation_find(tx, &custodian->policy, number, &generation, err)) == SSO_OK &&
        (rc = store_generation_token_list(tx, &tokens, &count, err)) == SSO_OK &&
        (rc = tokens_check(&custodian->policy, number, tokens, count, err)) == SSO_OK) {
        /* A snapshot held while the workers take their time would keep SQLite's WAL growing. */
        store_rollback(&tx);
        bool fresh = !keyring_has(custodian->keyring, number);
        rc = keyring_open(custodian->keyring, &generation, tokens, count, fresh, err);
    }
    free(tokens);
    return policy_alarm(custodian, rc, err);
}

/* --- the token that is asked for --- */

static enum sso_code pool_named(struct custodian *custodian, const char *name, struct hsm **out,
                                struct sso_error *err)
{
    struct hsm *pools[CONFIG_HSM_MAX], *plain = NULL;
    size_t count = custodian_pools(custodian, pools);
    *out = NULL;
    for (size_t i = 0; i < count; i++) {
        if (hsm_name(pools[i])[0] == '\0')
            plain = pools[i];
        if (name[0] != '\0' && strcmp(hsm_name(pools[i]), name) == 0)
            *out = pools[i];
    }
    if (*out == NULL && strcmp(name, PLAIN_SECTION) == 0)
        *out = plain;
    if (*out != NULL)
        return SSO_OK;
    return sso_fail(err, SSO_NOT_FOUND, "%s has no section [hsm NAME] of this name",
                    custodian->config->file);
}

/* The active generation, even one that wraps nothing more: a rotation is what ends that. */
static enum sso_code active_generation(struct custodian *custodian, uint32_t *number,
                                       enum suite_id *suite, struct sso_error *err)
{
    struct sso_error problem = {0};
    enum sso_code rc = installation_active(custodian, number, suite, &problem);
    if (rc == SSO_OK || rc == SSO_GENERATION_COMPROMISED || rc == SSO_WRAPS_EXHAUSTED)
        return SSO_OK;
    return sso_fail(err, rc, "%s", problem.detail);
}

/* Does this token hold the active generation too? Some vendors' tokens all have one serial number.
 * The pool is left as it was. */
static bool holds_active(struct custodian *custodian, struct hsm *pool, uint32_t active)
{
    struct generation generation;
    struct generation_key key;
    struct sso_error problem = {0};
    STORE_TX_AUTO tx = NULL;
    if (store_begin(custodian->store, STORE_READ, &tx, &problem) != SSO_OK ||
        generation_find(tx, &custodian->policy, active, &generation, &problem) != SSO_OK)
        return false; /* the next step meets the same trouble and tells of it */
    store_rollback(&tx);
    generation_key_of(custodian->system.id, &generation, &key);
    if (hsm_open_generation(pool, &key, false, &problem) != SSO_OK)
        return false;
    hsm_forget_generation(pool, active);
    return true;
}

enum sso_code rotation_token_is_another(struct custodian *custodian, const char *name,
                                        struct sso_error *err)
{
    struct hsm *pool;
    uint32_t active;
    enum suite_id suite;
    enum sso_code rc = active_generation(custodian, &active, &suite, err);
    if (rc == SSO_OK)
        rc = pool_named(custodian, name, &pool, err);
    if (rc != SSO_OK)
        return rc;
    if (pool != keyring_pool(custodian->keyring, active) && !holds_active(custodian, pool, active))
        return SSO_OK;
    return sso_fail(err, SSO_TOKEN_NOT_SUITABLE,
                    "the token of section %s is the one that holds the active generation %u: to "
                    "rotate within it leave --token out, to leave it name another one",
                    name, active);
}

enum sso_code rotation_generation_is_in(struct custodian *custodian, uint32_t number,
                                        const char *name, struct sso_error *err)
{
    struct hsm *pool;
    enum sso_code rc = pool_named(custodian, name, &pool, err);
    if (rc != SSO_OK || keyring_pool(custodian->keyring, number) == pool)
        return rc;
    return sso_fail(err, SSO_TOKEN_NOT_SUITABLE,
                    "generation %u is not in the token of section %s: make one there with sso-hsm "
                    "key generate --token %s",
                    number, name, name);
}

/* --- making --- */

/* No key is made where the rotation could not start: the next number, or why not. */
static enum sso_code next_number(struct custodian *custodian, uint32_t *number,
                                 struct sso_error *err)
{
    struct rotation latest;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(custodian->store, STORE_READ, &tx, err);
    if (rc != SSO_OK)
        return rc;
    rc = store_rotation_latest(tx, &latest, err);
    if (rc == SSO_OK && (latest.state == ROTATION_PREPARING || latest.state == ROTATION_RUNNING ||
                         latest.state == ROTATION_PAUSED))
        return sso_fail(err, SSO_ROTATION_IN_PROGRESS,
                        "rotation %llu to generation %u is %s: let it end, resume it or cancel it",
                        (unsigned long long)latest.id, latest.to,
                        rotation_state_name(latest.state));
    if (rc != SSO_OK && rc != SSO_NOT_FOUND)
        return rc;
    return store_generation_next(tx, number, err);
}

struct new_generation {
    struct generation generation;
    struct generation_token token;
    struct audit_key audit_key; /* where the token had none */
    bool has_audit_key;
};

static enum sso_code write_generation(struct store_tx *tx, void *context, struct sso_error *err)
{
    const struct new_generation *new = context;
    enum sso_code rc = store_generation_insert(tx, &new->generation, err);
    if (rc == SSO_OK && new->has_audit_key)
        rc = store_audit_key_insert(tx, &new->audit_key, err);
    return rc == SSO_OK ? store_generation_token_put(tx, &new->token, err) : rc;
}

static void announce(const struct audit_key *key, struct audit_record *record)
{
    uint8_t fingerprint[AUDIT_DIGEST_BYTES];
    char id[2 * AUDIT_KEY_ID_BYTES + 1], print[2 * AUDIT_DIGEST_BYTES + 1];
    audit_key_fingerprint(key, fingerprint);
    hex_encode(key->id, sizeof key->id, id);
    hex_encode(fingerprint, sizeof fingerprint, print);
    snprintf(record->operation, sizeof record->operation, "%s", AUDIT_KEY_OPERATION);
    snprintf(record->target, sizeof record->target, "%s %s", id, print);
}

static enum sso_code store_new(struct request *request, struct new_generation *new,
                               struct sso_error *err)
{
    struct custodian *custodian = request->custodian;
    new->generation.no_backup = true;
    policy_tag_generation(&custodian->policy, &new->generation);
    policy_tag_generation_token(&custodian->policy, &new->token);
    struct audit_record record[2] = {request->audit, request->audit};
    snprintf(record[0].operation, sizeof record[0].operation, "generation.generate");
    snprintf(record[0].target, sizeof record[0].target, "generation %u", new->generation.number);
    if (new->has_audit_key)
        announce(&new->audit_key, &record[1]);
    return committer_run(custodian->committer, write_generation, new, record,
                         new->has_audit_key ? 2 : 1, err);
}

/* The audit goes on to be signed when the token that signs now is switched off. One that cannot do
 * it is no reason not to rotate. */
static enum sso_code make_audit_key(struct custodian *custodian, struct hsm *pool,
                                    struct new_generation *new, struct sso_error *err)
{
    struct audit_key *keys = NULL;
    struct sso_error problem = {0};
    size_t count = 0;
    bool there = false;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(custodian->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_audit_key_list(tx, &keys, &count, err);
    store_rollback(&tx);
    for (size_t i = 0; i < count; i++)
        there = there || token_identity_same(&keys[i].token, &new->token.token);
    free(keys);
    if (rc != SSO_OK || there)
        return rc;
    new->audit_key = (struct audit_key){.since_ms = wall_clock_ms()};
    snprintf(new->audit_key.node, sizeof new->audit_key.node, "%s", custodian->node);
    rc = hsm_audit_make(pool, custodian->system.id, &new->audit_key, &problem);
    if (rc != SSO_OK) {
        log_line(LOG_LEVEL_WARNING, "the audit is not signed with this token", "reason",
                 problem.detail, NULL);
        return SSO_OK;
    }
    policy_tag_audit_key(&custodian->policy, &new->audit_key);
    new->has_audit_key = true;
    return SSO_OK;
}

static void forget_audit_key(struct hsm *pool, const struct audit_key *key)
{
    struct sso_error problem = {0};
    if (hsm_audit_destroy(pool, key, &problem) != SSO_OK)
        log_line(LOG_LEVEL_WARNING,
                 "an audit signing key that nothing knows of is left in the token", "reason",
                 problem.detail, NULL);
}

static enum sso_code unmake(struct request *request, struct hsm *pool,
                            const struct generation *generation, struct sso_error *err)
{
    struct generation_key key;
    struct sso_error left = {0};
    generation_key_of(request->custodian->system.id, generation, &key);
    if (hsm_destroy_key(pool, &key, &left) == SSO_OK)
        return sso_error_context(err,
                                 "generation %u was made in the token but not stored, and "
                                 "removed again",
                                 generation->number);
    char label[GENERATION_LABEL_SIZE];
    generation_label(request->custodian->system.id, generation->number, label);
    return sso_error_context(err, "the key %s is left in the token, unused (%s): remove it there",
                             label, left.detail);
}

/* A number whose key somebody was killed over stands in the token without a row. It is passed over:
 * numbers are never used again, and what is in the token is for a person to judge. */
static enum sso_code make_key(struct custodian *custodian, struct hsm *pool, uint32_t *number,
                              struct new_generation *new, struct sso_error *err)
{
    const enum suite_id suite = new->generation.suite;
    const uint32_t first = *number;
    for (;; ++*number) {
        struct evidence evidence;
        enum sso_code rc =
            keyring_generate(custodian->keyring, pool, *number, suite, custodian->node,
                             &new->generation, &new->token, &evidence, err);
        if (rc != SSO_ALREADY_EXISTS || *number - first == NUMBERS_PASSED_MAX)
            return rc;
        log_line(LOG_LEVEL_WARNING,
                 "a generation's number is passed over: the token holds a key of it which the "
                 "database does not know",
                 "reason", err->detail, NULL);
    }
}

enum sso_code rotation_generation_make(struct request *request, const char *token, uint32_t *number,
                                       struct sso_error *err)
{
    struct custodian *custodian = request->custodian;
    struct hsm *pool = NULL;
    uint32_t active;
    enum suite_id suite;
    enum sso_code rc = active_generation(custodian, &active, &suite, err);
    if (rc == SSO_OK && token != NULL)
        rc = pool_named(custodian, token, &pool, err);
    if (rc != SSO_OK)
        return rc;
    if (token == NULL && (pool = keyring_pool(custodian->keyring, active)) == NULL)
        return sso_fail(err, SSO_HSM_UNAVAILABLE,
                        "the token of the active generation %u is not open", active);
    struct new_generation new;
    memset(&new, 0, sizeof new);
    new.generation.suite = suite;
    if ((rc = next_number(custodian, number, err)) != SSO_OK ||
        (rc = make_key(custodian, pool, number, &new, err)) != SSO_OK)
        return rc;
    if (token != NULL)
        rc = make_audit_key(custodian, pool, &new, err);
    if (rc == SSO_OK)
        rc = store_new(request, &new, err);
    if (rc == SSO_OK)
        high_water_keep(custodian);
    if (new.has_audit_key && rc == SSO_OK)
        audit_signer_sign_now(custodian);
    else if (new.has_audit_key)
        forget_audit_key(pool, &new.audit_key);
    return rc == SSO_OK ? SSO_OK : unmake(request, pool, &new.generation, err);
}
