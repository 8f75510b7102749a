#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/settings.h"
#include "custodian/application_access.h"
#include "custodian/custodian.h"
#include "custodian/operations.h"
#include "custodian/settings_change.h"
#include "custodian/supervision.h"

/* What one administrator wants and another must confirm is a row beside the setting's own, with a
 * tag as every setting: "VERSION VALUE PRINCIPAL", where the version is that of the setting which
 * was to be changed; "" where nothing is proposed. */
#define PROPOSED "proposed."
#define PROPOSED_BYTES (sizeof PROPOSED - 1)

struct settings {
    struct setting *row;
    size_t count;
};

struct proposal {
    uint64_t version;
    char value[65];
    const char *principal; /* a view into the row */
};

static bool is_proposal(const struct setting *row)
{
    return strncmp(row->name, PROPOSED, PROPOSED_BYTES) == 0;
}

static struct setting *find(const struct settings *settings, const char *prefix, const char *name)
{
    size_t bytes = strlen(prefix);
    for (size_t i = 0; i < settings->count; i++) {
        char *row_name = settings->row[i].name;
        if (strncmp(row_name, prefix, bytes) == 0 && strcmp(row_name + bytes, name) == 0)
            return &settings->row[i];
    }
    return NULL;
}

static bool proposal_of(const struct settings *settings, const char *name, struct proposal *out)
{
    const struct setting *row = find(settings, PROPOSED, name);
    int used = 0;
    if (row == NULL ||
        sscanf(row->value, "%" SCNu64 " %64s %n", &out->version, out->value, &used) != 2 ||
        used == 0)
        return false;
    out->principal = row->value + used;
    return true;
}

/* Every row's tag is checked: nobody decides on what somebody else wrote. */
static enum sso_code settings_read(struct store_tx *tx, const struct policy *policy,
                                   struct settings *out, struct sso_error *err)
{
    enum sso_code rc = store_setting_list(tx, &out->row, &out->count, err);
    for (size_t i = 0; rc == SSO_OK && i < out->count; i++)
        rc = policy_check_setting(policy, &out->row[i], err);
    return rc;
}

/* Rises with every change, since rows are never removed. */
static uint64_t version_of(const struct settings *settings)
{
    uint64_t version = 0;
    for (size_t i = 0; i < settings->count; i++)
        version += settings->row[i].version;
    return version;
}

static json_t *setting_json(const struct settings *settings, const struct setting *row)
{
    struct proposal proposal;
    json_t *proposed =
        proposal_of(settings, row->name, &proposal)
            ? json_pack("{s:s,s:s}", "value", proposal.value, "by", proposal.principal)
            : json_null();
    return json_pack("{s:s,s:s,s:I,s:o}", "name", row->name, "value", row->value, "version",
                     (json_int_t)row->version, "proposed", proposed);
}

static enum sso_code reply_settings(struct request *request, const struct settings *settings,
                                    struct sso_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < settings->count; i++) {
        if (!is_proposal(&settings->row[i]) &&
            json_array_append_new(list, setting_json(settings, &settings->row[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    request->reply = json_pack("{s:o}", "settings", list);
    request->etag = version_of(settings);
    return request->reply != NULL ? SSO_OK
                                  : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}

enum sso_code op_settings_show(struct request *request, struct sso_error *err)
{
    struct settings settings = {0};
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(request->custodian->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = settings_read(tx, &request->custodian->policy, &settings, err);
    if (rc == SSO_OK)
        rc = reply_settings(request, &settings, err);
    free(settings.row);
    return policy_alarm(request->custodian, rc, err);
}

/* --- changing: on the committer's thread --- */

/* yes and no may come as what JSON has for them. */
static const char *text_of(const json_t *value)
{
    if (json_is_boolean(value))
        return json_is_true(value) ? "yes" : "no";
    return json_string_value(value);
}

static enum sso_code put(struct store_tx *tx, struct settings_change *change, const char *prefix,
                         const char *name, const char *value, struct sso_error *err)
{
    struct setting row = {.version = 1};
    const struct setting *now = find(&(struct settings){change->row, change->count}, prefix, name);
    if (now != NULL)
        row.version = now->version + 1;
    snprintf(row.name, sizeof row.name, "%s%s", prefix, name);
    snprintf(row.value, sizeof row.value, "%s", value);
    policy_tag_setting(change->policy, &row);
    return store_setting_put(tx, &row, err);
}

static enum sso_code withdraw(struct store_tx *tx, struct settings_change *change, const char *name,
                              struct sso_error *err)
{
    struct proposal proposal;
    return proposal_of(&(struct settings){change->row, change->count}, name, &proposal)
               ? put(tx, change, PROPOSED, name, "", err)
               : SSO_OK;
}

static void note(struct audit_record *record, const char *name, const char *value)
{
    size_t used = strlen(record->target);
    snprintf(record->target + used, sizeof record->target - used, "%s%s=%s", used > 0 ? " " : "",
             name, value);
}

/* `value` as it is stored; `now` is the row it is for. */
static enum sso_code check_one(struct settings_change *change, const char *name,
                               const json_t *wanted, char value[static SETTING_VALUE_BYTES_MAX + 1],
                               const struct setting **now, struct sso_error *err)
{
    const char *text = text_of(wanted);
    if (text == NULL)
        return sso_fail(err, SSO_BAD_REQUEST, "each value must be text, as in \"30m\"");
    enum sso_code rc = setting_check(name, text, value, err);
    if (rc != SSO_OK)
        return rc;
    *now = find(&(struct settings){change->row, change->count}, "", name);
    if (*now == NULL)
        return sso_fail(err, SSO_POLICY_TAMPERED, "the setting %s is missing from the database",
                        name);
    note(change->record, name, value);
    return SSO_OK;
}

static enum sso_code check_proposal(const struct settings_change *change, const char *name,
                                    const char *value, const struct setting *now,
                                    struct sso_error *err)
{
    struct proposal proposal;
    if (!proposal_of(&(struct settings){change->row, change->count}, name, &proposal))
        return sso_fail(err, SSO_NOT_FOUND, "no change of %s is proposed", name);
    if (proposal.version != now->version || strcmp(proposal.value, value) != 0)
        return sso_fail(err, SSO_VERSION_CONFLICT,
                        "what is proposed for %s has changed: look at it again", name);
    if (strcmp(proposal.principal, change->principal) == 0)
        return sso_fail(err, SSO_CONFIRMATION_NEEDED,
                        "%s was proposed by the caller: another SSO administrator must confirm it",
                        name);
    return SSO_OK;
}

/* All of it is checked before any of it is written. */
static enum sso_code check_all(struct settings_change *change, bool dual, struct sso_error *err)
{
    const char *name;
    json_t *wanted;
    json_object_foreach((json_t *)change->wanted, name, wanted)
    {
        char value[SETTING_VALUE_BYTES_MAX + 1];
        const struct setting *now;
        enum sso_code rc = check_one(change, name, wanted, value, &now, err);
        if (rc == SSO_OK && change->confirming)
            rc = check_proposal(change, name, value, now, err);
        if (rc != SSO_OK)
            return rc;
        if (!change->confirming && dual && setting_needs_two(name, now->value, value))
            change->proposed = true;
    }
    return SSO_OK;
}

static enum sso_code write_all(struct store_tx *tx, struct settings_change *change,
                               struct sso_error *err)
{
    const char *name;
    json_t *wanted;
    json_object_foreach((json_t *)change->wanted, name, wanted)
    {
        char value[SETTING_VALUE_BYTES_MAX + 1], proposal[2 * SETTING_VALUE_BYTES_MAX];
        const struct setting *now = find(&(struct settings){change->row, change->count}, "", name);
        enum sso_code rc = setting_check(name, text_of(wanted), value, err);
        if (rc != SSO_OK)
            return rc;
        if (change->proposed) {
            snprintf(proposal, sizeof proposal, "%" PRIu64 " %s %s", now->version, value,
                     change->principal);
            rc = put(tx, change, PROPOSED, name, proposal, err);
        } else {
            rc = withdraw(tx, change, name, err);
            if (rc == SSO_OK && strcmp(now->value, value) != 0)
                rc = put(tx, change, "", name, value, err);
        }
        if (rc != SSO_OK)
            return rc;
    }
    return SSO_OK;
}

enum sso_code settings_change_write(struct store_tx *tx, void *context, struct sso_error *err)
{
    struct settings_change *change = context;
    struct settings settings = {0};
    free(change->row);
    change->row = NULL;
    change->count = 0;
    change->proposed = false;
    change->record->target[0] = change->record->outcome[0] = '\0';
    enum sso_code rc = settings_read(tx, change->policy, &settings, err);
    change->row = settings.row;
    change->count = settings.count;
    if (rc != SSO_OK)
        return rc;
    if (change->if_match != 0 && change->if_match != version_of(&settings))
        return sso_fail(err, SSO_VERSION_CONFLICT,
                        "the settings are at version %" PRIu64 ", not %" PRIu64,
                        version_of(&settings), change->if_match);
    const struct setting *dual =
        find(&(struct settings){change->row, change->count}, "", SETTING_DUAL_CONTROL);
    rc = check_all(change, dual == NULL || strcmp(dual->value, "yes") == 0, err);
    if (rc == SSO_OK)
        rc = write_all(tx, change, err);
    if (rc == SSO_OK && change->proposed)
        snprintf(change->record->outcome, sizeof change->record->outcome, "%s",
                 sso_code_facts(SSO_CONFIRMATION_NEEDED)->name);
    return rc;
}

static enum sso_code change_settings(struct request *request, bool confirming,
                                     struct sso_error *err)
{
    struct custodian *custodian = request->custodian;
    if (json_object_size(request->body) == 0)
        return sso_fail(err, SSO_BAD_REQUEST,
                        "the body must name settings and their values, as in "
                        "{\"cache.lease\":\"30m\"}");
    struct settings_change change = {.policy = &custodian->policy,
                                     .wanted = request->body,
                                     .if_match = request->if_match,
                                     .principal = request->peer.principal,
                                     .record = &request->audit,
                                     .confirming = confirming};
    request->audited = true;
    enum sso_code rc = committer_run(custodian->committer, settings_change_write, &change,
                                     &request->audit, 1, err);
    free(change.row);
    if (rc != SSO_OK)
        return policy_alarm(custodian, rc, err);
    supervision_wake(custodian->supervision);
    if (change.proposed)
        return sso_fail(err, SSO_CONFIRMATION_NEEDED,
                        "dual control is on: the change is proposed and takes effect when another "
                        "SSO administrator confirms it (sso-hsm settings confirm)");
    return op_settings_show(request, err);
}

enum sso_code op_settings_change(struct request *request, struct sso_error *err)
{
    return change_settings(request, false, err);
}

enum sso_code op_settings_confirm(struct request *request, struct sso_error *err)
{
    return change_settings(request, true, err);
}
