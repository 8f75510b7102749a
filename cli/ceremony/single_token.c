/* A generation whose IVs a token makes lives in one token only (DESIGN §3.2): two tokens that make
 * IVs for one key know nothing of each other's. */
#include <stdlib.h>
#include <string.h>

#include "cli/ceremony/installation.h"
#include "common/json.h"

static bool is_the_tokens(const char *gcm_iv)
{
    return gcm_iv != NULL && gcm_iv[0] != '\0' && strcmp(gcm_iv, "caller") != 0;
}

static bool token_made_ivs(const struct generation_token *token)
{
    json_t *evidence = json_parse(token->evidence, strlen(token->evidence), NULL);
    bool made = is_the_tokens(json_string_value(json_object_get(evidence, "gcm_iv")));
    json_decref(evidence);
    return made;
}

static bool any_token_made_ivs(const struct ceremony *ceremony, uint32_t number)
{
    for (size_t i = 0; i < ceremony->token_count; i++)
        if (ceremony->token[i].number == number && ceremony->token[i].destroyed_ms == 0 &&
            token_made_ivs(&ceremony->token[i]))
            return true;
    return false;
}

enum sso_code single_token_check(const struct ceremony *ceremony, const struct hsm *target,
                                 const struct generation_key *key, const struct evidence *evidence,
                                 struct sso_error *err)
{
    bool bound = (evidence != NULL && is_the_tokens(evidence->gcm_iv)) ||
                 any_token_made_ivs(ceremony, key->number);
    if (key->suite != SUITE_AES256_GCM || !bound)
        return SSO_OK;
    for (size_t i = 0; i < ceremony->config->hsm_count; i++) {
        struct hsm *other = ceremony->pool[i];
        struct evidence theirs;
        struct hsm_status status;
        if (other == NULL || other == target || hsm_evidence(other, key, &theirs, NULL) != SSO_OK)
            continue;
        hsm_status(other, &status);
        return sso_fail(err, SSO_TOKEN_NOT_SUITABLE,
                        "generation %u is in token \"%s\", and a token makes the IVs of its "
                        "aes256-gcm: such a generation lives in one token only; rotate to a new "
                        "generation in the other token",
                        key->number, status.token.token);
    }
    return SSO_OK;
}
