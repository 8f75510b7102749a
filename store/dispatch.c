/* Each public function hands over to the back end of its transaction; those that write look first
 * whether the transaction may. */
#include "store/backend.h"

enum sso_code store_system_get(struct store_tx *tx, struct system_row *out, struct sso_error *err)
{
    return tx->store->ops->system->get(tx, out, err);
}

enum sso_code store_system_insert(struct store_tx *tx, const struct system_row *row,
                                  struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->system->insert(tx, row, err);
}

enum sso_code store_setting_list(struct store_tx *tx, struct setting **out, size_t *count,
                                 struct sso_error *err)
{
    return tx->store->ops->system->setting_list(tx, out, count, err);
}

enum sso_code store_setting_put(struct store_tx *tx, const struct setting *setting,
                                struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->system->setting_put(tx, setting, err);
}

enum sso_code store_generation_hold(struct store_tx *tx, uint32_t number, enum store_lock lock,
                                    struct generation *out, struct sso_error *err)
{
    return tx->store->ops->generation->hold(tx, number, lock, out, err);
}

enum sso_code store_generation_list(struct store_tx *tx, struct generation **out, size_t *count,
                                    struct sso_error *err)
{
    return tx->store->ops->generation->list(tx, out, count, err);
}

enum sso_code store_generation_insert(struct store_tx *tx, const struct generation *generation,
                                      struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->generation->insert(tx, generation, err);
}

enum sso_code store_generation_update(struct store_tx *tx, const struct generation *generation,
                                      struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->generation->update(tx, generation, err);
}

enum sso_code store_generation_add_wraps(struct store_tx *tx, uint32_t number, uint64_t wraps,
                                         uint64_t limit, uint64_t *total, struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK
               ? rc
               : tx->store->ops->generation->add_wraps(tx, number, wraps, limit, total, err);
}

enum sso_code store_generation_token_list(struct store_tx *tx, struct generation_token **out,
                                          size_t *count, struct sso_error *err)
{
    return tx->store->ops->generation->token_list(tx, out, count, err);
}

enum sso_code store_generation_token_put(struct store_tx *tx, const struct generation_token *token,
                                         struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->generation->token_put(tx, token, err);
}

enum sso_code store_share_set_list(struct store_tx *tx, struct share_set **out, size_t *count,
                                   struct sso_error *err)
{
    return tx->store->ops->share_set->list(tx, out, count, err);
}

enum sso_code store_share_set_insert(struct store_tx *tx, const struct share_set *set,
                                     struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->share_set->insert(tx, set, err);
}

enum sso_code store_sealed_key_list(struct store_tx *tx, struct sealed_key **out, size_t *count,
                                    struct sso_error *err)
{
    return tx->store->ops->sealed_key->list(tx, out, count, err);
}

enum sso_code store_sealed_key_insert(struct store_tx *tx, const struct sealed_key *key,
                                      struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->sealed_key->insert(tx, key, err);
}

enum sso_code store_sealed_key_swap(struct store_tx *tx, const struct sealed_key *old_key,
                                    const struct sealed_key *new_key, bool *swapped,
                                    struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->sealed_key->swap(tx, old_key, new_key, swapped, err);
}

enum sso_code store_application_get(struct store_tx *tx, const char *name, struct application *out,
                                    struct sso_error *err)
{
    return tx->store->ops->application->get(tx, name, out, err);
}

enum sso_code store_application_get_by_id(struct store_tx *tx,
                                          const uint8_t id[static APPLICATION_ID_BYTES],
                                          struct application *out, struct sso_error *err)
{
    return tx->store->ops->application->get_by_id(tx, id, out, err);
}

enum sso_code store_application_list(struct store_tx *tx, struct application **out, size_t *count,
                                     struct sso_error *err)
{
    return tx->store->ops->application->list(tx, out, count, err);
}

enum sso_code store_application_insert(struct store_tx *tx, const struct application *application,
                                       struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->application->insert(tx, application, err);
}

enum sso_code store_application_update(struct store_tx *tx, const struct application *application,
                                       struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->application->update(tx, application, err);
}

enum sso_code store_application_delete(struct store_tx *tx,
                                       const uint8_t id[static APPLICATION_ID_BYTES],
                                       bool keep_application, uint64_t *credentials_deleted,
                                       struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc
                        : tx->store->ops->application->delete (tx, id, keep_application,
                                                               credentials_deleted, err);
}

enum sso_code store_mapping_get(struct store_tx *tx,
                                const uint8_t application_id[static APPLICATION_ID_BYTES],
                                const char *principal, struct mapping *out, struct sso_error *err)
{
    return tx->store->ops->mapping->get(tx, application_id, principal, out, err);
}

enum sso_code store_mapping_put(struct store_tx *tx, const struct mapping *mapping,
                                struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->mapping->put(tx, mapping, err);
}

enum sso_code store_mapping_delete(struct store_tx *tx,
                                   const uint8_t application_id[static APPLICATION_ID_BYTES],
                                   const char *principal, struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->mapping->delete (tx, application_id, principal, err);
}

enum sso_code store_mapping_page(struct store_tx *tx,
                                 const uint8_t application_id[static APPLICATION_ID_BYTES],
                                 const char *after, size_t limit, struct mapping_view **out,
                                 size_t *count, struct sso_error *err)
{
    return tx->store->ops->mapping->page(tx, application_id, after, limit, out, count, err);
}

enum sso_code store_ticket_redeem(struct store_tx *tx, const struct ticket_claims *claims,
                                  int64_t forget_ms, struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->ticket->redeem(tx, claims, forget_ms, err);
}

enum sso_code store_lookup(struct store_tx *tx, const char *application, const char *principal,
                           struct lookup_view *out, struct sso_error *err)
{
    return tx->store->ops->credential->lookup(tx, application, principal, out, err);
}

enum sso_code store_credential_get(struct store_tx *tx,
                                   const uint8_t application_id[static APPLICATION_ID_BYTES],
                                   const char *principal, struct credential_row *out,
                                   struct sso_error *err)
{
    return tx->store->ops->credential->get(tx, application_id, principal, out, err);
}

enum sso_code store_credential_get_by_id(struct store_tx *tx,
                                         const uint8_t row_id[static ROW_ID_BYTES],
                                         struct credential_row *out, struct sso_error *err)
{
    return tx->store->ops->credential->get_by_id(tx, row_id, out, err);
}

enum sso_code store_credential_put(struct store_tx *tx, const struct credential_row *row,
                                   uint64_t old_version, struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->credential->put(tx, row, old_version, err);
}

enum sso_code store_credential_delete(struct store_tx *tx,
                                      const uint8_t application_id[static APPLICATION_ID_BYTES],
                                      const char *principal, uint64_t version,
                                      struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK
               ? rc
               : tx->store->ops->credential->delete (tx, application_id, principal, version, err);
}

enum sso_code store_credential_page(struct store_tx *tx,
                                    const uint8_t application_id[static APPLICATION_ID_BYTES],
                                    const char *after, size_t limit, struct credential_page *out,
                                    struct sso_error *err)
{
    return tx->store->ops->credential->page(tx, application_id, after, limit, out, err);
}

enum sso_code store_credential_scan(struct store_tx *tx, const struct scan_options *options,
                                    struct scan_position *position, struct credential_row *rows,
                                    size_t *count, struct sso_error *err)
{
    return tx->store->ops->scan->scan(tx, options, position, rows, count, err);
}

enum sso_code store_credential_swap(struct store_tx *tx, struct key_swap *swaps, size_t count,
                                    struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->scan->swap(tx, swaps, count, err);
}

enum sso_code store_count_by_generation(struct store_tx *tx, struct generation_rows **out,
                                        size_t *count, struct sso_error *err)
{
    return tx->store->ops->scan->count_by_generation(tx, out, count, err);
}

enum sso_code store_rotation_latest(struct store_tx *tx, struct rotation *out,
                                    struct sso_error *err)
{
    return tx->store->ops->rotation->latest(tx, out, err);
}

enum sso_code store_rotation_insert(struct store_tx *tx, struct rotation *rotation,
                                    struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->rotation->insert(tx, rotation, err);
}

enum sso_code store_rotation_update(struct store_tx *tx, const struct rotation *rotation,
                                    struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->rotation->update(tx, rotation, err);
}

enum sso_code store_rotation_renewed(struct store_tx *tx, uint32_t *born, struct sso_error *err)
{
    return tx->store->ops->rotation->renewed(tx, born, err);
}

enum sso_code store_quarantine_put(struct store_tx *tx, const struct quarantine_entry *entry,
                                   struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->quarantine->put(tx, entry, err);
}

enum sso_code store_quarantine_list(struct store_tx *tx, struct quarantine_entry **out,
                                    size_t *count, struct sso_error *err)
{
    return tx->store->ops->quarantine->list(tx, out, count, err);
}

enum sso_code store_quarantine_retry(struct store_tx *tx, const uint8_t *row_id,
                                     struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->quarantine->retry(tx, row_id, err);
}

enum sso_code store_quarantine_prune(struct store_tx *tx, uint32_t below, struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->quarantine->prune(tx, below, err);
}

enum sso_code store_quarantine_count(struct store_tx *tx, struct quarantine_count *out,
                                     struct sso_error *err)
{
    return tx->store->ops->quarantine->count(tx, out, err);
}

enum sso_code store_exposed_put(struct store_tx *tx, const struct exposed_row *row,
                                struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->exposed->put(tx, row, err);
}

enum sso_code store_exposed_list(struct store_tx *tx, uint32_t number, const uint8_t *after,
                                 size_t limit, struct exposed_row **out, size_t *count,
                                 struct sso_error *err)
{
    return tx->store->ops->exposed->list(tx, number, after, limit, out, count, err);
}

enum sso_code store_exposed_count(struct store_tx *tx, uint64_t *count, struct sso_error *err)
{
    return tx->store->ops->exposed->count(tx, count, err);
}

enum sso_code store_audit_append(struct store_tx *tx, struct audit_record *records, size_t count,
                                 struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->audit->append(tx, records, count, err);
}

enum sso_code store_audit_list(struct store_tx *tx, const char *node, uint64_t after, size_t limit,
                               struct audit_record **out, size_t *count, struct sso_error *err)
{
    return tx->store->ops->audit->list(tx, node, after, limit, out, count, err);
}

enum sso_code store_audit_heads(struct store_tx *tx, struct audit_head **out, size_t *count,
                                struct sso_error *err)
{
    return tx->store->ops->audit->heads(tx, out, count, err);
}

enum sso_code store_refusal_put(struct store_tx *tx, const struct token_identity *token,
                                const char *node, struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->refusal->put(tx, token, node, err);
}

enum sso_code store_refusal_of_others(struct store_tx *tx, const struct token_identity *token,
                                      const char *node, char other[static 65],
                                      struct sso_error *err)
{
    return tx->store->ops->refusal->of_others(tx, token, node, other, err);
}

enum sso_code store_refusal_clear(struct store_tx *tx, const struct token_identity *token,
                                  struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->refusal->clear(tx, token, err);
}

enum sso_code store_audit_key_insert(struct store_tx *tx, const struct audit_key *key,
                                     struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->audit_key->insert(tx, key, err);
}

enum sso_code store_audit_key_list(struct store_tx *tx, struct audit_key **out, size_t *count,
                                   struct sso_error *err)
{
    return tx->store->ops->audit_key->list(tx, out, count, err);
}

enum sso_code store_audit_signature_latest(struct store_tx *tx, struct audit_signature *out,
                                           struct sso_error *err)
{
    return tx->store->ops->audit_key->signature_latest(tx, out, err);
}

enum sso_code store_audit_signature_insert(struct store_tx *tx,
                                           const struct audit_signature *signature,
                                           struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->audit_key->signature_insert(tx, signature, err);
}

enum sso_code store_audit_signature_next(struct store_tx *tx, uint64_t after,
                                         struct audit_signature *out, struct sso_error *err)
{
    return tx->store->ops->audit_key->signature_next(tx, after, out, err);
}

enum sso_code store_audit_of_operation(struct store_tx *tx, const char *operation,
                                       struct audit_record **out, size_t *count,
                                       struct sso_error *err)
{
    return tx->store->ops->audit->of_operation(tx, operation, out, count, err);
}

enum sso_code store_audit_base_list(struct store_tx *tx, struct audit_base **out, size_t *count,
                                    struct sso_error *err)
{
    return tx->store->ops->audit_base->list(tx, out, count, err);
}

enum sso_code store_audit_base_put(struct store_tx *tx, const struct audit_base *base,
                                   struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->audit_base->put(tx, base, err);
}

enum sso_code store_audit_prune(struct store_tx *tx, const char *node, uint64_t through,
                                size_t limit, uint64_t *pruned, struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc
                        : tx->store->ops->audit_base->prune(tx, node, through, limit, pruned, err);
}

enum sso_code store_audit_prune_signatures(struct store_tx *tx, uint64_t through, size_t limit,
                                           uint64_t *pruned, struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK
               ? rc
               : tx->store->ops->audit_base->prune_signatures(tx, through, limit, pruned, err);
}

enum sso_code store_destruction_get(struct store_tx *tx, uint32_t number, struct destruction *out,
                                    struct sso_error *err)
{
    return tx->store->ops->destruction->get(tx, number, out, err);
}

enum sso_code store_destruction_put(struct store_tx *tx, const struct destruction *destruction,
                                    struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->destruction->put(tx, destruction, err);
}

enum sso_code store_node_list(struct store_tx *tx, struct node **out, size_t *count,
                              struct sso_error *err)
{
    return tx->store->ops->node->list(tx, out, count, err);
}

enum sso_code store_node_put(struct store_tx *tx, const struct node *node, struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->node->put(tx, node, err);
}

enum sso_code store_node_remove(struct store_tx *tx, const char *name, struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->node->remove(tx, name, err);
}
