#include "cli/application_options.h"

#include <string.h>

#include "cli/api.h"

static enum sso_code add_flag(json_t *body, const char *name, const char *value,
                              struct sso_error *err)
{
    if (value == NULL)
        return SSO_OK;
    bool yes = strcmp(value, "yes") == 0;
    if (!yes && strcmp(value, "no") != 0)
        return sso_fail(err, SSO_USAGE, "%s: expected yes or no", value);
    json_object_set_new(body, name, json_boolean(yes));
    return SSO_OK;
}

/* The API takes whole minutes, and says which. */
static enum sso_code add_lifetime(json_t *body, const char *value, struct sso_error *err)
{
    uint64_t ms = 0;
    if (value == NULL)
        return SSO_OK;
    bool own = strcmp(value, "default") != 0;
    if (own && (!parse_duration_ms(value, &ms) || ms == 0 || ms % 60000 != 0))
        return sso_fail(err, SSO_USAGE,
                        "--ticket-lifetime %s: expected whole minutes, as 5m or 2h, or default",
                        value);
    json_object_set_new(body, "ticket_lifetime_minutes",
                        own ? json_integer((json_int_t)(ms / 60000)) : json_null());
    return SSO_OK;
}

enum sso_code application_options_add(const struct application_options *options, json_t *body,
                                      struct sso_error *err)
{
    body_set_text(body, "description", options->description);
    body_set_text(body, "contact", options->contact);
    body_set_text(body, "admins", options->admins);
    body_set_text(body, "readers", options->readers);
    if (options->users != NULL)
        json_object_set_new(body, "users", list_from_commas(options->users));
    enum sso_code rc = add_flag(body, "cache", options->cache, err);
    if (rc == SSO_OK)
        rc = add_flag(body, "allow_tickets", options->allow_tickets, err);
    if (rc == SSO_OK)
        rc = add_flag(body, "validate_tickets", options->validate_tickets, err);
    if (rc == SSO_OK)
        rc = add_lifetime(body, options->ticket_lifetime, err);
    return rc;
}
