/* The keys of the system itself that stand below the target: few, so they go first and one by one.
 * Without them nothing works, so one that cannot be moved ends the job instead of waiting in
 * quarantine. */
#include "rewrap/engine.h"

#include <inttypes.h>
#include <stdlib.h>

#include <openssl/crypto.h>

struct sealed_move {
    const struct sealed_key *old_key;
    struct sealed_key new_key;
};

static enum sso_code list_sealed_keys(struct engine *engine, struct sealed_key **list,
                                      size_t *count, struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(engine->job->store, STORE_READ, &tx, err);
    return rc == SSO_OK ? store_sealed_key_list(tx, list, count, err) : rc;
}

static enum sso_code item_error(const struct sealed_key *key, enum sso_code code,
                                struct sso_error *err)
{
    return sso_fail(err, code,
                    "the sealed key for %s does not open under generation %" PRIu32
                    ": restore it from a backup of the database, then sso-hsm rotate resume",
                    key->purpose, key->generation);
}

/* Only a generation that is open may be waited for. */
static enum sso_code check_open(struct engine *engine, const struct sealed_key *key,
                                struct sso_error *err)
{
    if (keyring_has(engine->job->keyring, key->generation))
        return SSO_OK;
    return sso_fail(err, SSO_ROW_CORRUPT,
                    "the sealed key for %s is under generation %" PRIu32
                    ", which is open in no token: bring that token back, or restore the key from a "
                    "backup of the database, then sso-hsm rotate resume",
                    key->purpose, key->generation);
}

static enum sso_code unwrap_sealed(struct engine *engine, const struct sealed_key *key,
                                   uint8_t *row_key, struct sso_error *err)
{
    struct key_item item = {
        .generation = key->generation, .wrapped = key->wrapped, .row_key = row_key};
    sealed_key_binding(engine->job->policy->system_id, key, item.binding);
    enum sso_code rc =
        keyring_unwrap(engine->job->keyring, HSM_BULK, &item, 1, hsm_deadline_ms(), err);
    return rc == SSO_OK && item.code != SSO_OK ? item_error(key, item.code, err) : rc;
}

/* There is no row to be opened with it, so what comes out of the old and of the new wrapped key is
 * compared. */
static enum sso_code check_sealed(struct engine *engine, const struct sealed_move *move,
                                  struct sso_error *err)
{
    uint8_t *keys = secret_alloc((size_t)2 * ROW_KEY_BYTES);
    if (keys == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "the locked memory for secrets is used up");
    enum sso_code rc = unwrap_sealed(engine, move->old_key, keys, err);
    if (rc == SSO_OK)
        rc = unwrap_sealed(engine, &move->new_key, keys + ROW_KEY_BYTES, err);
    bool wrong = rc == SSO_ROW_CORRUPT ||
                 (rc == SSO_OK && CRYPTO_memcmp(keys, keys + ROW_KEY_BYTES, ROW_KEY_BYTES) != 0);
    secret_dealloc(keys);
    if (!wrong)
        return rc;
    return sso_fail(err, SSO_TOKEN_NOT_SUITABLE,
                    "the sealed key for %s is not the same when opened from the fresh wrapped key "
                    "that the token made under generation %" PRIu32
                    ": nothing was written; check the token (sso-hsm doctor)",
                    move->old_key->purpose, move->new_key.generation);
}

static enum sso_code write_sealed(struct engine *engine, struct store_tx *tx, struct rotation *next,
                                  void *context, struct sso_error *err)
{
    (void)engine;
    const struct sealed_move *move = context;
    struct generation target;
    bool swapped = false; /* false: another run was quicker; finish counts */
    enum sso_code rc = store_generation_hold(tx, next->to, STORE_SHARED, &target, err);
    if (rc == SSO_OK && target.state != GENERATION_ACTIVE)
        rc = sso_fail(err, SSO_IN_USE, "generation %" PRIu32 " is no longer active", next->to);
    if (rc == SSO_OK)
        rc = generation_may_wrap(&target, err);
    return rc == SSO_OK ? store_sealed_key_swap(tx, move->old_key, &move->new_key, &swapped, err)
                        : rc;
}

static enum sso_code move_sealed_key(struct engine *engine, const struct sealed_key *key,
                                     struct sso_error *err)
{
    struct rewrap_job *job = engine->job;
    struct sealed_move move = {.old_key = key, .new_key = *key};
    struct key_item item = {.generation = key->generation, .wrapped = key->wrapped};
    sealed_key_binding(job->policy->system_id, key, item.binding);
    enum sso_code rc = check_open(engine, key, err);
    if (rc == SSO_OK)
        rc = wrap_budget_take(job->budget, engine->target->number, engine->target->suite, 1, err);
    if (rc == SSO_OK)
        rc = keyring_rewrap(job->keyring, HSM_BULK, engine->target->number, &item, 1,
                            hsm_deadline_ms(), err);
    if (rc == SSO_OK && item.code != SSO_OK)
        rc = item_error(key, item.code, err);
    if (rc != SSO_OK)
        return rc;
    move.new_key.generation = engine->target->number;
    move.new_key.wrapped = item.wrapped;
    rc = check_sealed(engine, &move, err);
    return rc == SSO_OK ? engine_commit(engine, write_sealed, &move, err) : rc;
}

enum sso_code move_sealed_keys(struct engine *engine, struct sso_error *err)
{
    struct sealed_key *list = NULL;
    size_t count = 0;
    enum sso_code rc = list_sealed_keys(engine, &list, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++)
        if (list[i].generation < engine->target->number)
            rc = move_sealed_key(engine, &list[i], err);
    free(list);
    return rc;
}
