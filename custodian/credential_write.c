#include "custodian/credential_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/fault.h"
#include "common/secret.h"
#include "custodian/application_access.h"
#include "custodian/custodian.h"
#include "custodian/operations.h"

/* The items that go through HSM and database together; at most one for each principal. Everything
 * that the committer's thread needs hangs here. */
struct round {
    struct custodian *custodian;
    struct request *request;
    const struct application *application;
    struct credential_item **item;
    struct key_item *key; /* beside item */
    struct audit_record *record;
    uint8_t *row_keys; /* locked */
    size_t count, capacity;
    uint32_t generation;
    enum suite_id suite;
    bool outrun; /* the generation was no longer active */
};

static void round_free(struct round *round)
{
    secret_dealloc(round->row_keys);
    free(round->item);
    free(round->key);
    free(round->record);
}

static enum sso_code round_allocate(struct round *round, size_t capacity, struct sso_error *err)
{
    round->capacity = capacity;
    round->item = calloc(capacity, sizeof *round->item);
    round->key = calloc(capacity, sizeof *round->key);
    round->record = calloc(capacity, sizeof *round->record);
    round->row_keys = secret_alloc(capacity * ROW_KEY_BYTES);
    if (round->item == NULL || round->key == NULL || round->record == NULL ||
        round->row_keys == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory to write %zu credentials", capacity);
    return SSO_OK;
}

static void item_fail(struct credential_item *item, enum sso_code code, const char *text)
{
    sso_fail(&item->problem, code, "%s", text);
    item->pending = false;
}

/* Takes items out of the round that failed in the step before. */
static void round_compact(struct round *round)
{
    size_t kept = 0;
    for (size_t i = 0; i < round->count; i++) {
        if (!round->item[i]->pending)
            continue;
        round->item[kept] = round->item[i];
        round->key[kept] = round->key[i];
        kept++;
    }
    round->count = kept;
}

/* --- choosing --- */

static int by_principal(const void *left, const void *right)
{
    const struct credential_item *a = *(struct credential_item *const *)left;
    const struct credential_item *b = *(struct credential_item *const *)right;
    int order = strcmp(a->principal, b->principal);
    return order != 0 ? order : (a > b) - (a < b);
}

/* `sorted` is by principal, then by place in the batch. */
static void round_choose(struct round *round, struct credential_item **sorted, size_t count)
{
    const struct credential_item *last = NULL;
    round->count = 0;
    for (size_t i = 0; i < count; i++) {
        struct credential_item *item = sorted[i];
        if (!item->pending || (last != NULL && strcmp(last->principal, item->principal) == 0))
            continue;
        round->item[round->count++] = item;
        item->recorded = false;
        last = item;
    }
}

/* --- reading --- */

/* Where the caller names no external user: as it was, else as the mapping says, else the principal.
 */
static enum sso_code item_external_user(struct store_tx *tx, const struct round *round,
                                        struct credential_item *item,
                                        const struct credential_row *old, struct sso_error *err)
{
    char *external_user = item->row.external_user;
    size_t size = sizeof item->row.external_user;
    struct mapping mapping = {0};
    enum sso_code rc = SSO_OK;
    if (item->input.external_user[0] != '\0')
        snprintf(external_user, size, "%s", item->input.external_user);
    else if (!item->created)
        snprintf(external_user, size, "%s", old->external_user);
    else if ((rc = store_mapping_get(tx, round->application->id, item->principal, &mapping, err)) ==
             SSO_OK)
        rc = policy_check_mapping(&round->custodian->policy, &mapping, err);
    if (rc == SSO_NOT_FOUND)
        rc = SSO_OK;
    if (external_user[0] == '\0')
        snprintf(external_user, size, "%s",
                 mapping.external_user[0] != '\0' ? mapping.external_user : item->principal);
    return rc;
}

static enum sso_code item_read(struct store_tx *tx, const struct round *round,
                               struct credential_item *item, struct sso_error *err)
{
    struct credential_row old = {0};
    struct sso_error problem = {0};
    enum sso_code rc =
        store_credential_get(tx, round->application->id, item->principal, &old, &problem);
    if (rc != SSO_OK && rc != SSO_NOT_FOUND) {
        if (rc != SSO_ROW_CORRUPT)
            return sso_fail(err, rc, "%s", problem.detail);
        item_fail(item, rc, problem.detail);
        return SSO_OK;
    }
    item->created = rc == SSO_NOT_FOUND;
    item->old_version = item->created ? 0 : old.version;
    memset(&item->row, 0, sizeof item->row);
    if (!item->created)
        memcpy(item->row.row_id, old.row_id, ROW_ID_BYTES);
    rc = item_external_user(tx, round, item, &old, &problem);
    credential_row_free(&old);
    if (rc == SSO_POLICY_TAMPERED)
        item_fail(item, policy_alarm(round->custodian, rc, &problem), problem.detail);
    else if (rc != SSO_OK)
        return sso_fail(err, rc, "%s", problem.detail);
    if (item->if_match != 0 && item->if_match != item->old_version) {
        sso_fail(&item->problem, SSO_VERSION_CONFLICT,
                 "the credential is at version %llu (0: there is none), not %llu",
                 (unsigned long long)item->old_version, (unsigned long long)item->if_match);
        item->pending = false;
    }
    return SSO_OK;
}

static enum sso_code round_read(struct round *round, struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(round->custodian->store, STORE_READ, &tx, err);
    if (rc != SSO_OK || (rc = system_enabled_read(tx, &round->custodian->policy, err)) != SSO_OK)
        return policy_alarm(round->custodian, rc, err);
    for (size_t i = 0; i < round->count; i++) {
        if ((rc = item_read(tx, round, round->item[i], err)) != SSO_OK)
            return rc;
    }
    round_compact(round);
    return SSO_OK;
}

/* --- making and sealing --- */

/* Everything that the row binding covers is chosen here, before the row key is made. */
static enum sso_code item_prepare(struct round *round, size_t i, struct sso_error *err)
{
    struct credential_item *item = round->item[i];
    struct credential_row *row = &item->row;
    enum sso_code rc = SSO_OK;
    if (item->created)
        rc = uuid_v7(row->row_id, err);
    if (rc == SSO_OK)
        rc = random_bytes(row->row_key_id, sizeof row->row_key_id, err);
    if (rc != SSO_OK)
        return rc;
    row->format = ROW_FORMAT;
    memcpy(row->application_id, round->application->id, APPLICATION_ID_BYTES);
    snprintf(row->principal, sizeof row->principal, "%s", item->principal);
    row->generation = row->born = round->generation;
    row->version = item->old_version + 1;
    row->updated_ms = wall_clock_ms();
    struct key_item *key = &round->key[i];
    memset(key, 0, sizeof *key);
    key->generation = round->generation;
    key->row_key = round->row_keys + i * ROW_KEY_BYTES;
    row_binding_digest(round->custodian->system.id, row, key->binding);
    return SSO_OK;
}

static enum sso_code round_make(struct round *round, struct sso_error *err)
{
    struct custodian *custodian = round->custodian;
    enum sso_code rc = installation_active(custodian, &round->generation, &round->suite, err);
    for (size_t i = 0; rc == SSO_OK && i < round->count; i++)
        rc = item_prepare(round, i, err);
    if (rc == SSO_OK)
        rc =
            wrap_budget_take(custodian->budget, round->generation, round->suite, round->count, err);
    if (rc != SSO_OK)
        return rc;
    round->request->written += round->count;
    return keyring_make(custodian->keyring, HSM_LIVE, round->key, round->count,
                        round->request->deadline_ms, err);
}

static void round_seal(struct round *round)
{
    for (size_t i = 0; i < round->count; i++) {
        struct credential_item *item = round->item[i];
        const struct key_item *key = &round->key[i];
        if (key->code != SSO_OK) {
            item_fail(item, key->code, "the HSM did not make a row key for this credential");
            continue;
        }
        item->row.wrapped = key->wrapped;
        struct credential_fields fields;
        credential_input_fields(&item->input, round->application, &fields);
        struct sso_error problem = {0};
        enum sso_code rc =
            row_seal(round->custodian->system.id, &item->row, key->row_key, &fields, &problem);
        if (rc != SSO_OK)
            item_fail(item, rc, problem.detail);
    }
    round_compact(round);
}

/* --- storing: on the committer's thread --- */

static enum sso_code generation_hold(struct store_tx *tx, struct round *round,
                                     struct sso_error *err)
{
    struct generation generation;
    enum sso_code rc = store_generation_hold(tx, round->generation, STORE_SHARED, &generation, err);
    if (rc != SSO_OK ||
        (rc = policy_check_generation(&round->custodian->policy, &generation, err)) != SSO_OK)
        return rc;
    if (generation.state != GENERATION_ACTIVE) {
        round->outrun = true;
        return sso_fail(err, SSO_ROTATION_IN_PROGRESS,
                        "a rotation made another generation active while this was written");
    }
    return generation_may_wrap(&generation, err);
}

static enum sso_code application_hold(struct store_tx *tx, const struct round *round,
                                      struct sso_error *err)
{
    struct application now;
    enum sso_code rc = store_application_get_by_id(tx, round->application->id, &now, err);
    if (rc != SSO_OK ||
        (rc = policy_check_application(&round->custodian->policy, &now, err)) != SSO_OK)
        return rc;
    if (!now.enabled)
        return sso_fail(err, SSO_APPLICATION_DISABLED, "application %s is disabled", now.name);
    return SSO_OK;
}

/* The mapping comes first, since a refused item must leave nothing behind. */
static enum sso_code item_store(struct store_tx *tx, struct round *round,
                                const struct credential_item *item, struct sso_error *err)
{
    const struct policy *policy = &round->custodian->policy;
    struct mapping mapping = {0};
    enum sso_code found =
        store_mapping_get(tx, item->row.application_id, item->principal, &mapping, err);
    if (found != SSO_OK && found != SSO_NOT_FOUND)
        return found;
    /* The row of a mapping that an administrator disabled must not come back enabled because
     * somebody took it out of the database. */
    if (found == SSO_NOT_FOUND && item->old_version != 0)
        return sso_fail(err, SSO_ROW_CORRUPT,
                        "the credential of %s stands without its mapping: the database was changed "
                        "by another hand; restore the mapping from a backup",
                        item->principal);
    enum sso_code rc = found == SSO_OK ? policy_check_mapping(policy, &mapping, err) : SSO_OK;
    if (rc != SSO_OK ||
        (rc = store_credential_put(tx, &item->row, item->old_version, err)) != SSO_OK ||
        found == SSO_OK)
        return rc;
    memset(&mapping, 0, sizeof mapping);
    memcpy(mapping.application_id, item->row.application_id, APPLICATION_ID_BYTES);
    snprintf(mapping.principal, sizeof mapping.principal, "%s", item->principal);
    mapping.state = MAPPING_ENABLED;
    mapping.updated_ms = item->row.updated_ms;
    mapping.version = 1;
    policy_tag_mapping(policy, &mapping);
    return store_mapping_put(tx, &mapping, err);
}

/* Another writer was faster, and the caller did not ask for a version: to be made anew, and not
 * worth a record. */
static bool item_outrun(const struct credential_item *item)
{
    return item->problem.code == SSO_VERSION_CONFLICT && item->if_match == 0;
}

static void round_records(struct round *round)
{
    for (size_t i = 0; i < round->count; i++) {
        struct audit_record *record = &round->record[i];
        const struct credential_item *item = round->item[i];
        *record = round->request->audit;
        if (round->application->type != APPLICATION_CONFIG) {
            snprintf(record->operation, sizeof record->operation, "credential.set");
            snprintf(record->target, sizeof record->target, "%s/%s", round->application->name,
                     item->principal);
        } else {
            snprintf(record->operation, sizeof record->operation, "%s",
                     round->request->operation->name);
        }
        memcpy(record->row_id, item->row.row_id, sizeof record->row_id);
        record->row_version = item->row.version;
    }
}

static enum sso_code round_store(struct store_tx *tx, void *context, struct sso_error *err)
{
    struct round *round = context;
    round->outrun = false;
    round_records(round);
    enum sso_code rc = generation_hold(tx, round, err);
    if (rc == SSO_OK)
        rc = application_hold(tx, round, err);
    for (size_t i = 0; rc == SSO_OK && i < round->count; i++) {
        struct credential_item *item = round->item[i];
        struct audit_record *record = &round->record[i];
        enum sso_code stored = item_store(tx, round, item, &item->problem);
        if (stored == SSO_OK)
            item->problem = (struct sso_error){0};
        if (stored != SSO_OK && stored != SSO_VERSION_CONFLICT && stored != SSO_POLICY_TAMPERED &&
            stored != SSO_ROW_CORRUPT)
            rc = sso_fail(err, stored, "%s", item->problem.detail);
        else if (item_outrun(item))
            record->operation[0] = '\0';
        else if (stored != SSO_OK)
            snprintf(record->outcome, sizeof record->outcome, "%s", sso_code_facts(stored)->name);
    }
    for (size_t i = 0; round->outrun && i < round->count; i++)
        round->record[i].operation[0] = '\0';
    return rc;
}

/* --- one round, and all of them --- */

/* After the transaction: what is done, what failed, what another writer outran. */
static size_t round_settle(struct round *round)
{
    size_t stored = 0;
    for (size_t i = 0; i < round->count; i++) {
        struct credential_item *item = round->item[i];
        if (item_outrun(item)) {
            item->problem = (struct sso_error){0};
            continue;
        }
        item->pending = false;
        if (policy_alarm(round->custodian, item->problem.code, &item->problem) != SSO_OK)
            continue;
        if (round->application->cached)
            row_key_cache_put(round->custodian->cache, &item->row, round->key[i].row_key);
        stored++;
    }
    return stored;
}

static void round_drop_ciphertexts(struct round *round)
{
    for (size_t i = 0; i < round->count; i++) {
        free(round->item[i]->row.ciphertext);
        round->item[i]->row.ciphertext = NULL;
        round->item[i]->row.ciphertext_bytes = 0;
    }
}

static enum sso_code round_run(struct round *round, size_t *stored, struct sso_error *err)
{
    enum sso_code rc = round_read(round, err);
    if (rc == SSO_OK && round->count != 0)
        rc = round_make(round, err);
    if (rc != SSO_OK)
        return rc;
    round_seal(round);
    if (round->count == 0)
        return SSO_OK;
    fault_point("write.wrapped");
    rc = committer_run(round->custodian->committer, round_store, round, round->record, round->count,
                       err);
    for (size_t i = 0; i < round->count; i++)
        round->item[i]->recorded = rc != SSO_DATABASE_UNAVAILABLE && rc != SSO_AUDIT_UNAVAILABLE;
    if (rc == SSO_OK) {
        fault_point("write.committed");
        *stored += round_settle(round);
    } else if (round->outrun) {
        rc = installation_refresh(round->custodian, err);
    } else {
        policy_alarm(round->custodian, rc, err);
    }
    round_drop_ciphertexts(round);
    return rc;
}

static enum sso_code rounds_run(struct round *round, struct credential_item **sorted, size_t count,
                                size_t *stored, struct sso_error *err)
{
    for (;;) {
        round_choose(round, sorted, count);
        if (round->count == 0)
            return SSO_OK;
        if (boot_clock_ms() >= round->request->deadline_ms)
            return sso_fail(err, SSO_VERSION_CONFLICT,
                            "the credential was changed by others again and again until the "
                            "request's time was over: try again");
        enum sso_code rc = round_run(round, stored, err);
        if (rc != SSO_OK)
            return rc;
    }
}

enum sso_code credential_write(struct request *request, const struct application *application,
                               struct credential_item *items, size_t count, struct sso_error *err)
{
    struct round round = {
        .custodian = request->custodian, .request = request, .application = application};
    size_t wanted = 0, stored = 0;
    for (size_t i = 0; i < count; i++)
        wanted += items[i].pending = items[i].problem.code == SSO_OK;
    if (wanted == 0)
        return SSO_OK;
    struct sso_error failure = {0};
    struct credential_item **sorted = calloc(wanted, sizeof *sorted);
    enum sso_code rc = sorted == NULL ? sso_fail(&failure, SSO_NO_MEMORY, "no memory for a batch")
                                      : round_allocate(&round, wanted, &failure);
    if (rc == SSO_OK) {
        for (size_t i = 0, next = 0; i < count; i++) {
            if (items[i].pending)
                sorted[next++] = &items[i];
        }
        qsort(sorted, wanted, sizeof *sorted, by_principal);
        rc = rounds_run(&round, sorted, wanted, &stored, &failure);
    }
    for (size_t i = 0; rc != SSO_OK && i < count; i++) {
        if (items[i].pending)
            item_fail(&items[i], rc, failure.detail);
    }
    round_free(&round);
    free(sorted);
    return rc == SSO_OK || stored != 0 ? SSO_OK : sso_fail(err, rc, "%s", failure.detail);
}
