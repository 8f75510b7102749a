#include "cli/ceremony/ceremony.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/ceremony/installation.h"
#include "common/secret.h"

#define SECRET_HEAP_BYTES ((size_t)4 << 20)

static bool is_sso_admin(const struct ceremony *ceremony)
{
    const struct config_list *admins = &ceremony->config->roles.sso_admins;
    for (size_t i = 0; i < admins->count; i++) {
        /* A certificate's name is no group; nobody at a console is one. */
        if (strncmp(admins->item[i], "san:", 4) != 0 &&
            person_in_group(&ceremony->person, admins->item[i]))
            return true;
    }
    return false;
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
                            "workers run as the user %s: start this command as root",
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
    if (rc == SSO_OK && (needs & CEREMONY_ADMIN) != 0 && !is_sso_admin(ceremony))
        rc = sso_fail(err, SSO_FORBIDDEN, "%s is in no group of [roles] sso_admins",
                      ceremony->person.name);
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
    return rc == SSO_OK ? read_system(ceremony, err) : rc;
}

struct store *ceremony_store(struct ceremony *ceremony)
{
    return ceremony->store;
}
