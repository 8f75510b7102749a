#include <stdio.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/output.h"

/* The custodian deletes a large application in one transaction. */
#define DELETE_TIMEOUT_MS 300000

COMMAND_FUNCTION(command_app_delete)
{
    struct arguments arguments;
    json_t *reply = NULL;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    const struct api_request request = {.method = "DELETE", .timeout_ms = DELETE_TIMEOUT_MS};
    if (rc == SSO_OK)
        rc = api_call(cli, &request, &reply, err, "/v1/apps/%s", arguments.value[0]);
    if (rc == SSO_OK && cli->json)
        rc = output_json(reply, err);
    else if (rc == SSO_OK)
        printf("%s deleted with %lld credentials\n", arguments.value[0],
               (long long)member_number(reply, "credentials"));
    json_decref(reply);
    return rc;
}

COMMAND_FUNCTION(command_app_purge)
{
    struct arguments arguments;
    json_t *reply = NULL;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    const struct api_request request = {.method = "POST", .timeout_ms = DELETE_TIMEOUT_MS};
    if (rc == SSO_OK)
        rc = api_call(cli, &request, &reply, err, "/v1/apps/%s/purge", arguments.value[0]);
    if (rc == SSO_OK && cli->json)
        rc = output_json(reply, err);
    else if (rc == SSO_OK)
        printf("%lld credentials of %s deleted\n", (long long)member_number(reply, "credentials"),
               arguments.value[0]);
    json_decref(reply);
    return rc;
}
