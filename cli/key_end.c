/* The end of a generation's life: retire, destroy, confirm. */
#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/output.h"
#include "cli/prepare.h"

#define GRACE_DEFAULT_MS ((uint64_t)7 * 24 * 3600 * 1000)
#define SENTENCE "older backups become unreadable"

static enum sso_code parse(int argc, char **argv, const struct option_row *options,
                           const char **text, uint64_t *number, struct sso_error *err)
{
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc == SSO_OK && !argument_number(arguments.value[0], UINT32_MAX, number))
        rc = sso_fail(err, SSO_USAGE, "%s is not the number of a generation", arguments.value[0]);
    if (rc == SSO_OK)
        *text = arguments.value[0];
    return rc;
}

COMMAND_FUNCTION(command_key_retire)
{
    const char *number = NULL;
    uint64_t value;
    json_t *reply = NULL;
    enum sso_code rc = parse(argc, argv, NULL, &number, &value, err);
    if (rc != SSO_OK)
        return rc;
    json_t *body = json_pack("{s:s}", "state", "retired");
    rc = api_call(cli, &(struct api_request){.method = "PATCH", .body = body}, &reply, err,
                  "/v1/generations/%s", number);
    json_decref(body);
    if (rc == SSO_OK && cli->json)
        rc = output_json(reply, err);
    else if (rc == SSO_OK)
        printf("generation %s is retired: no row is on it, its key is kept\n", number);
    json_decref(reply);
    return rc;
}

COMMAND_FUNCTION(command_key_confirm)
{
    const char *number = NULL;
    uint64_t value;
    json_t *reply = NULL;
    enum sso_code rc = parse(argc, argv, NULL, &number, &value, err);
    if (rc != SSO_OK)
        return rc;
    rc = api_call(cli, &(struct api_request){.method = "POST"}, &reply, err,
                  "/v1/generations/%s:confirm", number);
    if (rc == SSO_OK && cli->json)
        rc = output_json(reply, err);
    else if (rc == SSO_OK)
        printf("confirmed: who asked for it says sso-hsm key destroy %s again\n", number);
    json_decref(reply);
    return rc;
}

static bool older_backups(const char *question)
{
    char line[128] = "";
    fprintf(stderr, "%s.\nType \"" SENTENCE "\" to go on:\n", question);
    fflush(stderr);
    if (fgets(line, sizeof line, stdin) == NULL)
        return false;
    line[strcspn(line, "\r\n")] = '\0';
    return strcmp(line, SENTENCE) == 0;
}

static void print_destruction(const json_t *result)
{
    char room[MEMBER_ROOM], room2[MEMBER_ROOM];
    printf("generation %s is %s\n", member_text(result, "generation", room),
           member_text(result, "state", room2));
    if (json_is_string(json_object_get(result, "until")))
        printf("its key may be destroyed from %s on: say this again then\n",
               member_text(result, "until", room));
    printf("statement   %s\n", json_string_value(json_object_get(result, "statement")));
    printf("signature   %s\n", member_text(result, "signature", room));
}

COMMAND_FUNCTION(command_key_destroy)
{
    const char *text = NULL, *grace = NULL;
    bool for_ever = false, token_lost = false;
    uint64_t number = 0, grace_ms = GRACE_DEFAULT_MS;
    const struct option_row options[] = {{"grace", OPTION_TEXT, &grace, NULL},
                                         {"for-ever", OPTION_FLAG, &for_ever, NULL},
                                         {"token-lost", OPTION_FLAG, &token_lost, NULL},
                                         {NULL, 0, NULL, NULL}};
    enum sso_code rc = parse(argc, argv, options, &text, &number, err);
    if (rc == SSO_OK && grace != NULL &&
        (!parse_duration_ms(grace, &grace_ms) || grace_ms > INT64_MAX / 4))
        rc = sso_fail(err, SSO_USAGE, "--grace takes a duration, as 7d or 12h");
    struct ceremony *ceremony = NULL;
    json_t *result = NULL;
    if (rc == SSO_OK)
        rc = prepare_ceremony(cli, CEREMONY_TOKEN | CEREMONY_ADMIN, &ceremony, err);
    const struct destroy_request request = {.number = (uint32_t)number,
                                            .grace_ms = (int64_t)grace_ms,
                                            .for_ever = for_ever,
                                            .token_lost = token_lost,
                                            .older_backups = older_backups};
    if (rc == SSO_OK)
        rc = ceremony_destroy(ceremony, &request, &result, err);
    ceremony_end(&ceremony);
    if (rc == SSO_OK && cli->json)
        rc = output_json(result, err);
    else if (rc == SSO_OK)
        print_destruction(result);
    json_decref(result);
    return rc;
}
