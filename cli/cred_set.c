#include <stdio.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/fields_input.h"
#include "cli/output.h"
#include "cli/prepare.h"
#include "common/json.h"

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
    json_t *object = NULL;
    enum sso_code rc = fields_from_stdin(&object, err);
    if (rc == SSO_OK)
        rc = body_of(object, body, err);
    json_decref(object);
    return rc;
}

static enum sso_code body_from_terminal(struct cli *cli, const char *application, json_t **body,
                                        struct sso_error *err)
{
    json_t *fields = NULL;
    enum sso_code rc = fields_from_terminal(cli, application, NULL, &fields, err);
    if (rc == SSO_OK)
        *body = json_pack("{s:o}", "fields", fields);
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
