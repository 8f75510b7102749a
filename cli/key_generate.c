#include <stdio.h>

#include "cli/arguments.h"
#include "cli/backing_arguments.h"
#include "cli/command.h"
#include "cli/key_output.h"
#include "cli/output.h"
#include "cli/prepare.h"

static enum sso_code parse(int argc, char **argv, struct generation_wish *wish,
                           struct backing_options *backing, struct sso_error *err)
{
    const char *shares = NULL;
    const struct option_row options[] = {{"no-backup", OPTION_FLAG, &backing->no_backup, NULL},
                                         {"token", OPTION_TEXT, &wish->token, NULL},
                                         {"suite", OPTION_TEXT, &wish->suite, NULL},
                                         {"shares", OPTION_TEXT, &shares, NULL},
                                         {"share-set", OPTION_TEXT, &backing->share_set, NULL},
                                         {"shares-dir", OPTION_TEXT, &backing->shares_dir, NULL},
                                         {"passphrase", OPTION_FLAG, &backing->passphrase, NULL},
                                         {"backup", OPTION_TEXT, &backing->backup, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    wish->backing = backing;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc == SSO_OK)
        rc = suite_option_check(wish->suite, err);
    return rc == SSO_OK ? backing_options_check(shares, backing, err) : rc;
}

static void print_result(const json_t *result)
{
    key_print(result);
    backing_print(result);
    printf("\n`sso-hsm rotate --generation %lld` makes it the active one.%s\n",
           (long long)member_number(result, "number"),
           json_is_object(json_object_get(result, "backup"))
               ? ""
               : " It has no backup: if\nthe token is lost or cleared, so is every credential "
                 "under it.");
}

COMMAND_FUNCTION(command_key_generate)
{
    struct generation_wish wish = {0};
    struct backing_options backing = {0};
    struct ceremony *ceremony = NULL;
    json_t *result = NULL;
    enum sso_code rc = parse(argc, argv, &wish, &backing, err);
    if (rc == SSO_OK)
        rc = prepare_ceremony(cli, CEREMONY_TOKEN | CEREMONY_ADMIN, &ceremony, err);
    if (rc == SSO_OK)
        rc = ceremony_generate(ceremony, &wish, &result, err);
    ceremony_end(&ceremony);
    if (rc == SSO_OK && cli->json)
        rc = output_json(result, err);
    else if (rc == SSO_OK)
        print_result(result);
    json_decref(result);
    return rc;
}
