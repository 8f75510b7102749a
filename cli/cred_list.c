#include <stdio.h>

#include "cli/arguments.h"
#include "cli/credential_pages.h"
#include "cli/output.h"

static void print_row(const json_t *row)
{
    char room[MEMBER_ROOM], room2[MEMBER_ROOM];
    output_clean(member_text(row, "principal", room));
    printf("  ");
    output_clean(member_text(row, "external_user", room));
    printf("  %s  version %lld  generation %s  %s\n",
           json_is_true(json_object_get(row, "enabled")) ? "enabled" : "disabled",
           (long long)member_number(row, "version"), member_text(row, "generation", room),
           member_text(row, "updated", room2));
}

COMMAND_FUNCTION(command_cred_list)
{
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc != SSO_OK)
        return rc;
    struct credential_pages pages = {.application = arguments.value[0]};
    json_t *all = json_array(), *page = NULL;
    while ((rc = credential_pages_next(cli, &pages, &page, err)) == SSO_OK && page != NULL) {
        size_t i;
        json_t *row;
        json_array_foreach(page, i, row)
        {
            if (cli->json)
                json_array_append(all, row);
            else
                print_row(row);
        }
        json_decref(page);
    }
    if (rc == SSO_OK && cli->json) {
        json_t *result = json_pack("{s:O, s:n}", "credentials", all, "next");
        rc = output_json(result, err);
        json_decref(result);
    }
    json_decref(all);
    return rc;
}
