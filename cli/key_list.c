#include <stdio.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/output.h"

static void print_generation(const json_t *generation)
{
    char room[MEMBER_ROOM], room2[MEMBER_ROOM], room3[MEMBER_ROOM];
    printf("%-4s  %-10s  %s  ", member_text(generation, "number", room),
           member_text(generation, "state", room2), member_text(generation, "secret_id", room3));
    printf("%-10s  rows %-8s  ", member_text(generation, "suite", room),
           member_text(generation, "rows", room2));
    printf("created %s  backed up %s%s%s\n", member_text(generation, "created", room),
           member_text(generation, "backed_up", room2),
           json_is_true(json_object_get(generation, "compromised")) ? "  COMPROMISED" : "",
           json_is_true(json_object_get(generation, "closed")) ? "  CLOSED" : "");
    if (!json_is_null(json_object_get(generation, "share_set")))
        printf("      share set %s\n", member_text(generation, "share_set", room));
    size_t i;
    const json_t *token;
    json_array_foreach(json_object_get(generation, "tokens"), i, token)
    {
        printf("      %s\n", json_string_value(token));
    }
}

COMMAND_FUNCTION(command_key_list)
{
    struct arguments arguments;
    json_t *reply = NULL;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc == SSO_OK)
        rc = api_get(cli, &reply, err, "/v1/generations");
    if (rc == SSO_OK && cli->json) {
        rc = output_json(reply, err);
    } else if (rc == SSO_OK) {
        size_t i;
        const json_t *generation;
        json_array_foreach(json_object_get(reply, "generations"), i, generation)
        {
            print_generation(generation);
        }
    }
    json_decref(reply);
    return rc;
}
