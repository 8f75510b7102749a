#include "tests/common/testing.h"

#include "common/address.h"
#include "common/san.h"

static void patterns_fit_whole_labels(void **state)
{
    static const struct {
        const char *pattern, *name;
        bool fits;
    } cases[] = {
        {"san:DNS:a.sso.example", "san:DNS:a.sso.example", true},
        {"san:DNS:A.sso.Example", "san:DNS:a.SSO.example", true},
        {"san:DNS:*.sso.example", "san:DNS:a.sso.example", true},
        {"san:DNS:*.sso.example", "san:DNS:a.b.sso.example", false},
        {"san:DNS:*.sso.example", "san:DNS:sso.example", false},
        {"san:DNS:*.sso.example", "san:DNS:a.sso.example.evil", false},
        {"san:DNS:*.sso.example", "san:DNS:evilsso.example", false},
        {"san:DNS:*.sso.example", "san:DNS:a.sso.examples", false},
        {"san:DNS:*.sso.example", "san:DNS:*.sso.example", false},
        {"san:DNS:*.sso.example", "san:DNS:.sso.example", false},
        {"san:DNS:a.*.example", "san:DNS:a.b.example", true},
        {"san:DNS:a.*.example", "san:DNS:a.example", false},
        {"san:DNS:*.*.example", "san:DNS:a.b.example", true},
        {"san:DNS:*", "san:DNS:host", true},
        {"san:DNS:*", "san:DNS:host.example", false},
        {"san:DNS:a.example", "san:DNS:a.example.", false},
        {"san:DNS:a.example", "san:URI:a.example", false},
        {"san:DNS:a.example", "a.example", false},
        {"a.example", "san:DNS:a.example", false},
        {"san:URI:spiffe://x/app", "san:URI:spiffe://x/app", true},
        {"san:URI:spiffe://x/app", "san:URI:spiffe://X/app", false},
        {"san:URI:spiffe://x/*", "san:URI:spiffe://x/app", true},
        {"san:URI:spiffe://x/*", "san:URI:spiffe://x/app/1", false},
        {"san:URI:spiffe://x/*", "san:URI:spiffe://x/", false},
        {"san:URI:spiffe://x/*/1", "san:URI:spiffe://x/app/1", true},
        {"san:URI:spiffe://*/app", "san:URI:spiffe://any.host/app", true},
        {"san:URI:urn:app:7", "san:URI:urn:app:7", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (san_matches(cases[i].pattern, cases[i].name) != cases[i].fits)
            fail_msg("%s and %s", cases[i].pattern, cases[i].name);
    }
}

static void what_is_a_pattern(void **state)
{
    static const struct {
        const char *text;
        bool pattern, name;
    } cases[] = {
        {"san:DNS:a", true, true},
        {"san:DNS:*.a", true, false},
        {"san:DNS:_srv.a-1.example", true, true},
        {"san:DNS:", false, false},
        {"san:DNS:a.", false, false},
        {"san:DNS:.a", false, false},
        {"san:DNS:a..b", false, false},
        {"san:DNS:x*.a", false, false},
        {"san:DNS:**.a", false, false},
        {"san:DNS:a b", false, false},
        {"san:DNS:a/b", false, false},
        {"san:DNS:\xc3\xbc.example", false, false},
        {"san:URI:https://a/b?c=d", true, true},
        {"san:URI:spiffe://a/*/b", true, false},
        {"san:URI:spiffe://a/x*", false, false},
        {"san:URI:no-scheme", false, false},
        {"san:URI::x", false, false},
        {"san:URI:x:", false, false},
        {"san:URI:x:a,b", false, false},
        {"san:URI:x:a b", false, false},
        {"san:IP:10.0.0.1", false, false},
        {"san:dns:a", false, false},
        {"san:", false, false},
        {"admins", false, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (san_pattern_is_valid(cases[i].text) != cases[i].pattern ||
            san_name_is_valid(cases[i].text) != cases[i].name)
            fail_msg("%s", cases[i].text);
    }
    assert_true(san_is_pattern("san:whatever") && !san_is_pattern("sanitary"));
}

static void lengths_are_bounded(void **state)
{
    char text[600] = "san:DNS:";
    (void)state;
    memset(text + 8, 'a', 63);
    assert_true(san_name_is_valid(text));
    text[8 + 63] = 'a';
    assert_false(san_name_is_valid(text));
    snprintf(text, sizeof text, "san:URI:x:%0*d", SAN_BYTES_MAX - 10, 7);
    assert_int_equal(strlen(text), SAN_BYTES_MAX);
    assert_true(san_name_is_valid(text));
    snprintf(text, sizeof text, "san:URI:x:%0*d", SAN_BYTES_MAX - 9, 7);
    assert_false(san_name_is_valid(text));
}

static void addresses(void **state)
{
    static const char *const wrong[] = {
        "",       "host", "host:", ":1",      "host:65536", "host:1x",   "::1:8443",   "[::1]8443",
        "[::1]:", "[]:1", "a b:1", "host:-1", "http://a:1", "[::1]:1:1", "host:000001"};
    struct address out;
    (void)state;
    assert_true(address_parse("0.0.0.0:8443", &out));
    assert_string_equal(out.host, "0.0.0.0");
    assert_string_equal(out.port, "8443");
    assert_true(address_parse("[fe80::1%eth0]:0", &out) == false);
    assert_true(address_parse("[2001:db8::1]:443", &out));
    assert_string_equal(out.host, "2001:db8::1");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (address_parse(wrong[i], &out))
            fail_msg("%s", wrong[i]);
    }
    assert_true(address_parse_url("https://node1.sso.example:8443", &out));
    assert_string_equal(out.host, "node1.sso.example");
    assert_true(address_parse_url("https://node1.sso.example:8443/", &out));
    assert_false(address_parse_url("http://node1.sso.example:8443", &out));
    assert_false(address_parse_url("https://node1.sso.example", &out));
    assert_false(address_parse_url("https://node1.sso.example:8443/path", &out));
    assert_false(address_parse_url("https://user@node1:8443", &out));
    assert_false(address_parse_url("https://", &out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_fit_whole_labels),
        cmocka_unit_test(what_is_a_pattern),
        cmocka_unit_test(lengths_are_bounded),
        cmocka_unit_test(addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
