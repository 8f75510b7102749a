#include "tests/common/testing.h"

#include "common/policy.h"

static struct policy policy;

static void fill_policy(struct policy *out, uint8_t key_byte)
{
    uint8_t bytes[POLICY_KEY_BYTES];
    struct secret key = {0};
    memset(bytes, key_byte, sizeof bytes);
    memset(out->system_id, 0x51, sizeof out->system_id);
    assert_int_equal(secret_append(&key, bytes, sizeof bytes, NULL), SSO_OK);
    policy_take_key(out, &key);
    assert_null(key.data);
    assert_non_null(out->memo); /* so that all here is tried with it */
}

static int set_up(void **state)
{
    (void)state;
    fill_policy(&policy, 0x42);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    policy_free(&policy);
    return 0;
}

/* A place in a row, and whether the tag covers it. */
struct member {
    const char *name;
    size_t offset;
    bool covered;
};
#define COVERED(type, member)                                                                      \
    {                                                                                              \
#member, offsetof(struct type, member), true                                               \
    }
#define FREE(type, member)                                                                         \
    {                                                                                              \
#member, offsetof(struct type, member), false                                              \
    }
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Changes each member in turn, in a copy. The tag of the copy must fit exactly where the member is
 * not covered. */
#define CHECK_MEMBERS(type, row, check, members)                                                   \
    do {                                                                                           \
        assert_int_equal(check(&policy, &(row), NULL), SSO_OK);                                    \
        for (size_t i = 0; i < COUNT(members); i++) {                                              \
            struct type changed = (row);                                                           \
            ((uint8_t *)&changed)[(members)[i].offset] ^= 1;                                       \
            enum sso_code rc = check(&policy, &changed, NULL);                                     \
            if (rc != ((members)[i].covered ? SSO_POLICY_TAMPERED : SSO_OK))                       \
                fail_msg("%s", (members)[i].name);                                                 \
        }                                                                                          \
    } while (0)

static struct application make_application(void)
{
    struct application row = {.type = APPLICATION_INDIVIDUAL,
                              .enabled = true,
                              .field_count = 2,
                              .user_group_count = 2,
                              .created_ms = 1000,
                              .updated_ms = 2000,
                              .version = 3};
    memset(row.id, 9, sizeof row.id);
    strcpy(row.name, "crm");
    strcpy(row.description, "customers");
    strcpy(row.contact, "helpdesk");
    strcpy(row.field[0].label, "user");
    strcpy(row.field[1].label, "password");
    row.field[1].masked = true;
    strcpy(row.admins, "crm-admins");
    strcpy(row.users[0], "sales");
    strcpy(row.users[1], "support");
    strcpy(row.readers, "crm-service");
    return row;
}

static void an_application_is_covered_whole(void **state)
{
    (void)state;
    static const struct member members[] = {COVERED(application, id),
                                            COVERED(application, name),
                                            COVERED(application, type),
                                            COVERED(application, enabled),
                                            COVERED(application, cached),
                                            COVERED(application, tickets_allowed),
                                            COVERED(application, tickets_validated),
                                            COVERED(application, ticket_lifetime_ms),
                                            COVERED(application, ticket_lifetime_since_ms),
                                            COVERED(application, description),
                                            COVERED(application, contact),
                                            COVERED(application, field[0].label),
                                            COVERED(application, field[0].masked),
                                            COVERED(application, field[1].label),
                                            COVERED(application, field[1].masked),
                                            COVERED(application, field_count),
                                            COVERED(application, admins),
                                            COVERED(application, users[0]),
                                            COVERED(application, users[1]),
                                            COVERED(application, user_group_count),
                                            COVERED(application, readers),
                                            COVERED(application, created_ms),
                                            COVERED(application, updated_ms),
                                            COVERED(application, version),
                                            COVERED(application, tag),
                                            FREE(application, field[2].label),
                                            FREE(application, users[2])};
    struct application row = make_application();
    policy_tag_application(&policy, &row);
    CHECK_MEMBERS(application, row, policy_check_application, members);
}

static void the_largest_application_can_be_tagged(void **state)
{
    (void)state;
    struct application row = {
        .version = 1, .field_count = FIELDS_MAX, .user_group_count = GROUPS_MAX};
    memset(row.name, 'n', sizeof row.name - 1);
    memset(row.description, 'd', sizeof row.description - 1);
    memset(row.contact, 'c', sizeof row.contact - 1);
    memset(row.admins, 'a', sizeof row.admins - 1);
    memset(row.readers, 'r', sizeof row.readers - 1);
    for (size_t i = 0; i < FIELDS_MAX; i++)
        memset(row.field[i].label, 'l', sizeof row.field[i].label - 1);
    for (size_t i = 0; i < GROUPS_MAX; i++)
        memset(row.users[i], 'u', sizeof row.users[i] - 1);
    policy_tag_application(&policy, &row);
    assert_int_equal(policy_check_application(&policy, &row, NULL), SSO_OK);
    row.field_count = FIELDS_MAX + 1; /* out of a damaged row: refused, not followed */
    assert_int_equal(policy_check_application(&policy, &row, NULL), SSO_POLICY_TAMPERED);
}

static void a_mapping_is_covered_whole(void **state)
{
    (void)state;
    static const struct member members[] = {COVERED(mapping, application_id),
                                            COVERED(mapping, principal),
                                            COVERED(mapping, external_user),
                                            COVERED(mapping, state),
                                            COVERED(mapping, updated_ms),
                                            COVERED(mapping, version),
                                            COVERED(mapping, tag)};
    struct mapping row = {
        .principal = "alice", .external_user = "a", .state = MAPPING_ENABLED, .version = 1};
    policy_tag_mapping(&policy, &row);
    CHECK_MEMBERS(mapping, row, policy_check_mapping, members);
}

static void a_setting_is_covered_whole(void **state)
{
    (void)state;
    static const struct member members[] = {COVERED(setting, name), COVERED(setting, value),
                                            COVERED(setting, version), COVERED(setting, tag)};
    struct setting row = {.name = SETTING_SYSTEM_ENABLED, .value = "yes", .version = 1};
    policy_tag_setting(&policy, &row);
    CHECK_MEMBERS(setting, row, policy_check_setting, members);
}

static void a_generation_is_covered_but_for_its_wraps(void **state)
{
    (void)state;
    static const struct member members[] = {COVERED(generation, number),
                                            COVERED(generation, secret_id),
                                            COVERED(generation, suite),
                                            COVERED(generation, state),
                                            COVERED(generation, compromised),
                                            COVERED(generation, no_backup),
                                            COVERED(generation, closed),
                                            COVERED(generation, created_ms),
                                            COVERED(generation, backed_up_ms),
                                            COVERED(generation, last_drill_ms),
                                            COVERED(generation, retired_ms),
                                            COVERED(generation, going_ms),
                                            COVERED(generation, share_set),
                                            COVERED(generation, canary.wrapped.bytes),
                                            COVERED(generation, canary.wrapped.length_bytes),
                                            COVERED(generation, canary.mac),
                                            FREE(generation, wraps),
                                            COVERED(generation, version),
                                            COVERED(generation, tag)};
    struct generation row = {.number = 1,
                             .suite = SUITE_AES256_KW,
                             .state = GENERATION_ACTIVE,
                             .share_set = "set",
                             .canary.wrapped.length_bytes = 40,
                             .version = 2};
    policy_tag_generation(&policy, &row);
    CHECK_MEMBERS(generation, row, policy_check_generation, members);
}

static void a_node_is_covered_whole(void **state)
{
    (void)state;
    static const struct member members[] = {
        COVERED(node, name),        COVERED(node, address),   COVERED(node, key),
        COVERED(node, approved),    COVERED(node, apps),      COVERED(node, release_burst),
        COVERED(node, approved_by), COVERED(node, joined_ms), COVERED(node, approved_ms),
        COVERED(node, revocation),  COVERED(node, version),   COVERED(node, tag)};
    struct node row = {.name = "node2",
                       .address = "node2:8443",
                       .approved = true,
                       .apps = "crm,Payroll",
                       .approved_by = "alice",
                       .version = 2};
    policy_tag_node(&policy, &row);
    CHECK_MEMBERS(node, row, policy_check_node, members);
    assert_true(node_may_use(&row, "crm") && node_may_use(&row, "payroll"));
    assert_false(node_may_use(&row, "cr") || node_may_use(&row, "crm,Payroll") ||
                 node_may_use(&row, "") || node_may_use(&row, "roll"));
    row.apps[0] = '\0';
    assert_true(node_may_use(&row, "anything"));
}

static void a_token_of_a_generation_is_covered_whole(void **state)
{
    (void)state;
    static const struct member members[] = {
        COVERED(generation_token, number),       COVERED(generation_token, token.token),
        COVERED(generation_token, token.serial), COVERED(generation_token, token.manufacturer),
        COVERED(generation_token, token.model),  COVERED(generation_token, node),
        COVERED(generation_token, evidence),     COVERED(generation_token, weak),
        COVERED(generation_token, since_ms),     COVERED(generation_token, destroyed_ms),
        COVERED(generation_token, version),      COVERED(generation_token, tag)};
    struct generation_token row = {.number = 1,
                                   .token = {"sso", "12", "SoftHSM project", "v2"},
                                   .node = "node1",
                                   .evidence = "{}",
                                   .version = 1};
    policy_tag_generation_token(&policy, &row);
    CHECK_MEMBERS(generation_token, row, policy_check_generation_token, members);
    struct sso_error err;
    row.weak = true;
    check_failure(policy_check_generation_token(&policy, &row, &err), SSO_POLICY_TAMPERED, &err,
                  "1 in pkcs11:token=sso;serial=12;");
}

static void key_and_system_count(void **state)
{
    (void)state;
    struct policy other = {0};
    struct setting row = {.name = "a", .value = "b", .version = 1};
    struct sso_error err;
    policy_tag_setting(&policy, &row);
    fill_policy(&other, 0x43);
    check_failure(policy_check_setting(&other, &row, &err), SSO_POLICY_TAMPERED, &err, "setting a");
    policy_free(&other);
    fill_policy(&other, 0x42);
    assert_int_equal(policy_check_setting(&other, &row, NULL), SSO_OK);
    other.system_id[0] ^= 1;
    assert_int_equal(policy_check_setting(&other, &row, NULL), SSO_POLICY_TAMPERED);
    policy_free(&other);
    policy_free(&other);
}

static void what_was_right_under_another_key_is_checked_anew(void **state)
{
    (void)state;
    struct policy other = {0};
    struct setting row = {.name = "a", .value = "b", .version = 1}, changed;
    fill_policy(&other, 0x42);
    policy_tag_setting(&other, &row);
    for (int i = 0; i < 2; i++)
        assert_int_equal(policy_check_setting(&other, &row, NULL), SSO_OK);
    changed = row;
    changed.version = 2;
    assert_int_equal(policy_check_setting(&other, &changed, NULL), SSO_POLICY_TAMPERED);
    changed = row;
    changed.tag[TAG_BYTES - 1] ^= 1;
    assert_int_equal(policy_check_setting(&other, &changed, NULL), SSO_POLICY_TAMPERED);
    assert_int_equal(policy_check_setting(&other, &row, NULL), SSO_OK);
    fill_policy(&other, 0x43);
    assert_int_equal(policy_check_setting(&other, &row, NULL), SSO_POLICY_TAMPERED);
    policy_free(&other);
}

static void texts_do_not_run_into_each_other(void **state)
{
    (void)state;
    struct setting one = {.name = "ab", .value = "c", .version = 1};
    struct setting other = {.name = "a", .value = "bc", .version = 1};
    policy_tag_setting(&policy, &one);
    policy_tag_setting(&policy, &other);
    assert_memory_not_equal(one.tag, other.tag, TAG_BYTES);
}

static void application_types_have_names(void **state)
{
    (void)state;
    for (int type = APPLICATION_INDIVIDUAL; type <= APPLICATION_CONFIG; type++)
        assert_int_equal(
            application_type_from_name(application_type_name((enum application_type)type)), type);
    assert_int_equal(application_type_from_name("other"), 0);
    assert_int_equal(application_type_from_name(NULL), 0);
    assert_string_equal(application_type_name((enum application_type)0), "unknown");
    assert_string_equal(application_type_name((enum application_type)4), "unknown");
}

int main(void)
{
    testing_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_application_is_covered_whole),
        cmocka_unit_test(the_largest_application_can_be_tagged),
        cmocka_unit_test(a_mapping_is_covered_whole),
        cmocka_unit_test(a_setting_is_covered_whole),
        cmocka_unit_test(a_generation_is_covered_but_for_its_wraps),
        cmocka_unit_test(a_node_is_covered_whole),
        cmocka_unit_test(a_token_of_a_generation_is_covered_whole),
        cmocka_unit_test(key_and_system_count),
        cmocka_unit_test(what_was_right_under_another_key_is_checked_anew),
        cmocka_unit_test(texts_do_not_run_into_each_other),
        cmocka_unit_test(application_types_have_names),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
