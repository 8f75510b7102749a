#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/entsso.h"
#include "cli/output.h"

static void print_list(const json_t *list, const char *prefix)
{
    char room[MEMBER_ROOM];
    size_t i;
    const json_t *each;
    json_array_foreach(list, i, each)
    {
        fprintf(stderr, "%s%s:%lld: <%s> ", prefix, member_text(each, "file", room),
                (long long)member_number(each, "line"), member_text(each, "element", room));
        fprintf(stderr, "%s\n", member_text(each, "detail", room));
    }
}

static json_t *body_of(const struct entsso *entsso, bool dry_run)
{
    return json_pack("{s:O,s:O,s:O,s:b}", "apps", entsso->apps, "mappings", entsso->mappings,
                     "settings", entsso->settings, "dry_run", dry_run);
}

static enum sso_code print_done(struct cli *cli, const struct entsso *entsso, json_t *reply,
                                struct sso_error *err)
{
    if (cli->json) {
        json_object_set(reply, "notes", entsso->notes);
        return output_json(reply, err);
    }
    printf("%s: %lld applications, %lld mappings, %lld settings\n",
           json_is_true(json_object_get(reply, "dry_run")) ? "would be imported" : "imported",
           (long long)member_number(reply, "apps"), (long long)member_number(reply, "mappings"),
           (long long)member_number(reply, "settings"));
    return SSO_OK;
}

/* The service names what it refuses as the request did: apps[N] or mappings[N]. */
static enum sso_code with_place(const struct entsso *entsso, struct sso_error *err)
{
    char list[16];
    size_t i;
    if (sscanf(err->detail, "%15[a-z][%zu]", list, &i) != 2)
        return err->code;
    const json_t *places = strcmp(list, "apps") == 0       ? entsso->app_places
                           : strcmp(list, "mappings") == 0 ? entsso->mapping_places
                                                           : NULL;
    const char *place = json_string_value(json_array_get(places, i));
    return place == NULL ? err->code : sso_error_context(err, "%s", place);
}

/* All files are read before anything is asked of the service: what is wrong in any of them is shown
 * together, and nothing is done. */
static enum sso_code import_files(struct cli *cli, struct entsso *entsso,
                                  const struct arguments *files, bool dry_run,
                                  struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    for (int i = 0; rc == SSO_OK && i < files->count; i++)
        rc = entsso_read(entsso, files->value[i], err);
    if (rc != SSO_OK)
        return rc;
    print_list(entsso->notes, "note: ");
    print_list(entsso->faults, "");
    size_t faults = json_array_size(entsso->faults);
    if (faults != 0)
        return sso_fail(err, SSO_BAD_REQUEST,
                        "%zu elements cannot be imported, see above; nothing was changed", faults);
    json_t *reply = NULL, *body = body_of(entsso, dry_run);
    rc = api_call(cli, &(struct api_request){.method = "POST", .body = body}, &reply, err,
                  "/v1/apps:import");
    rc = rc == SSO_OK ? print_done(cli, entsso, reply, err) : with_place(entsso, err);
    json_decref(body);
    json_decref(reply);
    return rc;
}

COMMAND_FUNCTION(command_import_entsso)
{
    bool dry_run = false;
    const char *map_path = NULL;
    const struct option_row options[] = {{"dry-run", OPTION_FLAG, &dry_run, NULL},
                                         {"map", OPTION_TEXT, &map_path, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    struct entsso_map map = {0};
    struct entsso entsso = {0};
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1000, err);
    if (rc == SSO_OK && map_path != NULL)
        rc = entsso_map_read(map_path, &map, err);
    if (rc == SSO_OK)
        rc = entsso_new(&entsso, &map, err);
    if (rc == SSO_OK)
        rc = import_files(cli, &entsso, &arguments, dry_run, err);
    entsso_free(&entsso);
    entsso_map_free(&map);
    return rc;
}
