#include <string.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/rotation_output.h"

/* Takes the body. */
static enum sso_code change(struct cli *cli, json_t *body, struct sso_error *err)
{
    json_t *status = NULL;
    enum sso_code rc = api_call(cli, &(struct api_request){.method = "PATCH", .body = body},
                                &status, err, "/v1/rotation");
    if (rc == SSO_OK)
        rc = rotation_output(cli, status, err);
    json_decref(body);
    json_decref(status);
    return rc;
}

static enum sso_code control(struct cli *cli, int argc, char **argv, const char *action,
                             struct sso_error *err)
{
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc != SSO_OK)
        return rc;
    return change(cli, json_pack("{s:s}", "action", action), err);
}

COMMAND_FUNCTION(command_rotate_pause)
{
    return control(cli, argc, argv, "pause", err);
}

COMMAND_FUNCTION(command_rotate_resume)
{
    return control(cli, argc, argv, "resume", err);
}

COMMAND_FUNCTION(command_rotate_cancel)
{
    return control(cli, argc, argv, "cancel", err);
}

COMMAND_FUNCTION(command_rotate_rate)
{
    struct arguments arguments;
    uint64_t rate = 0;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc == SSO_OK && strcmp(arguments.value[0], "0") != 0 &&
        !argument_number(arguments.value[0], UINT32_MAX, &rate))
        rc = sso_fail(err, SSO_USAGE, "%s is no number of rows per second", arguments.value[0]);
    if (rc != SSO_OK)
        return rc;
    json_t *body = json_pack("{s:I}", "rate", (json_int_t)rate);
    return change(cli, body, err);
}

COMMAND_FUNCTION(command_rotate_retry_quarantined)
{
    return control(cli, argc, argv, "retry-quarantined", err);
}
