#include "custodian/token_status.h"

#include <stdlib.h>
#include <string.h>

#include "custodian/custodian.h"
#include "custodian/snapshot.h"

struct facts {
    struct custodian *custodian;
    struct snapshot now;
    const struct generation_rows *rows;
    size_t row_count;
    struct audit_key *key;
    size_t key_count;
    struct hsm *pool[CONFIG_HSM_MAX];
    size_t pool_count;
};

static enum sso_code read_facts(struct custodian *custodian, struct facts *out)
{
    out->custodian = custodian;
    out->pool_count = custodian_pools(custodian, out->pool);
    enum sso_code rc = snapshot_read(custodian->store, &out->now, NULL);
    STORE_TX_AUTO tx = NULL;
    if (rc == SSO_OK)
        rc = store_begin(custodian->store, STORE_READ, &tx, NULL);
    if (rc == SSO_OK)
        rc = store_audit_key_list(tx, &out->key, &out->key_count, NULL);
    return rc;
}

static const struct generation *generation_of(const struct facts *facts, uint32_t number)
{
    for (size_t i = 0; i < facts->now.generation_count; i++)
        if (facts->now.generation[i].number == number)
            return &facts->now.generation[i];
    return NULL;
}

/* The key that a signature needs: here, and in no other token. */
static bool has_only_audit_key(const struct facts *facts, const struct token_identity *token)
{
    bool here = false, elsewhere = false;
    for (size_t i = 0; i < facts->key_count; i++) {
        if (policy_check_audit_key(&facts->custodian->policy, &facts->key[i], NULL) != SSO_OK)
            continue;
        bool same = token_identity_same(&facts->key[i].token, token);
        here = here || same;
        elsewhere = elsewhere || !same;
    }
    return here && !elsewhere;
}

struct use {
    json_t *generations, *kept;
    uint64_t rows, sealed_keys;
};

/* What another hand changed is not believed: a generation without a state counts as in use. */
static enum generation_state state_of(const struct facts *facts, uint32_t number)
{
    const struct generation *generation = generation_of(facts, number);
    bool ours = generation != NULL &&
                policy_check_generation(&facts->custodian->policy, generation, NULL) == SSO_OK;
    return ours ? generation->state : 0;
}

static bool is_held(const struct facts *facts, const struct generation_token *token)
{
    return token->destroyed_ms == 0 ||
           policy_check_generation_token(&facts->custodian->policy, token, NULL) != SSO_OK;
}

/* Does the token's pool serve a generation that is in use? The rows may have been taken away. */
static bool serves(const struct facts *facts, const struct token_identity *token)
{
    for (size_t i = 0; i < facts->now.generation_count; i++) {
        uint32_t number = facts->now.generation[i].number;
        struct keyring *keyring = facts->custodian->keyring;
        struct hsm *pool = keyring != NULL ? keyring_pool(keyring, number) : NULL;
        enum generation_state state = state_of(facts, number);
        struct hsm_status status;
        if (pool == NULL || state == GENERATION_RETIRED || state == GENERATION_DESTROYING ||
            state == GENERATION_DESTROYED)
            continue;
        hsm_status(pool, &status);
        if (token_identity_same(&status.token, token))
            return true;
    }
    return false;
}

static void add_generation(const struct facts *facts, const struct generation_token *token,
                           struct use *use)
{
    enum generation_state state = state_of(facts, token->number);
    bool kept = state == GENERATION_RETIRED || state == GENERATION_DESTROYING ||
                state == GENERATION_DESTROYED;
    json_array_append_new(kept ? use->kept : use->generations,
                          json_integer((json_int_t)token->number));
    for (size_t i = 0; i < facts->row_count; i++) {
        if (facts->rows[i].generation != token->number)
            continue;
        use->rows += facts->rows[i].credentials;
        use->sealed_keys += facts->rows[i].sealed_keys;
    }
}

static const char *section_of(const struct facts *facts, const struct token_identity *token)
{
    for (size_t i = 0; i < facts->pool_count; i++) {
        struct hsm_status status;
        hsm_status(facts->pool[i], &status);
        if (token_identity_same(&status.token, token))
            return hsm_name(facts->pool[i])[0] != '\0' ? hsm_name(facts->pool[i]) : "hsm";
    }
    return NULL;
}

static json_t *token_json(const struct facts *facts, const struct token_identity *token)
{
    struct use use = {.generations = json_array(), .kept = json_array()};
    const char *section = section_of(facts, token);
    char uri[TOKEN_URI_SIZE];
    for (size_t i = 0; i < facts->now.token_count; i++) {
        const struct generation_token *each = &facts->now.token[i];
        if (is_held(facts, each) && token_identity_same(&each->token, token))
            add_generation(facts, each, &use);
    }
    bool audit_key = has_only_audit_key(facts, token);
    bool free_of_use = json_array_size(use.generations) == 0 && use.rows == 0 &&
                       use.sealed_keys == 0 && !audit_key && !serves(facts, token);
    token_identity_uri(token, uri);
    return json_pack("{s:s,s:o,s:o,s:o,s:I,s:I,s:b,s:b}", "token", uri, "section",
                     section != NULL ? json_string(section) : json_null(), "generations",
                     use.generations, "kept", use.kept, "rows", (json_int_t)use.rows, "sealed_keys",
                     (json_int_t)use.sealed_keys, "audit_key", (int)audit_key,
                     "may_be_switched_off", (int)free_of_use);
}

static void add_once(const struct facts *facts, json_t *list, const struct token_identity *token)
{
    char uri[TOKEN_URI_SIZE];
    size_t i;
    const json_t *each;
    token_identity_uri(token, uri);
    if (token->token[0] == '\0' && token->serial[0] == '\0')
        return; /* a pool whose token was never seen */
    json_array_foreach(list, i, each)
    {
        if (strcmp(json_string_value(json_object_get(each, "token")), uri) == 0)
            return;
    }
    json_array_append_new(list, token_json(facts, token));
}

json_t *token_status_json(struct custodian *custodian, const struct generation_rows *rows,
                          size_t row_count)
{
    struct facts facts = {.rows = rows, .row_count = row_count};
    json_t *list = NULL;
    if (read_facts(custodian, &facts) == SSO_OK) {
        list = json_array();
        for (size_t i = 0; i < facts.pool_count; i++) {
            struct hsm_status status;
            hsm_status(facts.pool[i], &status);
            add_once(&facts, list, &status.token);
        }
        for (size_t i = 0; i < facts.now.token_count; i++)
            if (is_held(&facts, &facts.now.token[i]))
                add_once(&facts, list, &facts.now.token[i].token);
    }
    free(facts.key);
    snapshot_free(&facts.now);
    return list != NULL ? list : json_null();
}
