#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/output.h"

static void print_setting(const json_t *setting)
{
    char room[MEMBER_ROOM];
    const json_t *proposed = json_object_get(setting, "proposed");
    printf("%-24s %s", member_text(setting, "name", room), member_text(setting, "value", room));
    if (json_is_object(proposed)) {
        printf("   proposed: %s by ", member_text(proposed, "value", room));
        output_clean(member_text(proposed, "by", room));
    }
    putchar('\n');
}

static enum sso_code print_settings(struct cli *cli, const json_t *reply, struct sso_error *err)
{
    size_t i;
    const json_t *setting;
    if (cli->json)
        return output_json(reply, err);
    json_array_foreach(json_object_get(reply, "settings"), i, setting)
    {
        print_setting(setting);
    }
    return SSO_OK;
}

COMMAND_FUNCTION(command_settings_show)
{
    struct arguments arguments;
    json_t *reply = NULL;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc == SSO_OK)
        rc = api_get(cli, &reply, err, "/v1/settings");
    if (rc == SSO_OK)
        rc = print_settings(cli, reply, err);
    json_decref(reply);
    return rc;
}

static enum sso_code add_wanted(json_t *body, const char *argument, struct sso_error *err)
{
    const char *equals = strchr(argument, '=');
    char name[65];
    if (equals == NULL || equals == argument || (size_t)(equals - argument) >= sizeof name)
        return sso_fail(err, SSO_USAGE, "%s: expected NAME=VALUE, as in cache.lease=30m", argument);
    snprintf(name, sizeof name, "%.*s", (int)(equals - argument), argument);
    if (json_object_get(body, name) != NULL)
        return sso_fail(err, SSO_USAGE, "%s is given twice", name);
    if (json_object_set_new(body, name, json_string(equals + 1)) != 0)
        return sso_fail(err, SSO_USAGE, "the value of %s is not UTF-8", name);
    return SSO_OK;
}

COMMAND_FUNCTION(command_settings_set)
{
    struct arguments arguments;
    json_t *reply = NULL, *body = json_object();
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 64, err);
    for (int i = 0; rc == SSO_OK && i < arguments.count; i++)
        rc = add_wanted(body, arguments.value[i], err);
    if (rc == SSO_OK)
        rc = api_call(cli, &(struct api_request){.method = "PATCH", .body = body}, &reply, err,
                      "/v1/settings");
    if (rc == SSO_OK)
        rc = print_settings(cli, reply, err);
    json_decref(body);
    json_decref(reply);
    return rc;
}

static bool is_asked_for(const struct arguments *arguments, const char *name)
{
    for (int i = 0; i < arguments->count; i++) {
        if (strcmp(arguments->value[i], name) == 0)
            return true;
    }
    return arguments->count == 0;
}

/* What is proposed now, as the body that confirms just that. */
static enum sso_code collect_proposed(const json_t *reply, const struct arguments *arguments,
                                      json_t *body, struct sso_error *err)
{
    size_t i;
    const json_t *setting;
    json_array_foreach(json_object_get(reply, "settings"), i, setting)
    {
        const char *name = json_string_value(json_object_get(setting, "name"));
        const json_t *value = json_object_get(json_object_get(setting, "proposed"), "value");
        if (name != NULL && value != NULL && is_asked_for(arguments, name) &&
            json_object_set(body, name, (json_t *)value) != 0)
            return sso_fail(err, SSO_NO_MEMORY, "no memory for a request");
    }
    for (int n = 0; n < arguments->count; n++) {
        if (json_object_get(body, arguments->value[n]) == NULL)
            return sso_fail(err, SSO_NOT_FOUND, "no change of %s is proposed", arguments->value[n]);
    }
    if (json_object_size(body) == 0)
        return sso_fail(err, SSO_NOT_FOUND, "nothing is proposed");
    return SSO_OK;
}

COMMAND_FUNCTION(command_settings_confirm)
{
    struct arguments arguments;
    json_t *proposed = NULL, *reply = NULL, *body = json_object();
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 64, err);
    if (rc == SSO_OK)
        rc = api_get(cli, &proposed, err, "/v1/settings");
    if (rc == SSO_OK)
        rc = collect_proposed(proposed, &arguments, body, err);
    if (rc == SSO_OK)
        rc = api_call(cli, &(struct api_request){.method = "POST", .body = body}, &reply, err,
                      "/v1/settings:confirm");
    if (rc == SSO_OK)
        rc = print_settings(cli, reply, err);
    json_decref(body);
    json_decref(proposed);
    json_decref(reply);
    return rc;
}
