#include "custodian/snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/settings.h"

void snapshot_free(struct snapshot *snapshot)
{
    free(snapshot->generation);
    free(snapshot->token);
    free(snapshot->sealed);
    free(snapshot->setting);
    *snapshot = (struct snapshot){0};
}

enum sso_code snapshot_read(struct store *store, struct snapshot *out, struct sso_error *err)
{
    *out = (struct snapshot){0};
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(store, STORE_READ, &tx, err);
    if (rc != SSO_OK)
        return rc;
    rc = store_system_get(tx, &out->system, err);
    if (rc == SSO_NOT_FOUND)
        return sso_fail(err, SSO_NO_MASTER_SECRET,
                        "the database is empty: no master secret was made yet; run sso-hsm init");
    if (rc != SSO_OK ||
        (rc = store_generation_list(tx, &out->generation, &out->generation_count, err)) != SSO_OK ||
        (rc = store_generation_token_list(tx, &out->token, &out->token_count, err)) != SSO_OK ||
        (rc = store_sealed_key_list(tx, &out->sealed, &out->sealed_count, err)) != SSO_OK ||
        (rc = store_setting_list(tx, &out->setting, &out->setting_count, err)) != SSO_OK)
        snapshot_free(out);
    return rc;
}

const struct sealed_key *snapshot_sealed(const struct snapshot *snapshot, const char *purpose)
{
    for (size_t i = 0; i < snapshot->sealed_count; i++) {
        if (strcmp(snapshot->sealed[i].purpose, purpose) == 0)
            return &snapshot->sealed[i];
    }
    return NULL;
}

bool snapshot_token_damaged(const struct snapshot *snapshot, uint32_t generation)
{
    for (size_t i = 0; i < snapshot->token_count; i++) {
        if (snapshot->token[i].number == generation && snapshot->token[i].version == 0)
            return true;
    }
    return false;
}

bool snapshot_sealed_damaged(const struct snapshot *snapshot, const char *purpose)
{
    const struct sealed_key *key = snapshot_sealed(snapshot, purpose);
    for (size_t i = 0; key != NULL && i < snapshot->generation_count; i++) {
        if (snapshot->generation[i].number == key->generation && snapshot->generation[i].state == 0)
            return true;
    }
    return false;
}

const char *snapshot_setting(const struct snapshot *snapshot, const char *name)
{
    for (size_t i = 0; i < snapshot->setting_count; i++) {
        if (strcmp(snapshot->setting[i].name, name) == 0)
            return snapshot->setting[i].value;
    }
    return NULL;
}

static enum sso_code check_present(const struct snapshot *snapshot, const char *name,
                                   struct sso_error *err)
{
    if (snapshot_setting(snapshot, name) != NULL)
        return SSO_OK;
    return sso_fail(err, SSO_POLICY_TAMPERED, "the setting %s is missing from the database", name);
}

enum sso_code snapshot_check_settings(const struct snapshot *snapshot, const struct policy *policy,
                                      const struct config *config, struct sso_error *err)
{
    enum sso_code rc;
    for (size_t i = 0; i < snapshot->setting_count; i++) {
        if ((rc = policy_check_setting(policy, &snapshot->setting[i], err)) != SSO_OK)
            return rc;
    }
    struct config_setting initial[SETTINGS_MAX];
    size_t count = settings_initial(config, initial);
    for (size_t i = 0; i < count; i++) {
        if ((rc = check_present(snapshot, initial[i].name, err)) != SSO_OK)
            return rc;
    }
    return SSO_OK;
}

enum sso_code snapshot_active(const struct snapshot *snapshot, const struct policy *policy,
                              const struct generation **out, struct sso_error *err)
{
    *out = NULL;
    struct sso_error tampered = {0};
    for (size_t i = 0; i < snapshot->generation_count; i++) {
        const struct generation *generation = &snapshot->generation[i];
        if (policy_check_generation(policy, generation, &tampered) != SSO_OK ||
            generation->state != GENERATION_ACTIVE)
            continue;
        if (*out != NULL)
            return sso_fail(err, SSO_POLICY_TAMPERED, "generations %u and %u are both active",
                            (*out)->number, generation->number);
        *out = generation;
    }
    if (*out != NULL)
        return SSO_OK;
    if (tampered.code != SSO_OK)
        return sso_fail(err, tampered.code, "%s", tampered.detail);
    return sso_fail(err, SSO_NO_MASTER_SECRET, "no generation is active");
}

enum sso_code snapshot_check_generations(const struct snapshot *snapshot,
                                         const struct policy *policy, struct sso_error *err)
{
    enum sso_code rc;
    for (size_t i = 0; i < snapshot->generation_count; i++) {
        if ((rc = policy_check_generation(policy, &snapshot->generation[i], err)) != SSO_OK)
            return rc;
    }
    for (size_t i = 0; i < snapshot->token_count; i++) {
        if ((rc = policy_check_generation_token(policy, &snapshot->token[i], err)) != SSO_OK)
            return rc;
    }
    return SSO_OK;
}

void snapshot_settings_differ(const struct snapshot *snapshot, const struct config *config,
                              char *out, size_t size)
{
    struct config_setting initial[CONFIG_SETTINGS_MAX];
    size_t count = config_initial_settings(config, initial), used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        const char *value = snapshot_setting(snapshot, initial[i].name);
        if (value == NULL || strcmp(value, initial[i].value) == 0)
            continue;
        int added =
            snprintf(out + used, size - used, "%s%s", used > 0 ? ", " : "", initial[i].name);
        if (added < 0 || (size_t)added >= size - used)
            return;
        used += (size_t)added;
    }
}
