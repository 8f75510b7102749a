#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "cli/arguments.h"

struct parsed {
    bool flag;
    const char *text;
    uint64_t number;
    struct option_values each;
    struct arguments arguments;
    struct sso_error error;
};

static enum sso_code parse(struct parsed *out, int argc, const char **argv)
{
    *out = (struct parsed){0};
    const struct option_row rows[] = {
        {"flag", OPTION_FLAG, &out->flag, NULL},
        {"text", OPTION_TEXT, &out->text, NULL},
        {"number", OPTION_NUMBER, &out->number, NULL},
        {"each", OPTION_EACH, &out->each, NULL},
        {"later", OPTION_LATER, NULL, "for a reason"},
        {"later-value", OPTION_LATER_VALUE, NULL, NULL},
        {NULL, 0, NULL, NULL},
    };
    static char room[16][32];
    char *words[17] = {NULL};
    for (int i = 0; i < argc; i++) {
        strcpy(room[i], argv[i]);
        words[i] = room[i];
    }
    static char *kept[17];
    memcpy(kept, words, sizeof kept);
    return arguments_parse(argc, kept, rows, &out->arguments, &out->error);
}

#define PARSE(out, ...)                                                                            \
    parse(out, (int)(sizeof((const char *[]){"verb", __VA_ARGS__}) / sizeof(char *)),              \
          (const char *[]){"verb", __VA_ARGS__})

static void test_options_and_arguments_mix(void **state)
{
    (void)state;
    struct parsed parsed;
    assert_int_equal(PARSE(&parsed, "first", "--flag", "--text=t", "second", "--number", "7",
                           "--each", "a", "--each", "b", "--", "--flag"),
                     SSO_OK);
    assert_true(parsed.flag);
    assert_string_equal(parsed.text, "t");
    assert_int_equal(parsed.number, 7);
    assert_int_equal(parsed.each.count, 2);
    assert_string_equal(parsed.each.value[1], "b");
    assert_int_equal(parsed.arguments.count, 3);
    assert_string_equal(parsed.arguments.value[0], "first");
    assert_string_equal(parsed.arguments.value[2], "--flag");
    assert_int_equal(arguments_expect(&parsed.arguments, 1, 3, NULL), SSO_OK);
    assert_int_equal(arguments_expect(&parsed.arguments, 4, 4, NULL), SSO_USAGE);
    assert_int_equal(arguments_expect(&parsed.arguments, 0, 2, NULL), SSO_USAGE);
}

static void test_misuse_is_named(void **state)
{
    (void)state;
    struct parsed parsed;
    assert_int_equal(PARSE(&parsed, "--unknown"), SSO_USAGE);
    assert_non_null(strstr(parsed.error.detail, "--unknown"));
    assert_int_equal(PARSE(&parsed, "-q"), SSO_USAGE);
    assert_non_null(strstr(parsed.error.detail, "-q"));
    assert_int_equal(PARSE(&parsed, "--text"), SSO_USAGE);
    assert_non_null(strstr(parsed.error.detail, "wants a value"));
    assert_int_equal(PARSE(&parsed, "--flag=x"), SSO_USAGE);
    assert_non_null(strstr(parsed.error.detail, "no value"));
    assert_int_equal(PARSE(&parsed, "--text", "a", "--text", "b"), SSO_USAGE);
    assert_int_equal(PARSE(&parsed, "--number", "0"), SSO_USAGE);
    assert_int_equal(PARSE(&parsed, "--number", "-1"), SSO_USAGE);
    assert_int_equal(PARSE(&parsed, "--number", "1x"), SSO_USAGE);
    assert_int_equal(PARSE(&parsed, "--number", "99999999999999999999"), SSO_USAGE);
}

static void test_later_options_are_refused(void **state)
{
    (void)state;
    struct parsed parsed;
    assert_int_equal(PARSE(&parsed, "--later"), SSO_USAGE);
    assert_non_null(strstr(parsed.error.detail, "not available in this version: for a reason"));
    assert_int_equal(PARSE(&parsed, "--later-value", "3/5"), SSO_USAGE);
    assert_non_null(strstr(parsed.error.detail, "not available in this version"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_and_arguments_mix),
        cmocka_unit_test(test_misuse_is_named),
        cmocka_unit_test(test_later_options_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
