#include <stdio.h>

#include "cli/arguments.h"
#include "cli/output.h"
#include "cli/prepare.h"

static void print_rows(const json_t *result)
{
    static const char *const columns[] = {"suite",         "workers",     "sessions",
                                          "raw_releases",  "raw_rewraps", "system_releases",
                                          "system_rewraps"};
    size_t i;
    const json_t *row;
    printf("%-11s %7s %8s | %12s %12s | %12s %12s\n", "", "", "sessions", "token alone", "",
           "the system", "");
    printf("%-11s %7s %8s | %12s %12s | %12s %12s\n", "suite", "workers", "each", "releases/s",
           "rewraps/s", "releases/s", "rewraps/s");
    json_array_foreach(json_object_get(result, "rows"), i, row)
    {
        char room[7][MEMBER_ROOM];
        const char *text[7];
        for (size_t c = 0; c < 7; c++)
            text[c] = member_text(row, columns[c], room[c]);
        printf("%-11s %7s %8s | %12s %12s | %12s %12s", text[0], text[1], text[2], text[3], text[4],
               text[5], text[6]);
        if (json_is_string(json_object_get(row, "error"))) {
            printf("  ");
            output_clean(member_text(row, "error", room[0]));
        }
        putchar('\n');
    }
}

COMMAND_FUNCTION(command_bench)
{
    const char *token = NULL;
    const struct option_row options[] = {{"token", OPTION_TEXT, &token, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    struct ceremony *ceremony = NULL;
    json_t *result = NULL;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc == SSO_OK)
        rc = prepare_ceremony(cli, CEREMONY_TOKEN, &ceremony, err);
    if (rc == SSO_OK)
        rc = ceremony_bench(ceremony, token, &result, err);
    ceremony_end(&ceremony);
    if (rc == SSO_OK && cli->json)
        rc = output_json(result, err);
    else if (rc == SSO_OK)
        print_rows(result);
    json_decref(result);
    return rc;
}
