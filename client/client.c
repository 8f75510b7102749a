#include "client/client.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "client/remote.h"
#include "common/json.h"
#include "common/secret.h"

#define TIMEOUT_MS_DEFAULT 30000
#define CONNECT_TIMEOUT_MS 5000
/* Far above any reply that the batch limits allow in practice; a bound all the same. */
#define REPLY_BYTES_MAX ((size_t)256 << 20)

struct client {
    CURL *curl;
    char *base; /* "http://custodian" on the socket, else [client] url without a slash at its end */
    char *where;                 /* for people: the socket's path or the URL */
    const struct config *remote; /* NULL on the socket */
    char curl_error[CURL_ERROR_SIZE];
};

struct reply_body {
    char *data; /* wiping_malloc, NUL behind */
    size_t length_bytes, capacity_bytes;
    bool too_large;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_start = CURLE_FAILED_INIT;

static void start_curl(void)
{
    curl_start = curl_global_init_mem(CURL_GLOBAL_DEFAULT, wiping_malloc, wiping_free,
                                      wiping_realloc, wiping_strdup, wiping_calloc);
}

static size_t take_body(char *bytes, size_t one, size_t count, void *context)
{
    struct reply_body *body = context;
    size_t more = one * count;
    if (more > REPLY_BYTES_MAX - body->length_bytes) {
        body->too_large = true;
        return 0;
    }
    if (body->length_bytes + more + 1 > body->capacity_bytes) {
        size_t capacity = (body->length_bytes + more + 1) * 2;
        char *grown = wiping_realloc(body->data, capacity);
        if (grown == NULL)
            return 0;
        body->data = grown;
        body->capacity_bytes = capacity;
    }
    memcpy(body->data + body->length_bytes, bytes, more);
    body->length_bytes += more;
    body->data[body->length_bytes] = '\0';
    return more;
}

static enum sso_code setup_remote(struct client *client, const struct config *config,
                                  struct sso_error *err)
{
    const char *url = config->client.url;
    client->remote = config;
    client->base = strdup(url);
    client->where = strdup(url);
    if (client->base == NULL || client->where == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the client");
    for (size_t end = strlen(client->base); end > 0 && client->base[end - 1] == '/'; end--)
        client->base[end - 1] = '\0';
    return remote_set_up(client->curl, config, err);
}

static enum sso_code setup_socket(struct client *client, const struct config *config,
                                  struct sso_error *err)
{
    const char *path = config->listen.socket;
    if (strlen(path) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
        return sso_fail(err, SSO_CONFIG_ERROR, "[listen] socket: %s is too long for a socket",
                        path);
    client->base = strdup("http://custodian");
    client->where = strdup(path);
    if (client->base == NULL || client->where == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the client");
    curl_easy_setopt(client->curl, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(client->curl, CURLOPT_PROXY, ""); /* http_proxy must not divert a socket */
    if (curl_easy_setopt(client->curl, CURLOPT_UNIX_SOCKET_PATH, path) != CURLE_OK)
        return sso_fail(err, SSO_INTERNAL, "libcurl does not take the socket %s", path);
    return SSO_OK;
}

enum sso_code client_open(const struct config *config, struct client **out, struct sso_error *err)
{
    pthread_once(&curl_once, start_curl);
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL || curl_start != CURLE_OK || (client->curl = curl_easy_init()) == NULL) {
        client_close(&client);
        return sso_fail(err, SSO_NO_MEMORY, "libcurl does not start");
    }
    CURL *curl = client->curl;
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, client->curl_error);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L); /* an application may be named ".." */
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "sso-hsm/" SSO_HSM_VERSION);

    bool remote = config->client.url != NULL && config->client.url[0] != '\0';
    enum sso_code rc =
        remote ? setup_remote(client, config, err) : setup_socket(client, config, err);
    if (rc != SSO_OK)
        client_close(&client);
    else
        *out = client;
    return rc;
}

void client_close(struct client **client)
{
    if (client == NULL || *client == NULL)
        return;
    if ((*client)->curl != NULL)
        curl_easy_cleanup((*client)->curl);
    free((*client)->base);
    free((*client)->where);
    free(*client);
    *client = NULL;
}

static enum sso_code curl_failure(struct client *client, CURLcode code,
                                  const struct reply_body *body, struct sso_error *err)
{
    long os_error = 0;
    curl_easy_getinfo(client->curl, CURLINFO_OS_ERRNO, &os_error);
    const char *why = client->curl_error[0] != '\0' ? client->curl_error : curl_easy_strerror(code);
    if (body->too_large)
        return sso_fail(err, SSO_TOO_LARGE, "the answer of the custodian is larger than %zu bytes",
                        REPLY_BYTES_MAX);
    if (client->remote != NULL) {
        enum sso_code rc = remote_failure(client->remote, code, why, err);
        if (rc != SSO_OK)
            return rc;
    }
    switch (code) {
    case CURLE_COULDNT_CONNECT:
        return sso_fail(err, SSO_SERVICE_UNAVAILABLE,
                        "nobody answers at %s (%s): is sso-custodian running?", client->where,
                        os_error != 0 ? strerror((int)os_error) : why);
    case CURLE_OPERATION_TIMEDOUT:
        return sso_fail(err, SSO_SERVICE_UNAVAILABLE, "no answer in time from %s", client->where);
    case CURLE_OUT_OF_MEMORY:
    case CURLE_WRITE_ERROR:
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the answer of the custodian");
    case CURLE_URL_MALFORMAT:
        return sso_fail(err, SSO_CONFIG_ERROR, "[client]: %s", why);
    default:
        return sso_fail(err, SSO_SERVICE_UNAVAILABLE, "talking to %s failed: %s", client->where,
                        why);
    }
}

/* "name: value", or "name:" to take a header of libcurl's away. */
static bool add_header(struct curl_slist **headers, const char *line)
{
    struct curl_slist *grown = curl_slist_append(*headers, line);
    if (grown == NULL)
        return false;
    *headers = grown;
    return true;
}

static bool call_headers(const struct client_call *call, struct curl_slist **headers)
{
    char if_match[64];
    /* "Expect: 100-continue" costs a round trip for each large body and gains nothing here. */
    if (!add_header(headers, "Expect:") ||
        !add_header(headers, "Accept: application/json, application/problem+json, text/plain"))
        return false;
    if (call->body != NULL && !add_header(headers, "Content-Type: application/json"))
        return false;
    if (call->if_match == NULL)
        return true;
    snprintf(if_match, sizeof if_match, "If-Match: \"%s\"", call->if_match);
    return add_header(headers, if_match);
}

static void set_method(CURL *curl, const struct client_call *call, const char *text)
{
    curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L); /* forgets the body of the call before */
    if (text != NULL) {
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, text);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(text));
    } else if (strcmp(call->method, "POST") == 0 || strcmp(call->method, "PUT") == 0) {
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)0);
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, call->method);
}

static enum sso_code perform(struct client *client, const struct client_call *call,
                             struct reply_body *body, long *status, struct sso_error *err)
{
    enum sso_code rc = SSO_NO_MEMORY;
    struct curl_slist *headers = NULL;
    char *text = NULL, *url = NULL;
    CURL *curl = client->curl;

    if (asprintf(&url, "%s%s", client->base, call->path) < 0)
        url = NULL;
    if (call->body != NULL)
        text = json_line(call->body);
    if (url == NULL || (call->body != NULL && text == NULL) || !call_headers(call, &headers)) {
        sso_fail(err, rc, "no memory for a request");
        goto out;
    }
    client->curl_error[0] = '\0';
    set_method(curl, call, text);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS,
                     (long)(call->timeout_ms != 0 ? call->timeout_ms : TIMEOUT_MS_DEFAULT));
    CURLcode code = curl_easy_perform(curl);
    if (code != CURLE_OK) {
        rc = curl_failure(client, code, body, err);
        goto out;
    }
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status);
    rc = SSO_OK;
out:
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, NULL);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    wiping_free(text);
    free(url);
    return rc;
}

/* What a status without a problem object of ours means: a server's or a proxy's own error page. */
static enum sso_code code_of_status(long status)
{
    switch (status) {
    case 400:
        return SSO_BAD_REQUEST;
    case 401:
    case 403:
        return SSO_FORBIDDEN;
    case 404:
        return SSO_NOT_FOUND;
    case 413:
        return SSO_TOO_LARGE;
    case 429:
        return SSO_TOO_MANY_REQUESTS;
    case 502:
    case 503:
    case 504:
        return SSO_SERVICE_UNAVAILABLE;
    default:
        return SSO_INTERNAL;
    }
}

static enum sso_code problem(const struct reply_body *body, long status, struct sso_error *err)
{
    json_t *object =
        body->length_bytes > 0 ? json_parse(body->data, body->length_bytes, NULL) : NULL;
    enum sso_code rc;
    if (json_is_string(json_object_get(object, "code")))
        rc = json_problem_read(object, err);
    else
        rc = sso_fail(err, code_of_status(status),
                      "the custodian answered with HTTP status %ld and no reason", status);
    json_decref(object);
    return rc;
}

enum sso_code client_request(struct client *client, const struct client_call *call, json_t **reply,
                             struct sso_error *err)
{
    struct reply_body body = {0};
    long status = 0;
    json_t *object = NULL;
    enum sso_code rc = perform(client, call, &body, &status, err);
    if (rc == SSO_OK && status >= 400) {
        rc = problem(&body, status, err);
    } else if (rc == SSO_OK && status != 204 && body.length_bytes > 0) {
        object = json_parse(body.data, body.length_bytes, err);
        if (object == NULL) {
            rc = SSO_INTERNAL;
            if (err != NULL) {
                err->code = rc;
                sso_error_context(err, "the answer of the custodian is no JSON");
            }
        }
    }
    wiping_free(body.data);
    if (rc == SSO_OK && reply != NULL)
        *reply = object;
    else
        json_decref(object);
    return rc;
}

enum sso_code client_request_text(struct client *client, const struct client_call *call,
                                  char **text, struct sso_error *err)
{
    struct reply_body body = {0};
    long status = 0;
    enum sso_code rc = perform(client, call, &body, &status, err);
    if (rc == SSO_OK && status >= 400)
        rc = problem(&body, status, err);
    if (rc == SSO_OK && body.data == NULL && (body.data = wiping_strdup("")) == NULL)
        rc = sso_fail(err, SSO_NO_MEMORY, "no memory for the answer of the custodian");
    if (rc == SSO_OK)
        *text = body.data;
    else
        wiping_free(body.data);
    return rc;
}

char *client_escape(const char *segment)
{
    static const char hex[] = "0123456789ABCDEF";
    char *out = malloc(3 * strlen(segment) + 1), *next = out;
    if (out == NULL)
        return NULL;
    for (const unsigned char *c = (const unsigned char *)segment; *c != '\0'; c++) {
        bool unreserved =
            *c < 128 && (isalnum(*c) || strchr("-._~", *c) != NULL); /* RFC 3986 2.3 */
        /* A path of "." or ".." is a step, not a name; libcurl and servers would take it so. */
        if (unreserved && !(*c == '.' && strspn(segment, ".") == strlen(segment))) {
            *next++ = (char)*c;
        } else {
            *next++ = '%';
            *next++ = hex[*c >> 4];
            *next++ = hex[*c & 15];
        }
    }
    *next = '\0';
    return out;
}
