#include "custodian/rotation_generation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/secret.h"
#include "custodian/application_access.h"
#include "custodian/custodian.h"
#include "custodian/events.h"
#include "pkcs11/keyring.h"
#include "store/store.h"

/* As many keys without a row are passed over; more of them is something to look into. */
#define NUMBERS_PASSED_MAX 16

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

/* --- making --- */

/* No key is made where the rotation could not start: the next number, or why not. */
static enum sso_code next_number(struct custodian *custodian, uint32_t *number,
                                 struct sso_error *err)
{
    struct rotation latest;
    struct generation *list = NULL;
    size_t count = 0;
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
    rc = store_generation_list(tx, &list, &count, err);
    if (rc != SSO_OK)
        return rc;
    uint32_t highest = 0;
    for (size_t i = 0; i < count; i++) {
        if (list[i].number > highest)
            highest = list[i].number;
    }
    free(list);
    if (highest > UINT32_MAX - NUMBERS_PASSED_MAX - 1)
        return sso_fail(err, SSO_INTERNAL,
                        "generation %u is the last that there can be: the database was changed "
                        "outside this program",
                        highest);
    *number = highest + 1;
    return SSO_OK;
}

struct new_generation {
    struct generation generation;
    struct generation_token token;
};

static enum sso_code write_generation(struct store_tx *tx, void *context, struct sso_error *err)
{
    const struct new_generation *new = context;
    enum sso_code rc = store_generation_insert(tx, &new->generation, err);
    return rc == SSO_OK ? store_generation_token_put(tx, &new->token, err) : rc;
}

static enum sso_code store_new(struct request *request, struct new_generation *new,
                               struct sso_error *err)
{
    struct custodian *custodian = request->custodian;
    new->generation.no_backup = true;
    policy_tag_generation(&custodian->policy, &new->generation);
    policy_tag_generation_token(&custodian->policy, &new->token);
    struct audit_record record = request->audit;
    snprintf(record.operation, sizeof record.operation, "generation.generate");
    snprintf(record.target, sizeof record.target, "generation %u", new->generation.number);
    return committer_run(custodian->committer, write_generation, new, &record, 1, err);
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

enum sso_code rotation_generation_make(struct request *request, uint32_t *number,
                                       struct sso_error *err)
{
    struct custodian *custodian = request->custodian;
    uint32_t active;
    enum suite_id suite;
    enum sso_code rc = installation_active(custodian, &active, &suite, err);
    if (rc != SSO_OK)
        return rc;
    struct hsm *pool = keyring_pool(custodian->keyring, active);
    if (pool == NULL)
        return sso_fail(err, SSO_HSM_UNAVAILABLE,
                        "the token of the active generation %u is not open", active);
    struct new_generation new;
    memset(&new, 0, sizeof new);
    new.generation.suite = suite;
    if ((rc = next_number(custodian, number, err)) != SSO_OK ||
        (rc = make_key(custodian, pool, number, &new, err)) != SSO_OK)
        return rc;
    rc = store_new(request, &new, err);
    return rc == SSO_OK ? SSO_OK : unmake(request, pool, &new.generation, err);
}
