/* Parsing of what others send: path, query, If-Match, body. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "common/secret.h"
#include "custodian/custodian.h"
#include "custodian/operations.h"

unsigned peer_application_roles(struct peer_directory *directory, const struct peer *peer,
                                const struct application *application)
{
    (void)directory;
    (void)peer;
    (void)application;
    return 0;
}

/* Segments joined by '|', or "!" and the code. */
static const char *parsed(const char *path)
{
    static char text[4096];
    struct request request = {0};
    struct sso_error err = {0};
    text[0] = '\0';
    enum sso_code rc = request_parse_path(&request, path, &err);
    if (rc != SSO_OK) {
        assert_int_equal(err.code, rc);
        snprintf(text, sizeof text, "!%s", sso_code_facts(rc)->name);
    }
    for (size_t i = 0; rc == SSO_OK && i < request.segment_count; i++) {
        strcat(text, i > 0 ? "|" : "");
        strcat(text, request.segment[i]);
    }
    request_free(&request);
    return text;
}

static void paths_are_split_before_they_are_decoded(void **state)
{
    (void)state;
    assert_string_equal(parsed("/v1/apps"), "v1|apps");
    assert_string_equal(parsed("/v1/apps/a%2Fb/credentials/x%2f..%2fy"),
                        "v1|apps|a/b|credentials|x/../y");
    assert_string_equal(parsed("/v1/apps/%C3%BCber/purge"), "v1|apps|\xc3\xbc"
                                                            "ber|purge");
    assert_string_equal(parsed("/v1/apps/a+b"), "v1|apps|a+b");
    assert_string_equal(parsed("/v1/apps/100%25"), "v1|apps|100%");
    assert_string_equal(parsed("/v1/apps/%252F"), "v1|apps|%2F"); /* once only */
}

static void bad_paths_are_refused(void **state)
{
    static const char *const bad[] = {"",          "v1",        "/",          "//",
                                      "/v1//apps", "/v1/apps/", "/v1/a%",     "/v1/a%2",
                                      "/v1/a%2g",  "/v1/a%00b", "/v1/a%0Ab",  "/v1/a%7F",
                                      "/v1/%FF",   "/v1/%C3",   "/v1/%C0%AF", "/v1/%ED%A0%80",
                                      "/v1/% 2",   "/v1/%-1"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_string_equal(parsed(bad[i]), "!bad_request");
    assert_string_equal(parsed(NULL), "!bad_request");
    assert_string_equal(parsed("/1/2/3/4/5/6"), "1|2|3|4|5|6");
    assert_string_equal(parsed("/1/2/3/4/5/6/7"), "!not_found");
}

static void queries(void **state)
{
    struct request request = {0};
    char out[16];
    uint64_t number;
    (void)state;
    assert_int_equal(
        request_parse_query(&request, "limit=10&after=a%26b+c&x&long=0123456789abcdef", NULL),
        SSO_OK);
    assert_true(request_query(&request, "after", out, sizeof out));
    assert_string_equal(out, "a&b c");
    assert_false(request_query(&request, "afte", out, sizeof out));
    assert_false(request_query(&request, "x", out, sizeof out));
    assert_false(request_query(&request, "long", out, sizeof out));
    assert_int_equal(request_query_number(&request, "limit", 5, 10, &number, NULL), SSO_OK);
    assert_int_equal(number, 10);
    assert_int_equal(request_query_number(&request, "limit", 5, 9, &number, NULL), SSO_BAD_REQUEST);
    assert_int_equal(request_query_number(&request, "none", 5, 9, &number, NULL), SSO_OK);
    assert_int_equal(number, 5);
    assert_int_equal(request_query_number(&request, "after", 5, 9, &number, NULL), SSO_BAD_REQUEST);
    request_free(&request);

    static const char *const bad[] = {"a=%", "a=%zz", "a=%00", "a=%FF"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(request_parse_query(&request, bad[i], NULL), SSO_BAD_REQUEST);
        request_free(&request);
    }
}

static void numbers_do_not_overflow(void **state)
{
    struct request request = {0};
    uint64_t number;
    (void)state;
    assert_int_equal(request_parse_query(&request, "a=18446744073709551616&b=-1&c=&d=+1", NULL),
                     SSO_OK);
    static const char *const names[] = {"a", "b", "c", "d"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(request_query_number(&request, names[i], 0, UINT64_MAX, &number, NULL),
                         SSO_BAD_REQUEST);
    request_free(&request);
}

static void entity_tags(void **state)
{
    struct request request = {0};
    (void)state;
    assert_int_equal(request_parse_if_match(&request, "\"42\"", NULL), SSO_OK);
    assert_int_equal(request.if_match, 42);
    static const char *const bad[] = {"",     "42",          "*",
                                      "\"\"", "\"0\"",       "W/\"1\"",
                                      "\"1",  "\"1\",\"2\"", "\"99999999999999999999\""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(request_parse_if_match(&request, bad[i], NULL), SSO_BAD_REQUEST);
}

static void bodies(void **state)
{
    struct request request = {0};
    struct sso_error err = {0};
    (void)state;
    assert_int_equal(request_parse_body(&request, "", 0, &err), SSO_OK);
    assert_null(request.body);
    assert_int_equal(request_parse_body(&request, "[1]", 3, &err), SSO_BAD_REQUEST);
    assert_int_equal(request_parse_body(&request, "{\"a\":\"hunter2\"", 14, &err), SSO_BAD_REQUEST);
    assert_null(strstr(err.detail, "hunter2"));
    assert_int_equal(request_parse_body(&request, "{\"a\":1,\"a\":2}", 13, &err), SSO_BAD_REQUEST);
    assert_int_equal(request_parse_body(&request, "{\"a\":1}", 7, &err), SSO_OK);
    assert_non_null(request.body);
    request_free(&request);
}

/* {"items":[ … ]} with `count` items. */
static char *batch_of(const char *item, size_t count)
{
    char *text = malloc(32 + count * (strlen(item) + 1));
    assert_non_null(text);
    char *at = stpcpy(text, "{\"items\":[");
    for (size_t i = 0; i < count; i++)
        at = stpcpy(stpcpy(at, i > 0 ? "," : ""), item);
    strcpy(at, "]}");
    return text;
}

static enum sso_code parse_batch(const char *item, size_t count)
{
    struct request request = {0};
    char *text = batch_of(item, count);
    enum sso_code rc = request_parse_body(&request, text, strlen(text), NULL);
    assert_int_equal(request.body != NULL, rc == SSO_OK);
    free(text);
    request_free(&request);
    return rc;
}

static void values_are_counted_before_they_are_made(void **state)
{
    char item[2048], *at = item;
    (void)state;
    at += sprintf(at, "{\"principal\":\"p\",\"external_user\":\"a,b\",\"fields\":{");
    for (unsigned i = 0; i < 32; i++)
        at += sprintf(at, "%s\"field %u\":\"[{,\\\",,\"", i > 0 ? "," : "", i);
    strcpy(at, "}}");
    assert_int_equal(parse_batch(item, 1000), SSO_OK);
    assert_int_equal(parse_batch("{}", 1000), SSO_OK);
    assert_int_equal(parse_batch("{}", 100000), SSO_TOO_LARGE);
    assert_int_equal(parse_batch("[]", 100000), SSO_TOO_LARGE);
    assert_int_equal(parse_batch("0", 100000), SSO_TOO_LARGE);
}

int main(void)
{
    wiping_allocator_install();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_split_before_they_are_decoded),
        cmocka_unit_test(bad_paths_are_refused),
        cmocka_unit_test(queries),
        cmocka_unit_test(numbers_do_not_overflow),
        cmocka_unit_test(entity_tags),
        cmocka_unit_test(bodies),
        cmocka_unit_test(values_are_counted_before_they_are_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
