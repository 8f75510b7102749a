/* Backups that are opened: restored into a token, drilled, or only looked at. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ceremony/journal.h"
#include "cli/ceremony/opened_backup.h"
#include "cli/ceremony/statement.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/json.h"

/* --- backup-info --- */

static json_t *set_object(const struct share_set *set)
{
    json_t *fingerprints = json_array();
    char shares[16];
    for (unsigned i = 0; i < set->scheme.count; i++)
        json_array_append_new(fingerprints, json_hex(set->fingerprint[i], SHARE_FINGERPRINT_BYTES));
    snprintf(shares, sizeof shares, "%u/%u", set->scheme.threshold, set->scheme.count);
    return json_pack("{s:s, s:s, s:o, s:b, s:o, s:I}", "id", set->id, "shares", shares, "created",
                     json_time(set->created_ms), "passphrase", set->passphrase, "fingerprints",
                     fingerprints, "slip39_identifier", (json_int_t)set->identifier);
}

enum sso_code ceremony_backup_info(const char *file, json_t **result, struct sso_error *err)
{
    BACKUP_TEXT_AUTO text = {0};
    enum sso_code rc = backup_load(file, &text, err);
    if (rc != SSO_OK)
        return rc;
    const struct backup_file *backup = &text.file;
    json_t *keys = json_array();
    for (size_t i = 0; i < backup->audit_key_count; i++)
        json_array_append_new(keys, json_string(backup->audit_key[i]));
    *result = json_pack(
        "{s:{s:o, s:s}, s:I, s:o, s:s, s:o, s:o, s:o, s:o}", "system", "id",
        json_hex(backup->system_id, SYSTEM_ID_BYTES), "name", backup->system_name, "generation",
        (json_int_t)backup->generation, "secret_id", json_hex(backup->secret_id, SECRET_ID_BYTES),
        "suite", suite_name(backup->suite), "created", json_time(backup->created_ms), "written",
        json_time(backup->written_ms), "share_set", set_object(&backup->set), "audit_keys", keys);
    return SSO_OK;
}

/* --- restore and drill --- */

struct restoring {
    const char *ceremony; /* "generation.restore", "backup.drill" */
    struct opened_backup opened;
    struct hsm *pool;
    struct sampled_rows samples;
    struct journal journal;
    struct evidence evidence;
    struct generation_token token;
    struct signer signer;
    bool installed, already_there;
    bool was_destroyed;  /* here or, as this node's marks know, later than this database */
    char statement[600]; /* of that; it is what the audit has too */
};

static enum sso_code find_pool(struct ceremony *ceremony, const char *token, struct hsm **out,
                               struct sso_error *err)
{
    *out = installation_pool(ceremony, token);
    if (*out != NULL)
        return SSO_OK;
    for (size_t i = 0; i < ceremony->config->hsm_count; i++) {
        if (strcmp(ceremony->config->hsm[i].name, token != NULL ? token : "") == 0)
            return sso_fail(err, ceremony->pool_error.code, "%s", ceremony->pool_error.detail);
    }
    return sso_fail(err, SSO_CONFIG_ERROR, "%s has no section [hsm %s]", ceremony->config->file,
                    token != NULL ? token : "");
}

/* Does the token have the key? Another key under its name is an error. */
static enum sso_code look_for_key(struct restoring *restoring, struct sso_error *err)
{
    struct sso_error problem = {0};
    enum sso_code rc =
        hsm_evidence(restoring->pool, &restoring->opened.key, &restoring->evidence, &problem);
    if (rc == SSO_NO_MASTER_SECRET)
        return SSO_OK;
    if (rc != SSO_OK)
        return sso_fail(err, rc, "%s", problem.detail);
    if (!restoring->evidence.canary)
        return sso_fail(err, SSO_ALREADY_EXISTS,
                        "the token holds another key under the name of generation %u: see to that "
                        "first; nothing was changed",
                        restoring->opened.key.number);
    restoring->already_there = true;
    return SSO_OK;
}

/* The row of the token is under the policy tag: that key must be within reach, or be the one that
 * comes back now. */
static enum sso_code check_policy_reach(struct ceremony *ceremony, uint32_t number,
                                        struct sso_error *err)
{
    struct sso_error problem = {0};
    for (size_t i = 0; i < ceremony->sealed_count; i++) {
        if (strcmp(ceremony->sealed[i].purpose, PURPOSE_POLICY) == 0 &&
            ceremony->sealed[i].generation == number)
            return SSO_OK;
    }
    if (installation_open_policy(ceremony, &problem) == SSO_OK)
        return SSO_OK;
    return sso_fail(err, problem.code,
                    "the policy key is under another generation, which does not open either: "
                    "restore that one first (%s); nothing was changed",
                    problem.detail);
}

static enum sso_code open_restoring(struct ceremony *ceremony, const struct restore_wish *wish,
                                    struct restoring *restoring, struct sso_error *err)
{
    enum sso_code rc = ceremony_open_database(ceremony, err);
    if (rc == SSO_OK)
        rc = opened_backup_read(ceremony, wish->file, &restoring->opened, err);
    if (rc == SSO_OK)
        rc = installation_open_pools(ceremony, NULL, true, err);
    if (rc == SSO_OK)
        rc = find_pool(ceremony, wish->token, &restoring->pool, err);
    if (rc == SSO_OK)
        rc = installation_open_keyring(ceremony, err);
    return rc;
}

/* Whoever destroyed a generation meant that nothing opens under it any more. */
static enum sso_code check_destroyed(struct ceremony *ceremony, const struct restore_wish *wish,
                                     struct restoring *restoring, struct sso_error *err)
{
    const struct generation *generation = restoring->opened.generation, *mark = NULL;
    HIGH_WATER_AUTO marks = {0};
    if (high_water_read(ceremony->config->system.state_directory, &marks, NULL) == SSO_OK)
        mark = high_water_generation(&marks, generation->number);
    if (generation->state == GENERATION_DESTROYING && generation->going_ms != 0)
        return sso_fail(err, SSO_IN_USE,
                        "generation %u is being destroyed: let sso-hsm key destroy %u end first",
                        generation->number, generation->number);
    restoring->was_destroyed = generation->state == GENERATION_DESTROYED ||
                               (mark != NULL && (mark->state == GENERATION_DESTROYED ||
                                                 mark->going_ms > generation->going_ms));
    if (restoring->was_destroyed == wish->destroyed)
        return SSO_OK;
    if (wish->destroyed)
        return sso_fail(err, SSO_USAGE, "generation %u was not destroyed: leave --destroyed out",
                        generation->number);
    return sso_fail(err, SSO_USAGE,
                    "generation %u was destroyed, so that nothing opens under it any more. To "
                    "restore it, for an older database, is an act of its own: say --destroyed",
                    generation->number);
}

static enum sso_code prove(struct ceremony *ceremony, const struct restore_wish *wish,
                           struct restoring *restoring, struct sso_error *err)
{
    enum sso_code rc = opened_backup_unlock(&restoring->opened, wish->shares_dir, err);
    return rc == SSO_OK ? opened_backup_try(ceremony, restoring->pool, &restoring->opened,
                                            &restoring->samples, err)
                        : rc;
}

static enum sso_code install(struct ceremony *ceremony, struct restoring *restoring,
                             struct sso_error *err)
{
    const struct generation_key *key = &restoring->opened.key;
    struct journal_entry entry = {.generation = key->number, .restored = true};
    memcpy(entry.system_id, key->system_id, SYSTEM_ID_BYTES);
    memcpy(entry.secret_id, key->secret_id, SECRET_ID_BYTES);
    snprintf(entry.section, sizeof entry.section, "%s", hsm_name(restoring->pool));
    enum sso_code rc = journal_write(&restoring->journal, &entry, err);
    if (rc != SSO_OK)
        return rc;
    fault_point("ceremony.journal");
    rc = hsm_install_backup(restoring->pool, key, &restoring->opened.backup, &restoring->evidence,
                            err);
    opened_backup_forget_keys(&restoring->opened);
    fault_point("ceremony.key");
    restoring->installed = rc == SSO_OK;
    if (rc == SSO_OK)
        keyring_token_row(restoring->pool, key->number, ceremony->config->cluster.node,
                          &restoring->evidence, &restoring->token);
    else if (rc != SSO_HSM_UNAVAILABLE)
        journal_clear(&restoring->journal);
    return rc;
}

/* Where this very token held the key before, its row is written anew. */
static void succeed_row(const struct ceremony *ceremony, struct generation_token *token)
{
    for (size_t i = 0; i < ceremony->token_count; i++) {
        const struct generation_token *old = &ceremony->token[i];
        if (old->number == token->number && strcmp(old->node, token->node) == 0 &&
            token_identity_same(&old->token, &token->token))
            token->version = old->version + 1;
    }
}

/* Its key is there again: kept, unused, to be destroyed once more. */
static enum sso_code take_back(struct ceremony *ceremony, struct store_tx *tx, uint32_t number,
                               struct sso_error *err)
{
    struct generation row;
    enum sso_code rc = store_generation_hold(tx, number, STORE_EXCLUSIVE, &row, err);
    if (rc == SSO_OK)
        rc = policy_check_generation(&ceremony->policy, &row, err);
    if (rc != SSO_OK || row.state != GENERATION_DESTROYED)
        return rc;
    row.state = GENERATION_RETIRED;
    row.going_ms = 0;
    row.retired_ms = wall_clock_ms();
    row.version++;
    policy_tag_generation(&ceremony->policy, &row);
    return store_generation_update(tx, &row, err);
}

static enum sso_code store_restored(struct ceremony *ceremony, struct restoring *restoring,
                                    struct audit_record *record, struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(ceremony->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK && restoring->was_destroyed)
        rc = take_back(ceremony, tx, restoring->opened.key.number, err);
    if (rc == SSO_OK)
        rc = store_generation_token_put(tx, &restoring->token, err);
    if (rc == SSO_OK)
        rc = store_audit_append(tx, record, 1, err);
    if (rc == SSO_OK)
        rc = signer_store(ceremony, &restoring->signer, tx, err);
    fault_point("ceremony.store");
    return rc == SSO_OK ? store_commit(&tx, err) : rc;
}

static enum sso_code record_of_destroyed(const struct ceremony *ceremony,
                                         struct restoring *restoring, struct audit_record *out,
                                         struct sso_error *err)
{
    struct hsm_status status;
    char uri[TOKEN_URI_SIZE];
    hsm_status(restoring->pool, &status);
    token_identity_uri(&status.token, uri);
    snprintf(restoring->statement, sizeof restoring->statement,
             "generation %" PRIu32 ", which was destroyed, is restored into %.250s from share set "
             "%s: rows of databases older than its end open under it again, until it is destroyed "
             "once more; %zu of %zu sampled rows opened",
             restoring->opened.key.number, uri, restoring->opened.text.file.set.id,
             restoring->samples.opened, restoring->samples.count);
    return console_record(ceremony, "generation.restore-destroyed", restoring->statement, out, err);
}

static enum sso_code record_of(const struct ceremony *ceremony, struct restoring *restoring,
                               struct audit_record *out, struct sso_error *err)
{
    if (restoring->was_destroyed)
        return record_of_destroyed(ceremony, restoring, out, err);
    char target[192];
    snprintf(target, sizeof target, "generation %" PRIu32 ", share set %s, %zu of %zu rows opened",
             restoring->opened.key.number, restoring->opened.text.file.set.id,
             restoring->samples.opened, restoring->samples.count);
    return console_record(ceremony, restoring->ceremony, target, out, err);
}

static enum sso_code finish_restore(struct ceremony *ceremony, struct restoring *restoring,
                                    struct sso_error *err)
{
    struct audit_record record;
    succeed_row(ceremony, &restoring->token);
    enum sso_code rc = keyring_open(ceremony->keyring, restoring->opened.generation,
                                    &restoring->token, 1, true, err);
    if (rc == SSO_OK && ceremony->policy.key.length_bytes == 0)
        rc = installation_open_policy(ceremony, err);
    if (rc == SSO_OK)
        rc = installation_check_tags(ceremony, err);
    if (rc == SSO_OK)
        rc = record_of(ceremony, restoring, &record, err);
    if (rc == SSO_OK)
        rc = signer_open(ceremony, restoring->pool, &restoring->journal, &restoring->signer, err);
    if (rc != SSO_OK)
        return rc;
    policy_tag_generation_token(&ceremony->policy, &restoring->token);
    rc = store_restored(ceremony, restoring, &record, err);
    if (rc != SSO_OK)
        return rc;
    fault_point("ceremony.stored");
    journal_clear(&restoring->journal);
    console_keep_head(ceremony, &record, false);
    signer_sign_heads(ceremony, &restoring->signer);
    return SSO_OK;
}

static enum sso_code undo_restore(struct ceremony *ceremony, struct restoring *restoring,
                                  struct sso_error *err)
{
    bool gone = false;
    if (journal_is_open(ceremony))
        return err != NULL ? err->code : SSO_INTERNAL;
    if (restoring->signer.present)
        signer_undo(&restoring->signer);
    enum sso_code rc =
        console_undo_key(ceremony, restoring->pool, restoring->opened.generation, &gone, err);
    if (gone)
        journal_clear(&restoring->journal);
    return rc;
}

static json_t *result_object(struct ceremony *ceremony, const struct restoring *restoring)
{
    struct hsm_status status;
    char uri[TOKEN_URI_SIZE];
    hsm_status(restoring->pool, &status);
    token_identity_uri(&status.token, uri);
    json_t *object =
        key_show_object(ceremony, restoring->opened.generation, &restoring->evidence, -1);
    json_object_set_new(object, "token", json_string(uri));
    json_object_set_new(object, "already_there", json_boolean(restoring->already_there));
    json_object_set_new(object, "samples", json_integer((json_int_t)restoring->samples.count));
    json_object_set_new(object, "samples_opened",
                        json_integer((json_int_t)restoring->samples.opened));
    const struct statement statement = {.generation = restoring->opened.key.number,
                                        .what = "restored",
                                        .text = restoring->statement,
                                        .keep = true};
    if (restoring->was_destroyed && !restoring->already_there)
        statement_sign(ceremony, &restoring->signer, &statement, object);
    return object;
}

static enum sso_code restore(struct ceremony *ceremony, const struct restore_wish *wish,
                             struct restoring *restoring, struct sso_error *err)
{
    enum sso_code rc = open_restoring(ceremony, wish, restoring, err);
    if (rc == SSO_OK)
        rc = check_destroyed(ceremony, wish, restoring, err);
    if (rc == SSO_OK)
        rc = journal_open(ceremony, &restoring->journal, err);
    if (rc == SSO_OK)
        rc = journal_recover(ceremony, &restoring->journal, err);
    if (rc == SSO_OK)
        rc = look_for_key(restoring, err);
    if (rc != SSO_OK || restoring->already_there)
        return rc;
    rc = check_policy_reach(ceremony, restoring->opened.key.number, err);
    if (rc == SSO_OK)
        rc = single_token_check(ceremony, restoring->pool, &restoring->opened.key, NULL, err);
    if (rc == SSO_OK)
        rc = prove(ceremony, wish, restoring, err);
    if (rc != SSO_OK)
        return rc;
    console_hold_signals();
    rc = install(ceremony, restoring, err);
    if (rc != SSO_OK)
        return rc;
    rc = single_token_check(ceremony, restoring->pool, &restoring->opened.key, &restoring->evidence,
                            err);
    if (rc == SSO_OK)
        rc = finish_restore(ceremony, restoring, err);
    return rc == SSO_OK ? rc : undo_restore(ceremony, restoring, err);
}

enum sso_code ceremony_restore(struct ceremony *ceremony, const struct restore_wish *wish,
                               json_t **result, struct sso_error *err)
{
    struct restoring restoring = {.ceremony = "generation.restore", .journal = {.fd = -1}};
    enum sso_code rc = restore(ceremony, wish, &restoring, err);
    if (rc == SSO_OK)
        *result = result_object(ceremony, &restoring);
    journal_close(&restoring.journal);
    opened_backup_free(&restoring.opened);
    return rc;
}

static enum sso_code store_drill(struct ceremony *ceremony, struct restoring *restoring,
                                 struct generation *drilled, struct sso_error *err)
{
    struct audit_record record;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = record_of(ceremony, restoring, &record, err);
    if (rc == SSO_OK)
        rc = store_begin(ceremony->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = installation_reread(ceremony, tx, restoring->opened.generation, drilled, err);
    if (rc != SSO_OK)
        return rc;
    drilled->last_drill_ms = wall_clock_ms();
    drilled->version++;
    policy_tag_generation(&ceremony->policy, drilled);
    rc = store_generation_update(tx, drilled, err);
    if (rc == SSO_OK)
        rc = store_audit_append(tx, &record, 1, err);
    if (rc == SSO_OK)
        rc = store_commit(&tx, err);
    if (rc == SSO_OK)
        console_keep_head(ceremony, &record, false);
    return rc;
}

static enum sso_code drill(struct ceremony *ceremony, const struct restore_wish *wish,
                           struct restoring *restoring, struct generation *drilled,
                           struct sso_error *err)
{
    enum sso_code rc = open_restoring(ceremony, wish, restoring, err);
    if (rc == SSO_OK && restoring->opened.generation->state == GENERATION_DESTROYED)
        rc = sso_fail(err, SSO_NOT_FOUND, "generation %u was destroyed: there is nothing to drill",
                      restoring->opened.generation->number);
    if (rc == SSO_OK)
        rc = installation_open_policy(ceremony, err);
    if (rc == SSO_OK)
        rc = installation_check_tags(ceremony, err);
    if (rc == SSO_OK)
        rc = installation_check_marks(ceremony, err);
    if (rc == SSO_OK)
        rc = prove(ceremony, wish, restoring, err);
    opened_backup_forget_keys(&restoring->opened);
    return rc == SSO_OK ? store_drill(ceremony, restoring, drilled, err) : rc;
}

enum sso_code ceremony_drill(struct ceremony *ceremony, const struct restore_wish *wish,
                             json_t **result, struct sso_error *err)
{
    struct restoring restoring = {.ceremony = "backup.drill", .journal = {.fd = -1}};
    struct generation drilled = {0};
    enum sso_code rc = drill(ceremony, wish, &restoring, &drilled, err);
    if (rc == SSO_OK) {
        *result = json_generation(&drilled, ceremony->token, ceremony->token_count, -1);
        json_object_set_new(*result, "samples", json_integer((json_int_t)restoring.samples.count));
        json_object_set_new(*result, "samples_opened",
                            json_integer((json_int_t)restoring.samples.opened));
    }
    opened_backup_free(&restoring.opened);
    return rc;
}
