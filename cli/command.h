/* The commands of sso-hsm: one row each in command_table.c, one file per verb. A command parses its
 * arguments, makes its calls, prints. */
#ifndef SSO_CLI_COMMAND_H
#define SSO_CLI_COMMAND_H

#include <stdbool.h>

#include "client/client.h"
#include "common/config.h"
#include "common/error.h"

#define EXIT_DONE_WITH_ERRORS 3

enum command_kind {
    COMMAND_API,    /* talks to the custodian */
    COMMAND_DIRECT, /* opens HSM or database itself (cli/ceremony/) */
};

struct cli {
    const char *config_option; /* --config, or NULL */
    bool json;
    enum command_kind kind;
    struct config *config;  /* prepare.h */
    bool has_secret_memory; /* prepare.h */
    struct client *client;  /* opened by the first api_call */
    int exit_code;          /* of a command that returned SSO_OK */
};

struct command {
    const char *words; /* "key generate": what the person types */
    enum command_kind kind;
    const char *arguments; /* of the usage line, behind the words */
    const char *help;      /* what it does */
    enum sso_code (*run)(struct cli *cli, int argc, char **argv, struct sso_error *err);
};

extern const struct command command_table[];
extern const size_t command_count;

/* argv[0] is the last word of the command, as getopt wants it. SSO_USAGE is answered by main with
 * the usage line. */
#define COMMAND_FUNCTION(name)                                                                     \
    enum sso_code name(struct cli *cli, int argc, char **argv, struct sso_error *err)

COMMAND_FUNCTION(command_init);
COMMAND_FUNCTION(command_bench);
COMMAND_FUNCTION(command_doctor);
COMMAND_FUNCTION(command_status);
COMMAND_FUNCTION(command_pin_reset);
COMMAND_FUNCTION(command_key_list);
COMMAND_FUNCTION(command_key_show);
COMMAND_FUNCTION(command_key_generate);
COMMAND_FUNCTION(command_key_backup_info);
COMMAND_FUNCTION(command_key_restore);
COMMAND_FUNCTION(command_key_drill);
COMMAND_FUNCTION(command_db_accept_restore);
COMMAND_FUNCTION(command_db_backup);
COMMAND_FUNCTION(command_db_backup_info);
COMMAND_FUNCTION(command_db_copy);
COMMAND_FUNCTION(command_db_upgrade);
COMMAND_FUNCTION(command_key_retire);
COMMAND_FUNCTION(command_key_destroy);
COMMAND_FUNCTION(command_key_confirm);
COMMAND_FUNCTION(command_key_reshare);
COMMAND_FUNCTION(command_key_mark_compromised);
COMMAND_FUNCTION(command_key_exposed);
COMMAND_FUNCTION(command_rotate_start);
COMMAND_FUNCTION(command_rotate_status);
COMMAND_FUNCTION(command_rotate_pause);
COMMAND_FUNCTION(command_rotate_resume);
COMMAND_FUNCTION(command_rotate_cancel);
COMMAND_FUNCTION(command_rotate_rate);
COMMAND_FUNCTION(command_rotate_retry_quarantined);
COMMAND_FUNCTION(command_app_create);
COMMAND_FUNCTION(command_app_list);
COMMAND_FUNCTION(command_app_show);
COMMAND_FUNCTION(command_app_update);
COMMAND_FUNCTION(command_app_enable);
COMMAND_FUNCTION(command_app_disable);
COMMAND_FUNCTION(command_app_delete);
COMMAND_FUNCTION(command_app_purge);
COMMAND_FUNCTION(command_cred_set);
COMMAND_FUNCTION(command_cred_get);
COMMAND_FUNCTION(command_cred_list);
COMMAND_FUNCTION(command_cred_delete);
COMMAND_FUNCTION(command_cred_import);
COMMAND_FUNCTION(command_cred_export);
COMMAND_FUNCTION(command_mapping_list);
COMMAND_FUNCTION(command_master_show);
COMMAND_FUNCTION(command_master_promote);
COMMAND_FUNCTION(command_master_move);
COMMAND_FUNCTION(command_mapping_show);
COMMAND_FUNCTION(command_mapping_enable);
COMMAND_FUNCTION(command_mapping_disable);
COMMAND_FUNCTION(command_mapping_delete);
COMMAND_FUNCTION(command_config_get);
COMMAND_FUNCTION(command_config_set);
COMMAND_FUNCTION(command_config_delete);
COMMAND_FUNCTION(command_ticket_issue);
COMMAND_FUNCTION(command_ticket_redeem);
COMMAND_FUNCTION(command_import_entsso);
COMMAND_FUNCTION(command_settings_show);
COMMAND_FUNCTION(command_settings_set);
COMMAND_FUNCTION(command_settings_confirm);
COMMAND_FUNCTION(command_audit_list);
COMMAND_FUNCTION(command_audit_export);
COMMAND_FUNCTION(command_audit_verify);
COMMAND_FUNCTION(command_audit_prune);
COMMAND_FUNCTION(command_db_check);
COMMAND_FUNCTION(command_node_join);
COMMAND_FUNCTION(command_node_list);
COMMAND_FUNCTION(command_node_approve);
COMMAND_FUNCTION(command_node_remove);

#endif
