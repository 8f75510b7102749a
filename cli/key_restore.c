/* key restore and key drill: the same shares and checks, kept or not. */
#include <stdio.h>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/key_output.h"
#include "cli/output.h"
#include "cli/prepare.h"

static enum sso_code parse(int argc, char **argv, bool restores, struct restore_wish *wish,
                           struct sso_error *err)
{
    const struct option_row options[] = {
        {"shares-dir", OPTION_TEXT, &wish->shares_dir, NULL},
        {restores ? "token" : NULL, OPTION_TEXT, &wish->token, NULL},
        {restores ? "destroyed" : NULL, OPTION_FLAG, &wish->destroyed, NULL},
        {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc == SSO_OK)
        wish->file = arguments.value[0];
    return rc;
}

static void print_restored(const json_t *result)
{
    char room[MEMBER_ROOM], room2[MEMBER_ROOM];
    key_print(result);
    if (json_is_true(json_object_get(result, "already_there")))
        printf("\nThe token has this key already: nothing was changed.\n");
    else
        printf("\nRestored into %s; %s rows sampled from the database opened. A custodian that\n"
               "runs takes it up at its next look; one that does not can be started.\n",
               member_text(result, "token", room), member_text(result, "samples_opened", room2));
    if (json_is_string(json_object_get(result, "statement")))
        printf("\nstatement   %s\nsignature   %s\n", member_text(result, "statement", room),
               member_text(result, "signature", room2));
}

COMMAND_FUNCTION(command_key_restore)
{
    struct restore_wish wish = {0};
    struct ceremony *ceremony = NULL;
    json_t *result = NULL;
    enum sso_code rc = parse(argc, argv, true, &wish, err);
    if (rc == SSO_OK)
        rc = prepare_ceremony(cli, CEREMONY_TOKEN | CEREMONY_ADMIN, &ceremony, err);
    if (rc == SSO_OK)
        rc = ceremony_restore(ceremony, &wish, &result, err);
    ceremony_end(&ceremony);
    if (rc == SSO_OK && cli->json)
        rc = output_json(result, err);
    else if (rc == SSO_OK)
        print_restored(result);
    json_decref(result);
    return rc;
}

COMMAND_FUNCTION(command_key_drill)
{
    struct restore_wish wish = {0};
    struct ceremony *ceremony = NULL;
    json_t *result = NULL;
    char room[MEMBER_ROOM], room2[MEMBER_ROOM];
    enum sso_code rc = parse(argc, argv, false, &wish, err);
    if (rc == SSO_OK)
        rc = prepare_ceremony(cli, CEREMONY_TOKEN | CEREMONY_ADMIN, &ceremony, err);
    if (rc == SSO_OK)
        rc = ceremony_drill(ceremony, &wish, &result, err);
    ceremony_end(&ceremony);
    if (rc == SSO_OK && cli->json)
        rc = output_json(result, err);
    else if (rc == SSO_OK)
        printf("The backup of generation %s opens with these shares: canary, and %s rows sampled\n"
               "from the database. Nothing is left in the token. The drill is recorded.\n",
               member_text(result, "number", room), member_text(result, "samples_opened", room2));
    json_decref(result);
    return rc;
}
