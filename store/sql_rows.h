/* Columns, in the order in which these functions read and bind them, of the rows that more than one
 * statement gives. */
#ifndef SSO_STORE_SQL_ROWS_H
#define SSO_STORE_SQL_ROWS_H

#include "store/sql_statement.h"

#define SETTING_COLUMNS(t) t ".name, " t ".value, " t ".version, " t ".tag"

#define GENERATION_COLUMNS                                                                         \
    "g.number, g.secret_id, g.suite, g.state, g.compromised, g.no_backup, g.closed, g.created_ms," \
    " g.backed_up_ms, g.last_drill_ms, g.retired_ms, g.going_ms, g.share_set, g.canary_wrapped, "  \
    "g.canary_mac,"                                                                                \
    " g.version, g.tag, g.wraps"

#define APPLICATION_COLUMNS                                                                        \
    "a.id, a.name, a.type, a.enabled, a.cached, a.tickets_allowed, a.tickets_validated,"           \
    " a.ticket_lifetime_ms, a.ticket_lifetime_since_ms, a.description, a.contact, a.fields, "      \
    "a.admins, a.users,"                                                                           \
    " a.readers, a.created_ms, a.updated_ms, a.version, a.tag"

#define MAPPING_COLUMNS                                                                            \
    "m.application_id, m.principal, m.external_user, m.state, m.updated_ms, m.version, m.tag"
#define MAPPING_COLUMNS_COUNT 7

#define CREDENTIAL_COLUMNS                                                                         \
    "c.row_id, c.generation, c.wrapped_row_key, c.format, c.application_id, c.principal,"          \
    " c.external_user, c.born, c.row_key_id, c.nonce, c.version, c.updated"
#define CREDENTIAL_COLUMNS_COUNT 12 /* c.ciphertext follows where it is wanted */

/* Names of applications are compared without the case of ASCII letters, as lower() of both
 * databases folds those in columns that compare bytes. `folded` outlives the statement. */
#define APPLICATION_NAME_SIZE (APPLICATION_NAME_BYTES_MAX + 1)
void sql_bind_folded(struct sql_statement *statement, const char *name,
                     char folded[static APPLICATION_NAME_SIZE]);

/* `out` is a struct of the name's kind, as sql_collect gives it. */
void sql_read_setting(struct sql_statement *statement, void *out);
void sql_read_generation(struct sql_statement *statement, void *out);
void sql_read_application(struct sql_statement *statement, void *out);
void sql_read_mapping(struct sql_statement *statement, void *out);

/* With `with_ciphertext` row->ciphertext is owned afterwards. SSO_NO_MEMORY is the only failure:
 * what cannot be a row is told by statement->damaged, its readable parts are there. */
enum sso_code sql_read_credential(struct sql_statement *statement, bool with_ciphertext,
                                  struct credential_row *row, struct sso_error *err);
/* SSO_ROW_CORRUPT where it is damaged, the row freed. */
enum sso_code sql_check_credential(struct sql_statement *statement, struct credential_row *row,
                                   struct sso_error *err);

#endif
