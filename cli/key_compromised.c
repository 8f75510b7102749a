/* A master secret became known to others: the mark, and whose credentials it opened. */
#include <stdio.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/output.h"

static enum sso_code parse_number(int argc, char **argv, const char **number, struct sso_error *err)
{
    struct arguments arguments;
    uint64_t value;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc == SSO_OK && !argument_number(arguments.value[0], UINT32_MAX, &value))
        rc = sso_fail(err, SSO_USAGE, "%s is not the number of a generation", arguments.value[0]);
    if (rc == SSO_OK)
        *number = arguments.value[0];
    return rc;
}

COMMAND_FUNCTION(command_key_mark_compromised)
{
    const char *number = NULL;
    char state[MEMBER_ROOM];
    json_t *reply = NULL, *body = NULL;
    enum sso_code rc = parse_number(argc, argv, &number, err);
    if (rc != SSO_OK)
        return rc;
    body = json_pack("{s:b}", "compromised", 1);
    rc = api_call(cli, &(struct api_request){.method = "PATCH", .body = body}, &reply, err,
                  "/v1/generations/%s", number);
    json_decref(body);
    if (rc == SSO_OK && cli->json)
        rc = output_json(reply, err);
    else if (rc == SSO_OK)
        printf(
            "generation %s (%s) is marked compromised. The next rotation renews every row that\n"
            "was born up to it: `sso-hsm rotate`. The credentials themselves must be changed at\n"
            "the systems they open: `sso-hsm key exposed %s` lists them.\n",
            number, member_text(reply, "state", state), number);
    json_decref(reply);
    return rc;
}

static void print_exposed(const json_t *row)
{
    char room[MEMBER_ROOM];
    output_clean(member_text(row, "app", room));
    putchar('/');
    output_clean(member_text(row, "principal", room));
    printf("  row %s, born under generation %s, ", member_text(row, "row", (char[MEMBER_ROOM]){0}),
           member_text(row, "born", room));
    if (json_is_null(json_object_get(row, "renewed")))
        printf("not yet renewed\n");
    else
        printf("renewed %s\n", member_text(row, "renewed", room));
}

static enum sso_code output_page(const struct cli *cli, const json_t *rows, struct sso_error *err)
{
    size_t i;
    const json_t *row;
    enum sso_code rc = SSO_OK;
    json_array_foreach(rows, i, row)
    {
        if (!cli->json)
            print_exposed(row);
        else if (rc == SSO_OK)
            rc = output_json(row, err);
    }
    return rc;
}

COMMAND_FUNCTION(command_key_exposed)
{
    const char *number = NULL;
    char after[64] = "";
    bool more = true;
    enum sso_code rc = parse_number(argc, argv, &number, err);
    while (rc == SSO_OK && more) {
        json_t *page = NULL;
        rc = after[0] == '\0'
                 ? api_get(cli, &page, err, "/v1/generations/%s/exposed?limit=1000", number)
                 : api_get(cli, &page, err, "/v1/generations/%s/exposed?limit=1000&after=%s",
                           number, after);
        if (rc == SSO_OK)
            rc = output_page(cli, json_object_get(page, "exposed"), err);
        const char *next = json_string_value(json_object_get(page, "next"));
        more = next != NULL;
        if (more)
            snprintf(after, sizeof after, "%s", next);
        json_decref(page);
    }
    return rc;
}
