/* A custodian on another host: TLS 1.3 with certificates on both sides, and what its failures mean
 * for a person. */
#ifndef SSO_CLIENT_REMOTE_H
#define SSO_CLIENT_REMOTE_H

#include <curl/curl.h>

#include "common/config.h"
#include "common/error.h"

/* Tells libcurl to talk to [client] url, as the certificate of [client], and to believe nobody but
 * what its authority has signed for that host. SSO_CONFIG_ERROR. */
enum sso_code remote_set_up(CURL *curl, const struct config *config, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Why TLS failed; SSO_OK where `code` is of another kind. `why` is libcurl's text. */
enum sso_code remote_failure(const struct config *config, CURLcode code, const char *why,
                             struct sso_error *err);

#endif
