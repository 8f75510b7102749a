#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/output.h"

static enum sso_code mapping_request(struct cli *cli, const char *method, const json_t *body,
                                     char **name, struct sso_error *err)
{
    char room[MEMBER_ROOM];
    json_t *reply = NULL;
    enum sso_code rc = api_call(cli, &(struct api_request){.method = method, .body = body}, &reply,
                                err, "/v1/apps/%s/mappings/%s", name[0], name[1]);
    if (rc == SSO_OK && reply == NULL)
        reply = json_pack("{s:b}", "deleted", true);
    if (rc == SSO_OK && cli->json)
        rc = output_json(reply, err);
    else if (rc == SSO_OK && json_object_get(reply, "state") != NULL)
        printf("%s/%s %s\n", name[0], name[1], member_text(reply, "state", room));
    else if (rc == SSO_OK)
        printf("%s/%s deleted\n", name[0], name[1]);
    json_decref(reply);
    return rc;
}

static enum sso_code mapping_command(struct cli *cli, int argc, char **argv, const char *method,
                                     json_t *body, struct sso_error *err)
{
    const char *external_user = NULL;
    const struct option_row options[] = {{"external-user", OPTION_TEXT, &external_user, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, body != NULL ? options : NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 2, 2, err);
    if (rc == SSO_OK && body != NULL)
        body_set_text(body, "external_user", external_user);
    if (rc == SSO_OK)
        rc = mapping_request(cli, method, body, arguments.value, err);
    json_decref(body);
    return rc;
}

COMMAND_FUNCTION(command_mapping_show)
{
    return mapping_command(cli, argc, argv, "GET", NULL, err);
}

COMMAND_FUNCTION(command_mapping_enable)
{
    return mapping_command(cli, argc, argv, "PUT", json_pack("{s:b}", "enabled", true), err);
}

COMMAND_FUNCTION(command_mapping_disable)
{
    return mapping_command(cli, argc, argv, "PUT", json_pack("{s:b}", "enabled", false), err);
}

COMMAND_FUNCTION(command_mapping_delete)
{
    return mapping_command(cli, argc, argv, "DELETE", NULL, err);
}

static void print_mapping(const json_t *mapping)
{
    char room[MEMBER_ROOM];
    printf("%s ", json_is_true(json_object_get(mapping, "enabled")) ? "(E)" : "(D)");
    output_clean(member_text(mapping, "app", room));
    putchar('/');
    output_clean(member_text(mapping, "principal", room));
    printf("  ");
    output_clean(member_text(mapping, "external_user", room));
    printf("  %s%s\n", member_text(mapping, "state", room),
           json_is_true(json_object_get(mapping, "credential")) ? "" : "  no credential yet");
}

/* Prints a page, or adds it to `all`. The place of the next page goes into `after`, which is set to
 * NULL behind the last one. */
static enum sso_code list_page(struct cli *cli, const char *application, json_t *all, char **after,
                               struct sso_error *err)
{
    json_t *reply = NULL, *mapping;
    size_t i;
    enum sso_code rc =
        api_get(cli, &reply, err, "/v1/apps/%s/mappings?limit=1000&after=%s", application, *after);
    json_array_foreach(json_object_get(reply, "mappings"), i, mapping)
    {
        if (cli->json)
            json_array_append(all, mapping);
        else
            print_mapping(mapping);
    }
    const char *next = json_string_value(json_object_get(reply, "next"));
    free(*after);
    *after = next != NULL ? strdup(next) : NULL;
    json_decref(reply);
    return rc;
}

static enum sso_code list_of_application(struct cli *cli, const char *application,
                                         struct sso_error *err)
{
    json_t *all = json_array();
    char *after = strdup("");
    enum sso_code rc = SSO_OK;
    while (rc == SSO_OK && after != NULL)
        rc = list_page(cli, application, all, &after, err);
    json_t *result = json_pack("{s:o,s:n}", "mappings", all, "next");
    if (rc == SSO_OK && cli->json)
        rc = output_json(result, err);
    json_decref(result);
    free(after);
    return rc;
}

static enum sso_code list_of_principal(struct cli *cli, const char *principal,
                                       struct sso_error *err)
{
    json_t *reply = NULL, *mapping;
    size_t i;
    enum sso_code rc = principal == NULL
                           ? api_get(cli, &reply, err, "/v1/mappings")
                           : api_get(cli, &reply, err, "/v1/mappings?principal=%s", principal);
    if (rc == SSO_OK && cli->json)
        rc = output_json(reply, err);
    else if (rc == SSO_OK)
        json_array_foreach(json_object_get(reply, "mappings"), i, mapping)
        {
            print_mapping(mapping);
        }
    json_decref(reply);
    return rc;
}

COMMAND_FUNCTION(command_mapping_list)
{
    const char *principal = NULL;
    const struct option_row options[] = {{"principal", OPTION_TEXT, &principal, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 1, err);
    if (rc == SSO_OK && arguments.count == 1 && principal != NULL)
        rc = sso_fail(err, SSO_USAGE,
                      "give APP or --principal, not both: `mapping show` is for "
                      "one of both");
    if (rc != SSO_OK)
        return rc;
    return arguments.count == 1 ? list_of_application(cli, arguments.value[0], err)
                                : list_of_principal(cli, principal, err);
}
