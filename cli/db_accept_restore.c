/* db accept-restore. */
#include <stdio.h>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/prepare.h"

static void print_generations(const json_t *result)
{
    char room[MEMBER_ROOM], room2[MEMBER_ROOM], room3[MEMBER_ROOM], room4[MEMBER_ROOM];
    size_t i;
    const json_t *each;
    json_array_foreach(json_object_get(result, "generations"), i, each)
    {
        printf("generation  %s, %s, %s, secret id %s: ", member_text(each, "number", room),
               member_text(each, "suite", room2), member_text(each, "state", room3),
               member_text(each, "secret_id", room4));
        printf("%s%s%s\n", member_text(each, "how", room),
               json_is_true(json_object_get(each, "closed")) ? ", closed" : "",
               json_is_true(json_object_get(each, "in_token")) ? "" : ", in no token here");
    }
    json_array_foreach(json_object_get(result, "left_alone"), i, each)
    {
        printf("left alone  %s\n", json_string_value(each));
    }
}

static void print_accepted(const json_t *result)
{
    char room[MEMBER_ROOM];
    if (!json_is_true(json_object_get(result, "accepted"))) {
        printf("The database is not older than what this node has seen: nothing was changed.\n");
        return;
    }
    const json_t *audit = json_object_get(result, "audit");
    printf("found       %s\n", member_text(result, "reason", room));
    print_generations(result);
    printf("numbers     up to %s are used: the next generation gets a higher one\n",
           member_text(result, "numbers_used", room));
    if (json_is_integer(json_object_get(result, "rotation_cancelled")))
        printf("rotation    %s was going on and is cancelled\n",
               member_text(result, "rotation_cancelled", room));
    printf("audit       record %lld says all this\n", (long long)member_number(audit, "number"));
    printf("\nThe database is accepted. Users, rights and settings are as they were in it.\n");
    if (json_is_true(json_object_get(result, "active_closed")))
        printf(
            "Generation %s stays active and is closed: lookups work, and nothing can be written\n"
            "before sso-hsm rotate has gone to a new generation.\n",
            member_text(result, "active", room));
}

COMMAND_FUNCTION(command_db_accept_restore)
{
    struct arguments arguments;
    struct ceremony *ceremony = NULL;
    json_t *result = NULL;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc == SSO_OK)
        rc = prepare_ceremony(cli, CEREMONY_TOKEN | CEREMONY_ADMIN, &ceremony, err);
    if (rc == SSO_OK)
        rc = ceremony_accept_restore(ceremony, &result, err);
    ceremony_end(&ceremony);
    if (rc == SSO_OK && cli->json)
        rc = output_json(result, err);
    else if (rc == SSO_OK)
        print_accepted(result);
    json_decref(result);
    return rc;
}
