/* Are the fresh wrapped keys right? Before anything of a batch is written, rows of it are opened
 * from them. */
#include "rewrap/engine.h"

#include <inttypes.h>
#include <string.h>

#include "common/clock.h"

/* A batch is 256 rows at most; a token that needs longer gets smaller ones (move.c). */
#define HSM_DEADLINE_MS 10000

int64_t hsm_deadline_ms(void)
{
    return boot_clock_ms() + HSM_DEADLINE_MS;
}

enum sso_code open_seal(struct engine *engine, const struct credential_row *row,
                        const uint8_t row_key[static ROW_KEY_BYTES], struct sso_error *err)
{
    struct credential_fields fields = {0};
    pthread_mutex_lock(&engine->opening_row);
    enum sso_code rc = row_open(engine->job->policy->system_id, row, row_key, &fields, err);
    credential_fields_free(&fields);
    pthread_mutex_unlock(&engine->opening_row);
    return rc;
}

/* A row as it came with the scan; with its ciphertext it is `whole`, as it is to stand in the
 * database. */
struct suspect {
    const struct credential_row *whole;
    struct batch *batch;
    size_t i;
};

static enum sso_code open_row(struct mover *mover, const struct suspect *suspect,
                              uint32_t generation, const struct wrapped_key *wrapped,
                              struct sso_error *err)
{
    struct engine *engine = mover->engine;
    struct key_item item = {
        .generation = generation, .wrapped = *wrapped, .row_key = mover->row_keys};
    row_binding_digest(engine->job->policy->system_id, suspect->whole, item.binding);
    enum sso_code rc =
        keyring_unwrap(engine->job->keyring, HSM_BULK, &item, 1, hsm_deadline_ms(), err);
    if (rc == SSO_OK && item.code != SSO_OK)
        rc = sso_fail(err, item.code, "the wrapped row key does not open under generation %u",
                      generation);
    if (rc == SSO_OK)
        rc = open_seal(engine, suspect->whole, mover->row_keys, err);
    return rc;
}

static bool says_row_is_bad(enum sso_code code)
{
    return code == SSO_ROW_CORRUPT || code == SSO_ROW_KILLS_WORKER;
}

static bool is_renewed(const struct batch *batch, size_t i)
{
    return batch->renewal != NULL && batch->renewal[i].ciphertext != NULL;
}

/* The row did not open from its fresh wrapped key. Whose fault is it? */
static enum sso_code judge(struct mover *mover, const struct suspect *suspect,
                           struct sso_error *err)
{
    const struct credential_row *row = &suspect->batch->row[suspect->i];
    enum sso_code rc = SSO_OK; /* a renewed row has been opened from its old key */
    if (!is_renewed(suspect->batch, suspect->i))
        rc = open_row(mover, suspect, row->generation, &row->wrapped, err);
    if (says_row_is_bad(rc)) {
        outcome_bad(suspect->batch, suspect->i, rc,
                    "the row opens neither from its old wrapped key nor from a fresh one");
        return SSO_OK;
    }
    if (rc != SSO_OK)
        return rc;
    char id[UUID_TEXT_SIZE];
    uuid_text(row->row_id, id);
    return sso_fail(err, SSO_TOKEN_NOT_SUITABLE,
                    "row %s opens from its wrapped key under generation %" PRIu32
                    " but not from the fresh one that the token made under generation %" PRIu32
                    ": nothing of its batch was written; check the token (sso-hsm doctor), then "
                    "sso-hsm rotate resume",
                    id, row->generation, mover->engine->job->rotation.to);
}

static enum sso_code check_row(struct mover *mover, const struct suspect *suspect,
                               struct sso_error *err)
{
    uint32_t to = mover->engine->job->rotation.to;
    enum sso_code rc = open_row(mover, suspect, to, &suspect->batch->fresh[suspect->i], err);
    /* Two workers may have died for other reasons: once more. */
    if (rc == SSO_ROW_KILLS_WORKER)
        rc = open_row(mover, suspect, to, &suspect->batch->fresh[suspect->i], err);
    return says_row_is_bad(rc) ? judge(mover, suspect, err) : rc;
}

static bool same_wrapped(const struct wrapped_key *a, const struct wrapped_key *b)
{
    return a->length_bytes == b->length_bytes && memcmp(a->bytes, b->bytes, a->length_bytes) == 0;
}

/* Reads row i whole. *unchanged: it still is what the scan saw. */
static enum sso_code fetch_whole(struct mover *mover, const struct credential_row *scanned,
                                 struct credential_row *whole, bool *unchanged,
                                 struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    *unchanged = false;
    enum sso_code rc = store_begin(mover->engine->job->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_credential_get_by_id(tx, scanned->row_id, whole, err);
    if (rc == SSO_NOT_FOUND)
        return SSO_OK;
    if (rc == SSO_OK)
        *unchanged = whole->version == scanned->version &&
                     whole->generation == scanned->generation &&
                     same_wrapped(&whole->wrapped, &scanned->wrapped);
    return rc;
}

static enum sso_code check_renewed(struct mover *mover, struct batch *batch, size_t i,
                                   struct sso_error *err)
{
    const struct credential_row row =
        batch_row_as_written(batch, i, mover->engine->job->rotation.to);
    return check_row(mover, &(struct suspect){&row, batch, i}, err);
}

/* One row that opens is enough; rows that vanished, changed, or are bad by themselves prove
 * nothing. */
static enum sso_code check_sample(struct mover *mover, struct batch *batch, struct sso_error *err)
{
    uint16_t start = 0;
    enum sso_code rc = random_bytes(&start, sizeof start, err);
    for (size_t n = 0; rc == SSO_OK && n < batch->count; n++) {
        size_t i = (start + n) % batch->count;
        struct credential_row whole = {0};
        bool unchanged = false;
        if (batch->outcome[i].fate != FATE_MOVED)
            continue;
        if (is_renewed(batch, i))
            return check_renewed(mover, batch, i, err);
        rc = fetch_whole(mover, &batch->row[i], &whole, &unchanged, err);
        if (rc == SSO_ROW_CORRUPT) {
            outcome_bad(batch, i, rc, "%s", "the row's bytes cannot be a row of ours");
            rc = SSO_OK;
        } else if (rc == SSO_OK && unchanged) {
            struct suspect suspect = {&whole, batch, i};
            rc = check_row(mover, &suspect, err);
        }
        credential_row_free(&whole);
        if (rc == SSO_OK && unchanged && batch->outcome[i].fate == FATE_MOVED)
            break;
    }
    return rc;
}

/* Fills the mover's items with the moved rows and their fresh keys. */
static void gather_fresh(struct mover *mover, const struct batch *batch)
{
    const uint32_t to = mover->engine->job->rotation.to;
    mover->item_count = 0;
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->outcome[i].fate != FATE_MOVED)
            continue;
        size_t k = mover->item_count++;
        mover->index[k] = i;
        const struct credential_row row = batch_row_as_written(batch, i, to);
        mover->item[k] = (struct key_item){.generation = to,
                                           .wrapped = batch->fresh[i],
                                           .row_key = mover->row_keys + k * ROW_KEY_BYTES};
        row_binding_digest(mover->engine->job->policy->system_id, &row, mover->item[k].binding);
    }
}

/* Every row; the scan brought the ciphertexts. The usual case is one call of the HSM; rows that do
 * not open are looked at one by one. */
static enum sso_code check_each(struct mover *mover, struct batch *batch, struct sso_error *err)
{
    const uint32_t to = mover->engine->job->rotation.to;
    bool doubtful[BATCH_ROWS] = {false};
    gather_fresh(mover, batch);
    if (mover->item_count == 0)
        return SSO_OK;
    enum sso_code rc = keyring_unwrap(mover->engine->job->keyring, HSM_BULK, mover->item,
                                      mover->item_count, hsm_deadline_ms(), err);
    for (size_t k = 0; rc == SSO_OK && k < mover->item_count; k++) {
        const struct key_item *item = &mover->item[k];
        const struct credential_row row = batch_row_as_written(batch, mover->index[k], to);
        enum sso_code opened = item->code;
        if (opened == SSO_OK)
            opened = open_seal(mover->engine, &row, item->row_key, err);
        doubtful[mover->index[k]] = opened != SSO_OK;
    }
    for (size_t i = 0; rc == SSO_OK && i < batch->count; i++) {
        const struct credential_row row = batch_row_as_written(batch, i, to);
        struct suspect suspect = {&row, batch, i};
        if (doubtful[i])
            rc = check_row(mover, &suspect, err);
    }
    return rc;
}

enum sso_code check_batch(struct mover *mover, struct batch *batch, struct sso_error *err)
{
    if (mover->engine->job->rotation.verify == VERIFY_FULL)
        return check_each(mover, batch, err);
    return check_sample(mover, batch, err);
}
