#include "cli/api.h"
#include "cli/application_options.h"
#include "cli/application_output.h"
#include "cli/arguments.h"

static enum sso_code patch(struct cli *cli, const char *name, json_t *body, struct sso_error *err)
{
    json_t *reply = NULL;
    enum sso_code rc = api_call(cli, &(struct api_request){.method = "PATCH", .body = body}, &reply,
                                err, "/v1/apps/%s", name);
    if (rc == SSO_OK)
        rc = application_output(cli, reply, err);
    json_decref(reply);
    json_decref(body);
    return rc;
}

COMMAND_FUNCTION(command_app_update)
{
    struct application_options given = {0};
    const struct option_row options[] = {APPLICATION_OPTION_ROWS(given), {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc != SSO_OK)
        return rc;
    json_t *body = json_object();
    rc = application_options_add(&given, body, err);
    if (rc != SSO_OK) {
        json_decref(body);
        return rc;
    }
    if (json_object_size(body) == 0) {
        json_decref(body);
        return sso_fail(err, SSO_USAGE, "nothing to change: give at least one option");
    }
    return patch(cli, arguments.value[0], body, err);
}

static enum sso_code set_enabled(struct cli *cli, int argc, char **argv, bool enabled,
                                 struct sso_error *err)
{
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc != SSO_OK)
        return rc;
    return patch(cli, arguments.value[0], json_pack("{s:b}", "enabled", enabled), err);
}

COMMAND_FUNCTION(command_app_enable)
{
    return set_enabled(cli, argc, argv, true, err);
}

COMMAND_FUNCTION(command_app_disable)
{
    return set_enabled(cli, argc, argv, false, err);
}
