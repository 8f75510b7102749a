#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "custodian/application_access.h"
#include "custodian/application_json.h"
#include "custodian/custodian.h"
#include "custodian/op_mappings.h"
#include "custodian/operations.h"

/* `external_user` is that of the credential; "" where there is none. */
static json_t *item_json(struct request *request, const char *application,
                         const struct mapping_view *view)
{
    const struct mapping *mapping = &view->mapping;
    struct sso_error problem = {0};
    enum sso_code rc = policy_check_mapping(&request->custodian->policy, mapping, &problem);
    bool sound = policy_alarm(request->custodian, rc, &problem) == SSO_OK;
    const char *external = view->has_credential ? view->external_user : mapping->external_user;
    return json_pack("{s:s,s:s,s:o,s:s,s:o,s:b,s:o}", "app", application, "principal",
                     mapping->principal, "external_user", json_text_or_null(external), "state",
                     sound ? mapping_state_name(mapping->state) : "damaged", "enabled",
                     sound ? json_boolean(mapping->state == MAPPING_ENABLED) : json_null(),
                     "credential", view->has_credential, "updated", json_time(mapping->updated_ms));
}

static json_t *page_json(struct request *request, const struct application *application,
                         const struct mapping_view *views, size_t count, size_t limit)
{
    json_t *list = json_array();
    size_t shown = count < limit ? count : limit;
    for (size_t i = 0; list != NULL && i < shown; i++) {
        if (json_array_append_new(list, item_json(request, application->name, &views[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return json_pack("{s:o,s:o}", "mappings", list, "next",
                     count > limit ? json_string(views[limit - 1].mapping.principal) : json_null());
}

enum sso_code op_mapping_list(struct request *request, struct sso_error *err)
{
    struct application application;
    struct list_query query;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = application_for_list(request, &application, &query, err);
    if (rc != SSO_OK)
        return rc;
    struct mapping_view *views = NULL;
    size_t count = 0;
    if ((rc = store_begin(request->custodian->store, STORE_READ, &tx, err)) != SSO_OK ||
        (rc = store_mapping_page(tx, application.id, query.after, query.limit + 1, &views, &count,
                                 err)) != SSO_OK)
        return rc;
    request->reply = page_json(request, &application, views, count, query.limit);
    free(views);
    return request->reply != NULL ? SSO_OK
                                  : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}

/* --- of one principal, over all applications --- */

/* What is damaged is listed all the same: the list is how it is found. */
static enum sso_code read_view(struct store_tx *tx, const struct application *application,
                               const char *principal, struct mapping_view *view,
                               struct sso_error *err)
{
    struct credential_row row = {0};
    enum sso_code rc = store_mapping_get(tx, application->id, principal, &view->mapping, err);
    if (rc != SSO_OK && rc != SSO_POLICY_TAMPERED)
        return rc;
    snprintf(view->mapping.principal, sizeof view->mapping.principal, "%s", principal);
    rc = store_credential_get(tx, application->id, principal, &row, err);
    view->has_credential = rc != SSO_NOT_FOUND;
    snprintf(view->external_user, sizeof view->external_user, "%s", row.external_user);
    credential_row_free(&row);
    return rc == SSO_NOT_FOUND || rc == SSO_ROW_CORRUPT ? SSO_OK : rc;
}

static enum sso_code add_of(struct request *request, struct store_tx *tx,
                            const struct application *application, const char *principal,
                            json_t *list, struct sso_error *err)
{
    struct mapping_view view = {0};
    enum sso_code rc = read_view(tx, application, principal, &view, err);
    if (rc != SSO_OK)
        return rc == SSO_NOT_FOUND ? SSO_OK : rc;
    return json_array_append_new(list, item_json(request, application->name, &view)) == 0
               ? SSO_OK
               : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}

static enum sso_code add_all(struct request *request, struct store_tx *tx, const char *principal,
                             json_t *list, struct sso_error *err)
{
    struct application *applications = NULL;
    size_t count = 0;
    bool own = principal_is_own(request, principal);
    enum sso_code rc = store_application_list(tx, &applications, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        const struct application *application = &applications[i];
        if (application->type != APPLICATION_CONFIG &&
            policy_check_application(&request->custodian->policy, application, NULL) == SSO_OK &&
            request_authorise(request, application, own && application->type != APPLICATION_GROUP,
                              NULL) == SSO_OK)
            rc = add_of(request, tx, application, principal, list, err);
    }
    free(applications);
    /* Who has no right in any application learns that and nothing else. */
    if (rc == SSO_OK && !request->authorised)
        rc = request_authorise(request, NULL, false, err);
    return rc;
}

enum sso_code op_mapping_list_of(struct request *request, struct sso_error *err)
{
    char principal[PRINCIPAL_BYTES_MAX + 1];
    memcpy(principal, request->peer.principal, sizeof principal);
    request_query(request, "principal", principal, sizeof principal);
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(request->custodian->store, STORE_READ, &tx, err);
    if (rc != SSO_OK)
        return rc;
    json_t *list = json_array();
    rc = list == NULL ? sso_fail(err, SSO_NO_MEMORY, "no memory for the reply")
                      : add_all(request, tx, principal, list, err);
    if (rc != SSO_OK) {
        json_decref(list);
        return rc;
    }
    request->reply = json_pack("{s:o,s:n}", "mappings", list, "next");
    return request->reply != NULL ? SSO_OK
                                  : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}
