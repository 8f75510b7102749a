#include "cli/fields_input.h"

#include <string.h>
#include <unistd.h>

#include "cli/api.h"
#include "cli/line_reader.h"
#include "cli/prompt.h"
#include "common/json.h"
#include "common/row.h"
#include "common/secret.h"

/* 32 values of 64 KiB, every byte of them written as \u00xx. */
#define STDIN_BYTES_MAX ((size_t)16 << 20)

enum sso_code fields_from_stdin(json_t **object, struct sso_error *err)
{
    char *text = NULL;
    size_t length = 0;
    enum sso_code rc = read_whole(STDIN_FILENO, STDIN_BYTES_MAX, &text, &length, err);
    if (rc != SSO_OK)
        return rc;
    *object = json_parse(text, length, err);
    wiping_free(text);
    if (*object == NULL) {
        sso_error_context(err, "standard input");
        return SSO_BAD_REQUEST;
    }
    return SSO_OK;
}

static enum sso_code ask_field(const char *label, json_t *fields, struct sso_error *err)
{
    SECRET_AUTO value = {0};
    enum sso_code rc = prompt_secret(label, FIELD_VALUE_BYTES_MAX, &value, err);
    if (rc != SSO_OK)
        return rc;
    json_t *text =
        json_stringn(value.length_bytes > 0 ? (const char *)value.data : "", value.length_bytes);
    if (text == NULL)
        return sso_fail(err, SSO_BAD_REQUEST, "the value of %s is not valid UTF-8", label);
    json_object_set_new(fields, label, text);
    return SSO_OK;
}

/* Where `labels` are given: each of them must be one of the fields. */
static enum sso_code choose(const json_t *described, const struct arguments *labels, json_t *chosen,
                            struct sso_error *err)
{
    size_t i;
    const json_t *field;
    json_array_foreach(json_object_get(described, "fields"), i, field)
    {
        const char *label = json_string_value(json_object_get(field, "label"));
        bool wanted = labels == NULL;
        for (int n = 0; label != NULL && labels != NULL && n < labels->count; n++)
            wanted |= strcmp(labels->value[n], label) == 0;
        if (wanted)
            json_array_append_new(chosen, json_string(label));
    }
    if (labels != NULL && (int)json_array_size(chosen) != labels->count)
        return sso_fail(err, SSO_NOT_FOUND,
                        "one of the labels is given twice or is no property of the application: "
                        "see sso-hsm app show");
    return SSO_OK;
}

enum sso_code fields_from_terminal(struct cli *cli, const char *application,
                                   const struct arguments *labels, json_t **fields,
                                   struct sso_error *err)
{
    if (!prompt_possible())
        return sso_fail(err, SSO_USAGE,
                        "standard input is no terminal: give the values with --stdin");
    json_t *described = NULL, *chosen = json_array(), *object = json_object();
    enum sso_code rc = api_get(cli, &described, err, "/v1/apps/%s", application);
    if (rc == SSO_OK)
        rc = choose(described, labels, chosen, err);
    for (size_t i = 0; rc == SSO_OK && i < json_array_size(chosen); i++)
        rc = ask_field(json_string_value(json_array_get(chosen, i)), object, err);
    json_decref(described);
    json_decref(chosen);
    if (rc == SSO_OK)
        *fields = object;
    else
        json_decref(object);
    return rc;
}
