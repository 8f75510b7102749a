#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/output.h"

#define WATCH_SECONDS 2

static void print_health(const json_t *health)
{
    char room[MEMBER_ROOM], room2[MEMBER_ROOM];
    printf("health      %s (encrypt %s, decrypt %s)\n", member_text(health, "status", room),
           json_is_true(json_object_get(health, "encrypt")) ? "yes" : "no",
           json_is_true(json_object_get(health, "decrypt")) ? "yes" : "no");
    size_t i;
    const json_t *event;
    json_array_foreach(json_object_get(health, "events"), i, event)
    {
        printf("            %s %s: ", member_text(event, "severity", room),
               member_text(event, "name", room2));
        output_clean(member_text(event, "text", room));
        putchar('\n');
    }
}

static void print_rotation(const json_t *rotation)
{
    char room[MEMBER_ROOM], phase[MEMBER_ROOM];
    const char *state = member_text(rotation, "state", room);
    if (!json_is_object(rotation) || strcmp(state, "none") == 0) {
        printf("rotation    none\n");
        return;
    }
    printf("rotation    %s, %s, to generation %lld: %lld of %lld rows, %lld failed\n", state,
           member_text(rotation, "phase", phase), (long long)member_number(rotation, "to"),
           (long long)member_number(rotation, "done"), (long long)member_number(rotation, "total"),
           (long long)member_number(rotation, "failed"));
}

static void print_token(const json_t *token)
{
    char room[MEMBER_ROOM];
    size_t i;
    const json_t *number;
    printf("token       ");
    output_clean(json_string_value(json_object_get(token, "token")));
    printf(" ([%s]):", member_text(token, "section", room));
    json_array_foreach(json_object_get(token, "generations"), i, number)
    {
        printf(" generation %lld,", (long long)json_integer_value(number));
    }
    printf(" %lld rows, %lld sealed keys%s", (long long)member_number(token, "rows"),
           (long long)member_number(token, "sealed_keys"),
           json_is_true(json_object_get(token, "audit_key")) ? ", the audit key" : "");
    if (json_is_true(json_object_get(token, "may_be_switched_off"))) {
        printf("; may be switched off");
        json_array_foreach(json_object_get(token, "kept"), i, number)
        {
            printf("%s%lld",
                   i == 0 ? ", but older backups of the database need its generation " : ", ",
                   (long long)json_integer_value(number));
        }
    }
    putchar('\n');
}

static void print_status(const json_t *status)
{
    char room[MEMBER_ROOM], room2[MEMBER_ROOM], room3[MEMBER_ROOM];
    const json_t *system = json_object_get(status, "system");
    const json_t *generation = json_object_get(status, "generation");
    const json_t *rows = json_object_get(status, "rows");
    const json_t *workers = json_object_get(status, "workers");
    const json_t *database = json_object_get(status, "database");
    printf("system      %s (%s)\n", member_text(system, "name", room),
           member_text(system, "id", room2));
    printf("node        %s, version %s, up %s s\n", member_text(status, "node", room),
           member_text(status, "version", room2), member_text(status, "uptime_seconds", room3));
    print_health(json_object_get(status, "health"));
    if (json_is_object(generation))
        printf("generation  %s, %s, %s, secret id %s\n", member_text(generation, "number", room),
               member_text(generation, "suite", room2), member_text(generation, "state", room3),
               member_text(generation, "secret_id", (char[MEMBER_ROOM]){0}));
    else
        printf("generation  none\n");
    printf("rows        %s, below the active generation %s, quarantined %s\n",
           member_text(rows, "total", room), member_text(rows, "below_active", room2),
           member_text(rows, "quarantined", room3));
    printf("workers     %s of %s ready, %s sessions, %s replaced\n",
           member_text(workers, "ready", room), member_text(workers, "wanted", room2),
           member_text(workers, "sessions", room3),
           member_text(workers, "replaced", (char[MEMBER_ROOM]){0}));
    size_t i;
    const json_t *token;
    json_array_foreach(json_object_get(status, "tokens"), i, token)
    {
        print_token(token);
    }
    print_rotation(json_object_get(status, "rotation"));
    printf("database    %s, schema %s, available %s\n", member_text(database, "kind", room),
           member_text(database, "schema", room2), member_text(database, "available", room3));
}

COMMAND_FUNCTION(command_status)
{
    bool watch = false;
    const struct option_row options[] = {{"watch", OPTION_FLAG, &watch, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    for (bool first = true; rc == SSO_OK && (first || watch); first = false) {
        if (!first)
            sleep(WATCH_SECONDS);
        json_t *status = NULL;
        rc = api_get(cli, &status, err, "/v1/status");
        if (rc == SSO_OK && cli->json) {
            rc = output_json(status, err);
        } else if (rc == SSO_OK) {
            if (!first)
                putchar('\n');
            print_status(status);
            rc = output_finish(err);
        }
        json_decref(status);
    }
    return rc;
}
