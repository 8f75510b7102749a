/* What a back end fills in. A database is one file, or one file for each noun, and one row in the
 * table of store/store.c. Each function is the one of the public headers with the same name and
 * keeps what is promised there. */
#ifndef SSO_STORE_BACKEND_H
#define SSO_STORE_BACKEND_H

#include "store/store.h"

/* A back end's own structs begin with these. */
struct store {
    const struct store_ops *ops;
    bool commit_unknown; /* of the last write transaction: no answer came */
};
struct store_tx {
    struct store *store;
    enum store_access access;
};

struct store_system_ops {
    enum sso_code (*get)(struct store_tx *tx, struct system_row *out, struct sso_error *err);
    enum sso_code (*insert)(struct store_tx *tx, const struct system_row *row,
                            struct sso_error *err);
    enum sso_code (*setting_list)(struct store_tx *tx, struct setting **out, size_t *count,
                                  struct sso_error *err);
    enum sso_code (*setting_put)(struct store_tx *tx, const struct setting *setting,
                                 struct sso_error *err);
};

struct store_generation_ops {
    enum sso_code (*hold)(struct store_tx *tx, uint32_t number, enum store_lock lock,
                          struct generation *out, struct sso_error *err);
    enum sso_code (*list)(struct store_tx *tx, struct generation **out, size_t *count,
                          struct sso_error *err);
    enum sso_code (*insert)(struct store_tx *tx, const struct generation *generation,
                            struct sso_error *err);
    enum sso_code (*update)(struct store_tx *tx, const struct generation *generation,
                            struct sso_error *err);
    enum sso_code (*add_wraps)(struct store_tx *tx, uint32_t number, uint64_t wraps, uint64_t limit,
                               uint64_t *total, struct sso_error *err);
    enum sso_code (*token_list)(struct store_tx *tx, struct generation_token **out, size_t *count,
                                struct sso_error *err);
    enum sso_code (*token_put)(struct store_tx *tx, const struct generation_token *token,
                               struct sso_error *err);
};

struct store_share_set_ops {
    enum sso_code (*list)(struct store_tx *tx, struct share_set **out, size_t *count,
                          struct sso_error *err);
    enum sso_code (*insert)(struct store_tx *tx, const struct share_set *set,
                            struct sso_error *err);
};

struct store_sealed_key_ops {
    enum sso_code (*list)(struct store_tx *tx, struct sealed_key **out, size_t *count,
                          struct sso_error *err);
    enum sso_code (*insert)(struct store_tx *tx, const struct sealed_key *key,
                            struct sso_error *err);
    enum sso_code (*swap)(struct store_tx *tx, const struct sealed_key *old_key,
                          const struct sealed_key *new_key, bool *swapped, struct sso_error *err);
};

struct store_application_ops {
    enum sso_code (*get)(struct store_tx *tx, const char *name, struct application *out,
                         struct sso_error *err);
    enum sso_code (*get_by_id)(struct store_tx *tx, const uint8_t id[static APPLICATION_ID_BYTES],
                               struct application *out, struct sso_error *err);
    enum sso_code (*list)(struct store_tx *tx, struct application **out, size_t *count,
                          struct sso_error *err);
    enum sso_code (*insert)(struct store_tx *tx, const struct application *application,
                            struct sso_error *err);
    enum sso_code (*update)(struct store_tx *tx, const struct application *application,
                            struct sso_error *err);
    enum sso_code (*delete)(struct store_tx *tx, const uint8_t id[static APPLICATION_ID_BYTES],
                            bool keep_application, uint64_t *credentials_deleted,
                            struct sso_error *err);
};

struct store_mapping_ops {
    enum sso_code (*get)(struct store_tx *tx,
                         const uint8_t application_id[static APPLICATION_ID_BYTES],
                         const char *principal, struct mapping *out, struct sso_error *err);
    enum sso_code (*put)(struct store_tx *tx, const struct mapping *mapping, struct sso_error *err);
    enum sso_code (*delete)(struct store_tx *tx,
                            const uint8_t application_id[static APPLICATION_ID_BYTES],
                            const char *principal, struct sso_error *err);
    enum sso_code (*page)(struct store_tx *tx,
                          const uint8_t application_id[static APPLICATION_ID_BYTES],
                          const char *after, size_t limit, struct mapping_view **out, size_t *count,
                          struct sso_error *err);
};

struct store_ticket_ops {
    enum sso_code (*redeem)(struct store_tx *tx, const struct ticket_claims *claims,
                            int64_t forget_ms, struct sso_error *err);
};

struct store_credential_ops {
    enum sso_code (*lookup)(struct store_tx *tx, const char *application, const char *principal,
                            struct lookup_view *out, struct sso_error *err);
    enum sso_code (*get)(struct store_tx *tx,
                         const uint8_t application_id[static APPLICATION_ID_BYTES],
                         const char *principal, struct credential_row *out, struct sso_error *err);
    enum sso_code (*get_by_id)(struct store_tx *tx, const uint8_t row_id[static ROW_ID_BYTES],
                               struct credential_row *out, struct sso_error *err);
    enum sso_code (*put)(struct store_tx *tx, const struct credential_row *row,
                         uint64_t old_version, struct sso_error *err);
    enum sso_code (*delete)(struct store_tx *tx,
                            const uint8_t application_id[static APPLICATION_ID_BYTES],
                            const char *principal, uint64_t version, struct sso_error *err);
    enum sso_code (*page)(struct store_tx *tx,
                          const uint8_t application_id[static APPLICATION_ID_BYTES],
                          const char *after, size_t limit, struct credential_page *out,
                          struct sso_error *err);
};

struct store_scan_ops {
    enum sso_code (*scan)(struct store_tx *tx, const struct scan_options *options,
                          struct scan_position *position, struct credential_row *rows,
                          size_t *count, struct sso_error *err);
    enum sso_code (*swap)(struct store_tx *tx, struct key_swap *swaps, size_t count,
                          struct sso_error *err);
    enum sso_code (*count_by_generation)(struct store_tx *tx, struct generation_rows **out,
                                         size_t *count, struct sso_error *err);
};

struct store_rotation_ops {
    enum sso_code (*latest)(struct store_tx *tx, struct rotation *out, struct sso_error *err);
    enum sso_code (*insert)(struct store_tx *tx, struct rotation *rotation, struct sso_error *err);
    enum sso_code (*update)(struct store_tx *tx, const struct rotation *rotation,
                            struct sso_error *err);
    enum sso_code (*renewed)(struct store_tx *tx, uint32_t *born, struct sso_error *err);
};

struct store_quarantine_ops {
    enum sso_code (*put)(struct store_tx *tx, const struct quarantine_entry *entry,
                         struct sso_error *err);
    enum sso_code (*list)(struct store_tx *tx, struct quarantine_entry **out, size_t *count,
                          struct sso_error *err);
    enum sso_code (*retry)(struct store_tx *tx, const uint8_t *row_id, struct sso_error *err);
    enum sso_code (*prune)(struct store_tx *tx, uint32_t below, struct sso_error *err);
    enum sso_code (*count)(struct store_tx *tx, struct quarantine_count *out,
                           struct sso_error *err);
};

struct store_exposed_ops {
    enum sso_code (*put)(struct store_tx *tx, const struct exposed_row *row, struct sso_error *err);
    enum sso_code (*list)(struct store_tx *tx, uint32_t number, const uint8_t *after, size_t limit,
                          struct exposed_row **out, size_t *count, struct sso_error *err);
    enum sso_code (*count)(struct store_tx *tx, uint64_t *count, struct sso_error *err);
};

struct store_audit_ops {
    enum sso_code (*append)(struct store_tx *tx, struct audit_record *records, size_t count,
                            struct sso_error *err);
    enum sso_code (*list)(struct store_tx *tx, const char *node, uint64_t after, size_t limit,
                          struct audit_record **out, size_t *count, struct sso_error *err);
    enum sso_code (*of_operation)(struct store_tx *tx, const char *operation,
                                  struct audit_record **out, size_t *count, struct sso_error *err);
    enum sso_code (*heads)(struct store_tx *tx, struct audit_head **out, size_t *count,
                           struct sso_error *err);
};

struct store_audit_key_ops {
    enum sso_code (*insert)(struct store_tx *tx, const struct audit_key *key,
                            struct sso_error *err);
    enum sso_code (*list)(struct store_tx *tx, struct audit_key **out, size_t *count,
                          struct sso_error *err);
    enum sso_code (*signature_latest)(struct store_tx *tx, struct audit_signature *out,
                                      struct sso_error *err);
    enum sso_code (*signature_insert)(struct store_tx *tx, const struct audit_signature *signature,
                                      struct sso_error *err);
    enum sso_code (*signature_next)(struct store_tx *tx, uint64_t after,
                                    struct audit_signature *out, struct sso_error *err);
};

struct store_audit_base_ops {
    enum sso_code (*list)(struct store_tx *tx, struct audit_base **out, size_t *count,
                          struct sso_error *err);
    enum sso_code (*put)(struct store_tx *tx, const struct audit_base *base, struct sso_error *err);
    enum sso_code (*prune)(struct store_tx *tx, const char *node, uint64_t through, size_t limit,
                           uint64_t *pruned, struct sso_error *err);
    enum sso_code (*prune_signatures)(struct store_tx *tx, uint64_t through, size_t limit,
                                      uint64_t *pruned, struct sso_error *err);
};

struct store_destruction_ops {
    enum sso_code (*get)(struct store_tx *tx, uint32_t number, struct destruction *out,
                         struct sso_error *err);
    enum sso_code (*put)(struct store_tx *tx, const struct destruction *destruction,
                         struct sso_error *err);
};

struct store_node_ops {
    enum sso_code (*list)(struct store_tx *tx, struct node **out, size_t *count,
                          struct sso_error *err);
    enum sso_code (*put)(struct store_tx *tx, const struct node *node, struct sso_error *err);
    enum sso_code (*remove)(struct store_tx *tx, const char *name, struct sso_error *err);
};

struct store_refusal_ops {
    enum sso_code (*put)(struct store_tx *tx, const struct token_identity *token, const char *node,
                         struct sso_error *err);
    enum sso_code (*of_others)(struct store_tx *tx, const struct token_identity *token,
                               const char *node, char other[static 65], struct sso_error *err);
    enum sso_code (*clear)(struct store_tx *tx, const struct token_identity *token,
                           struct sso_error *err);
};

struct store_master_lease_ops {
    enum sso_code (*read)(struct store_tx *tx, struct master_lease *out, struct sso_error *err);
    enum sso_code (*take)(struct store_tx *tx, const struct master_lease *seen,
                          struct master_lease *wanted, struct sso_error *err);
    enum sso_code (*renew)(struct store_tx *tx, const struct master_lease *own,
                           struct sso_error *err);
    enum sso_code (*hold)(struct store_tx *tx, const struct master_lease *own,
                          struct sso_error *err);
    enum sso_code (*promise)(struct store_tx *tx, const struct master_lease *own,
                             const char *successor, struct sso_error *err);
    enum sso_code (*give_back)(struct store_tx *tx, const struct master_lease *own,
                               struct sso_error *err);
    enum sso_code (*reset)(struct store_tx *tx, uint64_t epoch, struct sso_error *err);
    enum sso_code (*standby_put)(struct store_tx *tx, const struct standby *standby,
                                 struct sso_error *err);
    enum sso_code (*standby_remove)(struct store_tx *tx, const char *node, struct sso_error *err);
    enum sso_code (*standby_list)(struct store_tx *tx, struct standby **out, size_t *count,
                                  struct sso_error *err);
};

struct sql_driver;

struct store_ops {
    const char *scheme;           /* of the URL, and the kind */
    const struct sql_driver *sql; /* of a back end that uses sql_*.c (sql_statement.h) */

    enum sso_code (*open)(const char *url, struct store **out, struct sso_error *err);
    enum sso_code (*create)(const char *url, struct store **out, struct sso_error *err);
    enum sso_code (*may_create)(const char *url, bool *there, struct sso_error *err);
    enum sso_code (*upgrade)(const char *url, struct sso_error *err);
    void (*close)(struct store *store);
    unsigned (*schema)(const struct store *store);
    bool (*write_holder)(struct store *store, int *pid);       /* NULL: it cannot tell */
    void (*use_lease)(struct store *store, unsigned lease_ms); /* NULL: it cannot tell */
    enum sso_code (*backup)(struct store *store, const char *path, struct sso_error *err);

    enum sso_code (*begin)(struct store *store, enum store_access access, struct store_tx **out,
                           struct sso_error *err);
    enum sso_code (*commit)(struct store_tx *tx, struct sso_error *err); /* frees tx in any case */
    void (*rollback)(struct store_tx *tx);
    enum sso_code (*savepoint)(struct store_tx *tx, struct sso_error *err);
    enum sso_code (*savepoint_keep)(struct store_tx *tx, struct sso_error *err);
    enum sso_code (*savepoint_undo)(struct store_tx *tx, struct sso_error *err);
    enum sso_code (*check_structure)(struct store_tx *tx, char ***lines, size_t *count,
                                     struct sso_error *err);

    const struct store_system_ops *system;
    const struct store_generation_ops *generation;
    const struct store_share_set_ops *share_set;
    const struct store_sealed_key_ops *sealed_key;
    const struct store_application_ops *application;
    const struct store_mapping_ops *mapping;
    const struct store_ticket_ops *ticket;
    const struct store_credential_ops *credential;
    const struct store_scan_ops *scan;
    const struct store_rotation_ops *rotation;
    const struct store_quarantine_ops *quarantine;
    const struct store_exposed_ops *exposed;
    const struct store_audit_ops *audit;
    const struct store_audit_key_ops *audit_key;
    const struct store_audit_base_ops *audit_base;
    const struct store_destruction_ops *destruction;
    const struct store_node_ops *node;
    const struct store_refusal_ops *refusal;
    const struct store_master_lease_ops *master_lease;
};

extern const struct store_ops postgresql_store_ops;
extern const struct store_ops sqlite_store_ops;

/* SSO_INTERNAL in a read transaction: a mistake of the caller that SQLite would forgive at times
 * and another database at others. */
enum sso_code store_must_write(const struct store_tx *tx, const char *function,
                               struct sso_error *err) __attribute__((warn_unused_result));

#endif
