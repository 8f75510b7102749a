/* How a quarantined row was seen, so that a repaired one is noticed. */
#include "rewrap/engine.h"

#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "common/encode.h"

static enum sso_code digest_row(const struct credential_row *row,
                                uint8_t out[static QUARANTINE_SEEN_BYTES], struct sso_error *err)
{
    ENCODER_AUTO bytes = {0};
    encode_u32(&bytes, row->generation);
    encode_bytes(&bytes, row->wrapped.bytes, row->wrapped.length_bytes);
    encode_u16(&bytes, row->format);
    encode_fixed(&bytes, row->application_id, sizeof row->application_id);
    encode_text(&bytes, row->principal);
    encode_text(&bytes, row->external_user);
    encode_u32(&bytes, row->born);
    encode_fixed(&bytes, row->row_key_id, sizeof row->row_key_id);
    encode_fixed(&bytes, row->nonce, sizeof row->nonce);
    encode_u64(&bytes, row->version);
    encode_u64(&bytes, (uint64_t)row->updated_ms);
    encode_bytes(&bytes, row->ciphertext, row->ciphertext_bytes);
    if (bytes.failed)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a row of %zu bytes",
                        row->ciphertext_bytes);
    digest_sha256(bytes.data, bytes.length_bytes, out);
    return SSO_OK;
}

enum sso_code quarantine_see(struct store_tx *tx, const uint8_t row_id[static ROW_ID_BYTES],
                             uint8_t seen[static QUARANTINE_SEEN_BYTES], struct sso_error *err)
{
    struct credential_row row = {0};
    struct sso_error why = {0};
    memset(seen, 0, QUARANTINE_SEEN_BYTES);
    enum sso_code rc = store_credential_get_by_id(tx, row_id, &row, &why);
    if (rc == SSO_NOT_FOUND || rc == SSO_ROW_CORRUPT)
        return SSO_OK;
    if (rc != SSO_OK)
        return sso_fail(err, rc, "%s", why.detail);
    rc = digest_row(&row, seen, err);
    credential_row_free(&row);
    return rc;
}

/* --- repaired rows --- */

/* More than these are tried again by `retry-quarantined` only. */
#define LOOKED_AT_MAX 10000
#define ANSWERS_MAX 16

static enum sso_code read_entries(struct store *store, struct rotation *rotation,
                                  struct quarantine_entry **list, size_t *count, bool *settled,
                                  struct sso_error *err)
{
    struct quarantine_count counted = {0};
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_rotation_latest(tx, rotation, err);
    if (rc != SSO_OK || rotation->state != ROTATION_COMPLETED_WITH_ERRORS || rotation->dry_run)
        return rc == SSO_NOT_FOUND ? SSO_OK : rc;
    rc = store_quarantine_count(tx, &counted, err);
    *settled = rc == SSO_OK && counted.rows < rotation->failed;
    if (rc == SSO_OK && counted.rows != 0 && counted.rows <= LOOKED_AT_MAX)
        rc = store_quarantine_list(tx, list, count, err);
    return rc;
}

/* Does the entry's generation open again? Any answer about the row's own key says that it does. One
 * whose key is not in the token is forgotten, so that the keyring's owner opens it anew when it is.
 */
static bool opens_again(struct store *store, struct keyring *keyring, const struct policy *policy,
                        const struct quarantine_entry *entry)
{
    struct credential_row row = {0};
    STORE_TX_AUTO tx = NULL;
    if (!keyring_has(keyring, entry->generation) ||
        store_begin(store, STORE_READ, &tx, NULL) != SSO_OK ||
        store_credential_get_by_id(tx, entry->row_id, &row, NULL) != SSO_OK)
        return false;
    store_rollback(&tx);
    if (row.generation != entry->generation) { /* the entry says what another hand wrote */
        credential_row_free(&row);
        return false;
    }
    uint8_t *row_key = secret_alloc(ROW_KEY_BYTES);
    struct key_item item = {
        .generation = row.generation, .wrapped = row.wrapped, .row_key = row_key};
    row_binding_digest(policy->system_id, &row, item.binding);
    enum sso_code rc = SSO_NO_MEMORY;
    if (row_key != NULL)
        rc = keyring_unwrap(keyring, HSM_BULK, &item, 1, hsm_deadline_ms(), NULL);
    if (rc == SSO_OK)
        rc = item.code;
    bool opens = rc == SSO_OK || rc == SSO_ROW_CORRUPT;
    if (rc == SSO_NO_MASTER_SECRET)
        keyring_forget(keyring, entry->generation);
    secret_dealloc(row_key);
    credential_row_free(&row);
    return opens;
}

static bool waits_for_token(const struct quarantine_entry *entry)
{
    return entry->code == SSO_NO_MASTER_SECRET || entry->code == SSO_HSM_UNAVAILABLE;
}

static enum sso_code has_changed(struct store *store, const struct quarantine_entry *entry,
                                 bool *changed, struct sso_error *err)
{
    uint8_t now[QUARANTINE_SEEN_BYTES];
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = quarantine_see(tx, entry->row_id, now, err);
    *changed = rc == SSO_OK && memcmp(now, entry->seen, sizeof now) != 0;
    return rc;
}

/* What the tokens said of a generation: each is asked for once, whatever the order of the list.
 * More of them than there is room for wait for the next look. */
struct answers {
    uint32_t generation[ANSWERS_MAX];
    bool back[ANSWERS_MAX];
    size_t count;
};

static bool *answer_of(struct answers *answers, uint32_t generation)
{
    for (size_t i = 0; i < answers->count; i++)
        if (answers->generation[i] == generation)
            return &answers->back[i];
    return NULL;
}

enum sso_code rewrap_find_repaired(struct store *store, struct keyring *keyring,
                                   const struct policy *policy, struct repaired *out,
                                   struct sso_error *err)
{
    struct quarantine_entry *list = NULL;
    struct rotation rotation;
    size_t count = 0;
    struct answers answers = {0};
    *out = (struct repaired){0};
    enum sso_code rc = read_entries(store, &rotation, &list, &count, &out->settled, err);
    if (rc == SSO_OK && count != 0 && (out->row_id = calloc(count, sizeof *out->row_id)) == NULL)
        rc = sso_fail(err, SSO_NO_MEMORY, "no memory for %zu rows in quarantine", count);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        bool repaired = list[i].retry;
        if (!repaired)
            rc = has_changed(store, &list[i], &repaired, err);
        if (rc == SSO_OK && !repaired && waits_for_token(&list[i])) {
            bool *back = answer_of(&answers, list[i].generation);
            if (back == NULL && answers.count < ANSWERS_MAX) {
                answers.generation[answers.count] = list[i].generation;
                back = &answers.back[answers.count++];
                *back = opens_again(store, keyring, policy, &list[i]);
            }
            repaired = back != NULL && *back;
        }
        if (rc == SSO_OK && repaired)
            memcpy(out->row_id[out->count++], list[i].row_id, ROW_ID_BYTES);
    }
    free(list);
    return rc;
}
