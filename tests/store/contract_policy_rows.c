#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract.h"
#include "fixture.h"

static void test_system(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct system_row row = {.id = {1, 2, 3}, .name = "corp-sso", .created_ms = 42}, back;
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_code(SSO_NOT_FOUND, store_system_get(tx, &back, &err));
    assert_ok(store_system_insert(tx, &row, &err));
    assert_code(SSO_ALREADY_EXISTS, store_system_insert(tx, &row, &err));
    assert_ok(store_system_get(tx, &back, &err));
    assert_memory_equal(back.id, row.id, sizeof row.id);
    assert_string_equal(back.name, "corp-sso");
    assert_int_equal(back.created_ms, 42);
}

static void test_settings(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct setting *list = NULL;
    size_t count = 1;
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_setting_list(tx, &list, &count, &err));
    assert_int_equal(count, 0);
    assert_null(list);

    struct setting one = sample_setting("b.two", "10s", 1), other = sample_setting("a.one", "", 1);
    assert_ok(store_setting_put(tx, &one, &err));
    assert_ok(store_setting_put(tx, &other, &err));
    assert_code(SSO_VERSION_CONFLICT, store_setting_put(tx, &one, &err));
    one = sample_setting("b.two", "20s", 3);
    assert_code(SSO_VERSION_CONFLICT, store_setting_put(tx, &one, &err));
    one.version = 2;
    assert_ok(store_setting_put(tx, &one, &err));
    struct setting missing = sample_setting("c.three", "x", 2);
    assert_code(SSO_VERSION_CONFLICT, store_setting_put(tx, &missing, &err));

    assert_ok(store_setting_list(tx, &list, &count, &err));
    assert_int_equal(count, 2);
    assert_memory_equal(&list[0], &other, sizeof other);
    assert_memory_equal(&list[1], &one, sizeof one);
    free(list);
}

static void test_nodes(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct node one = {
        .name = "node2", .address = "node2:8443", .key = {7, 8, 9}, .joined_ms = 42, .version = 1};
    struct node other = {.name = "Node1", .key = {1}, .version = 1}, *list = NULL;
    size_t count = 1;
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_node_list(tx, &list, &count, &err));
    assert_int_equal(count, 0);
    assert_ok(store_node_put(tx, &one, &err));
    assert_ok(store_node_put(tx, &other, &err));
    assert_code(SSO_VERSION_CONFLICT, store_node_put(tx, &one, &err));
    one.approved = true;
    one.release_burst = UINT32_MAX;
    one.approved_ms = 43;
    one.revocation = 44;
    one.version = 3;
    memset(one.apps, 'a', sizeof one.apps - 1);
    memset(one.approved_by, 'b', sizeof one.approved_by - 1);
    memset(one.tag, 5, sizeof one.tag);
    assert_code(SSO_VERSION_CONFLICT, store_node_put(tx, &one, &err));
    one.version = 2;
    assert_ok(store_node_put(tx, &one, &err));

    assert_ok(store_node_list(tx, &list, &count, &err));
    assert_int_equal(count, 2);
    assert_memory_equal(&list[0], &other, sizeof other);
    assert_memory_equal(&list[1], &one, sizeof one);
    free(list);
    assert_code(SSO_NOT_FOUND, store_node_remove(tx, "node3", &err));
    assert_ok(store_node_remove(tx, "node2", &err));
    assert_code(SSO_NOT_FOUND, store_node_remove(tx, "node2", &err));
}

static void test_generations(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct generation one = sample_generation(1), two = sample_generation(2), back, *list = NULL;
    size_t count = 0;
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_code(SSO_NOT_FOUND, store_generation_hold(tx, 1, STORE_SHARED, &back, &err));
    assert_ok(store_generation_insert(tx, &two, &err));
    assert_ok(store_generation_insert(tx, &one, &err));
    assert_code(SSO_ALREADY_EXISTS, store_generation_insert(tx, &one, &err));
    struct generation same_secret = sample_generation(3);
    memcpy(same_secret.secret_id, one.secret_id, sizeof one.secret_id);
    assert_code(SSO_ALREADY_EXISTS, store_generation_insert(tx, &same_secret, &err));

    one.version = 2;
    one.state = GENERATION_RETIRED;
    one.compromised = true;
    one.retired_ms = 77;
    one.tag[3] = 1;
    assert_ok(store_generation_update(tx, &one, &err));
    assert_code(SSO_VERSION_CONFLICT, store_generation_update(tx, &one, &err));
    assert_ok(store_generation_hold(tx, 1, STORE_EXCLUSIVE, &back, &err));
    assert_memory_equal(&back, &one, sizeof one);
    assert_ok(store_generation_list(tx, &list, &count, &err));
    assert_int_equal(count, 2);
    assert_memory_equal(&list[1], &two, sizeof two);
    free(list);
}

static void test_wraps(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct generation one = sample_generation(1), back;
    uint64_t total = 0;
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_code(SSO_NOT_FOUND, store_generation_add_wraps(tx, 1, 5, 0, &total, &err));
    assert_ok(store_generation_insert(tx, &one, &err));
    assert_ok(store_generation_add_wraps(tx, 1, 5, 0, &total, &err));
    assert_int_equal(total, 5);
    assert_ok(store_generation_add_wraps(tx, 1, 5, 10, &total, &err));
    assert_int_equal(total, 10);
    assert_code(SSO_WRAPS_EXHAUSTED, store_generation_add_wraps(tx, 1, 1, 10, &total, &err));
    assert_code(SSO_WRAPS_EXHAUSTED,
                store_generation_add_wraps(tx, 1, UINT64_MAX, 0, &total, &err));
    assert_ok(store_generation_hold(tx, 1, STORE_SHARED, &back, &err));
    assert_int_equal(back.wraps, 10);
    assert_int_equal(back.version, 1);
}

static void test_generation_tokens(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct generation_token token = {.number = 1,
                                     .token = {"sso", "0001", "maker", "model"},
                                     .node = "node1",
                                     .evidence = "{\"sensitive\":true}",
                                     .since_ms = 5,
                                     .version = 1,
                                     .tag = {1}},
                            *list = NULL;
    size_t count = 0;
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_generation_token_put(tx, &token, &err));
    assert_code(SSO_VERSION_CONFLICT, store_generation_token_put(tx, &token, &err));
    token.version = 2;
    token.destroyed_ms = 9;
    assert_ok(store_generation_token_put(tx, &token, &err));
    struct generation_token other = token;
    strcpy(other.node, "node2");
    other.version = 1;
    assert_ok(store_generation_token_put(tx, &other, &err));
    assert_ok(store_generation_token_list(tx, &list, &count, &err));
    assert_int_equal(count, 2);
    assert_memory_equal(&list[0], &token, sizeof token);
    assert_memory_equal(&list[1], &other, sizeof other);
    free(list);
}

static void test_sealed_keys(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct sealed_key key = {.purpose = PURPOSE_POLICY,
                             .key_id = {1, 2},
                             .generation = 1,
                             .born = 1,
                             .wrapped = {.bytes = {3}, .length_bytes = 40}},
                      moved, *list = NULL;
    size_t count = 0;
    bool swapped = false;
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_sealed_key_insert(tx, &key, &err));
    assert_code(SSO_ALREADY_EXISTS, store_sealed_key_insert(tx, &key, &err));
    moved = key;
    moved.generation = 2;
    moved.wrapped.bytes[0] = 4;
    moved.wrapped.length_bytes = 60;
    assert_ok(store_sealed_key_swap(tx, &key, &moved, &swapped, &err));
    assert_true(swapped);
    assert_ok(store_sealed_key_swap(tx, &key, &moved, &swapped, &err));
    assert_false(swapped);
    assert_ok(store_sealed_key_list(tx, &list, &count, &err));
    assert_int_equal(count, 1);
    assert_string_equal(list[0].purpose, PURPOSE_POLICY);
    assert_memory_equal(list[0].key_id, moved.key_id, sizeof moved.key_id);
    assert_memory_equal(&list[0].wrapped, &moved.wrapped, sizeof moved.wrapped);
    assert_int_equal(list[0].generation, 2);
    assert_int_equal(list[0].born, 1);
    free(list);
    struct generation_rows *rows = NULL;
    assert_ok(store_count_by_generation(tx, &rows, &count, &err));
    assert_int_equal(count, 1);
    assert_int_equal(rows[0].generation, 2);
    assert_int_equal(rows[0].sealed_keys, 1);
    assert_int_equal(rows[0].credentials, 0);
    free(rows);
}

static void test_applications(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct application pay = sample_application(1, "Payroll"),
                       none = sample_application(2, "archive"), back, *list = NULL;
    size_t count = 0;
    none.field_count = none.user_group_count = 0;
    memset(none.field, 0, sizeof none.field);
    memset(none.users, 0, sizeof none.users);
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_application_insert(tx, &pay, &err));
    assert_ok(store_application_insert(tx, &none, &err));
    struct application twice = sample_application(3, "PAYROLL");
    assert_code(SSO_ALREADY_EXISTS, store_application_insert(tx, &twice, &err));
    assert_ok(store_application_get(tx, "pAYROLL", &back, &err));
    assert_memory_equal(&back, &pay, sizeof pay);
    assert_ok(store_application_get_by_id(tx, none.id, &back, &err));
    assert_memory_equal(&back, &none, sizeof none);
    assert_code(SSO_NOT_FOUND, store_application_get(tx, "payrol", &back, &err));
    assert_code(SSO_NOT_FOUND, store_application_get_by_id(tx, twice.id, &back, &err));

    pay.version = 2;
    pay.enabled = false;
    assert_ok(store_application_update(tx, &pay, &err));
    assert_code(SSO_VERSION_CONFLICT, store_application_update(tx, &pay, &err));
    assert_ok(store_application_list(tx, &list, &count, &err));
    assert_int_equal(count, 2);
    assert_memory_equal(&list[0], &none, sizeof none);
    assert_memory_equal(&list[1], &pay, sizeof pay);
    free(list);
}

static void test_largest_application(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct application big = sample_application(1, "big"), back;
    big.field_count = FIELDS_MAX;
    for (size_t i = 0; i < FIELDS_MAX; i++) {
        memset(big.field[i].label, '"', FIELD_LABEL_BYTES_MAX);
        big.field[i].label[FIELD_LABEL_BYTES_MAX] = '\0';
    }
    big.user_group_count = GROUPS_MAX;
    for (size_t i = 0; i < GROUPS_MAX; i++)
        memset(big.users[i], '\\', GROUP_BYTES_MAX);
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_application_insert(tx, &big, &err));
    assert_ok(store_application_get(tx, "big", &back, &err));
    assert_memory_equal(&back, &big, sizeof big);
}

static void test_mappings(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct mapping mapping = sample_mapping(1, "alice"), back;
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_code(SSO_NOT_FOUND, store_mapping_get(tx, mapping.application_id, "alice", &back, &err));
    assert_ok(store_mapping_put(tx, &mapping, &err));
    assert_code(SSO_VERSION_CONFLICT, store_mapping_put(tx, &mapping, &err));
    mapping.version = 2;
    mapping.state = MAPPING_DISABLED_BY_ADMIN;
    assert_ok(store_mapping_put(tx, &mapping, &err));
    assert_ok(store_mapping_get(tx, mapping.application_id, "alice", &back, &err));
    assert_memory_equal(&back, &mapping, sizeof mapping);
    assert_code(SSO_NOT_FOUND, store_mapping_get(tx, mapping.application_id, "Alice", &back, &err));
    assert_ok(store_mapping_delete(tx, mapping.application_id, "alice", &err));
    assert_code(SSO_NOT_FOUND, store_mapping_delete(tx, mapping.application_id, "alice", &err));
}

static void test_pages_of_mappings(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    char after[PRINCIPAL_BYTES_MAX + 1] = "";
    size_t count = 1, seen = 0;
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    for (int i = 0; i < 25; i++) {
        char principal[16];
        snprintf(principal, sizeof principal, "user%02d", i);
        struct mapping mapping = sample_mapping(1, principal), other = sample_mapping(2, principal);
        assert_ok(store_mapping_put(tx, &mapping, &err));
        assert_ok(store_mapping_put(tx, &other, &err));
        if (i % 2 == 0)
            continue;
        struct credential_row row = sample_row((uint32_t)i, 1, principal);
        assert_ok(store_credential_put(tx, &row, 0, &err));
        credential_row_free(&row);
    }
    while (count != 0) {
        struct mapping_view *page = NULL;
        uint8_t id[APPLICATION_ID_BYTES] = {1};
        assert_ok(store_mapping_page(tx, id, after, 10, &page, &count, &err));
        assert_true(count <= 10);
        for (size_t i = 0; i < count; i++, seen++) {
            assert_true(strcmp(page[i].mapping.principal, after) > 0);
            snprintf(after, sizeof after, "%s", page[i].mapping.principal);
            assert_int_equal(page[i].has_credential, seen % 2);
            assert_int_equal(page[i].external_user[0] != '\0', seen % 2);
        }
        free(page);
    }
    assert_int_equal(seen, 25);
}

static void test_read_transactions_do_not_write(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct setting setting = sample_setting("a", "b", 1);
    STORE_TX_AUTO tx = begin(fixture->store, STORE_READ);
    assert_code(SSO_INTERNAL, store_setting_put(tx, &setting, &err));
    assert_says("store_setting_put");
}

int contract_policy_rows(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_system, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_settings, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_nodes, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_generations, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_wraps, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_generation_tokens, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_sealed_keys, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_applications, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_largest_application, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_mappings, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_pages_of_mappings, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_read_transactions_do_not_write, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests_name("store: rows of policy", tests, NULL, NULL);
}
