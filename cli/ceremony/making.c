#include "cli/ceremony/making.h"

#include <stdio.h>
#include <string.h>

#include "common/fault.h"
#include "common/row.h"

enum sso_code making_begin(struct ceremony *ceremony, struct making *making,
                           const struct backing_options *options, struct sso_error *err)
{
    making->journal.fd = -1;
    making->backing.options = options;
    enum sso_code rc = journal_open(ceremony, &making->journal, err);
    if (rc == SSO_OK)
        rc = journal_recover(ceremony, &making->journal, err);
    if (rc == SSO_OK)
        rc = backing_begin(ceremony, making->pool, options, &making->backing, err);
    return rc;
}

static bool key_is_gone(const struct ceremony *ceremony, const struct making *making,
                        const struct key_order *order)
{
    struct generation_key key = {.number = order->number, .suite = order->suite};
    memcpy(key.system_id, ceremony->system.id, SYSTEM_ID_BYTES);
    memcpy(key.secret_id, order->secret_id, SECRET_ID_BYTES);
    struct sso_error problem = {0};
    enum sso_code rc = hsm_destroy_key(making->pool, &key, &problem);
    return rc == SSO_OK || rc == SSO_NOT_FOUND;
}

enum sso_code making_key(struct ceremony *ceremony, struct making *making, uint32_t number,
                         enum suite_id suite, struct sso_error *err)
{
    struct journal_entry entry = {.generation = number};
    struct key_order order = {
        .number = number, .suite = suite, .node = ceremony->config->cluster.node};
    enum sso_code rc = random_bytes(order.secret_id, SECRET_ID_BYTES, err);
    if (rc == SSO_OK)
        rc = backing_keys(ceremony, &making->backing, number, &order.backup, err);
    if (rc != SSO_OK)
        return rc;
    memcpy(entry.system_id, ceremony->system.id, SYSTEM_ID_BYTES);
    memcpy(entry.secret_id, order.secret_id, SECRET_ID_BYTES);
    snprintf(entry.section, sizeof entry.section, "%s", hsm_name(making->pool));
    backing_journal(&making->backing, &entry);
    rc = journal_write(&making->journal, &entry, err);
    if (rc != SSO_OK)
        return rc;
    fault_point("ceremony.journal");
    rc = keyring_generate_order(ceremony->keyring, making->pool, &order, &making->made, err);
    fault_point("ceremony.key");
    making->key_made = rc == SSO_OK;
    /* It may have left the key all the same: then the journal stays. */
    if (rc != SSO_OK && rc != SSO_HSM_UNAVAILABLE &&
        (rc == SSO_ALREADY_EXISTS || key_is_gone(ceremony, making, &order)))
        journal_clear(&making->journal);
    return rc;
}

enum sso_code making_prove(struct ceremony *ceremony, struct making *making, struct sso_error *err)
{
    struct generation *generation = &making->made.generation;
    struct backing_witness witness = {making->ceremony, making->pool, generation,
                                      &making->made.token, &making->signer};
    enum sso_code rc = signer_open(ceremony, making->pool, &making->journal, &making->signer, err);
    if (rc == SSO_OK)
        rc = backing_seal(ceremony, &making->backing, generation, &making->signer, err);
    if (rc == SSO_OK)
        rc = backing_hand_out(ceremony, &making->backing, err);
    if (rc == SSO_OK)
        rc = backing_write(ceremony, &making->backing, &witness, err);
    policy_tag_generation(&ceremony->policy, generation);
    policy_tag_generation_token(&ceremony->policy, &making->made.token);
    return rc;
}

enum sso_code making_store(struct ceremony *ceremony, struct making *making, struct store_tx *tx,
                           struct sso_error *err)
{
    enum sso_code rc = store_generation_insert(tx, &making->made.generation, err);
    if (rc == SSO_OK)
        rc = store_generation_token_put(tx, &making->made.token, err);
    if (rc == SSO_OK)
        rc = backing_store(ceremony, &making->backing, tx, err);
    if (rc == SSO_OK)
        rc = signer_store(ceremony, &making->signer, tx, err);
    fault_point("ceremony.store");
    return rc;
}

void making_done(struct ceremony *ceremony, struct making *making)
{
    fault_point("ceremony.stored");
    journal_clear(&making->journal);
    signer_sign_heads(ceremony, &making->signer);
}

enum sso_code making_undo(struct ceremony *ceremony, struct making *making, struct sso_error *err)
{
    bool gone = true;
    enum sso_code rc = err != NULL ? err->code : SSO_INTERNAL;
    if (journal_is_open(ceremony))
        return rc;
    if (making->signer.present)
        signer_undo(&making->signer);
    if (making->key_made)
        rc = console_undo_key(ceremony, making->pool, &making->made.generation, &gone, err);
    backing_undo(&making->backing);
    if (gone && making->key_made)
        journal_clear(&making->journal);
    return rc;
}

void making_end(struct making *making)
{
    backing_end(&making->backing);
    journal_close(&making->journal);
}
