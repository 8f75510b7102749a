/* The application that a request is about: read, its tag checked, the caller's right asked for. */
#ifndef SSO_CUSTODIAN_APPLICATION_ACCESS_H
#define SSO_CUSTODIAN_APPLICATION_ACCESS_H

#include <stdbool.h>

#include "common/error.h"
#include "common/policy.h"
#include "custodian/request.h"
#include "store/store.h"

/* `found` is the outcome of reading `application` from the database. A tag that does not fit is
 * refused before the row gives anybody a right. Where there is no such application, callers whose
 * right would not come from it learn so (SSO_NOT_FOUND); to all others it is the refusal that they
 * would get for one that exists. */
enum sso_code application_authorise(struct request *request, enum sso_code found,
                                    const struct application *application, bool own,
                                    struct sso_error *err) __attribute__((warn_unused_result));

/* Reads application `name` in a transaction of its own, then as above. In a group application
 * nothing is a user's own: administrators alone set and map its credentials. */
enum sso_code application_for_request(struct request *request, const char *name, bool own,
                                      struct application *out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* May the caller change this application, its mappings and credentials (DESIGN §10)? */
bool application_is_administered(struct request *request, const struct application *application);
/* SSO_BAD_REQUEST where the application is of the other kind. */
enum sso_code application_takes_credentials(const struct application *application,
                                            struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code application_takes_configuration(const struct application *application,
                                              struct sso_error *err)
    __attribute__((warn_unused_result));
/* Can the application have a credential or mapping of this principal? In a group application it is
 * one of its user groups; configuration has none. SSO_BAD_REQUEST. */
enum sso_code application_takes_principal(const struct application *application,
                                          const char *principal, struct sso_error *err)
    __attribute__((warn_unused_result));
/* What a list of an application's principals begins with: as application_for_request, and the page
 * that the query asks for: `limit` of those behind `after`. SSO_BAD_REQUEST. */
struct list_query {
    char after[PRINCIPAL_BYTES_MAX + 1];
    uint64_t limit;
};
enum sso_code application_for_list(struct request *request, struct application *out,
                                   struct list_query *query, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Is the principal the caller's own? */
bool principal_is_own(const struct request *request, const char *principal);

/* The audit's target: application, or application/principal where that is not NULL. Names that
 * cannot be are left out. */
void request_target(struct request *request, const char *application, const char *principal);

/* Raises EVENT_POLICY_TAMPERED where `code` says so; returns `code`. */
enum sso_code policy_alarm(struct custodian *custodian, enum sso_code code,
                           const struct sso_error *err);

/* SSO_SYSTEM_DISABLED, or SSO_POLICY_TAMPERED where the setting is missing or its tag wrong. */
enum sso_code system_enabled_check(const struct policy *policy, const struct setting *setting,
                                   struct sso_error *err) __attribute__((warn_unused_result));
/* The same for the setting as it stands in the database. */
enum sso_code system_enabled_read(struct store_tx *tx, const struct policy *policy,
                                  struct sso_error *err) __attribute__((warn_unused_result));

/* Whether somebody may act with nothing but a ticket, and for how long, is for those who run the
 * system: SSO_FORBIDDEN where `body` says something of it and the caller is none of them. */
enum sso_code ticket_members_allowed(const struct request *request, const json_t *body,
                                     struct sso_error *err) __attribute__((warn_unused_result));

#endif
