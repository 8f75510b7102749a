#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/line_reader.h"
#include "cli/output.h"
#include "cli/prepare.h"
#include "common/secret.h"
#include "common/ticket.h"

COMMAND_FUNCTION(command_ticket_issue)
{
    struct arguments arguments;
    json_t *reply = NULL;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc == SSO_OK)
        rc = api_call(cli, &(struct api_request){.method = "POST"}, &reply, err, "/v1/tickets");
    const char *ticket = json_string_value(json_object_get(reply, "ticket"));
    if (rc == SSO_OK && cli->json)
        rc = output_json(reply, err);
    else if (rc == SSO_OK && ticket != NULL)
        rc = output_secret_line(ticket, strlen(ticket), err);
    json_decref(reply);
    return rc;
}

/* Blanks around it do not count. */
static enum sso_code ticket_from_stdin(json_t *body, struct sso_error *err)
{
    static const char around[] = " \t\r\n";
    char *text = NULL;
    size_t length = 0;
    enum sso_code rc = read_whole(STDIN_FILENO, 2 * TICKET_TEXT_SIZE, &text, &length, err);
    if (rc != SSO_OK)
        return rc;
    const char *first = text;
    while (length > 0 && strchr(around, first[0]) != NULL && first[0] != '\0')
        first++, length--;
    while (length > 0 && strchr(around, first[length - 1]) != NULL)
        length--;
    json_t *ticket = length > 0 ? json_stringn(first, length) : NULL;
    wiping_free(text);
    if (ticket == NULL)
        return sso_fail(err, SSO_TICKET_INVALID, "there is no ticket on standard input");
    json_object_set_new(body, "ticket", ticket);
    return SSO_OK;
}

static enum sso_code print_redeemed(const json_t *credential, struct sso_error *err)
{
    char room[MEMBER_ROOM];
    const char *label;
    json_t *value;
    printf("principal: ");
    output_clean(member_text(credential, "principal", room));
    printf("\nexternal_user: ");
    output_clean(member_text(credential, "external_user", room));
    putchar('\n');
    json_object_foreach(json_object_get(credential, "fields"), label, value)
    {
        enum sso_code rc =
            output_secret_field(label, json_string_value(value), json_string_length(value), err);
        if (rc != SSO_OK)
            return rc;
    }
    return SSO_OK;
}

COMMAND_FUNCTION(command_ticket_redeem)
{
    const char *sender = NULL;
    const struct option_row options[] = {{"sender", OPTION_TEXT, &sender, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc == SSO_OK)
        rc = prepare_api(cli, err);
    if (rc != SSO_OK)
        return rc;
    json_t *reply = NULL, *body = json_pack("{s:s}", "app", arguments.value[0]);
    body_set_text(body, "sender", sender);
    rc = ticket_from_stdin(body, err);
    if (rc == SSO_OK)
        rc = api_call(cli, &(struct api_request){.method = "POST", .body = body}, &reply, err,
                      "/v1/tickets:redeem");
    if (rc == SSO_OK)
        rc = cli->json ? output_json(reply, err) : print_redeemed(reply, err);
    json_decref(body);
    json_decref(reply);
    return rc;
}
