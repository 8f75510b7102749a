#include "cli/credential_pages.h"

#include <stdio.h>

enum sso_code credential_pages_next(struct cli *cli, struct credential_pages *pages,
                                    json_t **credentials, struct sso_error *err)
{
    *credentials = NULL;
    if (pages->done)
        return SSO_OK;
    json_t *reply = NULL;
    enum sso_code rc;
    if (pages->started)
        rc = api_get(cli, &reply, err, "/v1/apps/%s/credentials?limit=%llu&after=%s",
                     pages->application, (unsigned long long)CREDENTIAL_PAGE_ROWS, pages->after);
    else
        rc = api_get(cli, &reply, err, "/v1/apps/%s/credentials?limit=%llu", pages->application,
                     (unsigned long long)CREDENTIAL_PAGE_ROWS);
    if (rc == SSO_OK) {
        const char *next = json_string_value(json_object_get(reply, "next"));
        pages->started = true;
        pages->done = next == NULL;
        if (next != NULL)
            snprintf(pages->after, sizeof pages->after, "%s", next);
        *credentials = json_incref(json_object_get(reply, "credentials"));
    }
    json_decref(reply);
    return rc;
}
