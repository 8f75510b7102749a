/* db backup, db backup-info, db copy, db upgrade. */
#include <stdio.h>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/prepare.h"

static void print_info(const json_t *info)
{
    char room[MEMBER_ROOM], room2[MEMBER_ROOM], room3[MEMBER_ROOM];
    const json_t *system = json_object_get(info, "system");
    size_t i;
    const json_t *generation;
    printf("system      %s (%s)\n", member_text(system, "name", room),
           member_text(system, "id", room2));
    printf("made        %s on %s\n", member_text(info, "made", room),
           member_text(info, "node", room2));
    printf("sha256      %s\n", member_text(info, "sha256", room));
    json_array_foreach(json_object_get(info, "generations"), i, generation)
    {
        printf("generation  %s, %s, secret id %s, ", member_text(generation, "number", room),
               member_text(generation, "state", room2),
               member_text(generation, "secret_id", room3));
        printf("share set %s, rows %s, sealed keys %s\n",
               member_text(generation, "share_set", room), member_text(generation, "rows", room2),
               member_text(generation, "sealed_keys", room3));
    }
    printf("signature   %s\n", member_text(info, "signature", room));
}

static enum sso_code output_info(struct cli *cli, const json_t *info, struct sso_error *err)
{
    if (cli->json)
        return output_json(info, err);
    print_info(info);
    return SSO_OK;
}

static enum sso_code parse(int argc, char **argv, int wanted, const char **path,
                           struct sso_error *err)
{
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, wanted, wanted, err);
    if (rc == SSO_OK && path != NULL)
        *path = arguments.value[0];
    return rc;
}

COMMAND_FUNCTION(command_db_backup)
{
    const char *path = NULL;
    struct ceremony *ceremony = NULL;
    json_t *info = NULL;
    enum sso_code rc = parse(argc, argv, 1, &path, err);
    if (rc == SSO_OK && path[0] != '/')
        rc = sso_fail(err, SSO_USAGE, "FILE must be an absolute path");
    if (rc == SSO_OK)
        rc = prepare_ceremony(cli, CEREMONY_TOKEN | CEREMONY_ADMIN, &ceremony, err);
    if (rc == SSO_OK)
        rc = ceremony_backup_database(ceremony, path, &info, err);
    ceremony_end(&ceremony);
    if (rc == SSO_OK)
        rc = output_info(cli, info, err);
    json_decref(info);
    return rc;
}

COMMAND_FUNCTION(command_db_backup_info)
{
    const char *path = NULL;
    json_t *info = NULL;
    enum sso_code rc = parse(argc, argv, 1, &path, err);
    if (rc == SSO_OK)
        rc = database_backup_info(path, &info, err);
    if (rc == SSO_OK)
        rc = output_info(cli, info, err);
    json_decref(info);
    return rc;
}

COMMAND_FUNCTION(command_db_copy)
{
    const char *url = NULL;
    char room[MEMBER_ROOM], room2[MEMBER_ROOM];
    struct ceremony *ceremony = NULL;
    json_t *result = NULL;
    enum sso_code rc = parse(argc, argv, 1, &url, err);
    if (rc == SSO_OK)
        rc = prepare_ceremony(cli, CEREMONY_ADMIN, &ceremony, err);
    if (rc == SSO_OK)
        rc = ceremony_copy_database(ceremony, url, &result, err);
    ceremony_end(&ceremony);
    if (rc == SSO_OK && cli->json)
        rc = output_json(result, err);
    else if (rc == SSO_OK)
        printf("%s rows went over to %s, and each was compared\n"
               "now set [database] url of every node to the new one, and start the custodian\n",
               member_text(result, "rows", room), member_text(result, "to", room2));
    json_decref(result);
    return rc;
}

COMMAND_FUNCTION(command_db_upgrade)
{
    struct ceremony *ceremony = NULL;
    struct store *store = NULL;
    bool upgraded = false;
    enum sso_code rc = parse(argc, argv, 0, NULL, err);
    if (rc == SSO_OK)
        rc = prepare_ceremony(cli, CEREMONY_ADMIN, &ceremony, err);
    if (rc == SSO_OK)
        rc = store_open(cli->config->database.url, &store, err);
    if (rc == SSO_SCHEMA_OLDER) {
        upgraded = true;
        rc = store_upgrade(cli->config->database.url, err);
        if (rc == SSO_OK)
            rc = store_open(cli->config->database.url, &store, err);
    }
    if (rc == SSO_OK && cli->json) {
        json_t *result = json_pack("{s:b, s:I}", "upgraded", upgraded, "schema",
                                   (json_int_t)store_schema(store));
        rc = output_json(result, err);
        json_decref(result);
    } else if (rc == SSO_OK) {
        printf(upgraded ? "upgraded to schema %u\n" : "schema %u is the newest: nothing to do\n",
               store_schema(store));
    }
    store_close(&store);
    ceremony_end(&ceremony);
    return rc;
}
