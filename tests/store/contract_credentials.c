#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract.h"
#include "fixture.h"

static const uint8_t payroll[APPLICATION_ID_BYTES] = {1};

static void assert_same_row(const struct credential_row *a, const struct credential_row *b)
{
    struct credential_row left = *a, right = *b;
    assert_int_equal(a->ciphertext_bytes, b->ciphertext_bytes);
    assert_memory_equal(a->ciphertext, b->ciphertext, a->ciphertext_bytes);
    left.ciphertext = right.ciphertext = NULL;
    assert_memory_equal(left.row_id, right.row_id, ROW_ID_BYTES);
    assert_string_equal(left.principal, right.principal);
    assert_string_equal(left.external_user, right.external_user);
    assert_memory_equal(left.application_id, right.application_id, APPLICATION_ID_BYTES);
    assert_memory_equal(&left.wrapped, &right.wrapped, sizeof left.wrapped);
    assert_memory_equal(left.row_key_id, right.row_key_id, ROW_KEY_ID_BYTES);
    assert_memory_equal(left.nonce, right.nonce, NONCE_BYTES);
    assert_int_equal(left.format, right.format);
    assert_int_equal(left.generation, right.generation);
    assert_int_equal(left.born, right.born);
    assert_int_equal(left.version, right.version);
    assert_int_equal(left.updated_ms, right.updated_ms);
}

static void test_put_and_get(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct credential_row row = sample_row(7, 1, "Zoë"), back = {0};
    row.external_user[0] = '\0';
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_code(SSO_NOT_FOUND, store_credential_get(tx, payroll, "Zoë", &back, &err));
    assert_ok(store_credential_put(tx, &row, 0, &err));
    assert_ok(store_credential_get(tx, payroll, "Zoë", &back, &err));
    assert_same_row(&back, &row);
    credential_row_free(&back);
    assert_ok(store_credential_get_by_id(tx, row.row_id, &back, &err));
    assert_same_row(&back, &row);
    credential_row_free(&back);

    assert_code(SSO_VERSION_CONFLICT, store_credential_put(tx, &row, 0, &err));
    struct credential_row other = sample_row(8, 1, "Zoë");
    assert_code(SSO_VERSION_CONFLICT, store_credential_put(tx, &other, 0, &err));
    row.version = 2;
    assert_code(SSO_VERSION_CONFLICT, store_credential_put(tx, &row, 2, &err));
    assert_ok(store_credential_put(tx, &row, 1, &err));
    other.version = 3;
    assert_code(SSO_VERSION_CONFLICT, store_credential_put(tx, &other, 2, &err));
    assert_ok(store_credential_get(tx, payroll, "Zoë", &back, &err));
    assert_same_row(&back, &row);
    credential_row_free(&back);
    credential_row_free(&other);
    credential_row_free(&row);
}

static void test_delete(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct credential_row back = {0};
    fill(fixture->store, 2);
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_code(SSO_VERSION_CONFLICT, store_credential_delete(tx, payroll, "user00000", 2, &err));
    assert_ok(store_credential_delete(tx, payroll, "user00000", 1, &err));
    assert_code(SSO_NOT_FOUND, store_credential_delete(tx, payroll, "user00000", 0, &err));
    assert_code(SSO_NOT_FOUND, store_credential_get(tx, payroll, "user00000", &back, &err));
    assert_ok(store_credential_delete(tx, payroll, "user00001", 0, &err));
}

static void test_largest_row(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct credential_row row = sample_row(1, 1, ""), back = {0};
    memset(row.principal, 'p', PRINCIPAL_BYTES_MAX);
    memset(row.external_user, 'e', EXTERNAL_USER_BYTES_MAX);
    row.ciphertext_bytes = FIELDS_MAX * (FIELD_VALUE_BYTES_MAX + 72) + 64 + SEAL_TAG_BYTES;
    free(row.ciphertext);
    row.ciphertext = calloc(1, row.ciphertext_bytes);
    assert_non_null(row.ciphertext);
    row.wrapped.length_bytes = WRAPPED_KEY_BYTES_MAX;
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_credential_put(tx, &row, 0, &err));
    assert_ok(store_credential_get(tx, payroll, row.principal, &back, &err));
    assert_same_row(&back, &row);
    credential_row_free(&back);
    credential_row_free(&row);
}

static void test_lookup(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct lookup_view view;
    fill(fixture->store, 3);
    struct store_tx *tx = begin(fixture->store, STORE_READ);
    assert_code(SSO_NOT_FOUND, store_lookup(tx, "nothing", "user00001", &view, &err));
    assert_ok(store_lookup(tx, "PAYROLL", "user00001", &view, &err));
    assert_true(view.has_mapping && view.has_row && view.has_generation);
    struct application application = sample_application(1, "Payroll");
    struct mapping mapping = sample_mapping(1, "user00001");
    struct generation generation = sample_generation(1);
    struct credential_row row = sample_row(1, 1, "user00001");
    assert_memory_equal(&view.application, &application, sizeof application);
    assert_memory_equal(&view.mapping, &mapping, sizeof mapping);
    assert_memory_equal(&view.generation, &generation, sizeof generation);
    assert_same_row(&view.row, &row);
    assert_string_equal(view.system_enabled.value, "yes");
    assert_string_equal(view.revocation.name, SETTING_REVOCATION);
    credential_row_free(&row);
    lookup_view_free(&view);

    assert_ok(store_lookup(tx, "Payroll", "USER00001", &view, &err));
    assert_false(view.has_mapping || view.has_row || view.has_generation);
    lookup_view_free(&view);
    commit(tx);
}

static void test_lookup_of_parts(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct lookup_view view;
    fill(fixture->store, 3);
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_credential_delete(tx, payroll, "user00000", 0, &err));
    assert_ok(store_mapping_delete(tx, payroll, "user00001", &err));
    struct credential_row row = sample_row(2, 1, "user00002");
    row.generation = 9;
    row.version = 2;
    assert_ok(store_credential_put(tx, &row, 1, &err));
    credential_row_free(&row);
    assert_ok(store_lookup(tx, "Payroll", "user00000", &view, &err));
    assert_true(view.has_mapping && !view.has_row && !view.has_generation);
    lookup_view_free(&view);
    assert_ok(store_lookup(tx, "Payroll", "user00001", &view, &err));
    assert_true(!view.has_mapping && view.has_row && view.has_generation);
    lookup_view_free(&view);
    assert_ok(store_lookup(tx, "Payroll", "user00002", &view, &err));
    assert_true(view.has_mapping && view.has_row && !view.has_generation);
    lookup_view_free(&view);
}

static void test_lookup_without_settings(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct lookup_view view;
    struct application application = sample_application(1, "Payroll");
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_application_insert(tx, &application, &err));
    assert_code(SSO_POLICY_TAMPERED, store_lookup(tx, "Payroll", "x", &view, &err));
}

static void test_pages(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct credential_page page;
    char after[PRINCIPAL_BYTES_MAX + 1] = "";
    size_t seen = 0;
    fill(fixture->store, 25);
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_mapping_delete(tx, payroll, "user00011", &err));
    for (;;) {
        assert_ok(store_credential_page(tx, payroll, after, 10, &page, &err));
        for (size_t i = 0; i < page.count; i++, seen++) {
            char expected[32];
            snprintf(expected, sizeof expected, "user%05zu", seen);
            assert_string_equal(page.row[i].principal, expected);
            assert_null(page.row[i].ciphertext);
            assert_int_equal(page.mapping[i].state, seen == 11 ? 0 : MAPPING_ENABLED);
        }
        if (page.count > 0)
            strcpy(after, page.row[page.count - 1].principal);
        bool last = page.count < 10;
        credential_page_free(&page);
        if (last)
            break;
    }
    assert_int_equal(seen, 25);
}

static void test_application_delete(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct application other = sample_application(2, "other"), back;
    struct credential_row kept = sample_row(99, 2, "user00001");
    struct quarantine_entry entry = {.generation = 1, .code = SSO_ROW_CORRUPT, .reason = "why"};
    struct mapping mapping;
    uint64_t deleted = 0;
    struct quarantine_count quarantined = {.rows = 9};
    fill(fixture->store, 5);
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_application_insert(tx, &other, &err));
    assert_ok(store_credential_put(tx, &kept, 0, &err));
    struct credential_row row = sample_row(3, 1, "");
    memcpy(entry.row_id, row.row_id, ROW_ID_BYTES);
    credential_row_free(&row);
    assert_ok(store_quarantine_put(tx, &entry, &err));

    assert_ok(store_application_delete(tx, payroll, true, &deleted, &err));
    assert_int_equal(deleted, 5);
    assert_ok(store_application_get_by_id(tx, payroll, &back, &err));
    assert_int_equal(back.version, 1);
    assert_code(SSO_NOT_FOUND, store_mapping_get(tx, payroll, "user00001", &mapping, &err));
    assert_ok(store_quarantine_count(tx, &quarantined, &err));
    assert_int_equal(quarantined.rows, 0);
    assert_ok(store_application_delete(tx, payroll, false, &deleted, &err));
    assert_int_equal(deleted, 0);
    assert_code(SSO_NOT_FOUND, store_application_delete(tx, payroll, false, &deleted, &err));
    assert_code(SSO_NOT_FOUND, store_application_delete(tx, payroll, true, &deleted, &err));
    struct credential_row still = {0};
    assert_ok(store_credential_get_by_id(tx, kept.row_id, &still, &err));
    credential_row_free(&still);
    credential_row_free(&kept);
}

int contract_credentials(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_put_and_get, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_delete, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_largest_row, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_lookup, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_lookup_of_parts, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_lookup_without_settings, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_pages, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_application_delete, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests_name("store: credentials", tests, NULL, NULL);
}
