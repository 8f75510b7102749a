/* The nodes of the installation: join, list, approve, remove. */
#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/output.h"
#include "cli/prepare.h"

COMMAND_FUNCTION(command_node_join)
{
    char room[MEMBER_ROOM];
    struct arguments arguments;
    struct ceremony *ceremony = NULL;
    json_t *result = NULL;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc == SSO_OK)
        rc = prepare_ceremony(cli, CEREMONY_ADMIN, &ceremony, err);
    if (rc == SSO_OK)
        rc = ceremony_join_node(ceremony, &result, err);
    ceremony_end(&ceremony);
    if (rc == SSO_OK && cli->json)
        rc = output_json(result, err);
    else if (rc == SSO_OK)
        printf("%s %s\nfingerprint: %s\n%s\n", member_text(result, "name", room),
               json_is_true(json_object_get(result, "joined")) ? "has joined" : "has joined before",
               member_text(result, "fingerprint", room),
               json_is_true(json_object_get(result, "approved"))
                   ? "It is approved."
                   : "It gets nothing before an SSO administrator approves it: sso-hsm node "
                     "approve, with this fingerprint.");
    json_decref(result);
    return rc;
}

static void print_node(const json_t *node)
{
    char room[MEMBER_ROOM];
    const char *state = json_is_true(json_object_get(node, "damaged"))    ? "DAMAGED"
                        : json_is_true(json_object_get(node, "approved")) ? "approved"
                                                                          : "not approved";
    output_clean(member_text(node, "name", room));
    printf("  ");
    output_clean(member_text(node, "address", room));
    printf("  %s  %s", state, member_text(node, "fingerprint", room));
    size_t i;
    const json_t *app;
    json_array_foreach(json_object_get(node, "apps"), i, app)
    {
        printf(i == 0 ? "  only %s" : ",%s", json_string_value(app));
    }
    putchar('\n');
}

COMMAND_FUNCTION(command_node_list)
{
    struct arguments arguments;
    json_t *reply = NULL, *node;
    size_t i;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc == SSO_OK)
        rc = api_get(cli, &reply, err, "/v1/nodes");
    if (rc == SSO_OK && cli->json)
        rc = output_json(reply, err);
    else if (rc == SSO_OK)
        json_array_foreach(json_object_get(reply, "nodes"), i, node)
        {
            print_node(node);
        }
    json_decref(reply);
    return rc;
}

struct approval {
    const char *fingerprint, *apps;
    uint64_t release_burst;
};

static enum sso_code approve(struct cli *cli, const char *name, const struct approval *wish,
                             struct sso_error *err)
{
    json_t *reply = NULL;
    json_t *body = json_pack("{s:b,s:s}", "approved", true, "fingerprint", wish->fingerprint);
    if (wish->apps != NULL)
        json_object_set_new(body, "apps", list_from_commas(wish->apps));
    if (wish->release_burst != 0)
        json_object_set_new(body, "release_burst", json_integer((json_int_t)wish->release_burst));
    enum sso_code rc = api_call(cli, &(struct api_request){.method = "PATCH", .body = body}, &reply,
                                err, "/v1/nodes/%s", name);
    if (rc == SSO_OK && cli->json)
        rc = output_json(reply, err);
    else if (rc == SSO_OK)
        print_node(reply);
    json_decref(body);
    json_decref(reply);
    return rc;
}

/* The fingerprint comes from the node itself, by the person who was there: one that is only copied
 * from the list would prove nothing. */
COMMAND_FUNCTION(command_node_approve)
{
    struct approval wish = {0};
    const char *burst = NULL;
    const struct option_row options[] = {{"fingerprint", OPTION_TEXT, &wish.fingerprint, NULL},
                                         {"apps", OPTION_TEXT, &wish.apps, NULL},
                                         {"release-burst", OPTION_TEXT, &burst, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc != SSO_OK)
        return rc;
    if (wish.fingerprint == NULL)
        return sso_fail(err, SSO_USAGE,
                        "--fingerprint is missing: what sso-hsm node join showed on the node");
    if (burst != NULL && !argument_number(burst, 100000000, &wish.release_burst))
        return sso_fail(err, SSO_USAGE, "--release-burst takes a number");
    return approve(cli, arguments.value[0], &wish, err);
}

COMMAND_FUNCTION(command_node_remove)
{
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc == SSO_OK)
        rc = api_call(cli, &(struct api_request){.method = "DELETE"}, NULL, err, "/v1/nodes/%s",
                      arguments.value[0]);
    if (rc != SSO_OK)
        return rc;
    if (cli->json) {
        json_t *reply = json_pack("{s:b}", "removed", true);
        rc = output_json(reply, err);
        json_decref(reply);
    } else {
        printf("%s is no node any more\n", arguments.value[0]);
    }
    return rc;
}
