#include "client/remote.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/address.h"
#include "common/private_file.h"

static enum sso_code check_readable(const char *path, const char *what, struct sso_error *err)
{
    if (path == NULL || path[0] == '\0')
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "[client] %s is missing: to a custodian on another host both sides show "
                        "certificates",
                        what);
    if (access(path, R_OK) != 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "[client] %s: %s cannot be read", what,
                              path);
    return SSO_OK;
}

static enum sso_code check_files(const struct config *config, struct sso_error *err)
{
    int key = -1;
    enum sso_code rc;
    if ((rc = check_readable(config->client.certificate, "certificate", err)) != SSO_OK ||
        (rc = check_readable(config->client.ca, "ca", err)) != SSO_OK ||
        (rc = check_readable(config->client.key, "key", err)) != SSO_OK ||
        (rc = private_file_open(config->client.key, "[client] key", geteuid(), &key, err)) !=
            SSO_OK)
        return rc;
    close(key); /* libcurl reads it itself */
    return SSO_OK;
}

enum sso_code remote_set_up(CURL *curl, const struct config *config, struct sso_error *err)
{
    struct address address;
    const char *url = config->client.url;
    if (!address_parse_url(url, &address))
        return sso_fail(err, SSO_CONFIG_ERROR, "[client] url: %s is not https://HOST:PORT", url);
    enum sso_code rc = check_files(config, err);
    if (rc != SSO_OK)
        return rc;
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* the environment must not divert it */
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_3);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(curl, CURLOPT_SSL_SESSIONID_CACHE, 0L);
    const struct {
        CURLoption option;
        const char *text;
    } set[] = {
        {CURLOPT_CAPATH, NULL}, /* none of the system's authorities */
        {CURLOPT_CAINFO, config->client.ca},
        {CURLOPT_SSLCERT, config->client.certificate},
        {CURLOPT_SSLKEY, config->client.key},
        {CURLOPT_KEYPASSWD, ""}, /* else OpenSSL asks at the terminal */
    };
    for (size_t i = 0; i < sizeof set / sizeof set[0]; i++) {
        if (curl_easy_setopt(curl, set[i].option, set[i].text) != CURLE_OK)
            return sso_fail(err, SSO_CONFIG_ERROR, "[client]: libcurl does not take %s",
                            set[i].text != NULL ? set[i].text : "its own authorities away");
    }
    return SSO_OK;
}

/* The custodian's certificate did not stand the test. */
static enum sso_code not_believed(const struct config *config, const char *why,
                                  struct sso_error *err)
{
    const char *url = config->client.url;
    if (strstr(why, "alternative certificate subject name") != NULL ||
        strstr(why, "does not match") != NULL)
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "the certificate of the custodian at %s is for another name: ask for it by "
                        "a name that stands in it, or have it issued for this one (%s)",
                        url, why);
    if (strstr(why, "expired") != NULL)
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "the certificate of the custodian at %s has expired: its node needs a new "
                        "one ([tls] certificate there, then SIGHUP); look at the clock here too "
                        "(%s)",
                        url, why);
    return sso_fail(err, SSO_CONFIG_ERROR,
                    "the certificate of the custodian at %s is not believed: [client] ca must be "
                    "the authority that issued it (%s has: %s)",
                    url, config->client.ca, why);
}

enum sso_code remote_failure(const struct config *config, CURLcode code, const char *why,
                             struct sso_error *err)
{
    const char *url = config->client.url, *alert = strstr(why, "alert ");
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
        return not_believed(config, why, err);
    case CURLE_COULDNT_RESOLVE_HOST:
        return sso_fail(err, SSO_SERVICE_UNAVAILABLE, "the host of %s is not known: %s", url, why);
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "[client] certificate, key or ca cannot be used (%s, %s, %s; PEM, the key "
                        "without a passphrase): %s",
                        config->client.certificate, config->client.key, config->client.ca, why);
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
        /* With TLS 1.3 a client hears what is wrong with its certificate when it reads first. */
        if (alert != NULL)
            return sso_fail(err, SSO_FORBIDDEN,
                            "the custodian at %s does not let the certificate %s in: %s; its log "
                            "tells more",
                            url, config->client.certificate, alert + strlen("alert "));
        return sso_fail(err, SSO_SERVICE_UNAVAILABLE,
                        "the connection to %s ended: %s; where it never works, the custodian may "
                        "not let the certificate %s in, and its log tells why",
                        url, why, config->client.certificate);
    default:
        return SSO_OK;
    }
}
