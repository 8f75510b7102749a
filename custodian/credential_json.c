#include "custodian/credential_json.h"

#include <string.h>

#include "common/encode.h"
#include "common/json.h"

static bool has_field(const struct application *application, const char *label)
{
    for (size_t i = 0; i < application->field_count; i++) {
        if (strcmp(application->field[i].label, label) == 0)
            return true;
    }
    return false;
}

static enum sso_code surplus_refused(const json_t *fields, const struct application *application,
                                     const char *word, struct sso_error *err)
{
    const char *label;
    json_t *value;
    json_object_foreach((json_t *)fields, label, value)
    {
        if (has_field(application, label))
            continue;
        size_t length = strlen(label);
        bool can_be_shown = length <= FIELD_LABEL_BYTES_MAX && text_is_clean_utf8(label, length);
        return sso_fail(err, SSO_BAD_REQUEST, "%s: application %s has no field %s", word,
                        application->name, can_be_shown ? label : "of such a name");
    }
    return SSO_OK;
}

static enum sso_code value_check(const char *label, const json_t *value, const char *word,
                                 struct sso_error *err)
{
    if (!json_is_string(value))
        return sso_fail(err, SSO_BAD_REQUEST, "%s: %s must be text", word, label);
    if (json_string_length(value) > FIELD_VALUE_BYTES_MAX)
        return sso_fail(err, SSO_BAD_REQUEST, "%s: %s is longer than %d bytes", word, label,
                        FIELD_VALUE_BYTES_MAX);
    return SSO_OK;
}

enum sso_code credential_fields_check(const json_t *fields, const struct application *application,
                                      bool all, const char *word, struct sso_error *err)
{
    if (!json_is_object(fields))
        return sso_fail(err, SSO_BAD_REQUEST,
                        "%s must be an object with a text for each field of application %s", word,
                        application->name);
    for (size_t i = 0; i < application->field_count; i++) {
        const char *label = application->field[i].label;
        const json_t *value = json_object_get(fields, label);
        enum sso_code rc = SSO_OK;
        if (value == NULL && all)
            return sso_fail(err, SSO_BAD_REQUEST,
                            "%s: %s is missing; all fields of application %s must be given", word,
                            label, application->name);
        if (value != NULL && (rc = value_check(label, value, word, err)) != SSO_OK)
            return rc;
    }
    return surplus_refused(fields, application, word, err);
}

enum sso_code credential_input_read(const json_t *object, const struct application *application,
                                    struct credential_input *out, struct sso_error *err)
{
    const json_t *external_user = json_object_get(object, "external_user");
    const char *text = "";
    if (external_user != NULL && !json_is_null(external_user)) {
        size_t length = json_string_length(external_user);
        text = json_string_value(external_user);
        if (text == NULL || length > EXTERNAL_USER_BYTES_MAX || !text_is_clean_utf8(text, length))
            return sso_fail(err, SSO_BAD_REQUEST,
                            "external_user must be text of at most %d bytes without control "
                            "characters",
                            EXTERNAL_USER_BYTES_MAX);
    }
    const json_t *fields = json_object_get(object, "fields");
    enum sso_code rc = credential_fields_check(fields, application, true, "fields", err);
    if (rc != SSO_OK)
        return rc;
    out->external_user = text;
    out->fields = fields;
    return SSO_OK;
}

void credential_input_fields(const struct credential_input *input,
                             const struct application *application, struct credential_fields *out)
{
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < application->field_count; i++) {
        const char *label = application->field[i].label;
        const json_t *value = json_object_get(input->fields, label);
        out->field[out->count++] = (struct credential_field){
            .label = label,
            .value = json_string_value(value),
            .label_bytes = strlen(label),
            .value_bytes = json_string_length(value),
        };
    }
}

static json_t *fields_json(const struct credential_fields *fields)
{
    json_t *object = json_object();
    for (size_t i = 0; object != NULL && i < fields->count; i++) {
        const struct credential_field *field = &fields->field[i];
        if (json_object_setn_new(object, field->label, field->label_bytes,
                                 json_stringn(field->value, field->value_bytes)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

json_t *credential_json(const char *application, const struct credential_row *row,
                        const struct credential_fields *fields)
{
    json_t *object = json_pack("{s:s,s:s,s:o}", "app", application, "principal", row->principal,
                               "external_user", json_text_or_null(row->external_user));
    if (fields != NULL && json_object_set_new(object, "fields", fields_json(fields)) != 0)
        goto no_memory;
    json_t *rest = json_pack("{s:I,s:I,s:o}", "version", (json_int_t)row->version, "generation",
                             (json_int_t)row->generation, "updated", json_time(row->updated_ms));
    int failed = json_object_update(object, rest);
    json_decref(rest);
    if (failed == 0)
        return object;
no_memory:
    json_decref(object);
    return NULL;
}
