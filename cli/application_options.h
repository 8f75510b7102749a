/* What `app create` and `app update` say alike of an application. */
#ifndef SSO_CLI_APPLICATION_OPTIONS_H
#define SSO_CLI_APPLICATION_OPTIONS_H

#include <jansson.h>

#include "cli/arguments.h"

struct application_options {
    const char *description, *contact, *admins, *users, *readers;
    const char *cache, *allow_tickets, *validate_tickets; /* yes or no */
    const char *ticket_lifetime;                          /* a duration, or default */
};

/* Rows for arguments_parse. */
#define APPLICATION_OPTION_ROWS(options)                                                           \
    {"description", OPTION_TEXT, &(options).description, NULL},                                    \
        {"contact", OPTION_TEXT, &(options).contact, NULL},                                        \
        {"admins", OPTION_TEXT, &(options).admins, NULL},                                          \
        {"users", OPTION_TEXT, &(options).users, NULL},                                            \
        {"readers", OPTION_TEXT, &(options).readers, NULL},                                        \
        {"cache", OPTION_TEXT, &(options).cache, NULL},                                            \
        {"allow-tickets", OPTION_TEXT, &(options).allow_tickets, NULL},                            \
        {"validate-tickets", OPTION_TEXT, &(options).validate_tickets, NULL},                      \
    {                                                                                              \
        "ticket-lifetime", OPTION_TEXT, &(options).ticket_lifetime, NULL                           \
    }

/* Adds what was given to the body of a request. SSO_USAGE where a yes or no is neither. */
enum sso_code application_options_add(const struct application_options *options, json_t *body,
                                      struct sso_error *err) __attribute__((warn_unused_result));

#endif
