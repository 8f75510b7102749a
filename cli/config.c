#include <stdio.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/fields_input.h"
#include "cli/output.h"
#include "cli/prepare.h"

static enum sso_code print_config(const json_t *reply, struct sso_error *err)
{
    char room[MEMBER_ROOM];
    const char *label;
    json_t *value;
    size_t i;
    json_object_foreach(json_object_get(reply, "properties"), label, value)
    {
        enum sso_code rc =
            output_secret_field(label, json_string_value(value), json_string_length(value), err);
        if (rc != SSO_OK)
            return rc;
    }
    json_array_foreach(json_object_get(reply, "left_out"), i, value)
    {
        output_clean(json_string_value(value));
        printf(" (masked, left out)\n");
    }
    printf("version: %lld\nupdated: %s\n", (long long)member_number(reply, "version"),
           member_text(reply, "updated", room));
    return SSO_OK;
}

COMMAND_FUNCTION(command_config_get)
{
    bool refresh = false;
    const struct option_row options[] = {{"refresh", OPTION_FLAG, &refresh, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    json_t *reply = NULL;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc == SSO_OK)
        rc = api_get(cli, &reply, err,
                     refresh ? "/v1/apps/%s/config?refresh=true" : "/v1/apps/%s/config",
                     arguments.value[0]);
    if (rc == SSO_OK)
        rc = cli->json ? output_json(reply, err) : print_config(reply, err);
    json_decref(reply);
    return rc;
}

static enum sso_code send(struct cli *cli, const char *application, const char *method,
                          json_t *properties, struct sso_error *err)
{
    json_t *reply = NULL, *body = json_pack("{s:O}", "properties", properties);
    enum sso_code rc = api_call(cli, &(struct api_request){.method = method, .body = body}, &reply,
                                err, "/v1/apps/%s/config", application);
    if (rc == SSO_OK && cli->json)
        rc = output_json(reply, err);
    else if (rc == SSO_OK)
        printf("configuration of %s %s, version %lld\n", application,
               json_is_true(json_object_get(reply, "created")) ? "created" : "updated",
               (long long)member_number(reply, "version"));
    json_decref(body);
    json_decref(reply);
    return rc;
}

COMMAND_FUNCTION(command_config_set)
{
    bool from_stdin = false, partial = false;
    const struct option_row options[] = {{"stdin", OPTION_FLAG, &from_stdin, NULL},
                                         {"partial", OPTION_FLAG, &partial, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 33, err);
    if (rc != SSO_OK)
        return rc;
    struct arguments labels = {arguments.value + 1, arguments.count - 1};
    if (from_stdin && labels.count != 0)
        return sso_fail(err, SSO_USAGE, "labels are for the terminal: --stdin names its own");
    if (partial && !from_stdin)
        return sso_fail(err, SSO_USAGE, "--partial goes with --stdin");
    if ((rc = prepare_api(cli, err)) != SSO_OK)
        return rc;
    json_t *properties = NULL;
    partial = partial || labels.count != 0;
    rc = from_stdin ? fields_from_stdin(&properties, err)
                    : fields_from_terminal(cli, arguments.value[0],
                                           labels.count != 0 ? &labels : NULL, &properties, err);
    if (rc == SSO_OK)
        rc = send(cli, arguments.value[0], partial ? "PATCH" : "PUT", properties, err);
    json_decref(properties);
    return rc;
}

COMMAND_FUNCTION(command_config_delete)
{
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc == SSO_OK)
        rc = api_call(cli, &(struct api_request){.method = "DELETE"}, NULL, err,
                      "/v1/apps/%s/config", arguments.value[0]);
    if (rc == SSO_OK && cli->json) {
        json_t *reply = json_pack("{s:b}", "deleted", true);
        rc = output_json(reply, err);
        json_decref(reply);
    } else if (rc == SSO_OK) {
        printf("configuration of %s deleted\n", arguments.value[0]);
    }
    return rc;
}
