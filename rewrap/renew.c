/* Rows that get a new row key and a new ciphertext on their way to the target. Between move.c's
 * opening of the old key and check.c: what goes before and after is the same for all rows. */
#include "rewrap/engine.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

bool engine_renews(const struct engine *engine, const struct credential_row *row)
{
    return row->born <= engine->renew_born;
}

struct credential_row batch_row_as_written(const struct batch *batch, size_t i, uint32_t to)
{
    struct credential_row row = batch->row[i];
    row.generation = to;
    row.wrapped = batch->fresh[i];
    if (batch->renewal == NULL || batch->renewal[i].ciphertext == NULL)
        return row;
    const struct row_renewal *renewal = &batch->renewal[i];
    row.born = renewal->born;
    memcpy(row.row_key_id, renewal->row_key_id, sizeof row.row_key_id);
    memcpy(row.nonce, renewal->nonce, sizeof row.nonce);
    row.ciphertext = renewal->ciphertext;
    row.ciphertext_bytes = renewal->ciphertext_bytes;
    return row;
}

static void drop_renewal(struct row_renewal *renewal)
{
    free(renewal->ciphertext);
    *renewal = (struct row_renewal){0};
}

void hand_back(const struct mover *mover, struct batch *batch)
{
    for (size_t k = 0; k < mover->item_count; k++) {
        size_t i = mover->index[k];
        if (batch->outcome[i].fate != FATE_MOVED)
            continue;
        batch->outcome[i].fate = FATE_WAITING;
        drop_renewal(&batch->renewal[i]);
    }
}

/* The items whose old key opened become those of new keys: `index` and the old keys in row_keys
 * move up with them. The binding covers everything that the renewed row is to be. */
static enum sso_code choose(struct mover *mover, struct batch *batch, struct sso_error *err)
{
    const struct rewrap_job *job = mover->engine->job;
    size_t count = 0;
    for (size_t k = 0; k < mover->item_count; k++) {
        size_t i = mover->index[k];
        struct row_renewal *renewal = &batch->renewal[i];
        if (batch->outcome[i].fate != FATE_MOVED)
            continue;
        memmove(mover->row_keys + count * ROW_KEY_BYTES, mover->row_keys + k * ROW_KEY_BYTES,
                ROW_KEY_BYTES);
        mover->index[count] = i;
        renewal->born = job->rotation.to;
        enum sso_code rc = random_bytes(renewal->row_key_id, sizeof renewal->row_key_id, err);
        if (rc != SSO_OK)
            return rc;
        struct credential_row row = batch->row[i];
        row.born = renewal->born;
        memcpy(row.row_key_id, renewal->row_key_id, sizeof row.row_key_id);
        mover->item[count] = (struct key_item){.generation = job->rotation.to,
                                               .row_key = mover->new_keys + count * ROW_KEY_BYTES};
        row_binding_digest(job->policy->system_id, &row, mover->item[count].binding);
        count++;
    }
    mover->item_count = count;
    return SSO_OK;
}

static enum sso_code seal_anew(struct mover *mover, struct batch *batch, size_t k,
                               struct sso_error *err)
{
    struct engine *engine = mover->engine;
    const uint8_t *system_id = engine->job->policy->system_id;
    size_t i = mover->index[k];
    struct row_renewal *renewal = &batch->renewal[i];
    struct credential_fields fields = {0};
    struct credential_row row = batch->row[i];
    pthread_mutex_lock(&engine->opening_row);
    enum sso_code rc = row_open(system_id, &row, mover->row_keys + k * ROW_KEY_BYTES, &fields, err);
    if (rc == SSO_OK) {
        row.born = renewal->born;
        memcpy(row.row_key_id, renewal->row_key_id, sizeof row.row_key_id);
        row.ciphertext = NULL; /* the batch's; sealing makes another */
        rc = row_seal(system_id, &row, mover->item[k].row_key, &fields, err);
    }
    credential_fields_free(&fields);
    pthread_mutex_unlock(&engine->opening_row);
    if (rc != SSO_OK)
        return rc;
    memcpy(renewal->nonce, row.nonce, sizeof renewal->nonce);
    renewal->ciphertext = row.ciphertext;
    renewal->ciphertext_bytes = row.ciphertext_bytes;
    batch->fresh[i] = mover->item[k].wrapped;
    return SSO_OK;
}

static enum sso_code make_keys(struct mover *mover, struct sso_error *err)
{
    const struct engine *engine = mover->engine;
    const struct rewrap_job *job = engine->job;
    enum sso_code rc = wrap_budget_take(job->budget, engine->target->number, engine->target->suite,
                                        mover->item_count, err);
    if (rc == SSO_OK)
        rc = keyring_make(job->keyring, HSM_BULK, mover->item, mover->item_count, hsm_deadline_ms(),
                          err);
    /* No row is to blame for a key that could not be made. */
    for (size_t k = 0; rc == SSO_OK && k < mover->item_count; k++)
        if (mover->item[k].code != SSO_OK)
            rc = sso_fail(err, SSO_HSM_UNAVAILABLE,
                          "the token did not make a new row key under generation %u",
                          engine->target->number);
    return rc;
}

enum sso_code renew_rows(struct mover *mover, struct batch *batch, struct sso_error *err)
{
    enum sso_code rc = choose(mover, batch, err);
    if (rc == SSO_OK && mover->item_count != 0)
        rc = make_keys(mover, err);
    for (size_t k = 0; rc == SSO_OK && k < mover->item_count; k++) {
        rc = seal_anew(mover, batch, k, err);
        if (rc != SSO_ROW_CORRUPT)
            continue;
        outcome_bad(batch, mover->index[k], rc, "its key opens, but the row does not open with it");
        rc = SSO_OK;
    }
    OPENSSL_cleanse(mover->row_keys, (size_t)BATCH_ROWS * ROW_KEY_BYTES);
    OPENSSL_cleanse(mover->new_keys, (size_t)BATCH_ROWS * ROW_KEY_BYTES);
    if (rc != SSO_OK)
        hand_back(mover, batch);
    return rc;
}
