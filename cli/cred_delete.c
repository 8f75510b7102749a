#include <stdio.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/output.h"

COMMAND_FUNCTION(command_cred_delete)
{
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 2, 2, err);
    if (rc == SSO_OK)
        rc = api_call(cli, &(struct api_request){.method = "DELETE"}, NULL, err,
                      "/v1/apps/%s/credentials/%s", arguments.value[0], arguments.value[1]);
    if (rc == SSO_OK && cli->json) {
        json_t *result = json_pack("{s:b}", "deleted", true);
        rc = output_json(result, err);
        json_decref(result);
    } else if (rc == SSO_OK) {
        printf("%s/%s deleted\n", arguments.value[0], arguments.value[1]);
    }
    return rc;
}
