#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/ceremony/installation.h"
#include "cli/ceremony/making.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/row.h"
#include "common/settings.h"
#include "store/store.h"

/* The first system of a database, as it grows. */
struct birth {
    struct making making;
    struct sealed_key sealed;
    struct audit_record records[2];
};

static enum sso_code check_state_directory(const struct config *config, struct sso_error *err)
{
    const char *path = config->system.state_directory;
    struct stat status;
    if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode))
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "[system] state_directory: there is no folder %s; make it, owned by %s",
                        path, config->system.user);
    if (access(path, W_OK | X_OK) != 0)
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "[system] state_directory: %s cannot be written by %s", path,
                        config->system.user);
    return SSO_OK;
}

/* A database that exists must be ours, writable, and without a system. */
static enum sso_code check_existing(struct store *store, struct sso_error *err)
{
    struct system_row system;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(store, STORE_WRITE, &tx, err);
    if (rc != SSO_OK)
        return rc;
    rc = store_system_get(tx, &system, err);
    if (rc == SSO_OK)
        return sso_fail(
            err, SSO_ALREADY_EXISTS,
            "the database already holds the system %s; nothing was changed. sso-hsm status "
            "shows it; another master secret comes by sso-hsm key generate and rotate",
            system.name);
    return rc == SSO_NOT_FOUND ? SSO_OK : rc;
}

/* Whether the database can be made is found out before a key is; it is made after the token
 * answered, so that an init that fails leaves nothing behind. */
static enum sso_code check_database(const char *url, struct sso_error *err)
{
    struct store *store = NULL;
    bool there = false;
    enum sso_code rc = store_may_create(url, &there, err);
    if (rc != SSO_OK || !there)
        return rc;
    rc = store_open(url, &store, err);
    if (rc == SSO_OK)
        rc = check_existing(store, err);
    store_close(&store);
    return rc;
}

/* A state directory that remembers a system is that system's: its database is missing (a disk that
 * is not mounted), not unborn; and its marks and audit head are what tells a copy put back later.
 */
static enum sso_code check_memory(const struct config *config, struct sso_error *err)
{
    const char *folder = config->system.state_directory;
    struct sso_error problem = {0};
    HIGH_WATER_AUTO marks = {0};
    enum sso_code rc = store_high_water_marks(folder, config->cluster.node, &marks, &problem);
    if (rc == SSO_NOT_FOUND)
        return SSO_OK;
    if (rc != SSO_OK)
        return sso_fail(err, rc, "%s", problem.detail);
    return sso_fail(err, SSO_IN_USE,
                    "%s remembers a system whose database is not at %s: mount its disk, or put a "
                    "copy of it back; another system needs a [system] state_directory of its own",
                    folder, config->database.url);
}

static enum sso_code store_settings(const struct ceremony *ceremony, struct store_tx *tx,
                                    struct sso_error *err)
{
    struct config_setting initial[SETTINGS_MAX];
    size_t count = settings_initial(ceremony->config, initial);
    enum sso_code rc = SSO_OK;
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        struct setting setting = {.version = 1};
        snprintf(setting.name, sizeof setting.name, "%.64s", initial[i].name);
        snprintf(setting.value, sizeof setting.value, "%.64s", initial[i].value);
        policy_tag_setting(&ceremony->policy, &setting);
        rc = store_setting_put(tx, &setting, err);
    }
    return rc;
}

static enum sso_code store_birth(struct ceremony *ceremony, struct birth *birth,
                                 struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(ceremony->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = store_system_insert(tx, &ceremony->system, err);
    if (rc == SSO_OK)
        rc = store_settings(ceremony, tx, err);
    if (rc == SSO_OK)
        rc = store_sealed_key_insert(tx, &birth->sealed, err);
    if (rc == SSO_OK)
        rc = store_audit_append(tx, birth->records, 2, err);
    if (rc == SSO_OK)
        rc = making_store(ceremony, &birth->making, tx, err);
    return rc == SSO_OK ? store_commit(&tx, err) : rc;
}

/* Everything after the key exists. */
static enum sso_code finish_birth(struct ceremony *ceremony, struct birth *birth,
                                  struct sso_error *err)
{
    struct made_key *made = &birth->making.made;
    /* A fresh worker opens it: proof that the key is really in the token. */
    enum sso_code rc =
        keyring_open(ceremony->keyring, &made->generation, &made->token, 1, true, err);
    if (rc == SSO_OK)
        rc = keyring_make_sealed(ceremony->keyring, PURPOSE_POLICY, made->generation.number,
                                 &birth->sealed, &ceremony->policy.key, err);
    made->generation.state = GENERATION_ACTIVE;
    made->generation.wraps += 1; /* the policy key */
    if (rc == SSO_OK)
        rc = making_prove(ceremony, &birth->making, err);
    if (rc == SSO_OK)
        rc =
            console_record(ceremony, "system.init", ceremony->system.name, &birth->records[0], err);
    if (rc == SSO_OK)
        rc = console_record(ceremony, "generation.generate", "generation 1", &birth->records[1],
                            err);
    if (rc == SSO_OK)
        rc = store_birth(ceremony, birth, err);
    if (rc != SSO_OK)
        return rc;
    console_keep_head(ceremony, &birth->records[1], true);
    making_done(ceremony, &birth->making);
    return SSO_OK;
}

static enum sso_code make_system(struct ceremony *ceremony, enum suite_id suite,
                                 const struct backing_options *backing, struct birth *birth,
                                 struct sso_error *err)
{
    birth->making.pool = installation_pool(ceremony, NULL);
    enum sso_code rc = making_begin(ceremony, &birth->making, backing, err);
    if (rc != SSO_OK)
        return rc;
    console_hold_signals();
    rc = making_key(ceremony, &birth->making, 1, suite, err);
    if (rc != SSO_OK)
        return rc;
    rc = finish_birth(ceremony, birth, err);
    return rc == SSO_OK ? rc : making_undo(ceremony, &birth->making, err);
}

static enum sso_code prepare(struct ceremony *ceremony, struct sso_error *err)
{
    const struct config *config = ceremony->config;
    enum sso_code rc = check_state_directory(config, err);
    if (rc == SSO_OK)
        rc = check_database(config->database.url, err);
    if (rc == SSO_OK)
        rc = check_memory(config, err);
    /* The first system lives in the token of [hsm]. */
    if (rc == SSO_OK)
        rc = installation_open_pools(ceremony, "", true, err);
    if (rc == SSO_OK)
        rc = store_create(config->database.url, &ceremony->store, err);
    if (rc == SSO_OK)
        rc = check_existing(ceremony->store, err);
    if (rc == SSO_OK)
        rc = random_bytes(ceremony->system.id, SYSTEM_ID_BYTES, err);
    if (rc != SSO_OK)
        return rc;
    snprintf(ceremony->system.name, sizeof ceremony->system.name, "%s", config->system.name);
    ceremony->system.created_ms = wall_clock_ms();
    memcpy(ceremony->policy.system_id, ceremony->system.id, SYSTEM_ID_BYTES);
    return installation_open_keyring(ceremony, err);
}

static json_t *init_object(const struct ceremony *ceremony, const struct birth *birth)
{
    const struct made_key *made = &birth->making.made;
    json_t *object = key_show_object(ceremony, &made->generation, &made->evidence, 0);
    json_object_set_new(object, "system",
                        json_pack("{s:o, s:s}", "id",
                                  json_hex(ceremony->system.id, SYSTEM_ID_BYTES), "name",
                                  ceremony->system.name));
    backing_report(&birth->making.backing, object);
    return object;
}

enum sso_code ceremony_init(struct ceremony *ceremony, const char *suite,
                            const struct backing_options *backing, json_t **result,
                            struct sso_error *err)
{
    struct birth birth = {.making = {.ceremony = "init", .journal = {.fd = -1}}};
    enum suite_id suite_id = suite != NULL ? suite_from_name(suite) : SUITE_AES256_KW;
    enum sso_code rc = prepare(ceremony, err);
    if (rc == SSO_OK)
        rc = make_system(ceremony, suite_id, backing, &birth, err);
    if (rc == SSO_OK) {
        ceremony->token = malloc(sizeof *ceremony->token);
        if (ceremony->token != NULL) {
            *ceremony->token = birth.making.made.token;
            ceremony->token_count = 1;
        }
        *result = init_object(ceremony, &birth);
    }
    making_end(&birth.making);
    return rc;
}
