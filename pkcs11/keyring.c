#include "pkcs11/keyring.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "pkcs11/generation_table.h"

#define POOLS_MAX CONFIG_HSM_MAX
/* Numbers that have ever been known; a system makes a few a year. */
#define KNOWN_MAX 4096
#define OWN_DEADLINE_MS                                                                            \
    30000 /* for keys of the system itself, which nobody waits for in a request */

struct slot {
    uint32_t number;
    enum suite_id suite;
    struct hsm *pool;
};

struct keyring {
    pthread_rwlock_t lock;
    uint8_t system_id[SYSTEM_ID_BYTES];
    struct hsm *pool[POOLS_MAX];
    size_t pool_count;
    struct slot slot[GENERATIONS_MAX];
    size_t slot_count;
    uint32_t known[KNOWN_MAX];
    size_t known_count;
};

enum sso_code keyring_new(const uint8_t system_id[static SYSTEM_ID_BYTES], struct keyring **out,
                          struct sso_error *err)
{
    struct keyring *keyring = calloc(1, sizeof *keyring);
    if (keyring == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the keyring");
    memcpy(keyring->system_id, system_id, SYSTEM_ID_BYTES);
    pthread_rwlock_init(&keyring->lock, NULL);
    *out = keyring;
    return SSO_OK;
}

const uint8_t *keyring_system_id(const struct keyring *keyring)
{
    return keyring->system_id;
}

void keyring_free(struct keyring **keyring)
{
    if (keyring == NULL || *keyring == NULL)
        return;
    pthread_rwlock_destroy(&(*keyring)->lock);
    free(*keyring);
    *keyring = NULL;
}

void keyring_add_pool(struct keyring *keyring, struct hsm *hsm)
{
    pthread_rwlock_wrlock(&keyring->lock);
    if (keyring->pool_count < POOLS_MAX)
        keyring->pool[keyring->pool_count++] = hsm;
    pthread_rwlock_unlock(&keyring->lock);
}

static struct slot *find(struct keyring *keyring, uint32_t number)
{
    for (size_t i = 0; i < keyring->slot_count; i++)
        if (keyring->slot[i].number == number)
            return &keyring->slot[i];
    return NULL;
}

static bool is_known(const struct keyring *keyring, uint32_t number)
{
    for (size_t i = 0; i < keyring->known_count; i++)
        if (keyring->known[i] == number)
            return true;
    return false;
}

static void know(struct keyring *keyring, uint32_t number)
{
    if (!is_known(keyring, number) && keyring->known_count < KNOWN_MAX)
        keyring->known[keyring->known_count++] = number;
}

void keyring_know(struct keyring *keyring, const uint32_t *numbers, size_t count)
{
    pthread_rwlock_wrlock(&keyring->lock);
    for (size_t i = 0; i < count; i++)
        know(keyring, numbers[i]);
    pthread_rwlock_unlock(&keyring->lock);
}

static struct slot slot_of(struct keyring *keyring, uint32_t number)
{
    pthread_rwlock_rdlock(&keyring->lock);
    const struct slot *place = find(keyring, number);
    struct slot slot = place != NULL ? *place : (struct slot){0};
    pthread_rwlock_unlock(&keyring->lock);
    return slot;
}

bool keyring_has(struct keyring *keyring, uint32_t number)
{
    return slot_of(keyring, number).pool != NULL;
}

enum suite_id keyring_suite(struct keyring *keyring, uint32_t number)
{
    return slot_of(keyring, number).suite;
}

struct hsm *keyring_pool(struct keyring *keyring, uint32_t number)
{
    return slot_of(keyring, number).pool;
}

/* An empty member of the database's identity stands for any; so does a pool's that has not seen its
 * token yet, since only asking can tell. */
static bool same_text(const char *wanted, const char *seen)
{
    return wanted[0] == '\0' || strcmp(wanted, seen) == 0;
}

static bool token_fits(const struct token_identity *wanted, const struct token_identity *seen)
{
    if (seen->token[0] == '\0' && seen->serial[0] == '\0')
        return true;
    return same_text(wanted->token, seen->token) && same_text(wanted->serial, seen->serial) &&
           same_text(wanted->manufacturer, seen->manufacturer) &&
           same_text(wanted->model, seen->model);
}

static bool pool_is_named(struct hsm *pool, uint32_t number, const struct generation_token *tokens,
                          size_t token_count)
{
    struct hsm_status status;
    hsm_status(pool, &status);
    for (size_t i = 0; i < token_count; i++)
        if (tokens[i].number == number && tokens[i].destroyed_ms == 0 &&
            token_fits(&tokens[i].token, &status.token))
            return true;
    return false;
}

static void remember(struct keyring *keyring, const struct generation *generation, struct hsm *pool)
{
    pthread_rwlock_wrlock(&keyring->lock);
    struct slot *place = find(keyring, generation->number);
    if (place == NULL && keyring->slot_count < GENERATIONS_MAX)
        place = &keyring->slot[keyring->slot_count++];
    if (place != NULL)
        *place = (struct slot){generation->number, generation->suite, pool};
    pthread_rwlock_unlock(&keyring->lock);
}

enum sso_code keyring_open(struct keyring *keyring, const struct generation *generation,
                           const struct generation_token *tokens, size_t token_count, bool fresh,
                           struct sso_error *err)
{
    struct generation_key key;
    struct hsm *pools[POOLS_MAX];
    keyring_know(keyring, &generation->number, 1);
    if (!fresh && keyring_has(keyring, generation->number))
        return SSO_OK;
    generation_key_of(keyring->system_id, generation, &key);
    pthread_rwlock_rdlock(&keyring->lock);
    size_t count = keyring->pool_count;
    memcpy(pools, keyring->pool, count * sizeof pools[0]);
    pthread_rwlock_unlock(&keyring->lock);
    enum sso_code code = sso_fail(err, SSO_NO_MASTER_SECRET,
                                  "none of the configured tokens is one that holds generation %u",
                                  generation->number);
    for (size_t i = 0; i < count; i++) {
        if (!pool_is_named(pools[i], generation->number, tokens, token_count))
            continue;
        code = hsm_open_generation(pools[i], &key, fresh, err);
        if (code == SSO_OK) {
            remember(keyring, generation, pools[i]);
            break;
        }
    }
    return code;
}

static struct hsm *take_out(struct keyring *keyring, uint32_t number)
{
    struct hsm *pool = NULL;
    pthread_rwlock_wrlock(&keyring->lock);
    struct slot *place = find(keyring, number);
    if (place != NULL) {
        pool = place->pool;
        *place = keyring->slot[--keyring->slot_count];
    }
    pthread_rwlock_unlock(&keyring->lock);
    return pool;
}

void keyring_forget(struct keyring *keyring, uint32_t number)
{
    struct hsm *pool = take_out(keyring, number);
    if (pool != NULL)
        hsm_forget_generation(pool, number);
}

void keyring_end(struct keyring *keyring, uint32_t number)
{
    struct hsm *pool = take_out(keyring, number);
    if (pool != NULL)
        hsm_end_generation(pool, number);
}

/* ---- batches ---- */

enum operation { OPERATION_MAKE, OPERATION_UNWRAP, OPERATION_REWRAP };

struct call {
    struct keyring *keyring;
    enum operation operation;
    enum hsm_priority priority;
    uint32_t to;
    int64_t deadline_ms;
};

static enum sso_code call_pool(const struct call *call, struct hsm *pool, struct key_item *items,
                               size_t count, struct sso_error *err)
{
    switch (call->operation) {
    case OPERATION_MAKE:
        return hsm_make(pool, call->priority, items, count, call->deadline_ms, err);
    case OPERATION_UNWRAP:
        return hsm_unwrap(pool, call->priority, items, count, call->deadline_ms, err);
    default:
        return hsm_rewrap(pool, call->priority, call->to, items, count, call->deadline_ms, err);
    }
}

/* From one token to another: the row keys pass through this process's locked memory. `items` are
 * copies whose row_key may be set. */
static enum sso_code rewrap_across(const struct call *call, struct hsm *from, struct hsm *to,
                                   struct key_item *items, size_t count, struct sso_error *err)
{
    uint8_t *keys = secret_alloc(count * ROW_KEY_BYTES);
    struct key_item *open = calloc(count, sizeof *open);
    size_t *place = calloc(count, sizeof *place);
    size_t opened = 0;
    enum sso_code code = SSO_OK;
    if (keys == NULL || open == NULL || place == NULL)
        code = sso_fail(err, SSO_NO_MEMORY, "no locked memory for %zu row keys between two tokens",
                        count);
    for (size_t i = 0; code == SSO_OK && i < count; i++)
        items[i].row_key = keys + i * ROW_KEY_BYTES;
    if (code == SSO_OK)
        code = hsm_unwrap(from, call->priority, items, count, call->deadline_ms, err);
    for (size_t i = 0; code == SSO_OK && i < count; i++)
        if (items[i].code == SSO_OK) {
            place[opened] = i;
            open[opened] = items[i];
            open[opened++].generation = call->to;
        }
    if (code == SSO_OK && opened > 0)
        code = hsm_wrap(to, call->priority, open, opened, call->deadline_ms, err);
    for (size_t i = 0; code == SSO_OK && i < opened; i++) {
        items[place[i]].code = open[i].code;
        if (open[i].code == SSO_OK)
            items[place[i]].wrapped = open[i].wrapped;
    }
    secret_dealloc(keys);
    free(open);
    free(place);
    return code;
}

/* One pool's share of a batch. A pool that is down fails its own items and no others. */
static void run_group(const struct call *call, struct hsm *pool, struct key_item *items,
                      size_t count, struct sso_error *err)
{
    enum sso_code code;
    struct hsm *to =
        call->operation == OPERATION_REWRAP ? keyring_pool(call->keyring, call->to) : pool;
    if (to == NULL)
        code = sso_fail(err, SSO_HSM_UNAVAILABLE, "generation %u is not open here", call->to);
    else if (to != pool)
        code = rewrap_across(call, pool, to, items, count, err);
    else
        code = call_pool(call, pool, items, count, err);
    for (size_t i = 0; code != SSO_OK && i < count; i++)
        items[i].code = code;
}

static enum sso_code missing_code(struct keyring *keyring, uint32_t number)
{
    pthread_rwlock_rdlock(&keyring->lock);
    bool known = is_known(keyring, number);
    pthread_rwlock_unlock(&keyring->lock);
    return known ? SSO_HSM_UNAVAILABLE : SSO_ROW_CORRUPT;
}

/* The usual case: one pool for all, and the caller's array goes as it is. */
static struct hsm *common_pool(struct keyring *keyring, const struct key_item *items, size_t count)
{
    struct hsm *pool = NULL;
    uint32_t last = 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && items[i].generation == last)
            continue;
        last = items[i].generation;
        struct hsm *this = keyring_pool(keyring, last);
        if (this == NULL || (pool != NULL && this != pool))
            return NULL;
        pool = this;
    }
    return pool;
}

/* Copies each pool's items together, works on them, and copies what came of it back. */
static enum sso_code run_sorted(const struct call *call, struct key_item *items, size_t count,
                                struct sso_error *err)
{
    struct hsm **pool = calloc(count, sizeof *pool);
    struct key_item *group = calloc(count, sizeof *group);
    size_t *place = calloc(count, sizeof *place);
    enum sso_code code = SSO_OK;
    if (pool == NULL || group == NULL || place == NULL)
        code = sso_fail(err, SSO_NO_MEMORY, "no memory for a batch of %zu row keys", count);
    for (size_t i = 0; code == SSO_OK && i < count; i++) {
        pool[i] = keyring_pool(call->keyring, items[i].generation);
        if (pool[i] == NULL)
            items[i].code = missing_code(call->keyring, items[i].generation);
    }
    for (size_t i = 0; code == SSO_OK && i < count; i++) {
        struct hsm *this = pool[i];
        size_t n = 0;
        for (size_t j = i; this != NULL && j < count; j++) {
            if (pool[j] != this)
                continue;
            group[n] = items[j];
            place[n++] = j;
            pool[j] = NULL;
        }
        if (n > 0)
            run_group(call, this, group, n, err);
        for (size_t j = 0; j < n; j++) {
            uint8_t *row_key = items[place[j]].row_key;
            items[place[j]] = group[j];
            items[place[j]].row_key = row_key;
        }
    }
    free(pool);
    free(group);
    free(place);
    return code;
}

/* Where every item failed for the same reason it is the batch's, and its text is worth having. */
static enum sso_code verdict(const struct key_item *items, size_t count, struct sso_error *err)
{
    enum sso_code code = count > 0 ? items[0].code : SSO_OK;
    bool all = code == SSO_HSM_UNAVAILABLE || code == SSO_PIN_REFUSED ||
               code == SSO_WRONG_MASTER_SECRET || code == SSO_NO_MEMORY;
    for (size_t i = 1; all && i < count; i++)
        all = items[i].code == code;
    if (!all)
        return SSO_OK;
    if (err != NULL && err->code == code)
        return code;
    return sso_fail(err, code, "no token that can open generation %u answers now",
                    items[0].generation);
}

static enum sso_code run(const struct call *call, struct key_item *items, size_t count,
                         struct sso_error *err)
{
    struct hsm *pool = common_pool(call->keyring, items, count);
    struct hsm *to =
        call->operation == OPERATION_REWRAP ? keyring_pool(call->keyring, call->to) : pool;
    if (pool != NULL && to == pool)
        return call_pool(call, pool, items, count, err);
    struct sso_error why = {0};
    enum sso_code code = run_sorted(call, items, count, &why);
    if (code == SSO_OK)
        code = verdict(items, count, &why);
    return code == SSO_OK ? code : sso_fail(err, code, "%s", why.detail);
}

enum sso_code keyring_make(struct keyring *keyring, enum hsm_priority priority,
                           struct key_item *items, size_t count, int64_t deadline_ms,
                           struct sso_error *err)
{
    const struct call call = {keyring, OPERATION_MAKE, priority, 0, deadline_ms};
    return run(&call, items, count, err);
}

enum sso_code keyring_unwrap(struct keyring *keyring, enum hsm_priority priority,
                             struct key_item *items, size_t count, int64_t deadline_ms,
                             struct sso_error *err)
{
    const struct call call = {keyring, OPERATION_UNWRAP, priority, 0, deadline_ms};
    return run(&call, items, count, err);
}

enum sso_code keyring_rewrap(struct keyring *keyring, enum hsm_priority priority, uint32_t to,
                             struct key_item *items, size_t count, int64_t deadline_ms,
                             struct sso_error *err)
{
    const struct call call = {keyring, OPERATION_REWRAP, priority, to, deadline_ms};
    enum sso_code code = run(&call, items, count, err);
    for (size_t i = 0; code == SSO_OK && i < count; i++)
        if (items[i].code == SSO_OK)
            items[i].generation = to;
    return code;
}

/* ---- generations and the system's own keys ---- */

void generation_key_of(const uint8_t system_id[static SYSTEM_ID_BYTES],
                       const struct generation *generation, struct generation_key *out)
{
    memset(out, 0, sizeof *out);
    memcpy(out->system_id, system_id, SYSTEM_ID_BYTES);
    memcpy(out->secret_id, generation->secret_id, SECRET_ID_BYTES);
    out->number = generation->number;
    out->suite = generation->suite;
    out->canary = generation->canary;
}

enum sso_code keyring_open_policy(struct keyring *keyring, const struct sealed_key *sealed,
                                  struct policy *policy, struct sso_error *err)
{
    SECRET_AUTO key = {0};
    struct key_item item = {.generation = sealed->generation, .wrapped = sealed->wrapped};
    enum sso_code code = secret_reserve(&key, ROW_KEY_BYTES, err);
    if (code != SSO_OK)
        return code;
    item.row_key = key.data;
    sealed_key_binding(keyring->system_id, sealed, item.binding);
    code = keyring_unwrap(keyring, HSM_LIVE, &item, 1, boot_clock_ms() + OWN_DEADLINE_MS, err);
    if (code == SSO_OK && item.code != SSO_OK)
        code = sso_fail(err, item.code, "the policy key does not open under generation %u",
                        sealed->generation);
    if (code != SSO_OK)
        return code;
    key.length_bytes = ROW_KEY_BYTES;
    policy_take_key(policy, &key);
    return SSO_OK;
}

enum sso_code keyring_make_sealed(struct keyring *keyring, const char *purpose, uint32_t generation,
                                  struct sealed_key *out, struct secret *key, struct sso_error *err)
{
    struct sealed_key sealed = {.generation = generation, .born = generation};
    struct key_item item = {.generation = generation};
    size_t length = strnlen(purpose, sizeof sealed.purpose - 1);
    memcpy(sealed.purpose, purpose, length);
    enum sso_code code = random_bytes(sealed.key_id, sizeof sealed.key_id, err);
    secret_clear(key);
    if (code == SSO_OK)
        code = secret_reserve(key, ROW_KEY_BYTES, err);
    if (code != SSO_OK)
        return code;
    item.row_key = key->data;
    sealed_key_binding(keyring->system_id, &sealed, item.binding);
    code = keyring_make(keyring, HSM_LIVE, &item, 1, boot_clock_ms() + OWN_DEADLINE_MS, err);
    if (code == SSO_OK && item.code != SSO_OK)
        code = sso_fail(err, item.code, "the key for %s could not be made", purpose);
    if (code != SSO_OK)
        return code;
    key->length_bytes = ROW_KEY_BYTES;
    sealed.wrapped = item.wrapped;
    *out = sealed;
    return SSO_OK;
}
