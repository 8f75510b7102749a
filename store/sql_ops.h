/* What sql_*.c fill in of struct store_ops. */
#ifndef SSO_STORE_SQL_OPS_H
#define SSO_STORE_SQL_OPS_H

#include "store/backend.h"

extern const struct store_system_ops sql_system_ops;
extern const struct store_generation_ops sql_generation_ops;
extern const struct store_share_set_ops sql_share_set_ops;
extern const struct store_sealed_key_ops sql_sealed_key_ops;
extern const struct store_application_ops sql_application_ops;
extern const struct store_mapping_ops sql_mapping_ops;
extern const struct store_ticket_ops sql_ticket_ops;
extern const struct store_credential_ops sql_credential_ops;
extern const struct store_rotation_ops sql_rotation_ops;
extern const struct store_quarantine_ops sql_quarantine_ops;
extern const struct store_exposed_ops sql_exposed_ops;
extern const struct store_audit_ops sql_audit_ops;
extern const struct store_audit_key_ops sql_audit_key_ops;
extern const struct store_audit_base_ops sql_audit_base_ops;
extern const struct store_destruction_ops sql_destruction_ops;
extern const struct store_node_ops sql_node_ops;
extern const struct store_refusal_ops sql_refusal_ops;
extern const struct store_master_lease_ops sql_master_lease_ops;

/* --- sql_check.c --- */
enum sso_code sql_check_structure(struct store_tx *tx, char ***lines, size_t *count,
                                  struct sso_error *err);

#endif
