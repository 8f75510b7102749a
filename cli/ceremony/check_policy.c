#include <stdlib.h>
#include <string.h>

#include "cli/ceremony/findings.h"
#include "common/clock.h"
#include "common/secret.h"

#define DEADLINE_MS 60000
/* Of retired generations only those among so many of the last ones are opened. */
#define RETIRED_OPENED 16

/* A token that may be switched off after a rotation has only these. A row that stands on one all
 * the same is found where rows are opened. */
static bool may_be_away(const struct generation *generation)
{
    return generation->state == GENERATION_RETIRED || generation->state == GENERATION_DESTROYING;
}

static void check_generations(struct ceremony *ceremony, struct findings *findings)
{
    for (size_t i = 0; i < ceremony->generation_count; i++) {
        const struct generation *generation = &ceremony->generation[i];
        struct sso_error problem = {0};
        enum sso_code rc = policy_check_generation(&ceremony->policy, generation, &problem);
        if (rc == SSO_OK && generation->state != GENERATION_DESTROYING &&
            generation->state != GENERATION_DESTROYED &&
            !(may_be_away(generation) && ceremony->generation_count - i > RETIRED_OPENED))
            rc = installation_open_generation(ceremony, generation, &problem);
        if (rc != SSO_POLICY_TAMPERED && may_be_away(generation))
            rc = SSO_OK;
        if (rc != SSO_OK)
            findings_add(findings,
                         &(struct failure){.generation = generation->number, .error = &problem});
    }
    for (size_t i = 0; i < ceremony->token_count; i++) {
        struct sso_error problem = {0};
        if (policy_check_generation_token(&ceremony->policy, &ceremony->token[i], &problem) !=
            SSO_OK)
            findings_add(findings, &(struct failure){.generation = ceremony->token[i].number,
                                                     .error = &problem});
    }
}

static enum sso_code check_settings(struct ceremony *ceremony, struct store_tx *tx,
                                    struct findings *findings, struct sso_error *err)
{
    static const char *const always[] = {SETTING_SYSTEM_ENABLED, SETTING_REVOCATION};
    struct setting *settings = NULL;
    size_t count = 0;
    enum sso_code rc = store_setting_list(tx, &settings, &count, err);
    bool there[sizeof always / sizeof always[0]] = {false};
    for (size_t i = 0; i < count; i++) {
        struct sso_error problem = {0};
        for (size_t j = 0; j < sizeof always / sizeof always[0]; j++)
            there[j] |= strcmp(settings[i].name, always[j]) == 0;
        if (policy_check_setting(&ceremony->policy, &settings[i], &problem) != SSO_OK)
            findings_add(findings, &(struct failure){.error = &problem});
    }
    free(settings);
    for (size_t j = 0; rc == SSO_OK && j < sizeof always / sizeof always[0]; j++) {
        struct sso_error problem = {0};
        if (there[j])
            continue;
        sso_fail(&problem, SSO_POLICY_TAMPERED, "the setting %s is missing", always[j]);
        findings_add(findings, &(struct failure){.error = &problem});
    }
    return rc;
}

static enum sso_code check_applications(struct ceremony *ceremony, struct store_tx *tx,
                                        struct findings *findings, struct sso_error *err)
{
    struct application *applications = NULL;
    size_t count = 0;
    enum sso_code rc = store_application_list(tx, &applications, &count, err);
    for (size_t i = 0; i < count; i++) {
        struct sso_error problem = {0};
        if (policy_check_application(&ceremony->policy, &applications[i], &problem) != SSO_OK)
            findings_add(findings,
                         &(struct failure){.application = applications[i].name, .error = &problem});
    }
    free(applications);
    return rc;
}

static enum sso_code check_sealed_keys(struct ceremony *ceremony, struct findings *findings,
                                       struct sso_error *err)
{
    uint8_t *row_key = secret_alloc(ROW_KEY_BYTES);
    enum sso_code rc = SSO_OK;
    if (row_key == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no locked memory for a sealed key");
    for (size_t i = 0; rc == SSO_OK && i < ceremony->sealed_count; i++) {
        const struct sealed_key *sealed = &ceremony->sealed[i];
        struct key_item item = {
            .generation = sealed->generation, .wrapped = sealed->wrapped, .row_key = row_key};
        sealed_key_binding(ceremony->system.id, sealed, item.binding);
        rc = keyring_unwrap(ceremony->keyring, HSM_BULK, &item, 1, boot_clock_ms() + DEADLINE_MS,
                            err);
        if (rc == SSO_OK && item.code != SSO_OK) {
            struct sso_error problem = {0};
            sso_fail(&problem, item.code, "the sealed key \"%s\" does not open: %s",
                     sealed->purpose, sso_code_facts(item.code)->title);
            findings_add(findings,
                         &(struct failure){.generation = sealed->generation, .error = &problem});
        }
    }
    secret_dealloc(row_key);
    return rc;
}

enum sso_code check_policy_rows(struct ceremony *ceremony, struct store_tx *tx,
                                struct findings *findings, struct sso_error *err)
{
    check_generations(ceremony, findings);
    enum sso_code rc = check_settings(ceremony, tx, findings, err);
    if (rc == SSO_OK)
        rc = check_applications(ceremony, tx, findings, err);
    if (rc == SSO_OK)
        rc = check_sealed_keys(ceremony, findings, err);
    return rc;
}
