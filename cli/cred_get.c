#include <stdio.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/output.h"

static enum sso_code print_credential(const json_t *credential, struct sso_error *err)
{
    const char *const members[] = {"app", "principal", "external_user"};
    char room[MEMBER_ROOM], room2[MEMBER_ROOM];
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        printf("%s: ", members[i]);
        output_clean(member_text(credential, members[i], room));
        putchar('\n');
    }
    const char *label;
    json_t *value;
    json_object_foreach(json_object_get(credential, "fields"), label, value)
    {
        enum sso_code rc =
            output_secret_field(label, json_string_value(value), json_string_length(value), err);
        if (rc != SSO_OK)
            return rc;
    }
    printf("version: %lld\ngeneration: %s\nupdated: %s\n",
           (long long)member_number(credential, "version"),
           member_text(credential, "generation", room), member_text(credential, "updated", room2));
    return SSO_OK;
}

COMMAND_FUNCTION(command_cred_get)
{
    bool refresh = false;
    const struct option_row options[] = {{"refresh", OPTION_FLAG, &refresh, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 2, err);
    if (rc != SSO_OK)
        return rc;
    json_t *reply = NULL, *body = json_pack("{s:s}", "app", arguments.value[0]);
    if (arguments.count == 2)
        body_set_text(body, "principal", arguments.value[1]);
    if (refresh)
        json_object_set_new(body, "refresh", json_true());
    rc = api_call(cli, &(struct api_request){.method = "POST", .body = body}, &reply, err,
                  "/v1/lookup");
    if (rc == SSO_OK)
        rc = cli->json ? output_json(reply, err) : print_credential(reply, err);
    json_decref(body);
    json_decref(reply);
    return rc;
}
