#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/rotation_output.h"

COMMAND_FUNCTION(command_rotate_status)
{
    bool quarantine = false;
    const struct option_row options[] = {{"quarantine", OPTION_FLAG, &quarantine, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    json_t *status = NULL, *entries = NULL;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc == SSO_OK)
        rc = api_get(cli, &status, err, "/v1/rotation");
    if (rc == SSO_OK && quarantine)
        rc = api_get(cli, &entries, err, "/v1/rotation/quarantine");
    if (rc == SSO_OK && quarantine)
        json_object_set(status, "quarantine", json_object_get(entries, "quarantine"));
    if (rc == SSO_OK)
        rc = rotation_output(cli, status, err);
    json_decref(entries);
    json_decref(status);
    return rc;
}
