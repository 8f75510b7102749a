/* The credentials of an application without fields, page by page. */
#ifndef SSO_CLI_CREDENTIAL_PAGES_H
#define SSO_CLI_CREDENTIAL_PAGES_H

#include "cli/api.h"

#define CREDENTIAL_PAGE_ROWS 1000

struct credential_pages {
    const char *application;
    char after[4096];
    bool started, done;
};

/* The next page's array, to be json_decref'ed; NULL when there is none left. */
enum sso_code credential_pages_next(struct cli *cli, struct credential_pages *pages,
                                    json_t **credentials, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
