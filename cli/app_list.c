#include <stdio.h>

#include "cli/api.h"
#include "cli/application_output.h"
#include "cli/arguments.h"
#include "cli/output.h"

COMMAND_FUNCTION(command_app_list)
{
    struct arguments arguments;
    json_t *reply = NULL;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc == SSO_OK)
        rc = api_get(cli, &reply, err, "/v1/apps");
    if (rc == SSO_OK && cli->json) {
        rc = output_json(reply, err);
    } else if (rc == SSO_OK) {
        size_t i;
        const json_t *application;
        json_array_foreach(json_object_get(reply, "apps"), i, application)
        {
            application_print(application);
        }
    }
    json_decref(reply);
    return rc;
}

COMMAND_FUNCTION(command_app_show)
{
    struct arguments arguments;
    json_t *reply = NULL;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc == SSO_OK)
        rc = api_get(cli, &reply, err, "/v1/apps/%s", arguments.value[0]);
    if (rc == SSO_OK)
        rc = application_output(cli, reply, err);
    json_decref(reply);
    return rc;
}
