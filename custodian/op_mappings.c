#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "custodian/application_access.h"
#include "custodian/application_json.h"
#include "custodian/custodian.h"
#include "custodian/op_mappings.h"
#include "custodian/operations.h"

const char *mapping_state_name(enum mapping_state state)
{
    switch (state) {
    case MAPPING_ENABLED:
        return "enabled";
    case MAPPING_DISABLED_BY_USER:
        return "disabled_by_user";
    case MAPPING_DISABLED_BY_ADMIN:
        return "disabled_by_admin";
    }
    return "unknown";
}

/* The application and principal of the path, after the caller's right to them. */
static enum sso_code mapping_of_path(struct request *request, struct application *application,
                                     struct sso_error *err)
{
    const char *principal = request->segment[4];
    request_target(request, request->segment[2], principal);
    enum sso_code rc = application_for_request(
        request, request->segment[2], principal_is_own(request, principal), application, err);
    if (rc == SSO_OK && !principal_is_valid(principal))
        return sso_fail(err, SSO_BAD_REQUEST,
                        "principal must be 1 to %d bytes of UTF-8 without control characters",
                        PRINCIPAL_BYTES_MAX);
    return rc == SSO_OK ? application_takes_credentials(application, err) : rc;
}

static enum sso_code mapping_read(struct store_tx *tx, const struct policy *policy,
                                  const struct application *application, const char *principal,
                                  struct mapping *out, struct sso_error *err)
{
    enum sso_code rc = store_mapping_get(tx, application->id, principal, out, err);
    return rc == SSO_OK ? policy_check_mapping(policy, out, err) : rc;
}

static enum sso_code reply_mapping(struct request *request, const struct application *application,
                                   const struct mapping *mapping, struct sso_error *err)
{
    request->reply = json_pack("{s:s,s:s,s:s,s:b,s:o,s:o}", "app", application->name, "principal",
                               mapping->principal, "state", mapping_state_name(mapping->state),
                               "enabled", mapping->state == MAPPING_ENABLED, "external_user",
                               json_text_or_null(mapping->external_user), "updated",
                               json_time(mapping->updated_ms));
    request->etag = mapping->version;
    return request->reply != NULL ? SSO_OK
                                  : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}

enum sso_code op_mapping_show(struct request *request, struct sso_error *err)
{
    struct application application;
    struct mapping mapping;
    enum sso_code rc = mapping_of_path(request, &application, err);
    STORE_TX_AUTO tx = NULL;
    if (rc != SSO_OK ||
        (rc = store_begin(request->custodian->store, STORE_READ, &tx, err)) != SSO_OK)
        return rc;
    rc = mapping_read(tx, &request->custodian->policy, &application, request->segment[4], &mapping,
                      err);
    return rc == SSO_OK ? reply_mapping(request, &application, &mapping, err)
                        : policy_alarm(request->custodian, rc, err);
}

struct mapping_change {
    const struct policy *policy;
    const struct application *application;
    const char *principal;
    const char *external_user; /* NULL: stays as it is */
    uint64_t if_match;
    bool by_admin, enable;
    struct mapping mapping; /* out */
    bool created;           /* out */
};

/* What an administrator disabled stays so, whatever the user asks for. */
static enum sso_code next_state(const struct mapping_change *change, enum mapping_state now,
                                enum mapping_state *next, struct sso_error *err)
{
    *next = change->by_admin ? MAPPING_DISABLED_BY_ADMIN : MAPPING_DISABLED_BY_USER;
    if (change->enable)
        *next = MAPPING_ENABLED;
    if (change->by_admin || now != MAPPING_DISABLED_BY_ADMIN)
        return SSO_OK;
    if (change->enable)
        return sso_fail(err, SSO_MAPPING_DISABLED,
                        "the mapping was disabled by an administrator, who alone can enable it");
    *next = MAPPING_DISABLED_BY_ADMIN;
    return SSO_OK;
}

/* Administrators may map somebody who has no credential yet; users get their mapping with their
 * first credential. */
static enum sso_code mapping_for_change(struct store_tx *tx, struct mapping_change *change,
                                        struct sso_error *err)
{
    struct mapping *mapping = &change->mapping;
    enum sso_code rc =
        mapping_read(tx, change->policy, change->application, change->principal, mapping, err);
    change->created = rc == SSO_NOT_FOUND && change->by_admin && change->if_match == 0;
    if (!change->created) {
        if (rc == SSO_OK && change->if_match != 0 && change->if_match != mapping->version)
            return sso_fail(err, SSO_VERSION_CONFLICT, "the mapping is at version %llu, not %llu",
                            (unsigned long long)mapping->version,
                            (unsigned long long)change->if_match);
        return rc;
    }
    if ((rc = application_takes_principal(change->application, change->principal, err)) != SSO_OK)
        return rc;
    *mapping = (struct mapping){.state = MAPPING_DISABLED_BY_ADMIN};
    memcpy(mapping->application_id, change->application->id, sizeof mapping->application_id);
    snprintf(mapping->principal, sizeof mapping->principal, "%s", change->principal);
    return SSO_OK;
}

static enum sso_code write_change(struct store_tx *tx, void *context, struct sso_error *err)
{
    struct mapping_change *change = context;
    struct mapping *mapping = &change->mapping;
    enum mapping_state next;
    enum sso_code rc;
    if ((rc = mapping_for_change(tx, change, err)) != SSO_OK ||
        (rc = next_state(change, mapping->state, &next, err)) != SSO_OK)
        return rc;
    bool renamed =
        change->external_user != NULL && strcmp(change->external_user, mapping->external_user) != 0;
    if (!change->created && !renamed && next == mapping->state)
        return SSO_OK;
    if (renamed)
        snprintf(mapping->external_user, sizeof mapping->external_user, "%s",
                 change->external_user);
    mapping->state = next;
    mapping->updated_ms = wall_clock_ms();
    mapping->version++;
    policy_tag_mapping(change->policy, mapping);
    return store_mapping_put(tx, mapping, err);
}

static enum sso_code change_read(struct request *request, struct mapping_change *change,
                                 struct sso_error *err)
{
    static const char *const allowed[] = {"enabled", "external_user", NULL};
    enum sso_code rc;
    if (request->body != NULL && (rc = json_only_members(request->body, allowed, err)) != SSO_OK)
        return rc;
    const json_t *enabled = json_object_get(request->body, "enabled");
    if (!json_is_boolean(enabled))
        return sso_fail(err, SSO_BAD_REQUEST, "the body must be {\"enabled\":true} or false");
    change->enable = json_is_true(enabled);
    if (json_object_get(request->body, "external_user") == NULL)
        return SSO_OK;
    if (!change->by_admin)
        return sso_fail(err, SSO_BAD_REQUEST,
                        "external_user of a mapping is for administrators: "
                        "set a credential with the user name in it");
    return json_get_text(request->body, "external_user", EXTERNAL_USER_BYTES_MAX,
                         &change->external_user, err);
}

enum sso_code op_mapping_set(struct request *request, struct sso_error *err)
{
    struct application application;
    enum sso_code rc = mapping_of_path(request, &application, err);
    if (rc != SSO_OK)
        return rc;
    struct mapping_change change = {.policy = &request->custodian->policy,
                                    .application = &application,
                                    .principal = request->segment[4],
                                    .if_match = request->if_match,
                                    .by_admin = application_is_administered(request, &application)};
    if ((rc = change_read(request, &change, err)) != SSO_OK)
        return rc;
    request->audited = true;
    rc = committer_run(request->custodian->committer, write_change, &change, &request->audit, 1,
                       err);
    if (rc != SSO_OK)
        return policy_alarm(request->custodian, rc, err);
    request->status = change.created ? 201 : 200;
    return reply_mapping(request, &application, &change.mapping, err);
}

struct mapping_removal {
    const struct policy *policy;
    const struct application *application;
    const char *principal;
    bool by_admin;
    struct audit_record *record;
};

/* A mapping whose tag is wrong can be removed, by an administrator: that is how it is mended. */
static enum sso_code removal_allowed(struct store_tx *tx, const struct mapping_removal *removal,
                                     struct sso_error *err)
{
    struct mapping mapping;
    if (removal->by_admin)
        return SSO_OK;
    enum sso_code rc =
        mapping_read(tx, removal->policy, removal->application, removal->principal, &mapping, err);
    if (rc == SSO_OK && mapping.state == MAPPING_DISABLED_BY_ADMIN)
        return sso_fail(err, SSO_MAPPING_DISABLED,
                        "the mapping was disabled by an administrator, who alone can remove it");
    return rc;
}

static enum sso_code write_removal(struct store_tx *tx, void *context, struct sso_error *err)
{
    struct mapping_removal *removal = context;
    const uint8_t *application_id = removal->application->id;
    enum sso_code rc = removal_allowed(tx, removal, err);
    if (rc != SSO_OK)
        return rc;
    struct credential_row row = {0};
    rc = store_credential_get(tx, application_id, removal->principal, &row, err);
    if (rc == SSO_OK) {
        memcpy(removal->record->row_id, row.row_id, sizeof removal->record->row_id);
        removal->record->row_version = row.version;
    }
    credential_row_free(&row);
    if (rc == SSO_OK || rc == SSO_ROW_CORRUPT)
        rc = store_credential_delete(tx, application_id, removal->principal, 0, err);
    bool had_row = rc == SSO_OK;
    if (rc != SSO_OK && rc != SSO_NOT_FOUND)
        return rc;
    rc = store_mapping_delete(tx, application_id, removal->principal, err);
    return rc == SSO_NOT_FOUND && had_row ? SSO_OK : rc;
}

enum sso_code op_mapping_delete(struct request *request, struct sso_error *err)
{
    struct application application;
    enum sso_code rc = mapping_of_path(request, &application, err);
    if (rc != SSO_OK)
        return rc;
    struct mapping_removal removal = {.policy = &request->custodian->policy,
                                      .application = &application,
                                      .principal = request->segment[4],
                                      .by_admin =
                                          application_is_administered(request, &application),
                                      .record = &request->audit};
    request->audited = true;
    rc = committer_run(request->custodian->committer, write_removal, &removal, &request->audit, 1,
                       err);
    if (rc != SSO_OK)
        return policy_alarm(request->custodian, rc, err);
    row_key_cache_remove(request->custodian->cache, request->audit.row_id);
    request->status = 204;
    return SSO_OK;
}
