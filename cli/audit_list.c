#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/output.h"

#define RECORDS_DEFAULT 100
#define PAGE_RECORDS 1000

static void print_record(const json_t *record)
{
    char room[MEMBER_ROOM];
    printf("%s %s/%lld ", member_text(record, "time", room),
           json_string_value(json_object_get(record, "node")),
           (long long)member_number(record, "number"));
    const char *const members[] = {"actor", "how", "operation", "target", "outcome"};
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        putchar(' ');
        output_clean(member_text(record, members[i], room));
    }
    putchar('\n');
}

/* The newest of a node, which is where to begin; all that come after are few. */
static enum sso_code get_last(struct cli *cli, const char *node, uint64_t last, json_t *result,
                              struct sso_error *err)
{
    json_t *page = NULL;
    unsigned long long most = last;
    enum sso_code rc = node == NULL
                           ? api_get(cli, &page, err, "/v1/audit?last=%llu", most)
                           : api_get(cli, &page, err, "/v1/audit?last=%llu&node=%s", most, node);
    if (rc == SSO_OK)
        json_object_update(result, page);
    json_decref(page);
    return rc;
}

/* The page after `after`. */
static enum sso_code get_page(struct cli *cli, const char *node, uint64_t after, uint64_t limit,
                              json_t **page, struct sso_error *err)
{
    unsigned long long from = after, most = limit < PAGE_RECORDS ? limit : PAGE_RECORDS;
    if (node == NULL)
        return api_get(cli, page, err, "/v1/audit?after=%llu&limit=%llu", from, most);
    return api_get(cli, page, err, "/v1/audit?after=%llu&limit=%llu&node=%s", from, most, node);
}

/* Pages until `limit` records are there or none are left; *next as the last page said. */
static enum sso_code collect(struct cli *cli, const char *node, uint64_t after, uint64_t limit,
                             json_t *result, struct sso_error *err)
{
    json_t *records = json_array();
    json_object_set_new(result, "records", records);
    json_object_set_new(result, "next", json_null());
    enum sso_code rc = SSO_OK;
    for (bool more = true; rc == SSO_OK && more;) {
        json_t *page = NULL;
        rc = get_page(cli, node, after, limit - json_array_size(records), &page, err);
        json_t *next = json_object_get(page, "next");
        if (rc == SSO_OK) {
            json_array_extend(records, json_object_get(page, "records"));
            json_object_set(result, "next", next);
            after = (uint64_t)json_integer_value(next);
            more = json_is_integer(next) && json_array_size(records) < limit;
        }
        json_decref(page);
    }
    return rc;
}

static enum sso_code export_page(const json_t *page, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    size_t i;
    const json_t *record;
    json_array_foreach(json_object_get(page, "records"), i, record)
    {
        rc = rc == SSO_OK ? output_json(record, err) : rc;
    }
    return rc;
}

COMMAND_FUNCTION(command_audit_export)
{
    const char *node = NULL;
    const struct option_row options[] = {{"node", OPTION_TEXT, &node, NULL}, {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    uint64_t after = 0;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    for (bool more = true; rc == SSO_OK && more;) {
        json_t *page = NULL;
        rc = get_page(cli, node, after, PAGE_RECORDS, &page, err);
        if (rc == SSO_OK)
            rc = export_page(page, err);
        const json_t *next = json_object_get(page, "next");
        more = json_is_integer(next);
        after = (uint64_t)json_integer_value(next);
        json_decref(page);
    }
    return rc;
}

COMMAND_FUNCTION(command_audit_list)
{
    const char *node = NULL, *after_text = NULL;
    uint64_t after = 0, limit = RECORDS_DEFAULT, last = 0;
    const struct option_row options[] = {{"node", OPTION_TEXT, &node, NULL},
                                         {"after", OPTION_TEXT, &after_text, NULL},
                                         {"limit", OPTION_NUMBER, &limit, NULL},
                                         {"last", OPTION_NUMBER, &last, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc == SSO_OK && after_text != NULL && strcmp(after_text, "0") != 0 &&
        !argument_number(after_text, INT64_MAX, &after))
        rc = sso_fail(err, SSO_USAGE, "--after wants a number");
    if (rc == SSO_OK && (last > PAGE_RECORDS || (last > 0 && after_text != NULL)))
        rc = sso_fail(err, SSO_USAGE, "--last goes up to %d, and without --after", PAGE_RECORDS);
    if (rc != SSO_OK)
        return rc;

    json_t *result = json_object();
    rc = last > 0 ? get_last(cli, node, last, result, err)
                  : collect(cli, node, after, limit, result, err);
    if (rc == SSO_OK && cli->json) {
        rc = output_json(result, err);
    } else if (rc == SSO_OK) {
        size_t i;
        const json_t *record;
        json_array_foreach(json_object_get(result, "records"), i, record)
        {
            print_record(record);
        }
    }
    json_decref(result);
    return rc;
}
