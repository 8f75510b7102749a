#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/key_output.h"
#include "cli/output.h"
#include "cli/prepare.h"

COMMAND_FUNCTION(command_key_show)
{
    struct arguments arguments;
    uint64_t number = 0;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 1, err);
    if (rc == SSO_OK && arguments.count == 1 &&
        !argument_number(arguments.value[0], UINT32_MAX, &number))
        rc = sso_fail(err, SSO_USAGE, "%s is no number of a generation", arguments.value[0]);

    struct ceremony *ceremony = NULL;
    json_t *result = NULL;
    if (rc == SSO_OK)
        rc = prepare_ceremony(cli, CEREMONY_TOKEN | CEREMONY_ADMIN, &ceremony, err);
    if (rc == SSO_OK)
        rc = ceremony_show(ceremony, (uint32_t)number, &result, err);
    ceremony_end(&ceremony);
    if (rc == SSO_OK && cli->json)
        rc = output_json(result, err);
    else if (rc == SSO_OK)
        key_print(result);
    const json_t *evidence = json_object_get(result, "evidence");
    if (rc == SSO_OK && !json_is_true(json_object_get(evidence, "accepted")))
        rc = sso_fail(err, SSO_KEY_NOT_ACCEPTABLE,
                      "the token does not hold what a master secret requires: rotate to another");
    json_decref(result);
    return rc;
}
