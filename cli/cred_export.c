#include <stdio.h>
#include <string.h>

#include "cli/arguments.h"
#include "cli/credential_pages.h"
#include "cli/output.h"
#include "common/json.h"

/* Where the values are so large that the reply is not, half of them are asked for. */
#define LOOKUP_ROWS 500

static enum sso_code output_row(struct cli *cli, const char *application, const json_t *asked,
                                const json_t *item, struct sso_error *err)
{
    if (json_object_get(item, "fields") != NULL) {
        json_t *line = json_object();
        const char *const members[] = {"app", "principal", "external_user", "fields"};
        for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
            json_object_set(line, members[i], json_object_get(item, members[i]));
        enum sso_code rc = output_json(line, err);
        json_decref(line);
        return rc;
    }
    struct sso_error problem = {0};
    problem.code = json_problem_read(item, &problem);
    /* Deleted since the page was read: it is simply not there any more. */
    if (problem.code == SSO_NOT_FOUND)
        return SSO_OK;
    /* Not allowed, not available, disabled as a whole: that holds for the others too. */
    if (problem.code == SSO_APPLICATION_DISABLED || problem.code == SSO_SYSTEM_DISABLED ||
        sso_code_facts(problem.code)->exit_code > EXIT_DONE_WITH_ERRORS)
        return sso_fail(err, problem.code, "%s", problem.detail);
    sso_error_context(&problem, "%s/%s", application,
                      json_string_value(json_object_get(asked, "principal")));
    output_error(&problem, cli->json);
    cli->exit_code = EXIT_DONE_WITH_ERRORS;
    return SSO_OK;
}

/* Looks up rows[first … first + count - 1] of a page. */
static enum sso_code export_rows(struct cli *cli, const char *application, const json_t *rows,
                                 size_t first, size_t count, struct sso_error *err)
{
    json_t *items = json_array(), *reply = NULL;
    for (size_t i = first; i < first + count; i++)
        json_array_append_new(items,
                              json_pack("{s:s, s:O}", "app", application, "principal",
                                        json_object_get(json_array_get(rows, i), "principal")));
    json_t *body = json_pack("{s:o}", "items", items);
    enum sso_code rc = api_call(cli, &(struct api_request){.method = "POST", .body = body}, &reply,
                                err, "/v1/lookup");
    json_decref(body);
    if (rc == SSO_TOO_LARGE && count > 1) {
        rc = export_rows(cli, application, rows, first, count / 2, err);
        return rc != SSO_OK
                   ? rc
                   : export_rows(cli, application, rows, first + count / 2, count - count / 2, err);
    }
    const json_t *answers = json_object_get(reply, "items");
    if (rc == SSO_OK && json_array_size(answers) != count)
        rc = sso_fail(err, SSO_INTERNAL, "the custodian answered %zu of %zu lookups",
                      json_array_size(answers), count);
    for (size_t i = 0; rc == SSO_OK && i < count; i++)
        rc = output_row(cli, application, json_array_get(rows, first + i),
                        json_array_get(answers, i), err);
    json_decref(reply);
    return rc;
}

COMMAND_FUNCTION(command_cred_export)
{
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc != SSO_OK)
        return rc;
    struct credential_pages pages = {.application = arguments.value[0]};
    json_t *page = NULL;
    while ((rc = credential_pages_next(cli, &pages, &page, err)) == SSO_OK && page != NULL) {
        size_t rows = json_array_size(page);
        for (size_t first = 0; rc == SSO_OK && first < rows; first += LOOKUP_ROWS) {
            size_t count = rows - first < LOOKUP_ROWS ? rows - first : LOOKUP_ROWS;
            rc = export_rows(cli, pages.application, page, first, count, err);
        }
        json_decref(page);
        if (rc != SSO_OK)
            break;
    }
    return rc;
}
