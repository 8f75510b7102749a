#include "custodian/request.h"

#include <stdlib.h>
#include <string.h>

#include "common/encode.h"
#include "common/json.h"
#include "common/secret.h"
#include "custodian/custodian.h"
#include "custodian/operations.h"

/* 1,000 items with 32 fields, and three values more, in each; the rest is room. */
#define BODY_VALUES_MAX 40000

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* In place, over [text, text + count): the decoded length, or -1. `plus`: '+' means a blank, as in
 * a query (application/x-www-form-urlencoded). */
static long percent_decode(char *text, size_t count, bool plus)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        char c = text[i];
        if (c == '%') {
            int high = i + 2 < count ? hex_digit(text[i + 1]) : -1;
            int low = i + 2 < count ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return -1;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        text[used++] = c;
    }
    return (long)used;
}

enum sso_code request_parse_path(struct request *request, const char *path, struct sso_error *err)
{
    if (path == NULL || path[0] != '/')
        return sso_fail(err, SSO_BAD_REQUEST, "the path does not begin with a slash");
    request->path = wiping_strdup(path + 1);
    if (request->path == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the path");
    for (char *next = request->path; next != NULL;) {
        char *segment = next, *slash = strchr(next, '/');
        size_t count = slash != NULL ? (size_t)(slash - segment) : strlen(segment);
        next = slash != NULL ? slash + 1 : NULL;
        if (request->segment_count == PATH_SEGMENTS_MAX)
            return sso_fail(err, SSO_NOT_FOUND, "there is nothing at this path");
        long decoded = percent_decode(segment, count, false);
        if (decoded <= 0 || !text_is_clean_utf8(segment, (size_t)decoded))
            return sso_fail(err, SSO_BAD_REQUEST,
                            "segment %zu of the path is empty, badly percent-encoded, or not clean "
                            "UTF-8",
                            request->segment_count + 1);
        segment[decoded] = '\0';
        request->segment[request->segment_count++] = segment;
    }
    return SSO_OK;
}

enum sso_code request_parse_body(struct request *request, const char *text, size_t count,
                                 struct sso_error *err)
{
    if (count == 0)
        return SSO_OK;
    if (json_value_bound(text, count) > BODY_VALUES_MAX)
        return sso_fail(err, SSO_TOO_LARGE, "the body has more than %d JSON values",
                        BODY_VALUES_MAX);
    json_t *body = json_parse(text, count, err);
    if (body == NULL)
        return SSO_BAD_REQUEST;
    if (!json_is_object(body)) {
        json_decref(body);
        return sso_fail(err, SSO_BAD_REQUEST, "the body is not a JSON object");
    }
    request->body = body;
    return SSO_OK;
}

enum sso_code request_parse_query(struct request *request, const char *query, struct sso_error *err)
{
    if (query == NULL)
        return SSO_OK;
    request->query = wiping_strdup(query);
    char *decoded = wiping_strdup(query);
    if (request->query == NULL || decoded == NULL) {
        wiping_free(decoded);
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the query");
    }
    long count = percent_decode(decoded, strlen(decoded), true);
    bool good = count >= 0 && text_is_clean_utf8(decoded, (size_t)count);
    wiping_free(decoded);
    if (!good)
        return sso_fail(err, SSO_BAD_REQUEST,
                        "the query is badly percent-encoded or not clean UTF-8");
    return SSO_OK;
}

/* Decimal digits only: no sign, no blank, no overflow. */
static bool parse_number(const char *text, size_t count, uint64_t *out)
{
    uint64_t number = 0;
    for (size_t i = 0; i < count; i++) {
        if (text[i] < '0' || text[i] > '9' || number > (UINT64_MAX - 9) / 10)
            return false;
        number = number * 10 + (uint64_t)(text[i] - '0');
    }
    *out = number;
    return count > 0;
}

enum sso_code request_parse_if_match(struct request *request, const char *value,
                                     struct sso_error *err)
{
    size_t count = strlen(value);
    if (count < 3 || value[0] != '"' || value[count - 1] != '"' ||
        !parse_number(value + 1, count - 2, &request->if_match) || request->if_match == 0)
        return sso_fail(err, SSO_BAD_REQUEST,
                        "If-Match takes one version in quotes, as in If-Match: \"3\"");
    return SSO_OK;
}

/* The raw value of a parameter, NULL where it is absent. */
static const char *query_value(const struct request *request, const char *name, size_t *count)
{
    size_t name_bytes = strlen(name);
    for (const char *at = request->query; at != NULL;) {
        size_t length = strcspn(at, "&");
        if (length > name_bytes && at[name_bytes] == '=' && memcmp(at, name, name_bytes) == 0) {
            *count = length - name_bytes - 1;
            return at + name_bytes + 1;
        }
        at = at[length] == '&' ? at + length + 1 : NULL;
    }
    return NULL;
}

bool request_query(const struct request *request, const char *name, char *out, size_t size)
{
    size_t count = 0;
    const char *raw = query_value(request, name, &count);
    if (raw == NULL)
        return false;
    char *text = wiping_malloc(count + 1);
    if (text == NULL)
        return false;
    memcpy(text, raw, count);
    long decoded = percent_decode(text, count, true);
    bool good = decoded >= 0 && (size_t)decoded < size && text_is_clean_utf8(text, (size_t)decoded);
    if (good) {
        memcpy(out, text, (size_t)decoded);
        out[decoded] = '\0';
    }
    wiping_free(text);
    return good;
}

enum sso_code request_query_number(const struct request *request, const char *name,
                                   uint64_t otherwise, uint64_t maximum, uint64_t *out,
                                   struct sso_error *err)
{
    size_t count = 0;
    uint64_t number = otherwise;
    const char *raw = query_value(request, name, &count);
    if (raw != NULL && (!parse_number(raw, count, &number) || number > maximum))
        return sso_fail(err, SSO_BAD_REQUEST, "%s takes a number up to %llu", name,
                        (unsigned long long)maximum);
    *out = number;
    return SSO_OK;
}

unsigned request_roles(struct request *request, const struct application *application)
{
    if (application == NULL)
        return 0;
    return peer_application_roles(request->custodian->peers, &request->peer, application);
}

#define ROLES_WITH_OWN (ROLE_SSO_ADMIN | ROLE_AFFILIATE_ADMIN | ROLE_APP_ADMIN | ROLE_APP_USER)

enum sso_code request_authorise(struct request *request, const struct application *application,
                                bool own, struct sso_error *err)
{
    unsigned allowed = request->operation != NULL ? request->operation->roles : 0;
    unsigned has = request->peer.roles | request_roles(request, application) | ROLE_ANY;
    bool yes = (has & allowed & ~(unsigned)(ROLE_OWN | ROLE_APP_USER_OWN)) != 0;
    if (own && (allowed & ROLE_APP_USER_OWN) && (has & ROLE_APP_USER))
        yes = true;
    if (own && (allowed & ROLE_OWN) && (has & ROLES_WITH_OWN))
        yes = true;
    if (!yes)
        return sso_fail(err, SSO_FORBIDDEN, "the caller has no role that allows this");
    request->authorised = true;
    return SSO_OK;
}

void request_problem(struct request *request, enum sso_code code, const char *detail)
{
    int status = sso_code_facts(code)->http_status;
    json_decref(request->reply);
    wiping_free(request->text);
    request->text = NULL;
    request->etag = 0;
    request->status = status != 0 ? status : 500;
    request->content_type = "application/problem+json";
    request->reply = json_problem(code, detail, request->request_id);
}

void request_free(struct request *request)
{
    wiping_free(request->path);
    wiping_free(request->query);
    wiping_free(request->text);
    json_decref(request->body);
    json_decref(request->reply);
    *request = (struct request){0};
}
