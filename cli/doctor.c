#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/output.h"
#include "cli/prepare.h"

static void add_check(json_t *checks, const char *id, const char *result, const char *detail,
                      const char *remedy)
{
    json_t *text = json_string(detail);
    json_array_append_new(checks,
                          json_pack("{s:s, s:s, s:o, s:s}", "id", id, "result", result, "detail",
                                    text != NULL ? text : json_null(), "remedy", remedy));
}

/* Its health was answered with 503, which has no room in an error: status has the events. */
static void add_events(json_t *checks, const json_t *status)
{
    char text[512] = "the custodian answers, but:";
    size_t i;
    const json_t *event, *health = json_object_get(status, "health");
    json_array_foreach(json_object_get(health, "events"), i, event)
    {
        char name[MEMBER_ROOM], detail[MEMBER_ROOM];
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s %s: %s", i > 0 ? ";" : "",
                 member_text(event, "name", name), member_text(event, "text", detail));
    }
    if (i == 0)
        add_check(checks, "custodian", "WARN", "the custodian answers, but is not ready yet",
                  "sso-hsm status");
    else
        add_check(checks, "custodian", "WARN", text, "docs/events.md tells what to do");
}

static void check_custodian(struct cli *cli, json_t *checks)
{
    struct sso_error problem = {0}, refusal = {0};
    char room[MEMBER_ROOM];
    json_t *health = NULL, *status = NULL;
    enum sso_code rc = api_get(cli, &health, &problem, "/v1/health");
    if (rc == SSO_SERVICE_UNAVAILABLE) {
        enum sso_code answers = api_get(cli, &status, &refusal, "/v1/status");
        if (answers == SSO_OK)
            add_events(checks, status);
        else if (answers == SSO_FORBIDDEN)
            add_check(checks, "custodian", "WARN", "the custodian answers, but its health is bad",
                      "sso-hsm status, as somebody in [roles], names the events");
        else
            add_check(checks, "custodian", "WARN", problem.detail, "start sso-custodian");
    } else if (rc != SSO_OK) {
        add_check(checks, "custodian", "WARN", problem.detail, "sso-hsm status");
    } else if (strcmp(member_text(health, "status", room), "ok") != 0) {
        add_check(checks, "custodian", "WARN", "it answers, but not all is well",
                  "sso-hsm status names the events");
    } else {
        add_check(checks, "custodian", "PASS", "it answers, and all is well", "");
    }
    json_decref(health);
    json_decref(status);
}

static const char *result_of(const json_t *checks)
{
    const char *worst = "PASS";
    size_t i;
    const json_t *check;
    json_array_foreach(checks, i, check)
    {
        const char *result = json_string_value(json_object_get(check, "result"));
        if (result != NULL && strcmp(result, "FAIL") == 0)
            return "FAIL";
        if (result != NULL && strcmp(result, "WARN") == 0)
            worst = "WARN";
    }
    return worst;
}

static void print_check(const json_t *check)
{
    char room[MEMBER_ROOM], room2[MEMBER_ROOM];
    printf("%-4s  %-32s  ", member_text(check, "result", room), member_text(check, "id", room2));
    output_clean(member_text(check, "detail", room));
    putchar('\n');
    const char *result = json_string_value(json_object_get(check, "result"));
    const char *remedy = json_string_value(json_object_get(check, "remedy"));
    if (remedy != NULL && remedy[0] != '\0' && strcmp(result, "PASS") != 0)
        printf("      %-32s  → %s\n", "", remedy);
}

static enum sso_code output_checks(struct cli *cli, json_t *checks, struct sso_error *err)
{
    const char *result = result_of(checks);
    if (strcmp(result, "FAIL") == 0)
        cli->exit_code = EXIT_DONE_WITH_ERRORS;
    if (cli->json) {
        json_t *report = json_pack("{s:s, s:O}", "result", result, "checks", checks);
        enum sso_code rc = output_json(report, err);
        json_decref(report);
        return rc;
    }
    size_t i;
    const json_t *check;
    json_array_foreach(checks, i, check)
    {
        print_check(check);
    }
    printf("%s\n", result);
    return SSO_OK;
}

static enum sso_code run_checks(struct cli *cli, const char *token, json_t *checks,
                                struct sso_error *err)
{
    struct ceremony *ceremony = NULL;
    struct sso_error problem = {0};
    enum sso_code rc = prepare_config(cli, err);
    if (rc != SSO_OK)
        return rc; /* nothing can be checked without it, and the error names file and line */
    add_check(checks, "config", "PASS", cli->config->file, "");
    rc = prepare_ceremony(cli, CEREMONY_TOKEN, &ceremony, &problem);
    if (rc == SSO_FORBIDDEN)
        return sso_fail(err, rc, "%s", problem.detail);
    doctor_check_host(cli->config, checks);
    if (rc != SSO_OK) {
        add_check(checks, "start", "FAIL", problem.detail, "see the checks above");
    } else {
        doctor_check_database(ceremony, checks);
        doctor_check_tokens(ceremony, token, checks);
    }
    ceremony_end(&ceremony);
    check_custodian(cli, checks);
    return SSO_OK;
}

COMMAND_FUNCTION(command_doctor)
{
    const char *token = NULL;
    const struct option_row options[] = {{"token", OPTION_TEXT, &token, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc != SSO_OK)
        return rc;
    json_t *checks = json_array();
    rc = run_checks(cli, token, checks, err);
    if (rc == SSO_OK)
        rc = output_checks(cli, checks, err);
    json_decref(checks);
    return rc;
}
