#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/rotation_output.h"

static enum sso_code control(struct cli *cli, int argc, char **argv, const char *action,
                             struct sso_error *err)
{
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc != SSO_OK)
        return rc;
    json_t *status = NULL, *body = json_pack("{s:s}", "action", action);
    rc = api_call(cli, &(struct api_request){.method = "PATCH", .body = body}, &status, err,
                  "/v1/rotation");
    if (rc == SSO_OK)
        rc = rotation_output(cli, status, err);
    json_decref(body);
    json_decref(status);
    return rc;
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

COMMAND_FUNCTION(command_rotate_retry_quarantined)
{
    return control(cli, argc, argv, "retry-quarantined", err);
}
