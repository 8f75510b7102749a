#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/line_reader.h"
#include "cli/output.h"
#include "cli/prepare.h"
#include "cli/prompt.h"
#include "common/json.h"
#include "common/row.h"
#include "common/secret.h"

/* 32 values of 64 KiB, every byte of them written as \u00xx. */
#define STDIN_BYTES_MAX ((size_t)16 << 20)

/* {"external_user"?, "fields": {…}}, or the fields alone. A field may be called "fields" too: its
 * value is text then and no object. */
static enum sso_code body_of(json_t *object, json_t **body, struct sso_error *err)
{
    static const char *const members[] = {"external_user", "fields", NULL};
    enum sso_code rc = SSO_OK;
    if (!json_is_object(object)) {
        rc = sso_fail(err, SSO_BAD_REQUEST, "a JSON object is wanted");
    } else if (json_is_object(json_object_get(object, "fields"))) {
        rc = json_only_members(object, members, err);
        *body = rc == SSO_OK ? json_incref(object) : NULL;
    } else {
        *body = json_pack("{s:O}", "fields", object);
    }
    if (rc != SSO_OK)
        sso_error_context(err, "standard input");
    return rc;
}

static enum sso_code body_from_stdin(json_t **body, struct sso_error *err)
{
    char *text = NULL;
    size_t length = 0;
    enum sso_code rc = read_whole(STDIN_FILENO, STDIN_BYTES_MAX, &text, &length, err);
    if (rc != SSO_OK)
        return rc;
    json_t *object = json_parse(text, length, err);
    wiping_free(text);
    if (object == NULL) {
        sso_error_context(err, "standard input");
        return SSO_BAD_REQUEST;
    }
    rc = body_of(object, body, err);
    json_decref(object);
    return rc;
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

static enum sso_code body_from_terminal(struct cli *cli, const char *application, json_t **body,
                                        struct sso_error *err)
{
    if (!prompt_possible())
        return sso_fail(err, SSO_USAGE,
                        "standard input is no terminal: give the fields with --stdin");
    json_t *described = NULL;
    enum sso_code rc = api_get(cli, &described, err, "/v1/apps/%s", application);
    if (rc != SSO_OK)
        return rc;
    json_t *object = json_object();
    json_t *fields = json_object();
    json_object_set_new(object, "fields", fields);
    size_t i;
    const json_t *field;
    json_array_foreach(json_object_get(described, "fields"), i, field)
    {
        const char *label = json_string_value(json_object_get(field, "label"));
        if (rc == SSO_OK && label != NULL)
            rc = ask_field(label, fields, err);
    }
    json_decref(described);
    if (rc != SSO_OK)
        json_decref(object);
    else
        *body = object;
    return rc;
}

COMMAND_FUNCTION(command_cred_set)
{
    const char *external_user = NULL;
    bool from_stdin = false;
    const struct option_row options[] = {{"external-user", OPTION_TEXT, &external_user, NULL},
                                         {"stdin", OPTION_FLAG, &from_stdin, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 2, 2, err);
    if (rc == SSO_OK)
        rc = prepare_api(cli, err);
    if (rc != SSO_OK)
        return rc;
    const char *application = arguments.value[0], *principal = arguments.value[1];
    json_t *body = NULL, *reply = NULL;
    rc =
        from_stdin ? body_from_stdin(&body, err) : body_from_terminal(cli, application, &body, err);
    if (rc != SSO_OK)
        return rc;
    body_set_text(body, "external_user", external_user);
    rc = api_call(cli, &(struct api_request){.method = "PUT", .body = body}, &reply, err,
                  "/v1/apps/%s/credentials/%s", application, principal);
    json_decref(body);
    if (rc == SSO_OK && cli->json)
        rc = output_json(reply, err);
    else if (rc == SSO_OK)
        printf("%s/%s %s, version %lld\n", application, principal,
               json_is_true(json_object_get(reply, "created")) ? "created" : "updated",
               (long long)member_number(reply, "version"));
    json_decref(reply);
    return rc;
}
