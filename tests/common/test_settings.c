/* Which settings there are, what they take, and which changes want two administrators. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/settings.h"

static struct config *defaults(void)
{
    char path[] = "/tmp/sso-settings-XXXXXX";
    struct config *config = NULL;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(config_load(path, &config, NULL), SSO_OK);
    unlink(path);
    return config;
}

static void each_initial_setting_is_known_and_takes_its_own_value(void **state)
{
    (void)state;
    struct config *config = defaults();
    struct config_setting initial[SETTINGS_MAX];
    size_t count = settings_initial(config, initial);
    assert_true(count > 10 && count <= SETTINGS_MAX);
    for (size_t i = 0; i < count; i++) {
        char value[SETTING_VALUE_BYTES_MAX + 1];
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(initial[i].name, initial[j].name);
        enum sso_code rc = setting_check(initial[i].name, initial[i].value, value, NULL);
        if (strcmp(initial[i].name, SETTING_REVOCATION) == 0) {
            assert_int_equal(rc, SSO_BAD_REQUEST);
            continue;
        }
        assert_int_equal(rc, SSO_OK);
        assert_string_equal(value, initial[i].value);
    }
    config_free(&config);
}

static void values_are_those_of_the_configuration_file(void **state)
{
    static const struct {
        const char *name, *text, *stored;
        enum sso_code code;
    } cases[] = {
        {"cache.lease", "3600s", "1h", SSO_OK},
        {"cache.lease", "0s", "0s", SSO_OK},
        {"cache.lease", "1", NULL, SSO_BAD_REQUEST},
        {"cache.lease", "", NULL, SSO_BAD_REQUEST},
        {"cluster.master_lease", "1ms", NULL, SSO_BAD_REQUEST},
        {"audit.journal", "required", "required", SSO_OK},
        {"audit.journal", "REQUIRED", NULL, SSO_BAD_REQUEST},
        {"system.enabled", "no", "no", SSO_OK},
        {"system.enabled", "maybe", NULL, SSO_BAD_REQUEST},
        {"system.revocation", "1", NULL, SSO_BAD_REQUEST},
        {"proposed.cache.lease", "1h", NULL, SSO_NOT_FOUND},
        {"no.such", "1h", NULL, SSO_NOT_FOUND},
        {"", "", NULL, SSO_NOT_FOUND},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char value[SETTING_VALUE_BYTES_MAX + 1] = "untouched";
        struct sso_error err = {0};
        assert_int_equal(setting_check(cases[i].name, cases[i].text, value, &err), cases[i].code);
        assert_string_equal(value, cases[i].stored != NULL ? cases[i].stored : "untouched");
    }
}

static void what_weakens_wants_two(void **state)
{
    (void)state;
    assert_true(setting_needs_two("keys.dual_control", "yes", "no"));
    assert_false(setting_needs_two("keys.dual_control", "no", "yes"));
    assert_true(setting_needs_two("audit.lookups", "required", "relaxed"));
    assert_false(setting_needs_two("audit.lookups", "relaxed", "required"));
    assert_true(setting_needs_two("keys.retired_keep", "400d", "399d"));
    assert_false(setting_needs_two("keys.retired_keep", "400d", "9601h"));
    assert_true(setting_needs_two("cluster.offline_grace", "8h", "481m"));
    assert_false(setting_needs_two("cluster.offline_grace", "8h", "8h"));
    assert_false(setting_needs_two("cluster.offline_grace", "8h", "7h"));
    assert_false(setting_needs_two("cache.lease", "1h", "9h"));
    assert_false(setting_needs_two("system.enabled", "yes", "no"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_initial_setting_is_known_and_takes_its_own_value),
        cmocka_unit_test(values_are_those_of_the_configuration_file),
        cmocka_unit_test(what_weakens_wants_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
