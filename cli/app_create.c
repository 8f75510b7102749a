#include <string.h>

#include "cli/api.h"
#include "cli/application_options.h"
#include "cli/application_output.h"
#include "cli/arguments.h"

/* LABEL or LABEL:masked. */
static json_t *field_of(const char *text)
{
    static const char masked[] = ":masked";
    size_t length = strlen(text), ending = sizeof masked - 1;
    bool is_masked = length > ending && strcmp(text + length - ending, masked) == 0;
    return json_pack("{s:s%, s:b}", "label", text, is_masked ? length - ending : length, "masked",
                     is_masked);
}

COMMAND_FUNCTION(command_app_create)
{
    const char *type = NULL;
    struct option_values fields = {0};
    struct application_options given = {0};
    const struct option_row options[] = {{"type", OPTION_TEXT, &type, NULL},
                                         {"field", OPTION_EACH, &fields, NULL},
                                         APPLICATION_OPTION_ROWS(given),
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc != SSO_OK)
        return rc;
    if (type == NULL)
        return sso_fail(err, SSO_USAGE, "--type is missing: individual, group or config");
    if (fields.count == 0)
        return sso_fail(err, SSO_USAGE, "--field is missing: at least one");

    json_t *reply = NULL;
    json_t *list = json_array();
    for (size_t i = 0; i < fields.count; i++)
        json_array_append_new(list, field_of(fields.value[i]));
    json_t *body =
        json_pack("{s:s, s:s, s:o}", "name", arguments.value[0], "type", type, "fields", list);
    rc = application_options_add(&given, body, err);
    if (rc == SSO_OK)
        rc = api_call(cli, &(struct api_request){.method = "POST", .body = body}, &reply, err,
                      "/v1/apps");
    if (rc == SSO_OK)
        rc = application_output(cli, reply, err);
    json_decref(body);
    json_decref(reply);
    return rc;
}
