#include "cli/ceremony/installation.h"

#include <string.h>

enum sso_code installation_open_pools(struct ceremony *ceremony, const char *only,
                                      bool single_worker, struct sso_error *err)
{
    const struct config *config = ceremony->config;
    const struct hsm_options options = {.state_directory = config->system.state_directory,
                                        .spawner = ceremony->spawner,
                                        .board = &ceremony->refusals.board};
    size_t tried = 0, opened = 0;
    for (size_t i = 0; i < config->hsm_count; i++) {
        if (only != NULL && strcmp(config->hsm[i].name, only) != 0)
            continue;
        ceremony->section[i] = config->hsm[i];
        if (single_worker)
            ceremony->section[i].workers = 1;
        struct sso_error problem = {0};
        tried++;
        if (hsm_open_with(&ceremony->section[i], &options, &ceremony->pool[i], &problem) == SSO_OK)
            opened++;
        else if (ceremony->pool_error.code == SSO_OK)
            ceremony->pool_error = problem;
    }
    if (tried == 0 && only != NULL && only[0] != '\0')
        return sso_fail(err, SSO_CONFIG_ERROR, "%s has no section [hsm %s]", config->file, only);
    if (tried == 0)
        return sso_fail(err, SSO_CONFIG_ERROR, "%s has no section [hsm]: no token is configured",
                        config->file);
    if (opened == 0)
        return sso_fail(err, ceremony->pool_error.code, "%s", ceremony->pool_error.detail);
    return SSO_OK;
}

enum sso_code installation_open_keyring(struct ceremony *ceremony, struct sso_error *err)
{
    enum sso_code rc = keyring_new(ceremony->system.id, &ceremony->keyring, err);
    if (rc != SSO_OK)
        return rc;
    for (size_t i = 0; i < CONFIG_HSM_MAX; i++) {
        if (ceremony->pool[i] != NULL)
            keyring_add_pool(ceremony->keyring, ceremony->pool[i]);
    }
    for (size_t i = 0; i < ceremony->generation_count; i++)
        keyring_know(ceremony->keyring, &ceremony->generation[i].number, 1);
    return SSO_OK;
}

enum sso_code installation_open_generation(struct ceremony *ceremony,
                                           const struct generation *generation,
                                           struct sso_error *err)
{
    if (keyring_has(ceremony->keyring, generation->number))
        return SSO_OK;
    enum sso_code rc = keyring_open(ceremony->keyring, generation, ceremony->token,
                                    ceremony->token_count, false, err);
    if (rc != SSO_OK && ceremony->pool_error.code != SSO_OK) {
        rc = sso_fail(err, ceremony->pool_error.code, "generation %u is in no token that opens; %s",
                      generation->number, ceremony->pool_error.detail);
    }
    return rc;
}

const struct generation *installation_generation(const struct ceremony *ceremony, uint32_t number)
{
    for (size_t i = 0; i < ceremony->generation_count; i++) {
        if (ceremony->generation[i].number == number)
            return &ceremony->generation[i];
    }
    return NULL;
}

const struct generation *installation_active(const struct ceremony *ceremony)
{
    for (size_t i = 0; i < ceremony->generation_count; i++) {
        if (ceremony->generation[i].state == GENERATION_ACTIVE)
            return &ceremony->generation[i];
    }
    return NULL;
}

enum sso_code installation_open_policy(struct ceremony *ceremony, struct sso_error *err)
{
    const struct sealed_key *sealed = NULL;
    for (size_t i = 0; i < ceremony->sealed_count; i++) {
        if (strcmp(ceremony->sealed[i].purpose, PURPOSE_POLICY) == 0)
            sealed = &ceremony->sealed[i];
    }
    if (sealed == NULL)
        return sso_fail(err, SSO_POLICY_TAMPERED, "the database holds no policy key");
    const struct generation *generation = installation_generation(ceremony, sealed->generation);
    if (generation == NULL)
        return sso_fail(err, SSO_POLICY_TAMPERED,
                        "the policy key is under generation %u, which the database does not know",
                        sealed->generation);
    enum sso_code rc = installation_open_generation(ceremony, generation, err);
    if (rc != SSO_OK)
        return rc;
    memcpy(ceremony->policy.system_id, ceremony->system.id, SYSTEM_ID_BYTES);
    return keyring_open_policy(ceremony->keyring, sealed, &ceremony->policy, err);
}

enum sso_code installation_check_tags(const struct ceremony *ceremony, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    for (size_t i = 0; rc == SSO_OK && i < ceremony->generation_count; i++)
        rc = policy_check_generation(&ceremony->policy, &ceremony->generation[i], err);
    for (size_t i = 0; rc == SSO_OK && i < ceremony->token_count; i++)
        rc = policy_check_generation_token(&ceremony->policy, &ceremony->token[i], err);
    return rc;
}

enum sso_code installation_reread(const struct ceremony *ceremony, struct store_tx *tx,
                                  const struct generation *before, struct generation *out,
                                  struct sso_error *err)
{
    enum sso_code rc = store_generation_hold(tx, before->number, STORE_SHARED, out, err);
    if (rc == SSO_OK)
        rc = policy_check_generation(&ceremony->policy, out, err);
    if (rc != SSO_OK)
        return rc;
    bool same = memcmp(out->secret_id, before->secret_id, SECRET_ID_BYTES) == 0 &&
                out->suite == before->suite &&
                memcmp(&out->canary, &before->canary, sizeof out->canary) == 0;
    if (same && out->state != GENERATION_DESTROYED)
        return SSO_OK;
    return sso_fail(err, SSO_VERSION_CONFLICT,
                    "generation %u was changed while this ran (%s): nothing was recorded",
                    before->number, same ? "it was destroyed" : "it is another key now");
}

enum sso_code installation_open_all(struct ceremony *ceremony, struct sso_error *err)
{
    enum sso_code rc = ceremony_open_database(ceremony, err);
    if (rc == SSO_OK)
        rc = installation_open_pools(ceremony, NULL, true, err);
    if (rc == SSO_OK)
        rc = installation_open_keyring(ceremony, err);
    if (rc == SSO_OK)
        rc = installation_open_policy(ceremony, err);
    return rc == SSO_OK ? installation_check_tags(ceremony, err) : rc;
}

struct hsm *installation_pool(struct ceremony *ceremony, const char *name)
{
    for (size_t i = 0; i < ceremony->config->hsm_count; i++) {
        if (strcmp(ceremony->config->hsm[i].name, name != NULL ? name : "") == 0)
            return ceremony->pool[i];
    }
    return NULL;
}
