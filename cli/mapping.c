#include <stdio.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/output.h"

static enum sso_code mapping_request(struct cli *cli, const char *method, const json_t *body,
                                     char **name, struct sso_error *err)
{
    char room[MEMBER_ROOM];
    json_t *reply = NULL;
    enum sso_code rc = api_call(cli, &(struct api_request){.method = method, .body = body}, &reply,
                                err, "/v1/apps/%s/mappings/%s", name[0], name[1]);
    if (rc == SSO_OK && reply == NULL)
        reply = json_pack("{s:b}", "deleted", true);
    if (rc == SSO_OK && cli->json)
        rc = output_json(reply, err);
    else if (rc == SSO_OK && json_object_get(reply, "state") != NULL)
        printf("%s/%s %s\n", name[0], name[1], member_text(reply, "state", room));
    else if (rc == SSO_OK)
        printf("%s/%s deleted\n", name[0], name[1]);
    json_decref(reply);
    return rc;
}

static enum sso_code mapping_command(struct cli *cli, int argc, char **argv, const char *method,
                                     json_t *body, struct sso_error *err)
{
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 2, 2, err);
    if (rc == SSO_OK)
        rc = mapping_request(cli, method, body, arguments.value, err);
    json_decref(body);
    return rc;
}

COMMAND_FUNCTION(command_mapping_show)
{
    return mapping_command(cli, argc, argv, "GET", NULL, err);
}

COMMAND_FUNCTION(command_mapping_enable)
{
    return mapping_command(cli, argc, argv, "PUT", json_pack("{s:b}", "enabled", true), err);
}

COMMAND_FUNCTION(command_mapping_disable)
{
    return mapping_command(cli, argc, argv, "PUT", json_pack("{s:b}", "enabled", false), err);
}

COMMAND_FUNCTION(command_mapping_delete)
{
    return mapping_command(cli, argc, argv, "DELETE", NULL, err);
}
