#include <stdio.h>
#include <unistd.h>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/prepare.h"

static void print_report(const json_t *report)
{
    char room[MEMBER_ROOM], room2[MEMBER_ROOM], room3[MEMBER_ROOM];
    size_t i;
    const json_t *item;
    json_array_foreach(json_object_get(report, "structure"), i, item)
    {
        printf("structure: ");
        output_clean(json_string_value(item));
        putchar('\n');
    }
    json_array_foreach(json_object_get(report, "failures"), i, item)
    {
        printf("%s: row %s, ", member_text(item, "code", room), member_text(item, "row", room2));
        output_clean(member_text(item, "app", room));
        putchar('/');
        output_clean(member_text(item, "principal", room2));
        printf(", generation %s: ", member_text(item, "generation", room3));
        output_clean(member_text(item, "detail", room));
        putchar('\n');
    }
    printf("%s: %s rows, %s opened, %s failed\n",
           json_is_true(json_object_get(report, "ok")) ? "sound" : "NOT SOUND",
           member_text(report, "rows", room), member_text(report, "opened", room2),
           member_text(report, "failed", room3));
}

COMMAND_FUNCTION(command_db_check)
{
    struct check_wish wish = {.show_progress = !cli->json && isatty(STDERR_FILENO) == 1};
    const struct option_row options[] = {
        {"open", OPTION_FLAG, &wish.open, NULL},
        {"against-audit", OPTION_FLAG, &wish.against_audit, NULL},
        {NULL, 0, NULL, NULL},
    };
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);

    struct ceremony *ceremony = NULL;
    json_t *report = NULL;
    if (rc == SSO_OK)
        rc = prepare_ceremony(cli, CEREMONY_ADMIN | (wish.open ? CEREMONY_TOKEN : 0), &ceremony,
                              err);
    if (rc == SSO_OK)
        rc = ceremony_check_database(ceremony, &wish, &report, err);
    ceremony_end(&ceremony);
    if (rc == SSO_OK && cli->json)
        rc = output_json(report, err);
    else if (rc == SSO_OK)
        print_report(report);
    if (rc == SSO_OK && !json_is_true(json_object_get(report, "ok")))
        cli->exit_code = EXIT_DONE_WITH_ERRORS;
    json_decref(report);
    return rc;
}
