#include "cli/ceremony/installation.h"

#include <stdio.h>
#include <string.h>

/* `database`: how it opened. */
static void audit_reset(struct ceremony *ceremony, const char *name, enum sso_code outcome,
                        const struct sso_error *database)
{
    struct audit_record record;
    struct sso_error problem = *database;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = database->code;
    if (rc == SSO_OK)
        rc = console_record(ceremony, "pin.reset", name[0] != '\0' ? name : "hsm", &record,
                            &problem);
    if (rc == SSO_OK && outcome != SSO_OK)
        snprintf(record.outcome, sizeof record.outcome, "%s", sso_code_facts(outcome)->name);
    if (rc == SSO_OK)
        rc = store_begin(ceremony->store, STORE_WRITE, &tx, &problem);
    if (rc == SSO_OK)
        rc = store_audit_append(tx, &record, 1, &problem);
    if (rc == SSO_OK)
        rc = store_commit(&tx, &problem);
    if (rc == SSO_OK)
        console_keep_head(ceremony, &record, false);
    else
        console_warn("the reset of the PIN is not in the audit: %s", problem.detail);
}

enum sso_code ceremony_pin_reset(struct ceremony *ceremony, const char *token,
                                 struct sso_error *err)
{
    const struct config *config = ceremony->config;
    const char *name = token != NULL ? token : "";
    size_t i = 0;
    while (i < config->hsm_count && strcmp(config->hsm[i].name, name) != 0)
        i++;
    if (i == config->hsm_count)
        return sso_fail(err, SSO_CONFIG_ERROR, "%s has no section [hsm%s%s]", config->file,
                        name[0] != '\0' ? " " : "", name);
    ceremony->section[i] = config->hsm[i];
    ceremony->section[i].workers = ceremony->section[i].sessions_per_worker = 1;
    const struct hsm_options options = {.state_directory = config->system.state_directory,
                                        .spawner = ceremony->spawner,
                                        .after_reset = true,
                                        .board = &ceremony->refusals.board};
    /* Where it is reachable, other nodes hear of it; a PIN must be resettable while it is not. */
    struct sso_error database = {0};
    (void)!ceremony_open_database(ceremony, &database);
    enum sso_code rc = hsm_open_with(&ceremony->section[i], &options, &ceremony->pool[i], err);
    audit_reset(ceremony, name, rc, &database);
    if (rc == SSO_PIN_REFUSED)
        (void)sso_error_context(err, "the PIN was not accepted");
    return rc;
}
