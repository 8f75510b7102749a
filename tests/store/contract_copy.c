/* Copies and backups: from the kind under test to a SQLite file, and back into the kind. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "contract.h"
#include "fixture.h"
#include "store/sql_copy.h"

#define ROWS 300

static const struct token_identity token = {"sso", "0001", "maker", "model"};

static void fill_keys(struct store_tx *tx)
{
    struct sso_error err = {0};
    struct system_row system = {.id = {7}, .name = "corp-sso", .created_ms = 42};
    struct sealed_key sealed = {.purpose = PURPOSE_POLICY, .generation = 1, .born = 1};
    struct generation_token holds = {
        .number = 1, .token = token, .node = "n1", .evidence = "{}", .since_ms = 5, .version = 1};
    struct share_set set = {.id = "11111111-2222-3333-4444-555555555555",
                            .scheme = {.threshold = 2, .count = 3},
                            .version = 1};
    struct destruction end = {.number = 2, .asked_by = "alice", .version = 1};
    struct node node = {.name = "n2", .address = "n2:1", .version = 1};
    struct audit_key signer = {.id = {1}, .token = token, .node = "n1", .since_ms = 3};
    sealed.wrapped.length_bytes = 40;
    assert_ok(store_system_insert(tx, &system, &err));
    assert_ok(store_sealed_key_insert(tx, &sealed, &err));
    assert_ok(store_generation_token_put(tx, &holds, &err));
    assert_ok(store_share_set_insert(tx, &set, &err));
    assert_ok(store_destruction_put(tx, &end, &err));
    assert_ok(store_refusal_put(tx, &token, "n2", &err));
    assert_ok(store_audit_key_insert(tx, &signer, &err));
    struct master_lease nobody = {0}, lease = {.node = "n1", .address = "n1:8443"};
    struct standby standby = {.node = "n2", .able = true};
    assert_ok(store_master_lease_take(tx, &nobody, &lease, &err));
    assert_ok(store_standby_put(tx, &standby, &err));
    assert_ok(store_node_put(tx, &node, &err));
}

static void fill_records(struct store_tx *tx)
{
    struct sso_error err = {0};
    static struct audit_signature signature = {.number = 1, .time_ms = 4, .head_count = 1};
    struct audit_record records[2] = {sample_record("n1", "größe"), sample_record("n1", "two")};
    struct rotation rotation = {
        .state = ROTATION_COMPLETED, .phase = PHASE_FINISH, .verify = VERIFY_SAMPLE, .from = "1"};
    struct quarantine_entry entry = {.row_id = {1}, .generation = 1, .code = SSO_ROW_CORRUPT};
    struct exposed_row exposed = {.row_id = {1}, .born = 1, .renewed_ms = 9};
    struct audit_base base = {.last = {.node = "n2", .number = 3}, .signature = 1, .time_ms = 2};
    struct ticket_claims ticket = {.id = {5}, .expires_ms = 100};
    assert_ok(store_audit_append(tx, records, 2, &err));
    strcpy(signature.head[0].node, "n1");
    assert_ok(store_audit_signature_insert(tx, &signature, &err));
    assert_ok(store_audit_base_put(tx, &base, &err));
    assert_ok(store_rotation_insert(tx, &rotation, &err));
    assert_ok(store_quarantine_put(tx, &entry, &err));
    assert_ok(store_exposed_put(tx, &exposed, &err));
    assert_ok(store_ticket_redeem(tx, &ticket, 1, &err));
}

/* A row in every table: `rows` of a copy tells. */
static void fill_all(struct store *store)
{
    struct store_tx *tx = begin(store, STORE_WRITE);
    fill_keys(tx);
    fill_records(tx);
    commit(tx);
    fill(store, ROWS);
}

static uint64_t copied(struct store *from, struct store *to)
{
    struct sso_error err = {0};
    uint64_t rows = 0;
    assert_ok(store_copy(from, to, &rows, &err));
    return rows;
}

static void assert_no_empty_table(struct store *from)
{
    struct sso_error err = {0};
    STORE_TX_AUTO tx = begin(from, STORE_READ);
    for (unsigned i = 0; i < sql_tables_count; i++) {
        bool empty = true;
        assert_ok(sql_table_is_empty(tx, &sql_tables[i], &empty, &err));
        if (empty)
            fail_msg("no row in %s: this test has to put one there", sql_tables[i].name);
    }
}

static void test_copy(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    char url[128];
    struct store *file = NULL, *back = NULL;
    fill_all(fixture->store);
    assert_no_empty_table(fixture->store);
    snprintf(url, sizeof url, "sqlite:%s/copy", fixture->folder);
    assert_ok(store_create(url, &file, &err));
    uint64_t rows = copied(fixture->store, file);
    assert_true(rows >= 2 * ROWS + sql_tables_count - 2);
    assert_int_equal(rows_of_generation(file, 1), ROWS);

    back = fixture_another(fixture);
    assert_int_equal(copied(file, back), rows);
    assert_int_equal(rows_of_generation(back, 1), ROWS);
    uint64_t more = 0;
    assert_code(SSO_ALREADY_EXISTS, store_copy(file, back, &more, &err));
    assert_says("not empty");
    store_close(&file);
    store_close(&back);
}

static void test_backup(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct stat status;
    char path[96], url[128], log[100];
    struct store *copy = NULL;
    fill_all(fixture->store);
    snprintf(path, sizeof path, "%s/backup", fixture->folder);
    snprintf(url, sizeof url, "sqlite:%s", path);
    snprintf(log, sizeof log, "%s-wal", path);
    assert_ok(store_backup(fixture->store, path, &err));
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_not_equal(access(log, F_OK), 0);
    assert_code(SSO_ALREADY_EXISTS, store_backup(fixture->store, path, &err));
    assert_ok(store_open(url, &copy, &err));
    assert_int_equal(rows_of_generation(copy, 1), ROWS);
    store_close(&copy);
    snprintf(path, sizeof path, "%s/no/backup", fixture->folder);
    assert_code(SSO_CONFIG_ERROR, store_backup(fixture->store, path, &err));
}

int contract_copy(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_copy, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_backup, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests_name("store: copies", tests, NULL, NULL);
}
