#include <stdio.h>

#include "cli/arguments.h"
#include "cli/backing_arguments.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/prepare.h"

static enum sso_code parse(int argc, char **argv, struct reshare_wish *wish, struct sso_error *err)
{
    const char *shares = NULL;
    const struct option_row options[] = {
        {"shares", OPTION_TEXT, &shares, NULL},
        {"shares-dir", OPTION_TEXT, &wish->shares_dir, NULL},
        {"new-shares-dir", OPTION_TEXT, &wish->new_shares_dir, NULL},
        {"passphrase", OPTION_FLAG, &wish->passphrase, NULL},
        {"backup-dir", OPTION_TEXT, &wish->backup_dir, NULL},
        {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc == SSO_OK && (shares == NULL || wish->backup_dir == NULL))
        rc = sso_fail(err, SSO_USAGE, "--shares M/N and --backup-dir DIR are needed");
    return rc == SSO_OK ? scheme_parse(shares, &wish->scheme, err) : rc;
}

static void print_lines(const char *title, const json_t *array)
{
    size_t i;
    const json_t *item;
    json_array_foreach(array, i, item)
    {
        if (json_is_integer(item))
            printf("%-12s%lld\n", title, (long long)json_integer_value(item));
        else
            printf("%-12s%s\n", title, json_string_value(item));
    }
}

static void print_result(const json_t *result)
{
    char room[MEMBER_ROOM], room2[MEMBER_ROOM];
    const json_t *old = json_object_get(result, "to_destroy");
    printf("share set   %s, %s\n", member_text(result, "share_set", room),
           member_text(result, "shares", room2));
    print_lines("backup", json_object_get(result, "files"));
    print_lines("no backup", json_object_get(result, "without_backup"));
    printf("\nDestroy now, every copy: whoever holds both can still restore the key.\n");
    print_lines("  file", json_object_get(old, "files"));
    print_lines("  shares of", json_object_get(old, "share_sets"));
    transcript_print(result);
}

COMMAND_FUNCTION(command_key_reshare)
{
    struct reshare_wish wish = {0};
    struct ceremony *ceremony = NULL;
    json_t *result = NULL;
    enum sso_code rc = parse(argc, argv, &wish, err);
    if (rc == SSO_OK)
        rc = prepare_ceremony(cli, CEREMONY_TOKEN | CEREMONY_ADMIN, &ceremony, err);
    if (rc == SSO_OK)
        rc = ceremony_reshare(ceremony, &wish, &result, err);
    ceremony_end(&ceremony);
    if (rc == SSO_OK && cli->json)
        rc = output_json(result, err);
    else if (rc == SSO_OK)
        print_result(result);
    json_decref(result);
    return rc;
}
