#include "cli/ceremony/ceremony.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/ceremony/installation.h"
#include "common/san.h"
#include "common/secret.h"

#define SECRET_HEAP_BYTES ((size_t)4 << 20)
#define GROUPS_TEXT_BYTES 256

static bool in_any_group(const struct person *person, const struct config_list *groups)
{
    for (size_t i = 0; i < groups->count; i++) {
        /* A certificate's name is no group; nobody at a console is one. */
        if (!san_is_pattern(groups->item[i]) && person_in_group(person, groups->item[i]))
            return true;
    }
    return false;
}

static void name_groups(const struct config_list *groups, char out[static GROUPS_TEXT_BYTES])
{
    size_t used = strlen(out);
    for (size_t i = 0; i < groups->count && used < GROUPS_TEXT_BYTES; i++) {
        if (san_is_pattern(groups->item[i]))
            continue;
        snprintf(out + used, GROUPS_TEXT_BYTES - used, "%s%s", used > 0 ? ", " : "",
                 groups->item[i]);
        used = strlen(out);
    }
}

static enum sso_code check_role(const struct ceremony *ceremony, unsigned needs,
                                struct sso_error *err)
{
    const struct config *config = ceremony->config;
    const struct person *person = &ceremony->person;
    bool auditors_too = (needs & CEREMONY_AUDITOR) != 0;
    char groups[GROUPS_TEXT_BYTES] = "";
    if ((needs & (CEREMONY_ADMIN | CEREMONY_AUDITOR)) == 0 ||
        in_any_group(person, &config->roles.sso_admins) ||
        (auditors_too && in_any_group(person, &config->roles.auditors)))
        return SSO_OK;
    name_groups(&config->roles.sso_admins, groups);
    if (auditors_too)
        name_groups(&config->roles.auditors, groups);
    const char *which = auditors_too ? "sso_admins or auditors" : "sso_admins";
    if (groups[0] == '\0')
        return sso_fail(err, SSO_FORBIDDEN,
                        "%s is in no group of [roles] %s: name a group there (%s) and add %s to it",
                        person->name, which, config->file, person->name);
    return sso_fail(err, SSO_FORBIDDEN,
                    "%s is in no group of [roles] %s: add %s to one of: %s (gpasswd -a %s GROUP)",
                    person->name, which, person->name, groups, person->name);
}

/* Not root: every user that workers shall run as must be the one we are. */
static enum sso_code check_token_users(const struct ceremony *ceremony, struct sso_error *err)
{
    const struct config *config = ceremony->config;
    for (size_t i = 0; i < config->hsm_count; i++) {
        struct person user;
        enum sso_code rc = person_by_name(config->hsm[i].user, &user, err);
        if (rc != SSO_OK)
            return rc;
        if (!ceremony->started_as_root && user.uid != geteuid())
            return sso_fail(err, SSO_FORBIDDEN,
                            "workers run as the user %s, whom root alone can become: start this "
                            "command as root, with sudo or logged in as a person who has the role "
                            "that it wants (its --help names the role)",
                            config->hsm[i].user);
    }
    return SSO_OK;
}

static enum sso_code begin(struct ceremony *ceremony, unsigned needs, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    ceremony->started_as_root = geteuid() == 0;
    if ((needs & CEREMONY_TOKEN) != 0)
        rc = spawner_start(NULL, ceremony->config->hsm, ceremony->config->hsm_count,
                           &ceremony->spawner, err);
    if (rc == SSO_OK)
        rc = person_at_console(&ceremony->person, err);
    if (rc == SSO_OK && (needs & CEREMONY_TOKEN) != 0)
        rc = check_token_users(ceremony, err);
    if (rc == SSO_OK)
        rc = become_user(ceremony->config->system.user, err);
    if (rc == SSO_OK)
        rc = check_role(ceremony, needs, err);
    if (rc == SSO_OK)
        rc = secret_memory_init(SECRET_HEAP_BYTES, err);
    return rc;
}

enum sso_code ceremony_begin(const struct config *config, unsigned needs, struct ceremony **out,
                             struct sso_error *err)
{
    struct ceremony *ceremony = calloc(1, sizeof *ceremony);
    if (ceremony == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory");
    ceremony->config = config;
    shared_refusals_init(&ceremony->refusals, config->cluster.node);
    enum sso_code rc = begin(ceremony, needs, err);
    if (rc != SSO_OK)
        ceremony_end(&ceremony);
    else
        *out = ceremony;
    return rc;
}

void ceremony_end(struct ceremony **ceremony)
{
    struct ceremony *old = *ceremony;
    if (old == NULL)
        return;
    keyring_free(&old->keyring);
    for (size_t i = 0; i < CONFIG_HSM_MAX; i++)
        hsm_close(&old->pool[i]);
    policy_free(&old->policy);
    free(old->generation);
    free(old->token);
    free(old->sealed);
    store_close(&old->store);
    spawner_stop(&old->spawner);
    free(old);
    *ceremony = NULL;
}

static enum sso_code read_system(struct ceremony *ceremony, struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(ceremony->store, STORE_READ, &tx, err);
    if (rc != SSO_OK)
        return rc;
    rc = store_system_get(tx, &ceremony->system, err);
    if (rc == SSO_NOT_FOUND)
        return sso_fail(err, SSO_NO_MASTER_SECRET,
                        "the database has no system yet: `sso-hsm init` makes it");
    if (rc == SSO_OK && strcmp(ceremony->system.name, ceremony->config->system.name) != 0)
        return sso_fail(err, SSO_DATABASE_OF_OTHER_SYSTEM,
                        "the database belongs to the system %s, the configuration is of %s",
                        ceremony->system.name, ceremony->config->system.name);
    if (rc == SSO_OK)
        rc = store_generation_list(tx, &ceremony->generation, &ceremony->generation_count, err);
    if (rc == SSO_OK)
        rc = store_generation_token_list(tx, &ceremony->token, &ceremony->token_count, err);
    if (rc == SSO_OK)
        rc = store_sealed_key_list(tx, &ceremony->sealed, &ceremony->sealed_count, err);
    return rc;
}

enum sso_code ceremony_open_database(struct ceremony *ceremony, struct sso_error *err)
{
    enum sso_code rc = store_open(ceremony->config->database.url, &ceremony->store, err);
    if (rc == SSO_OK)
        shared_refusals_use(&ceremony->refusals, ceremony->store);
    return rc == SSO_OK ? read_system(ceremony, err) : rc;
}

struct store *ceremony_store(struct ceremony *ceremony)
{
    return ceremony->store;
}
