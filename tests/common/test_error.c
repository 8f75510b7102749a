#include "tests/common/testing.h"

#include <errno.h>

#include "common/encode.h"

/* INTERFACE §4, written down a second time on purpose. */
static const struct {
    int http_status, exit_code;
    const char *codes;
} table[] = {
    {0, 2, "usage"},
    {400, 1, "bad_request"},
    {403, 4, "forbidden"},
    {404, 1, "not_found"},
    {409, 1,
     "already_exists application_disabled mapping_disabled system_disabled rotation_in_progress "
     "in_use generation_compromised wraps_exhausted confirmation_needed tickets_disabled "
     "ticket_forged ticket_expired ticket_replayed ticket_of_other_system ticket_wrong_sender "
     "ticket_user_not_allowed"},
    {400, 1, "ticket_invalid"},
    {412, 1, "version_conflict"},
    {413, 1, "too_large"},
    {429, 5, "too_many_requests"},
    {503, 5,
     "master_unavailable hsm_unavailable database_unavailable audit_unavailable "
     "database_went_back no_memory"},
    {0, 5, "service_unavailable"},
    {503, 1, "no_master_secret wrong_master_secret pin_refused"},
    {500, 1, "row_corrupt row_kills_worker policy_tampered internal"},
    {0, 1,
     "config_error token_not_found token_ambiguous token_not_suitable key_not_acceptable "
     "schema_newer schema_older wrong_shares too_few_shares share_repeated "
     "shares_of_different_sets wrong_passphrase backup_invalid backup_tampered "
     "backup_of_other_system database_of_other_system interrupted"},
    {200, 0, "ok"},
};

static void every_code_has_its_facts(void **state)
{
    (void)state;
    for (unsigned code = 0; code < SSO_CODES; code++) {
        const struct sso_code_facts *facts = sso_code_facts((enum sso_code)code);
        assert_non_null(facts->name);
        assert_non_null(facts->title);
        assert_true(strlen(facts->title) > 0);
        assert_int_equal(sso_code_from_name(facts->name), code); /* so names are unique */
    }
}

static void facts_are_those_of_the_interface(void **state)
{
    (void)state;
    unsigned known = 0;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char names[512], *rest = names;
        snprintf(names, sizeof names, "%s", table[i].codes);
        for (char *name; (name = strsep(&rest, " ")) != NULL; known++) {
            const struct sso_code_facts *facts = sso_code_facts(sso_code_from_name(name));
            assert_string_equal(facts->name, name);
            assert_int_equal(facts->http_status, table[i].http_status);
            assert_int_equal(facts->exit_code, table[i].exit_code);
        }
    }
    assert_int_equal(known, SSO_CODES);
}

static void unknown_names_and_numbers_are_internal(void **state)
{
    (void)state;
    assert_int_equal(sso_code_from_name("no_such_code"), SSO_INTERNAL);
    assert_int_equal(sso_code_from_name(NULL), SSO_INTERNAL);
    assert_string_equal(sso_code_facts(SSO_CODES)->name, "internal");
}

static void texts_are_written_and_prefixed(void **state)
{
    (void)state;
    struct sso_error err;
    assert_int_equal(sso_fail(&err, SSO_NOT_FOUND, "application %s", "crm"), SSO_NOT_FOUND);
    assert_string_equal(err.detail, "application crm");
    assert_int_equal(sso_error_context(&err, "line %d", 7), SSO_NOT_FOUND);
    assert_string_equal(err.detail, "line 7: application crm");
    assert_int_equal(sso_fail_errno(&err, SSO_CONFIG_ERROR, ENOENT, "%s", "/x"), SSO_CONFIG_ERROR);
    assert_string_equal(err.detail, "/x: No such file or directory");
    assert_int_equal(sso_fail(NULL, SSO_IN_USE, "x"), SSO_IN_USE);
}

static void cut_texts_stay_utf8(void **state)
{
    (void)state;
    char text[2 * SSO_ERROR_DETAIL_BYTES + 8];
    for (size_t shift = 0; shift < 4; shift++) {
        struct sso_error err;
        memset(text, 'x', shift);
        for (size_t i = shift; i + 4 < sizeof text; i += 4)
            memcpy(text + i, "\xf0\x9f\x94\x91", 5);
        sso_fail(&err, SSO_INTERNAL, "%s", text);
        assert_true(strlen(err.detail) > SSO_ERROR_DETAIL_BYTES - 5);
        assert_true(text_is_clean_utf8(err.detail, strlen(err.detail)));
        sso_error_context(&err, "context");
        assert_true(text_is_clean_utf8(err.detail, strlen(err.detail)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_its_facts),
        cmocka_unit_test(facts_are_those_of_the_interface),
        cmocka_unit_test(unknown_names_and_numbers_are_internal),
        cmocka_unit_test(texts_are_written_and_prefixed),
        cmocka_unit_test(cut_texts_stay_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
