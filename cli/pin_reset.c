#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/output.h"
#include "cli/prepare.h"
#include "common/clock.h"

#define RESET_TIMEOUT_MS 120000
/* The custodian looks at its tokens again within 4 s. */
#define SETTLE_MS 10000
#define POLL_MS 250

static enum sso_code reset_directly(struct cli *cli, const char *token, struct sso_error *err)
{
    struct ceremony *ceremony = NULL;
    enum sso_code rc = prepare_ceremony(cli, CEREMONY_TOKEN | CEREMONY_ADMIN, &ceremony, err);
    if (rc == SSO_OK)
        rc = ceremony_pin_reset(ceremony, token, err);
    ceremony_end(&ceremony);
    return rc;
}

static void pause_ms(long milliseconds)
{
    const struct timespec span = {.tv_nsec = milliseconds * 1000000};
    nanosleep(&span, NULL);
}

static const json_t *refusal_of(const json_t *status)
{
    size_t i;
    const json_t *event, *health = json_object_get(status, "health");
    json_array_foreach(json_object_get(health, "events"), i, event)
    {
        const char *name = json_string_value(json_object_get(event, "name"));
        if (name != NULL && strcmp(name, "pin_refused") == 0)
            return event;
    }
    return NULL;
}

/* The custodian's reply comes before the try. What it says of the token right after is still what
 * was before: a refusal counts once it has outlasted SETTLE_MS. *accepted: NULL where nobody can
 * tell. */
static enum sso_code wait_for_outcome(struct cli *cli, json_t **accepted, struct sso_error *err)
{
    int64_t until_ms = boot_clock_ms() + SETTLE_MS;
    enum sso_code rc = SSO_OK;
    *accepted = NULL;
    do {
        struct sso_error problem = {0};
        json_t *status = NULL;
        pause_ms(POLL_MS);
        if (api_get(cli, &status, &problem, "/v1/status") != SSO_OK)
            continue;
        const json_t *refusal = refusal_of(status);
        char room[MEMBER_ROOM];
        rc = SSO_OK;
        if (refusal != NULL)
            rc = sso_fail(err, SSO_PIN_REFUSED, "the PIN was not accepted: %s",
                          member_text(refusal, "text", room));
        else if (member_number(json_object_get(status, "workers"), "ready") > 0)
            *accepted = json_true();
        json_decref(status);
    } while (*accepted == NULL && boot_clock_ms() < until_ms);
    if (rc == SSO_PIN_REFUSED)
        *accepted = json_false();
    return rc;
}

static enum sso_code reset(struct cli *cli, const char *token, json_t **accepted,
                           struct sso_error *err)
{
    json_t *body = json_object();
    body_set_text(body, "token", token);
    const struct api_request request = {
        .method = "POST", .body = body, .timeout_ms = RESET_TIMEOUT_MS};
    enum sso_code rc = api_call(cli, &request, NULL, err, "/v1/pin:reset");
    json_decref(body);
    if (rc == SSO_OK)
        return wait_for_outcome(cli, accepted, err);
    if (rc != SSO_SERVICE_UNAVAILABLE)
        return rc;
    client_close(&cli->client);
    rc = reset_directly(cli, token, err);
    *accepted = rc == SSO_OK ? json_true() : rc == SSO_PIN_REFUSED ? json_false() : NULL;
    return rc;
}

COMMAND_FUNCTION(command_pin_reset)
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
    json_t *accepted = NULL;
    rc = reset(cli, token, &accepted, err);
    if (rc != SSO_OK && rc != SSO_PIN_REFUSED)
        return rc;
    if (cli->json) {
        json_t *result = json_pack("{s:b, s:o}", "reset", true, "accepted",
                                   accepted != NULL ? accepted : json_null());
        enum sso_code printed = output_json(result, rc == SSO_OK ? err : NULL);
        rc = rc == SSO_OK ? printed : rc;
        json_decref(result);
    } else if (rc == SSO_OK && accepted != NULL) {
        printf("the PIN was tried again and accepted\n");
    } else if (rc == SSO_OK) {
        printf("the refusal is forgotten; whether the PIN is accepted is not known yet: "
               "sso-hsm status\n");
    }
    return rc;
}
