#include "custodian/ticket_keys.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/ticket.h"
#include "custodian/custodian.h"

#define OPEN_MAX 8 /* the oldest goes first */

struct open_key {
    bool used;
    uint8_t key_id[SEALED_KEY_ID_BYTES];
    uint8_t *key; /* locked */
};

struct ticket_keys {
    struct custodian *custodian;
    pthread_mutex_t lock;
    struct open_key open[OPEN_MAX];
    unsigned next;
};

enum sso_code ticket_keys_new(struct custodian *custodian, struct ticket_keys **out,
                              struct sso_error *err)
{
    struct ticket_keys *keys = calloc(1, sizeof *keys);
    if (keys == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for ticket keys");
    keys->custodian = custodian;
    pthread_mutex_init(&keys->lock, NULL);
    *out = keys;
    return SSO_OK;
}

void ticket_keys_free(struct ticket_keys **keys)
{
    if (*keys == NULL)
        return;
    for (size_t i = 0; i < OPEN_MAX; i++)
        secret_dealloc((*keys)->open[i].key);
    pthread_mutex_destroy(&(*keys)->lock);
    free(*keys);
    *keys = NULL;
}

static bool recall(struct ticket_keys *keys, const uint8_t *key_id, uint8_t *out)
{
    bool found = false;
    pthread_mutex_lock(&keys->lock);
    for (size_t i = 0; i < OPEN_MAX; i++) {
        const struct open_key *open = &keys->open[i];
        if (open->used && memcmp(open->key_id, key_id, SEALED_KEY_ID_BYTES) == 0) {
            memcpy(out, open->key, ROW_KEY_BYTES);
            found = true;
        }
    }
    pthread_mutex_unlock(&keys->lock);
    return found;
}

static void remember(struct ticket_keys *keys, const uint8_t *key_id, const uint8_t *key)
{
    pthread_mutex_lock(&keys->lock);
    struct open_key *open = &keys->open[keys->next++ % OPEN_MAX];
    if (open->key == NULL)
        open->key = secret_alloc(ROW_KEY_BYTES);
    open->used = open->key != NULL;
    if (open->used) {
        memcpy(open->key, key, ROW_KEY_BYTES);
        memcpy(open->key_id, key_id, SEALED_KEY_ID_BYTES);
    }
    pthread_mutex_unlock(&keys->lock);
}

/* Of the generation under which a key was made; rows that cannot be trusted count as compromised.
 */
static bool born_well(const struct policy *policy, const struct generation *generations,
                      size_t count, uint32_t born)
{
    for (size_t i = 0; i < count; i++) {
        if (generations[i].number == born)
            return policy_check_generation(policy, &generations[i], NULL) == SSO_OK &&
                   !generations[i].compromised;
    }
    return false;
}

/* The key with this id, or the youngest where `key_id` is NULL. SSO_NOT_FOUND. */
static enum sso_code find_sealed(struct ticket_keys *keys, const uint8_t *key_id,
                                 struct sealed_key *out, struct sso_error *err)
{
    struct custodian *custodian = keys->custodian;
    struct sealed_key *list = NULL;
    struct generation *generations = NULL;
    size_t count = 0, generation_count = 0;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(custodian->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_sealed_key_list(tx, &list, &count, err);
    if (rc == SSO_OK)
        rc = store_generation_list(tx, &generations, &generation_count, err);
    bool found = false;
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        bool fits = strcmp(list[i].purpose, PURPOSE_TICKET) == 0 &&
                    (key_id == NULL ? !found || list[i].born > out->born
                                    : memcmp(list[i].key_id, key_id, SEALED_KEY_ID_BYTES) == 0);
        if (!fits || !born_well(&custodian->policy, generations, generation_count, list[i].born))
            continue;
        *out = list[i];
        found = true;
    }
    free(list);
    free(generations);
    if (rc != SSO_OK || found)
        return rc;
    return sso_fail(err, SSO_NOT_FOUND, "the system has no such ticket key");
}

static enum sso_code unwrap(struct ticket_keys *keys, const struct sealed_key *sealed,
                            int64_t deadline_ms, struct secret *key, struct sso_error *err)
{
    struct custodian *custodian = keys->custodian;
    if (recall(keys, sealed->key_id, key->data))
        return SSO_OK;
    struct key_item item = {
        .generation = sealed->generation, .wrapped = sealed->wrapped, .row_key = key->data};
    sealed_key_binding(custodian->system.id, sealed, item.binding);
    enum sso_code rc = keyring_unwrap(custodian->keyring, HSM_LIVE, &item, 1, deadline_ms, err);
    if (rc == SSO_OK && item.code != SSO_OK)
        return sso_fail(err, item.code, "the ticket key could not be opened: %s",
                        sso_code_facts(item.code)->title);
    if (rc == SSO_OK)
        remember(keys, sealed->key_id, key->data);
    return rc;
}

/* --- making one: on the committer's thread --- */

struct making {
    const struct policy *policy;
    const struct sealed_key *sealed;
};

/* Under the generation's lock, as every write: a rotation must not retire it in between. */
static enum sso_code write_key(struct store_tx *tx, void *context, struct sso_error *err)
{
    const struct making *making = context;
    struct generation generation;
    enum sso_code rc =
        store_generation_hold(tx, making->sealed->generation, STORE_SHARED, &generation, err);
    if (rc == SSO_OK)
        rc = policy_check_generation(making->policy, &generation, err);
    if (rc != SSO_OK)
        return rc;
    if (generation.state != GENERATION_ACTIVE || generation.compromised || generation.closed)
        return sso_fail(err, SSO_ROTATION_IN_PROGRESS,
                        "another generation became active while a ticket key was made: try again");
    return store_sealed_key_insert(tx, making->sealed, err);
}

static enum sso_code make(struct ticket_keys *keys, struct sealed_key *sealed, struct secret *key,
                          struct sso_error *err)
{
    struct custodian *custodian = keys->custodian;
    uint32_t active;
    enum suite_id suite;
    enum sso_code rc = installation_active(custodian, &active, &suite, err);
    if (rc == SSO_OK)
        rc = wrap_budget_take(custodian->budget, active, suite, 1, err);
    if (rc == SSO_OK)
        rc = keyring_make_sealed(custodian->keyring, PURPOSE_TICKET, active, sealed, key, err);
    if (rc != SSO_OK)
        return rc;
    struct making making = {&custodian->policy, sealed};
    struct audit_record record = {.how = "self", .operation = "ticket_key.make"};
    memcpy(record.node, custodian->node, sizeof record.node);
    memcpy(record.actor, "sso-custodian", sizeof "sso-custodian");
    rc = committer_run(custodian->committer, write_key, &making, &record, 1, err);
    if (rc == SSO_OK)
        remember(keys, sealed->key_id, key->data);
    return rc;
}

static enum sso_code make_room(struct secret *key, struct sso_error *err)
{
    secret_clear(key);
    enum sso_code rc = secret_reserve(key, ROW_KEY_BYTES, err);
    if (rc == SSO_OK)
        key->length_bytes = ROW_KEY_BYTES;
    return rc;
}

enum sso_code ticket_keys_current(struct ticket_keys *keys, int64_t deadline_ms,
                                  uint8_t key_id[static SEALED_KEY_ID_BYTES], struct secret *key,
                                  struct sso_error *err)
{
    struct sealed_key sealed = {0};
    enum sso_code rc = make_room(key, err);
    if (rc == SSO_OK)
        rc = find_sealed(keys, NULL, &sealed, err);
    if (rc == SSO_OK)
        rc = unwrap(keys, &sealed, deadline_ms, key, err);
    else if (rc == SSO_NOT_FOUND)
        rc = make(keys, &sealed, key, err);
    if (rc == SSO_OK)
        memcpy(key_id, sealed.key_id, SEALED_KEY_ID_BYTES);
    return rc;
}

enum sso_code ticket_keys_find(struct ticket_keys *keys, int64_t deadline_ms,
                               const uint8_t key_id[static SEALED_KEY_ID_BYTES], struct secret *key,
                               struct sso_error *err)
{
    struct sealed_key sealed = {0};
    enum sso_code rc = make_room(key, err);
    if (rc == SSO_OK)
        rc = find_sealed(keys, key_id, &sealed, err);
    if (rc == SSO_NOT_FOUND)
        return sso_fail(err, SSO_TICKET_FORGED,
                        "the ticket names a key that this system does not have or use");
    return rc == SSO_OK ? unwrap(keys, &sealed, deadline_ms, key, err) : rc;
}
