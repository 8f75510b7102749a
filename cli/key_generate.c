#include <stdio.h>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/key_output.h"
#include "cli/output.h"
#include "cli/prepare.h"

COMMAND_FUNCTION(command_key_generate)
{
    const char *suite = NULL, *token = NULL;
    bool no_backup = false;
    const struct option_row options[] = {
        {"no-backup", OPTION_FLAG, &no_backup, NULL},
        {"token", OPTION_TEXT, &token, NULL},
        {"suite", OPTION_TEXT, &suite, NULL},
        {"shares", OPTION_LATER_VALUE, NULL, SHARES_COME_LATER},
        {"share-set", OPTION_LATER_VALUE, NULL, SHARES_COME_LATER},
        {"shares-dir", OPTION_LATER_VALUE, NULL, SHARES_COME_LATER},
        {"passphrase", OPTION_LATER, NULL, SHARES_COME_LATER},
        {"backup", OPTION_LATER_VALUE, NULL, SHARES_COME_LATER},
        {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc == SSO_OK)
        rc = suite_option_check(suite, err);
    if (rc == SSO_OK && !no_backup)
        rc = sso_fail(err, SSO_USAGE, "say --no-backup: " SHARES_COME_LATER);

    struct ceremony *ceremony = NULL;
    json_t *result = NULL;
    if (rc == SSO_OK)
        rc = prepare_ceremony(cli, CEREMONY_TOKEN | CEREMONY_ADMIN, &ceremony, err);
    if (rc == SSO_OK)
        rc = ceremony_generate(ceremony, token, suite, &result, err);
    ceremony_end(&ceremony);
    if (rc == SSO_OK && cli->json) {
        rc = output_json(result, err);
    } else if (rc == SSO_OK) {
        key_print(result);
        printf(
            "\n`sso-hsm rotate --generation %lld` makes it the active one. It has no backup: if\n"
            "the token is lost or cleared, so is every credential under it.\n",
            (long long)member_number(result, "number"));
    }
    json_decref(result);
    return rc;
}
