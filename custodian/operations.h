/* The whole surface of the daemon (operations.c): what is not in the table does not exist.
 * Default-deny: an operation runs only for the roles of its row. */
#ifndef SSO_CUSTODIAN_OPERATIONS_H
#define SSO_CUSTODIAN_OPERATIONS_H

#include "custodian/committer.h"
#include "custodian/request.h"

enum operation_flags {
    OP_AUDIT =
        1 << 0, /* a record is written whatever the outcome; no reply leaves before it is durable */
    OP_READY =
        1 << 1, /* needs the master secret: refused with the reason of DESIGN §5.3 otherwise */
    OP_DATABASE = 1 << 2, /* needs the database and the policy key */
    OP_RELAXED =
        1 << 3, /* its record may follow the reply where the setting audit.lookups says so */
    OP_LOGGED =
        1 << 4, /* while no database is known to write the record to, a line in the log does */
    OP_MASTER = 1 << 6, /* a master's write (master.h): refused where another node is the master */
    OP_QUICK = 1 << 5,  /* asks no token and writes nothing: never waits behind what does */
};

struct operation {
    const char *method;
    const char *path;        /* "/v1/apps/{app}": a segment in braces takes any value */
    const char *name;        /* in the audit and the metrics: "app.update" */
    unsigned roles;          /* enum role */
    unsigned flags;          /* enum operation_flags */
    uint64_t body_bytes_max; /* below [limits] max_body, which holds for all */
    enum sso_code (*run)(struct request *request, struct sso_error *err);
};

extern const struct operation operations[];
extern const size_t operation_count;

/* The row for a method and path, NULL where there is none. */
const struct operation *operation_find(const struct request *request);

/* Runs the request from table look-up to the reply, which may not leave yet. Never fails: errors
 * are in the reply as a problem object. */
void operations_run(struct request *request);

/* Then its audit record. True: `done` is called with its outcome when it is durable or lost, on
 * another thread, maybe before this returns. False: there was nothing to wait for, and *outcome is
 * set. No thread waits meanwhile, so that one commit can cover whatever asks at the same time. */
bool operations_record(struct request *request, committer_done done, void *context,
                       struct sso_error *outcome);

/* Last, with that outcome. True: the reply is another now, since no record could be written; false:
 * it may leave as it is. */
bool operations_end(struct request *request, const struct sso_error *recorded);

/* op_health.c */
enum sso_code op_health(struct request *request, struct sso_error *err);
enum sso_code op_status(struct request *request, struct sso_error *err);
enum sso_code op_metrics(struct request *request, struct sso_error *err);
/* op_master.c */
enum sso_code op_master_show(struct request *request, struct sso_error *err);
enum sso_code op_master_change(struct request *request, struct sso_error *err);
/* op_generations.c */
enum sso_code op_generation_change(struct request *request, struct sso_error *err);
enum sso_code op_generation_confirm(struct request *request, struct sso_error *err);
enum sso_code op_generation_exposed(struct request *request, struct sso_error *err);
enum sso_code op_generation_list(struct request *request, struct sso_error *err);
/* op_apps.c */
enum sso_code op_app_list(struct request *request, struct sso_error *err);
enum sso_code op_app_create(struct request *request, struct sso_error *err);
enum sso_code op_app_show(struct request *request, struct sso_error *err);
enum sso_code op_app_update(struct request *request, struct sso_error *err);
enum sso_code op_app_delete(struct request *request, struct sso_error *err);
enum sso_code op_app_purge(struct request *request, struct sso_error *err);
/* op_credentials.c */
enum sso_code op_credential_set(struct request *request, struct sso_error *err);
enum sso_code op_credential_show(struct request *request, struct sso_error *err);
enum sso_code op_credential_delete(struct request *request, struct sso_error *err);
enum sso_code op_credential_list(struct request *request, struct sso_error *err);
enum sso_code op_credential_batch(struct request *request, struct sso_error *err);
/* op_config.c */
enum sso_code op_config_get(struct request *request, struct sso_error *err);
enum sso_code op_config_set(struct request *request, struct sso_error *err);
enum sso_code op_config_update(struct request *request, struct sso_error *err);
enum sso_code op_config_delete(struct request *request, struct sso_error *err);
/* op_tickets.c */
enum sso_code op_ticket_issue(struct request *request, struct sso_error *err);
enum sso_code op_ticket_redeem(struct request *request, struct sso_error *err);
/* op_import.c */
enum sso_code op_import(struct request *request, struct sso_error *err);
/* op_settings.c */
enum sso_code op_settings_show(struct request *request, struct sso_error *err);
enum sso_code op_settings_change(struct request *request, struct sso_error *err);
enum sso_code op_settings_confirm(struct request *request, struct sso_error *err);
/* op_lookup.c */
enum sso_code op_lookup(struct request *request, struct sso_error *err);
/* op_mappings.c */
enum sso_code op_mapping_list(struct request *request, struct sso_error *err);
enum sso_code op_mapping_list_of(struct request *request, struct sso_error *err);
enum sso_code op_mapping_show(struct request *request, struct sso_error *err);
enum sso_code op_mapping_set(struct request *request, struct sso_error *err);
enum sso_code op_mapping_delete(struct request *request, struct sso_error *err);
/* op_rotation.c */
enum sso_code op_rotation_start(struct request *request, struct sso_error *err);
enum sso_code op_rotation_show(struct request *request, struct sso_error *err);
enum sso_code op_rotation_change(struct request *request, struct sso_error *err);
enum sso_code op_quarantine_list(struct request *request, struct sso_error *err);
/* op_audit.c */
enum sso_code op_audit_list(struct request *request, struct sso_error *err);
/* op_audit_prune.c */
enum sso_code op_audit_prune(struct request *request, struct sso_error *err);
/* op_nodes.c */
enum sso_code op_node_list(struct request *request, struct sso_error *err);
enum sso_code op_node_change(struct request *request, struct sso_error *err);
enum sso_code op_node_remove(struct request *request, struct sso_error *err);
/* op_pin.c */
enum sso_code op_pin_reset(struct request *request, struct sso_error *err);

#endif
