#include <stdio.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/output.h"
#include "cli/prepare.h"

#define RESET_TIMEOUT_MS 120000

static enum sso_code reset_directly(struct cli *cli, const char *token, struct sso_error *err)
{
    struct ceremony *ceremony = NULL;
    enum sso_code rc = prepare_ceremony(cli, CEREMONY_TOKEN | CEREMONY_ADMIN, &ceremony, err);
    if (rc == SSO_OK)
        rc = ceremony_pin_reset(ceremony, token, err);
    ceremony_end(&ceremony);
    return rc;
}

COMMAND_FUNCTION(command_pin_reset)
{
    const char *token = NULL;
    const struct option_row options[] = {{"token", OPTION_TEXT, &token, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc != SSO_OK)
        return rc;
    json_t *reply = NULL, *body = json_object();
    body_set_text(body, "token", token);
    const struct api_request request = {
        .method = "POST", .body = body, .timeout_ms = RESET_TIMEOUT_MS};
    rc = api_call(cli, &request, &reply, err, "/v1/pin:reset");
    json_decref(body);
    if (rc == SSO_SERVICE_UNAVAILABLE) {
        client_close(&cli->client);
        rc = reset_directly(cli, token, err);
        if (rc == SSO_OK)
            reply = json_pack("{s:b}", "reset", true);
    }
    if (rc == SSO_OK && cli->json)
        rc = output_json(reply, err);
    else if (rc == SSO_OK)
        printf("the refusal is forgotten and the PIN was tried again\n");
    json_decref(reply);
    return rc;
}
