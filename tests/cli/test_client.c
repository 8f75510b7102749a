#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include <stdio.h>
#include <unistd.h>

#include "client/client.h"
#include "common/secret.h"

static void expect_escaped(const char *segment, const char *expected)
{
    char *escaped = client_escape(segment);
    assert_non_null(escaped);
    assert_string_equal(escaped, expected);
    free(escaped);
}

static void test_segments_are_escaped(void **state)
{
    (void)state;
    expect_escaped("billing-1.0_x~", "billing-1.0_x~");
    expect_escaped("a/b", "a%2Fb");
    expect_escaped("100%", "100%25");
    expect_escaped("ü", "%C3%BC");
    expect_escaped("..", "%2E%2E");
    expect_escaped(".", "%2E");
    expect_escaped("..a", "..a");
    expect_escaped("", "");
}

static void expect_refused(struct config *config, enum sso_code expected)
{
    struct client *client = NULL;
    struct sso_error error = {0};
    enum sso_code rc = client_open(config, &client, &error);
    const struct client_call call = {.method = "GET", .path = "/v1/health"};
    if (rc == SSO_OK)
        rc = client_request(client, &call, NULL, &error);
    assert_int_equal(rc, expected);
    assert_int_equal(error.code, expected);
    client_close(&client);
    client_close(&client);
}

static void test_nobody_at_the_socket(void **state)
{
    (void)state;
    char folder[] = "/tmp/sso-client-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/none.sock", folder);
    struct config config = {.listen.socket = path};
    expect_refused(&config, SSO_SERVICE_UNAVAILABLE);
    rmdir(folder);
}

static void test_socket_path_too_long(void **state)
{
    (void)state;
    char path[200];
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    struct config config = {.listen.socket = path};
    expect_refused(&config, SSO_CONFIG_ERROR);
}

static void test_remote_without_tls_is_refused(void **state)
{
    (void)state;
    char url[] = "http://node1.sso.example";
    struct config config = {.client.url = url};
    expect_refused(&config, SSO_CONFIG_ERROR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segments_are_escaped),
        cmocka_unit_test(test_nobody_at_the_socket),
        cmocka_unit_test(test_socket_path_too_long),
        cmocka_unit_test(test_remote_without_tls_is_refused),
    };
    wiping_allocator_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
