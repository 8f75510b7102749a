#include "tests/common/testing.h"

#include "common/json.h"

static void check_line(json_t *value, const char *wanted)
{
    assert_non_null(value);
    char *line = json_line(value);
    assert_string_equal(line, wanted);
    wiping_free(line);
    json_decref(value);
}

static json_t *parsed(const char *text)
{
    struct sso_error err;
    json_t *value = json_parse(text, strlen(text), &err);
    if (value == NULL)
        fail_msg("%s", err.detail);
    return value;
}

static void parse_faults_name_a_place_and_quote_nothing(void **state)
{
    (void)state;
    struct sso_error err;
    static const char *const bad[] = {"{\"a\":\n hunter2}",      "{\"hunter2\":1,\"hunter2\":2}",
                                      "{\"a\":\"hunter2\xff\"}", "\"hunter2\"",
                                      "{\"a\":1} hunter2",       ""};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_null(json_parse(bad[i], strlen(bad[i]), &err));
        assert_int_equal(err.code, SSO_BAD_REQUEST);
        assert_null(strstr(err.detail, "hunter2"));
        assert_non_null(strstr(err.detail, "line "));
    }
    assert_null(json_parse(bad[0], strlen(bad[0]), &err));
    assert_non_null(strstr(err.detail, "line 2"));
    assert_null(json_parse(bad[0], strlen(bad[0]), NULL));
}

static void values(void **state)
{
    (void)state;
    check_line(json_time(0), "null");
    check_line(json_time(1769851800123), "\"2026-01-31T09:30:00.123Z\"");
    check_line(json_hex((const uint8_t *)"\x00\xab", 2), "\"00ab\"");
    check_line(json_text_or_null(""), "null");
    check_line(json_text_or_null("Zo\xc3\xab"), "\"Zo\xc3\xab\"");
    check_line(parsed("{\"b\" : [1, 2],\n \"a\" : {}}"), "{\"b\":[1,2],\"a\":{}}");
}

static void problems_go_both_ways(void **state)
{
    (void)state;
    uint8_t id[REQUEST_ID_BYTES];
    struct sso_error err;
    memset(id, 0xab, sizeof id);
    json_t *problem = json_problem(SSO_FORBIDDEN, "nobody may", id);
    assert_int_equal(json_problem_read(problem, &err), SSO_FORBIDDEN);
    assert_string_equal(err.detail, "nobody may");
    check_line(problem, "{\"type\":\"urn:sso-hsm:forbidden\",\"title\":\"Not allowed\","
                        "\"status\":403,\"code\":\"forbidden\",\"detail\":\"nobody may\","
                        "\"request_id\":\"abababababababababababababababab\"}");
    check_line(json_problem(SSO_USAGE, NULL, NULL),
               "{\"type\":\"urn:sso-hsm:usage\",\"title\":\"Wrong use\",\"status\":null,"
               "\"code\":\"usage\",\"detail\":\"Wrong use\",\"request_id\":null}");
    check_line(json_problem(SSO_NOT_FOUND, "no /tmp/\xff", NULL),
               "{\"type\":\"urn:sso-hsm:not_found\",\"title\":\"There is no such thing\","
               "\"status\":404,\"code\":\"not_found\",\"detail\":\"no /tmp/?\","
               "\"request_id\":null}");
}

static void what_is_no_problem_is_internal(void **state)
{
    (void)state;
    static const char *const texts[] = {"{}", "[]", "{\"code\":7}", "{\"code\":\"ok\"}",
                                        "{\"code\":\"of_a_later_version\",\"detail\":\"why\"}"};
    struct sso_error err;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        json_t *value = parsed(texts[i]);
        assert_int_equal(json_problem_read(value, &err), SSO_INTERNAL);
        json_decref(value);
    }
    assert_string_equal(err.detail, "of_a_later_version: why");
    assert_int_equal(json_problem_read(NULL, &err), SSO_INTERNAL);
}

static void a_generation_as_in_key_list(void **state)
{
    (void)state;
    struct generation generation = {.number = 2,
                                    .suite = SUITE_AES256_KW,
                                    .state = GENERATION_RETIRING,
                                    .compromised = true,
                                    .created_ms = 1769851800123,
                                    .wraps = 4096};
    struct generation_token tokens[] = {
        {.number = 1, .token = {.token = "one"}},
        {.number = 2, .token = {.token = "two", .serial = "7"}},
        {.number = 2, .token = {.token = "gone"}, .destroyed_ms = 1},
    };
    check_line(json_generation(&generation, tokens, 3, 17),
               "{\"number\":2,\"secret_id\":\"00000000000000000000000000000000\","
               "\"tokens\":[\"pkcs11:token=two;serial=7\"],\"suite\":\"aes256-kw\","
               "\"state\":\"retiring\",\"compromised\":true,\"no_backup\":false,\"closed\":false,"
               "\"created\":\"2026-01-31T09:30:00.123Z\",\"backed_up\":null,\"last_drill\":null,"
               "\"share_set\":null,\"rows\":17,\"wraps\":4096}");
    json_t *value = json_generation(&generation, NULL, 0, -1);
    assert_true(json_is_null(json_object_get(value, "rows")));
    assert_int_equal(json_array_size(json_object_get(value, "tokens")), 0);
    json_decref(value);
}

static void members_are_checked(void **state)
{
    (void)state;
    static const char *const allowed[] = {"app", "principal", NULL};
    struct sso_error err;
    json_t *value = parsed("{\"app\":\"crm\",\"principal\":\"\",\"x\":1}");
    const char *text = NULL;
    check_failure(json_only_members(value, allowed, &err), SSO_BAD_REQUEST, &err, "\"x\"");
    json_object_del(value, "x");
    assert_int_equal(json_only_members(value, allowed, &err), SSO_OK);
    assert_int_equal(json_get_text(value, "app", 3, &text, &err), SSO_OK);
    assert_string_equal(text, "crm");
    check_failure(json_get_text(value, "app", 2, &text, &err), SSO_BAD_REQUEST, &err, "1 to 2");
    check_failure(json_get_text(value, "principal", 9, &text, &err), SSO_BAD_REQUEST, &err,
                  "0 bytes");
    check_failure(json_get_text(value, "other", 9, &text, &err), SSO_BAD_REQUEST, &err, "missing");
    assert_string_equal(text, "crm");
    json_decref(value);

    value = parsed("{\"n\":7,\"c\":\"a\\tb\",\"z\":\"a\"}");
    check_failure(json_get_text(value, "n", 9, &text, &err), SSO_BAD_REQUEST, &err, "not a string");
    check_failure(json_get_text(value, "c", 9, &text, &err), SSO_BAD_REQUEST, &err, "control");
    json_decref(value);
    value = parsed("[]");
    check_failure(json_only_members(value, allowed, &err), SSO_BAD_REQUEST, &err, "object");
    json_decref(value);
    value = parsed("{\"a\\u0001b\":1}");
    check_failure(json_only_members(value, allowed, &err), SSO_BAD_REQUEST, &err, "not a name");
    json_decref(value);
}

int main(void)
{
    testing_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_faults_name_a_place_and_quote_nothing),
        cmocka_unit_test(values),
        cmocka_unit_test(problems_go_both_ways),
        cmocka_unit_test(what_is_no_problem_is_internal),
        cmocka_unit_test(a_generation_as_in_key_list),
        cmocka_unit_test(members_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
