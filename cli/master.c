#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/output.h"

static void print_standbys(const json_t *list)
{
    char room[MEMBER_ROOM];
    const json_t *item;
    size_t i;
    json_array_foreach(list, i, item)
    {
        bool able = json_is_true(json_object_get(item, "able"));
        printf("%s %s", member_text(item, "node", room),
               able ? "stands by and could become the master" : "cannot become the master");
        if (!able)
            printf(": %s", member_text(item, "missing", room));
        putchar('\n');
    }
}

static enum sso_code show(struct cli *cli, const json_t *master, struct sso_error *err)
{
    char room[MEMBER_ROOM];
    const json_t *address = json_object_get(master, "address");
    if (cli->json)
        return output_json(master, err);
    long long epoch = json_integer_value(json_object_get(master, "epoch"));
    if (!json_is_null(json_object_get(master, "node"))) {
        printf("%s is the master", member_text(master, "node", room));
        if (!json_is_null(address))
            printf(", at %s", member_text(master, "address", room));
    } else if (!json_is_null(json_object_get(master, "last"))) {
        printf("no node is the master; the last one was %s", member_text(master, "last", room));
    } else {
        printf("no node was ever the master");
    }
    printf(" (epoch %lld); fail-over is %s\n", epoch, member_text(master, "failover", room));
    print_standbys(json_object_get(master, "standbys"));
    return SSO_OK;
}

/* Takes the body. */
static enum sso_code ask(struct cli *cli, json_t *body, struct sso_error *err)
{
    json_t *reply = NULL;
    enum sso_code rc =
        api_call(cli, &(struct api_request){.method = body != NULL ? "POST" : "GET", .body = body},
                 &reply, err, "/v1/master");
    if (rc == SSO_OK)
        rc = show(cli, reply, err);
    json_decref(body);
    json_decref(reply);
    return rc;
}

static enum sso_code no_arguments(int argc, char **argv, struct sso_error *err)
{
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    return rc == SSO_OK ? arguments_expect(&arguments, 0, 0, err) : rc;
}

COMMAND_FUNCTION(command_master_show)
{
    enum sso_code rc = no_arguments(argc, argv, err);
    return rc == SSO_OK ? ask(cli, NULL, err) : rc;
}

COMMAND_FUNCTION(command_master_promote)
{
    enum sso_code rc = no_arguments(argc, argv, err);
    return rc == SSO_OK ? ask(cli, json_pack("{s:s}", "action", "promote"), err) : rc;
}

COMMAND_FUNCTION(command_master_move)
{
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc != SSO_OK)
        return rc;
    return ask(cli, json_pack("{s:s,s:s}", "action", "move", "node", arguments.value[0]), err);
}
