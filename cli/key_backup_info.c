#include <stdio.h>

#include "cli/arguments.h"
#include "cli/ceremony/ceremony.h"
#include "cli/command.h"
#include "cli/output.h"

static void print_info(const json_t *info)
{
    char room[MEMBER_ROOM], room2[MEMBER_ROOM], room3[MEMBER_ROOM];
    const json_t *system = json_object_get(info, "system");
    const json_t *set = json_object_get(info, "share_set");
    printf("system      %s (%s)\n", member_text(system, "name", room),
           member_text(system, "id", room2));
    printf("generation  %s, %s, secret id %s\n", member_text(info, "generation", room),
           member_text(info, "suite", room2), member_text(info, "secret_id", room3));
    printf("created     %s, this backup written %s\n", member_text(info, "created", room),
           member_text(info, "written", room2));
    printf("share set   %s of %s\n", member_text(set, "id", room),
           member_text(set, "created", room2));
    printf("shares      %s, passphrase %s\n", member_text(set, "shares", room),
           member_text(set, "passphrase", room2));
    size_t i;
    const json_t *item;
    json_array_foreach(json_object_get(set, "fingerprints"), i, item)
    {
        printf("            share %2zu: fingerprint %s\n", i + 1, json_string_value(item));
    }
    json_array_foreach(json_object_get(info, "audit_keys"), i, item)
    {
        printf("audit key   %s\n", json_string_value(item));
    }
    printf("\nWhether nobody changed the file is only seen with the shares: sso-hsm key drill.\n");
}

COMMAND_FUNCTION(command_key_backup_info)
{
    struct arguments arguments;
    json_t *result = NULL;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc == SSO_OK)
        rc = ceremony_backup_info(arguments.value[0], &result, err);
    if (rc == SSO_OK && cli->json)
        rc = output_json(result, err);
    else if (rc == SSO_OK)
        print_info(result);
    json_decref(result);
    return rc;
}
