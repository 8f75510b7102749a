#include <stdio.h>

#include "cli/arguments.h"
#include "cli/backing_arguments.h"
#include "cli/command.h"
#include "cli/key_output.h"
#include "cli/output.h"
#include "cli/prepare.h"

static enum sso_code parse(int argc, char **argv, const char **suite,
                           struct backing_options *backing, struct sso_error *err)
{
    const char *shares = NULL;
    const struct option_row options[] = {{"no-backup", OPTION_FLAG, &backing->no_backup, NULL},
                                         {"suite", OPTION_TEXT, suite, NULL},
                                         {"shares", OPTION_TEXT, &shares, NULL},
                                         {"shares-dir", OPTION_TEXT, &backing->shares_dir, NULL},
                                         {"passphrase", OPTION_FLAG, &backing->passphrase, NULL},
                                         {"backup", OPTION_TEXT, &backing->backup, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc == SSO_OK)
        rc = suite_option_check(*suite, err);
    return rc == SSO_OK ? backing_options_check(shares, backing, err) : rc;
}

static void print_result(const struct config *config, const json_t *result)
{
    char room[MEMBER_ROOM], room2[MEMBER_ROOM];
    const json_t *system = json_object_get(result, "system");
    printf("system      %s (%s)\n", member_text(system, "name", room),
           member_text(system, "id", room2));
    printf("database    %s\n", config->database.url);
    key_print(result);
    backing_print(result);
    if (!json_is_object(json_object_get(result, "backup")))
        printf(
            "\nThe master secret was made in the token and has no backup: it exists there and\n"
            "nowhere else. If the token is lost or cleared, every credential is lost with it.\n");
}

COMMAND_FUNCTION(command_init)
{
    const char *suite = NULL;
    struct backing_options backing = {0};
    struct ceremony *ceremony = NULL;
    json_t *result = NULL;
    enum sso_code rc = parse(argc, argv, &suite, &backing, err);
    if (rc == SSO_OK)
        rc = prepare_ceremony(cli, CEREMONY_TOKEN, &ceremony, err);
    if (rc == SSO_OK)
        rc = ceremony_init(ceremony, suite, &backing, &result, err);
    ceremony_end(&ceremony);
    if (rc == SSO_OK && cli->json)
        rc = output_json(result, err);
    else if (rc == SSO_OK)
        print_result(cli->config, result);
    json_decref(result);
    return rc;
}
