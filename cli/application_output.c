#include "cli/application_output.h"

#include <stdio.h>
#include <string.h>

#include "cli/output.h"

static void print_member(const json_t *application, const char *label, const char *name)
{
    char room[MEMBER_ROOM];
    const char *text = member_text(application, name, room);
    if (text[0] == '\0' || strcmp(text, "-") == 0)
        return;
    printf("  %-12s ", label);
    output_clean(text);
    putchar('\n');
}

static const char *yes(const json_t *application, const char *name)
{
    return json_is_true(json_object_get(application, name)) ? "yes" : "no";
}

static void print_settings(const json_t *application)
{
    const json_t *minutes = json_object_get(application, "ticket_lifetime_minutes");
    printf("  %-12s %s\n", "cache", yes(application, "cache"));
    printf("  %-12s %s, validated %s, lifetime ", "tickets", yes(application, "allow_tickets"),
           yes(application, "validate_tickets"));
    if (json_is_integer(minutes))
        printf("%" JSON_INTEGER_FORMAT " minutes\n", json_integer_value(minutes));
    else
        printf("as the setting tickets.lifetime\n");
}

void application_print(const json_t *application)
{
    char room[MEMBER_ROOM], room2[MEMBER_ROOM];
    printf("%s  %s, %s\n", member_text(application, "name", room),
           member_text(application, "type", room2),
           json_is_true(json_object_get(application, "enabled")) ? "enabled" : "disabled");
    print_member(application, "description", "description");
    print_member(application, "contact", "contact");
    size_t i;
    const json_t *item;
    printf("  %-12s", "fields");
    json_array_foreach(json_object_get(application, "fields"), i, item)
    {
        printf(" %s%s", member_text(item, "label", room),
               json_is_true(json_object_get(item, "masked")) ? ":masked" : "");
    }
    putchar('\n');
    print_member(application, "admins", "admins");
    if (json_array_size(json_object_get(application, "users")) > 0) {
        printf("  %-12s", "users");
        json_array_foreach(json_object_get(application, "users"), i, item)
        {
            printf(" %s", json_string_value(item));
        }
        putchar('\n');
    }
    print_member(application, "readers", "readers");
    print_settings(application);
    print_member(application, "created", "created");
    print_member(application, "updated", "updated");
}

enum sso_code application_output(const struct cli *cli, const json_t *application,
                                 struct sso_error *err)
{
    if (cli->json)
        return output_json(application, err);
    application_print(application);
    return SSO_OK;
}
