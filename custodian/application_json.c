#include "custodian/application_json.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/clock.h"
#include "common/encode.h"
#include "common/json.h"
#include "common/san.h"

#define MINUTE_MS 60000

bool application_name_is_valid(const char *name)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t length = strlen(name);
    return length >= 1 && length <= APPLICATION_NAME_BYTES_MAX && strspn(name, allowed) == length;
}

bool principal_is_valid(const char *principal)
{
    size_t length = strlen(principal);
    return length >= 1 && length <= PRINCIPAL_BYTES_MAX && text_is_clean_utf8(principal, length);
}

static json_t *fields_json(const struct application *application)
{
    json_t *fields = json_array();
    for (size_t i = 0; i < application->field_count; i++) {
        const struct application_field *field = &application->field[i];
        json_array_append_new(
            fields, json_pack("{s:s,s:b}", "label", field->label, "masked", field->masked));
    }
    return fields;
}

static json_t *users_json(const struct application *application)
{
    json_t *users = json_array();
    for (size_t i = 0; i < application->user_group_count; i++)
        json_array_append_new(users, json_string(application->users[i]));
    return users;
}

static json_t *lifetime_json(const struct application *application)
{
    int64_t minutes = application->ticket_lifetime_ms / MINUTE_MS;
    return minutes == 0 ? json_null() : json_integer(minutes);
}

json_t *application_json(const struct application *application)
{
    return json_pack("{s:s,s:s,s:o,s:o,s:b,s:b,s:b,s:b,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "name",
                     application->name, "type", application_type_name(application->type),
                     "description", json_text_or_null(application->description), "contact",
                     json_text_or_null(application->contact), "enabled", application->enabled,
                     "cache", application->cached, "allow_tickets", application->tickets_allowed,
                     "validate_tickets", application->tickets_validated, "ticket_lifetime_minutes",
                     lifetime_json(application), "fields", fields_json(application), "admins",
                     json_text_or_null(application->admins), "users", users_json(application),
                     "readers", json_text_or_null(application->readers), "created",
                     json_time(application->created_ms), "updated",
                     json_time(application->updated_ms));
}

/* Absent: *out stays as it is. Null or "": it becomes "". */
static enum sso_code text_member(const json_t *body, const char *name, size_t size, char *out,
                                 struct sso_error *err)
{
    const json_t *value = json_object_get(body, name);
    if (value == NULL)
        return SSO_OK;
    if (json_is_null(value)) {
        out[0] = '\0';
        return SSO_OK;
    }
    size_t length = json_string_length(value);
    if (!json_is_string(value) || length >= size ||
        !text_is_clean_utf8(json_string_value(value), length))
        return sso_fail(err, SSO_BAD_REQUEST,
                        "%s must be text of at most %zu bytes without control characters", name,
                        size - 1);
    memcpy(out, json_string_value(value), length + 1);
    return SSO_OK;
}

/* What is meant for certificates must be able to fit one: else an application is locked up, and its
 * administrator thinks that it is open. */
static enum sso_code group_check(const char *member, const char *group, struct sso_error *err)
{
    if (!san_is_pattern(group) || san_pattern_is_valid(group))
        return SSO_OK;
    return sso_fail(err, SSO_BAD_REQUEST,
                    "%s: %s is no name of a certificate: san:DNS:NAME or san:URI:URI, where * "
                    "stands for one whole label or segment",
                    member, group);
}

static enum sso_code group_member(const json_t *body, const char *name,
                                  char out[static GROUP_BYTES_MAX + 1], struct sso_error *err)
{
    enum sso_code rc = text_member(body, name, GROUP_BYTES_MAX + 1, out, err);
    return rc == SSO_OK ? group_check(name, out, err) : rc;
}

static enum sso_code users_member(const json_t *body, struct application *out,
                                  struct sso_error *err)
{
    const json_t *users = json_object_get(body, "users");
    if (users == NULL)
        return SSO_OK;
    if (!(json_is_array(users) || json_is_null(users)) || json_array_size(users) > GROUPS_MAX)
        return sso_fail(err, SSO_BAD_REQUEST, "users must be an array of at most %d groups",
                        GROUPS_MAX);
    /* Canonical form covers the whole array, so what is no longer used is emptied. */
    memset(out->users, 0, sizeof out->users);
    out->user_group_count = 0;
    for (size_t i = 0; i < json_array_size(users); i++) {
        const json_t *group = json_array_get(users, i);
        size_t length = json_string_length(group);
        if (length < 1 || length > GROUP_BYTES_MAX ||
            !text_is_clean_utf8(json_string_value(group), length))
            return sso_fail(err, SSO_BAD_REQUEST,
                            "users: each group must be text of 1 to %d bytes without control "
                            "characters",
                            GROUP_BYTES_MAX);
        enum sso_code rc = group_check("users", json_string_value(group), err);
        if (rc != SSO_OK)
            return rc;
        memcpy(out->users[out->user_group_count++], json_string_value(group), length + 1);
    }
    return SSO_OK;
}

static enum sso_code flag_member(const json_t *body, const char *name, bool *out,
                                 struct sso_error *err)
{
    const json_t *value = json_object_get(body, name);
    if (value != NULL && !json_is_boolean(value))
        return sso_fail(err, SSO_BAD_REQUEST, "%s must be true or false", name);
    if (value != NULL)
        *out = json_is_true(value);
    return SSO_OK;
}

/* Null: what the setting says. */
static enum sso_code lifetime_member(const json_t *body, struct application *out,
                                     struct sso_error *err)
{
    static const char name[] = "ticket_lifetime_minutes";
    const json_t *value = json_object_get(body, name);
    json_int_t minutes = json_integer_value(value), most = TICKET_LIFETIME_MS_MAX / MINUTE_MS;
    if (value == NULL)
        return SSO_OK;
    if (!json_is_null(value) && (!json_is_integer(value) || minutes < 1 || minutes > most))
        return sso_fail(err, SSO_BAD_REQUEST, "%s must be 1 to %lld, or null", name, most);
    if (minutes * MINUTE_MS > out->ticket_lifetime_ms)
        out->ticket_lifetime_since_ms = wall_clock_ms();
    out->ticket_lifetime_ms = minutes * MINUTE_MS;
    return SSO_OK;
}

static enum sso_code changeable_members(const json_t *body, struct application *out,
                                        struct sso_error *err)
{
    enum sso_code rc;
    if ((rc = text_member(body, "description", sizeof out->description, out->description, err)) !=
            SSO_OK ||
        (rc = text_member(body, "contact", sizeof out->contact, out->contact, err)) != SSO_OK ||
        (rc = group_member(body, "admins", out->admins, err)) != SSO_OK ||
        (rc = group_member(body, "readers", out->readers, err)) != SSO_OK ||
        (rc = flag_member(body, "cache", &out->cached, err)) != SSO_OK ||
        (rc = flag_member(body, "allow_tickets", &out->tickets_allowed, err)) != SSO_OK ||
        (rc = flag_member(body, "validate_tickets", &out->tickets_validated, err)) != SSO_OK ||
        (rc = lifetime_member(body, out, err)) != SSO_OK)
        return rc;
    return users_member(body, out, err);
}

static enum sso_code field_from_json(const json_t *item, struct application *out,
                                     struct sso_error *err)
{
    static const char *const allowed[] = {"label", "masked", NULL};
    const char *label;
    if (!json_is_object(item))
        return sso_fail(err, SSO_BAD_REQUEST, "fields: each must be {\"label\":…,\"masked\":…}");
    enum sso_code rc = json_only_members(item, allowed, err);
    if (rc != SSO_OK ||
        (rc = json_get_text(item, "label", FIELD_LABEL_BYTES_MAX, &label, err)) != SSO_OK)
        return rc;
    const json_t *masked = json_object_get(item, "masked");
    if (masked != NULL && !json_is_boolean(masked))
        return sso_fail(err, SSO_BAD_REQUEST, "fields: masked of %s must be true or false", label);
    for (size_t i = 0; i < out->field_count; i++) {
        if (strcmp(out->field[i].label, label) == 0)
            return sso_fail(err, SSO_BAD_REQUEST, "fields: the label %s appears twice", label);
    }
    struct application_field *field = &out->field[out->field_count++];
    snprintf(field->label, sizeof field->label, "%s", label);
    field->masked = json_is_true(masked);
    return SSO_OK;
}

static enum sso_code fields_from_json(const json_t *body, struct application *out,
                                      struct sso_error *err)
{
    const json_t *fields = json_object_get(body, "fields");
    size_t count = json_array_size(fields);
    if (count < 1 || count > FIELDS_MAX)
        return sso_fail(err, SSO_BAD_REQUEST, "fields must be an array of 1 to %d fields",
                        FIELDS_MAX);
    for (size_t i = 0; i < count; i++) {
        enum sso_code rc = field_from_json(json_array_get(fields, i), out, err);
        if (rc != SSO_OK)
            return rc;
    }
    return SSO_OK;
}

enum sso_code application_from_json(const json_t *body, struct application *out,
                                    struct sso_error *err)
{
    static const char *const allowed[] = {"name",
                                          "type",
                                          "description",
                                          "contact",
                                          "fields",
                                          "admins",
                                          "users",
                                          "readers",
                                          "cache",
                                          "allow_tickets",
                                          "validate_tickets",
                                          "ticket_lifetime_minutes",
                                          NULL};
    const char *name, *type;
    enum sso_code rc;
    if ((rc = json_only_members(body, allowed, err)) != SSO_OK ||
        (rc = json_get_text(body, "name", APPLICATION_NAME_BYTES_MAX, &name, err)) != SSO_OK ||
        (rc = json_get_text(body, "type", 16, &type, err)) != SSO_OK)
        return rc;
    if (!application_name_is_valid(name))
        return sso_fail(err, SSO_BAD_REQUEST,
                        "name must be 1 to 64 letters, digits, dots, underscores or hyphens");
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "%s", name);
    out->cached = out->tickets_validated = true;
    out->type = application_type_from_name(type);
    if (out->type == 0)
        return sso_fail(err, SSO_BAD_REQUEST, "type must be individual, group or config");
    if ((rc = fields_from_json(body, out, err)) != SSO_OK)
        return rc;
    return changeable_members(body, out, err);
}

enum sso_code application_change_from_json(const json_t *body, struct application *application,
                                           struct sso_error *err)
{
    static const char *const allowed[] = {
        "enabled", "description", "contact",       "admins",           "users",
        "readers", "cache",       "allow_tickets", "validate_tickets", "ticket_lifetime_minutes",
        NULL};
    static const char *const fixed[] = {"name", "type", "fields"};
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        if (json_object_get(body, fixed[i]) != NULL)
            return sso_fail(err, SSO_BAD_REQUEST,
                            "%s of an application never changes: create another application",
                            fixed[i]);
    }
    enum sso_code rc = json_only_members(body, allowed, err);
    if (rc != SSO_OK)
        return rc;
    if ((rc = flag_member(body, "enabled", &application->enabled, err)) != SSO_OK)
        return rc;
    return changeable_members(body, application, err);
}
