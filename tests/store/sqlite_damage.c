/* Values, triggers and pages that another hand wrote into the file. */
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/secret.h"
#include "sqlite_hands.h"

static const uint8_t payroll[APPLICATION_ID_BYTES] = {1};

struct damage {
    const char *column, *value;
};

static const struct damage credential_damage[] = {
    {"wrapped_row_key", "zeroblob(65)"},
    {"wrapped_row_key", "x''"},
    {"wrapped_row_key", "'text of forty bytes, which is the length'"},
    {"format", "'one'"},
    {"format", "70000"},
    {"generation", "0"},
    {"application_id", "zeroblob(15)"},
    {"principal", "zeroblob(3)"},
    {"principal", "''"},
    {"principal", "'a' || char(10)"},
    {"principal", "CAST(x'ff41' AS TEXT)"},
    {"principal", "CAST(zeroblob(257) AS TEXT)"},
    {"external_user", "substr(hex(zeroblob(200)), 1, 257)"},
    {"external_user", "x'41'"},
    {"external_user", "CAST(x'ff41' AS TEXT)"},
    {"born", "-1"},
    {"born", "4294967296"},
    {"row_key_id", "zeroblob(17)"},
    {"nonce", "x'00'"},
    {"version", "0"},
    {"version", "1.5"},
    {"updated", "'yesterday'"},
    {"ciphertext", "x''"},
    {"ciphertext", "zeroblob(3000000)"},
    {"ciphertext", "zeroblob(50000000)"}, /* longer than SQLite may make it */
    {"wrapped_row_key", "zeroblob(50000000)"},
    {"external_user", "hex(zeroblob(5000000))"},
    {"ciphertext", "'text'"},
};

static void check_scan_around_damage(struct store *store, const struct damage *damage)
{
    const struct scan_options options = {.with_ciphertext = true, .limit = 10};
    struct scan_position position = {0};
    struct credential_row rows[10];
    struct sso_error err = {0};
    size_t count = 0, seen = 0, damaged = 0;
    STORE_TX_AUTO tx = begin(store, STORE_READ);
    do {
        assert_ok(store_credential_scan(tx, &options, &position, rows, &count, &err));
        for (size_t i = 0; i < count; i++) {
            damaged += rows[i].format == 0;
            assert_true(rows[i].row_id[4] < 3);
            credential_row_free(&rows[i]);
        }
        seen += count;
    } while (count != 0);
    if (seen != 3)
        fail_msg("%s = %s: %zu rows", damage->column, damage->value, seen);
    if (damaged != 1)
        fail_msg("%s = %s: %zu rows damaged", damage->column, damage->value, damaged);
}

static void test_damaged_credentials(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    char sql[512];
    fill(fixture->store, 3);
    by_another_hand(path_of(fixture), "CREATE TABLE kept AS SELECT * FROM credentials");
    for (size_t i = 0; i < sizeof credential_damage / sizeof credential_damage[0]; i++) {
        const struct damage *damage = &credential_damage[i];
        struct credential_row row = sample_row(1, 1, ""), back = {0};
        struct credential_page page;
        struct lookup_view view;
        snprintf(sql, sizeof sql, "UPDATE credentials SET %s = %s WHERE principal = 'user00001'",
                 damage->column, damage->value);
        by_another_hand(path_of(fixture), sql);
        check_scan_around_damage(fixture->store, damage);
        struct store_tx *tx = begin(fixture->store, STORE_READ);
        assert_code(SSO_ROW_CORRUPT, store_credential_get_by_id(tx, row.row_id, &back, &err));
        assert_ok(store_lookup(tx, "Payroll", "user00002", &view, &err)); /* nobody else suffers */
        lookup_view_free(&view);
        if (strcmp(damage->column, "principal") != 0 &&
            strcmp(damage->column, "application_id") != 0)
            assert_code(SSO_ROW_CORRUPT, store_lookup(tx, "Payroll", "user00001", &view, &err));
        assert_ok(store_credential_page(tx, payroll, "", 10, &page, &err));
        assert_in_range(page.count, 2, 3);
        credential_page_free(&page);
        commit(tx);
        credential_row_free(&row);
        by_another_hand(path_of(fixture), "DELETE FROM credentials;"
                                          "INSERT INTO credentials SELECT * FROM kept");
    }
}

static void assert_lookup_tampered(struct fixture *fixture, const char *table,
                                   const struct damage *damage)
{
    struct sso_error err = {0};
    struct lookup_view view;
    STORE_TX_AUTO tx = begin(fixture->store, STORE_READ);
    enum sso_code rc = store_lookup(tx, "Payroll", "user00001", &view, &err);
    if (rc != SSO_POLICY_TAMPERED)
        fail_msg("%s.%s = %s: %s", table, damage->column, damage->value, sso_code_facts(rc)->name);
}

static void test_damaged_policy_rows(void **state)
{
    static const struct {
        const char *table;
        struct damage damage;
    } cases[] = {
        {"applications", {"id", "id || x'00'"}},
        {"applications", {"type", "9"}},
        {"applications", {"enabled", "2"}},
        {"applications", {"fields", "'[{\"label\":\"a\"}]'"}},
        {"applications", {"fields", "'not json'"}},
        {"applications", {"fields", "'[{\"label\":1,\"masked\":true}]'"}},
        {"applications", {"users", "'{}'"}},
        {"applications", {"users", "'[\"a\",7]'"}},
        {"applications",
         {"users", "'[' || substr(replace(hex(zeroblob(9)),'0','\"a\",'),1,67) || "
                   "'\"a\"]'"}},
        {"applications", {"readers", "substr(hex(zeroblob(200)), 1, 257)"}},
        {"applications", {"tag", "zeroblob(31)"}},
        {"mappings", {"state", "0"}},
        {"mappings", {"tag", "'x'"}},
        {"generations", {"state", "7"}},
        {"generations", {"suite", "3"}},
        {"generations", {"secret_id", "randomblob(15)"}},
        {"generations", {"canary_wrapped", "zeroblob(65)"}},
        {"settings", {"value", "zeroblob(3)"}},
        {"settings", {"version", "'x'"}},
        {"settings", {"name", "name || '.gone'"}},
    };
    struct fixture *fixture = *state;
    char sql[512];
    fill(fixture->store, 3);
    store_close(&fixture->store);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(sql, sizeof sql, "CREATE TABLE kept AS SELECT * FROM %s; UPDATE %s SET %s = %s",
                 cases[i].table, cases[i].table, cases[i].damage.column, cases[i].damage.value);
        by_another_hand(path_of(fixture), sql);
        reopen(fixture, "");
        assert_lookup_tampered(fixture, cases[i].table, &cases[i].damage);
        store_close(&fixture->store);
        snprintf(sql, sizeof sql,
                 "DELETE FROM %s; INSERT INTO %s SELECT * FROM kept;"
                 "DROP TABLE kept",
                 cases[i].table, cases[i].table);
        by_another_hand(path_of(fixture), sql);
    }
}

/* What is damaged comes back as nothing that could be taken for sound, and nothing else suffers. */
static void test_lists_around_damage(void **state)
{
    static const uint8_t no_tag[TAG_BYTES];
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct application *applications = NULL;
    struct generation *generations = NULL;
    struct credential_page page;
    size_t count = 0;
    fill(fixture->store, 3);
    by_another_hand(path_of(fixture),
                    "UPDATE applications SET type = 99; UPDATE generations SET state = 99;"
                    "UPDATE mappings SET state = 99 WHERE principal = 'user00001'");
    STORE_TX_AUTO tx = begin(fixture->store, STORE_READ);
    assert_ok(store_application_list(tx, &applications, &count, &err));
    assert_int_equal(count, 1);
    assert_string_equal(applications[0].name, "Payroll");
    assert_memory_equal(applications[0].tag, no_tag, TAG_BYTES);
    free(applications);
    assert_ok(store_generation_list(tx, &generations, &count, &err));
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(generations[i].number, i + 1);
        assert_int_equal(generations[i].state, 0);
        assert_memory_equal(generations[i].tag, no_tag, TAG_BYTES);
    }
    free(generations);
    assert_ok(store_credential_page(tx, payroll, "", 10, &page, &err));
    assert_int_equal(page.count, 3);
    assert_int_equal(page.mapping[0].state, MAPPING_ENABLED);
    assert_int_equal(page.mapping[1].state, MAPPING_DISABLED_BY_ADMIN);
    assert_memory_equal(page.mapping[1].tag, no_tag, TAG_BYTES);
    credential_page_free(&page);
}

/* Rows keep what orders a scan: the table itself refuses other values. */
static void test_keys_are_guarded(void **state)
{
    static const char *const refused[] = {
        "UPDATE credentials SET row_id = zeroblob(15)", "UPDATE credentials SET row_id = 'text'",
        "UPDATE credentials SET generation = -1",       "UPDATE credentials SET generation = 'x'",
        "UPDATE credentials SET generation = NULL",
    };
    struct fixture *fixture = *state;
    sqlite3 *db = NULL;
    fill(fixture->store, 1);
    assert_int_equal(sqlite3_open(path_of(fixture), &db), SQLITE_OK);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        assert_int_equal(sqlite3_exec(db, refused[i], NULL, NULL, NULL), SQLITE_CONSTRAINT);
    sqlite3_close(db);
}

static void test_triggers_do_not_run(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    char **lines = NULL;
    size_t count = 0;
    fill(fixture->store, 2);
    store_close(&fixture->store);
    by_another_hand(path_of(fixture),
                    "CREATE TRIGGER evil AFTER DELETE ON credentials BEGIN DELETE FROM audit;"
                    " DELETE FROM settings; END");
    reopen(fixture, "");
    struct store_tx *tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_credential_delete(tx, payroll, "user00000", 0, &err));
    commit(tx);
    tx = begin(fixture->store, STORE_READ);
    struct setting *settings = NULL;
    assert_ok(store_setting_list(tx, &settings, &count, &err));
    assert_int_equal(count, 2);
    free(settings);
    assert_ok(store_check_structure(tx, &lines, &count, &err));
    assert_int_equal(count, 1);
    assert_string_equal(lines[0], "the trigger evil is not ours");
    store_lines_free(&lines, count);
    commit(tx);
}

static void test_damaged_pages(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    char **lines = NULL, page[4096];
    size_t count = 0;
    fill(fixture->store, 500);
    store_close(&fixture->store);
    int file = open(path_of(fixture), O_RDWR);
    struct stat status;
    assert_int_equal(fstat(file, &status), 0);
    memset(page, 0x5a, sizeof page);
    for (off_t at = status.st_size / 2; at < status.st_size / 2 + 20 * 4096; at += 4096)
        assert_int_equal(pwrite(file, page, sizeof page, at / 4096 * 4096), sizeof page);
    close(file);
    assert_ok(store_open(fixture->url, &fixture->store, &err));
    struct store_tx *tx = begin(fixture->store, STORE_READ);
    assert_ok(store_check_structure(tx, &lines, &count, &err));
    assert_true(count > 0);
    print_message("first of %zu findings: %s\n", count, lines[0]);
    store_lines_free(&lines, count);
    store_rollback(&tx);
    tx = begin(fixture->store, STORE_WRITE);
    uint64_t deleted = 0;
    assert_code(SSO_DATABASE_UNAVAILABLE,
                store_application_delete(tx, payroll, false, &deleted, &err));
    assert_says("damaged");
    store_rollback(&tx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_damaged_credentials, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_damaged_policy_rows, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_lists_around_damage, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_keys_are_guarded, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_triggers_do_not_run, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_damaged_pages, fixture_setup, fixture_teardown),
    };
    wiping_allocator_install();
    return cmocka_run_group_tests_name("store: SQLite, damage", tests, NULL, NULL);
}
