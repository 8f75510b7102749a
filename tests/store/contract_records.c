#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract.h"
#include "fixture.h"
#include "store/shared_refusals.h"

static void test_rotations(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct rotation rotation = {.state = ROTATION_RUNNING,
                                .phase = PHASE_STREAM,
                                .to = 2,
                                .from = "1",
                                .total = 100,
                                .rate = 5,
                                .dry_run = true,
                                .verify = VERIFY_SAMPLE,
                                .without = "node3",
                                .started_ms = 9},
                    back, second;
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_code(SSO_NOT_FOUND, store_rotation_latest(tx, &back, &err));
    assert_code(SSO_NOT_FOUND, store_rotation_update(tx, &rotation, &err));
    assert_ok(store_rotation_insert(tx, &rotation, &err));
    assert_int_equal(rotation.id, 1);
    second = rotation;
    assert_code(SSO_ROTATION_IN_PROGRESS, store_rotation_insert(tx, &second, &err));
    assert_says("running");
    rotation.state = ROTATION_COMPLETED_WITH_ERRORS;
    rotation.phase = PHASE_FINISH;
    rotation.done = 99;
    rotation.failed = 1;
    rotation.finished_ms = 10;
    strcpy(rotation.error, "one row");
    rotation.error_code = SSO_ROW_CORRUPT;
    rotation.renew_born = 1;
    assert_ok(store_rotation_update(tx, &rotation, &err));
    assert_ok(store_rotation_latest(tx, &back, &err));
    assert_memory_equal(&back, &rotation, sizeof rotation);
    uint32_t renewed = 9;
    assert_ok(store_rotation_renewed(tx, &renewed, &err));
    assert_int_equal(renewed, 0); /* it was not completed */
    back.state = ROTATION_COMPLETED;
    back.dry_run = false;
    assert_ok(store_rotation_update(tx, &back, &err));
    assert_ok(store_rotation_renewed(tx, &renewed, &err));
    assert_int_equal(renewed, 1);
    assert_ok(store_rotation_insert(tx, &second, &err));
    assert_int_equal(second.id, 2);
    assert_ok(store_rotation_latest(tx, &back, &err));
    assert_int_equal(back.id, 2);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(rotation_state_name(ROTATION_NONE), "none");
    assert_string_equal(rotation_state_name(ROTATION_COMPLETED_WITH_ERRORS),
                        "completed_with_errors");
    assert_string_equal(rotation_state_name((enum rotation_state)99), "unknown");
    assert_string_equal(rotation_phase_name(PHASE_VERIFY), "verify");
    assert_string_equal(rotation_phase_name((enum rotation_phase)0), "unknown");
}

static void test_quarantine(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct quarantine_entry entry = {
        .generation = 1, .code = SSO_ROW_CORRUPT, .reason = "first", .since_ms = 5};
    struct quarantine_entry lost = {.row_id = {0xff}, .generation = 1, .code = SSO_INTERNAL};
    struct quarantine_entry *list = NULL;
    size_t count = 0;
    struct quarantine_count total = {0};
    fill(fixture->store, 3);
    struct credential_row row = sample_row(1, 1, "user00001");
    memcpy(entry.row_id, row.row_id, ROW_ID_BYTES);
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_quarantine_put(tx, &entry, &err));
    assert_ok(store_quarantine_put(tx, &lost, &err));
    entry.code = SSO_ROW_KILLS_WORKER;
    entry.since_ms = 6;
    strcpy(entry.reason, "second");
    assert_ok(store_quarantine_put(tx, &entry, &err));
    assert_ok(store_quarantine_list(tx, &list, &count, &err));
    assert_int_equal(count, 2);
    assert_int_equal(list[0].tries, 2);
    assert_int_equal(list[0].code, SSO_ROW_KILLS_WORKER);
    assert_int_equal(list[0].since_ms, 5);
    assert_string_equal(list[0].reason, "second");
    assert_string_equal(list[0].application, "Payroll");
    assert_string_equal(list[0].principal, "user00001");
    assert_string_equal(list[1].application, "");
    free(list);

    row.version = 2; /* a new write makes the row good again */
    assert_ok(store_credential_put(tx, &row, 1, &err));
    credential_row_free(&row);
    assert_ok(store_quarantine_count(tx, &total, &err));
    assert_int_equal(total.rows, 1);
    assert_ok(store_quarantine_prune(tx, 9, &err)); /* the row that does not exist */
    assert_ok(store_quarantine_count(tx, &total, &err));
    assert_int_equal(total.rows, 0);
    assert_ok(store_quarantine_put(tx, &entry, &err));
    assert_ok(store_credential_delete(tx, (uint8_t[16]){1}, "user00001", 0, &err));
    assert_ok(store_quarantine_count(tx, &total, &err));
    assert_int_equal(total.rows, 0);
}

static void quarantine_row_of(struct store_tx *tx, unsigned number)
{
    struct sso_error err = {0};
    struct credential_row row = sample_row(number, 1, "");
    struct quarantine_entry entry = {.generation = 1, .code = SSO_ROW_CORRUPT, .seen = {7}};
    memcpy(entry.row_id, row.row_id, ROW_ID_BYTES);
    assert_ok(store_quarantine_put(tx, &entry, &err));
    credential_row_free(&row);
}

static size_t scanned(struct store_tx *tx)
{
    struct sso_error err = {0};
    struct scan_position position = {0};
    const struct scan_options options = {.below = 2, .skip_quarantined = true, .limit = 9};
    struct credential_row rows[9];
    size_t count = 0;
    assert_ok(store_credential_scan(tx, &options, &position, rows, &count, &err));
    return count;
}

static void test_quarantined_rows_are_tried_again(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct quarantine_count total;
    struct quarantine_entry *list = NULL;
    size_t count = 0;
    fill(fixture->store, 4);
    struct credential_row row = sample_row(2, 1, "");
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    quarantine_row_of(tx, 1);
    quarantine_row_of(tx, 2);
    assert_int_equal(scanned(tx), 2);
    assert_ok(store_quarantine_retry(tx, row.row_id, &err));
    assert_int_equal(scanned(tx), 3);
    assert_ok(store_quarantine_count(tx, &total, &err));
    assert_true(total.rows == 2 && total.to_retry == 1);
    assert_ok(store_quarantine_retry(tx, NULL, &err));
    assert_int_equal(scanned(tx), 4);
    quarantine_row_of(tx, 2); /* in vain */
    assert_ok(store_quarantine_list(tx, &list, &count, &err));
    assert_int_equal(count, 2);
    assert_true(list[0].retry && list[0].tries == 1);
    assert_true(!list[1].retry && list[1].tries == 2 && list[1].seen[0] == 7);
    free(list);

    struct key_swap swap = {.old_generation = 1,
                            .new_generation = 2,
                            .old_wrapped = row.wrapped,
                            .new_wrapped = row.wrapped};
    memcpy(swap.row_id, row.row_id, ROW_ID_BYTES);
    assert_ok(store_credential_swap(tx, &swap, 1, &err));
    assert_true(swap.swapped);
    assert_ok(store_quarantine_prune(tx, 2, &err));
    assert_ok(store_quarantine_list(tx, &list, &count, &err));
    assert_int_equal(count, 1);
    assert_true(list[0].retry);
    free(list);
    credential_row_free(&row);
}

static void test_exposed_rows(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct exposed_row *list = NULL;
    size_t count = 0;
    uint64_t entries = 0;
    fill(fixture->store, 4);
    struct credential_row row = sample_row(2, 1, "user00002");
    uint8_t ciphertext[80] = {9};
    struct row_renewal renewal = {.born = 5,
                                  .row_key_id = {4},
                                  .nonce = {3},
                                  .ciphertext = ciphertext,
                                  .ciphertext_bytes = sizeof ciphertext};
    struct key_swap swap = {.old_generation = 1,
                            .new_generation = 5,
                            .old_wrapped = row.wrapped,
                            .new_wrapped = row.wrapped,
                            .renewal = &renewal};
    memcpy(swap.row_id, row.row_id, ROW_ID_BYTES);
    struct exposed_row exposed = {.born = 1, .renewed_ms = 77};
    memcpy(exposed.row_id, row.row_id, ROW_ID_BYTES);
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_credential_swap(tx, &swap, 1, &err));
    assert_true(swap.swapped);
    credential_row_free(&row);
    assert_ok(store_credential_get_by_id(tx, swap.row_id, &row, &err));
    assert_true(row.born == 5 && row.generation == 5 && row.version == 1 && row.nonce[0] == 3);
    assert_true(row.row_key_id[0] == 4 && row.ciphertext_bytes == sizeof ciphertext);
    assert_ok(store_exposed_list(tx, 1, NULL, 9, &list, &count, &err));
    assert_int_equal(count, 3); /* by being born up to 1 */
    free(list);

    assert_ok(store_exposed_put(tx, &exposed, &err));
    exposed.born = 3;
    assert_ok(store_exposed_put(tx, &exposed, &err));
    assert_ok(store_exposed_list(tx, 1, NULL, 9, &list, &count, &err));
    assert_int_equal(count, 4);
    assert_true(list[2].born == 1 && list[2].renewed_ms == 77 && list[1].renewed_ms == 0);
    assert_string_equal(list[2].application, "Payroll");
    assert_string_equal(list[2].principal, "user00002");
    uint8_t after[ROW_ID_BYTES];
    memcpy(after, list[1].row_id, sizeof after);
    free(list);
    assert_ok(store_exposed_list(tx, 1, after, 1, &list, &count, &err));
    assert_true(count == 1 && list[0].renewed_ms == 77);
    free(list);
    assert_ok(store_exposed_count(tx, &entries, &err));
    assert_int_equal(entries, 1);
    row.version++; /* its owner changes the credential */
    assert_ok(store_credential_put(tx, &row, 1, &err));
    assert_ok(store_exposed_count(tx, &entries, &err));
    assert_int_equal(entries, 0);
    credential_row_free(&row);
}

static void check_chain(const struct audit_record *list, size_t count)
{
    uint8_t previous[AUDIT_HASH_BYTES] = {0}, hash[AUDIT_HASH_BYTES];
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(list[i].number, i + 1);
        audit_record_hash(previous, &list[i], hash);
        assert_memory_equal(list[i].hash, hash, sizeof hash);
        memcpy(previous, hash, sizeof hash);
    }
}

static void test_audit(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct audit_record first[2] = {sample_record("node1", "a"), sample_record("node1", "b")};
    struct audit_record other = sample_record("node0", "c"), later = sample_record("node1", "d");
    struct audit_record mixed[2] = {sample_record("node1", "e"), sample_record("node2", "f")};
    struct audit_record *list = NULL;
    struct audit_head *heads = NULL;
    size_t count = 9;
    struct store_tx *tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_audit_heads(tx, &heads, &count, &err));
    assert_int_equal(count, 0);
    assert_ok(store_audit_append(tx, first, 0, &err));
    assert_ok(store_audit_append(tx, first, 2, &err));
    assert_int_equal(first[1].number, 2);
    assert_ok(store_audit_append(tx, &other, 1, &err));
    commit(tx);
    tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_audit_append(tx, &later, 1, &err));
    commit(tx);
    tx = begin(fixture->store, STORE_WRITE);
    assert_code(SSO_INTERNAL, store_audit_append(tx, mixed, 2, &err));
    store_rollback(&tx);

    tx = begin(fixture->store, STORE_READ);
    assert_ok(store_audit_list(tx, "node1", 0, 100, &list, &count, &err));
    assert_int_equal(count, 3);
    check_chain(list, count);
    assert_memory_equal(&list[2], &later, sizeof later);
    free(list);
    assert_ok(store_audit_list(tx, NULL, 0, 2, &list, &count, &err));
    assert_int_equal(count, 2);
    assert_string_equal(list[0].node, "node0");
    assert_string_equal(list[1].target, "a");
    free(list);
    assert_ok(store_audit_list(tx, "node1", 2, 100, &list, &count, &err));
    assert_int_equal(count, 1);
    free(list);
    assert_ok(store_audit_heads(tx, &heads, &count, &err));
    assert_int_equal(count, 2);
    assert_string_equal(heads[1].node, "node1");
    assert_int_equal(heads[1].number, 3);
    assert_memory_equal(heads[1].hash, later.hash, sizeof later.hash);
    free(heads);
    commit(tx);
}

/* Daemon and tool of one node: two stores on one database. */
static void test_audit_of_two_programs(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct store *tool = NULL;
    struct audit_record *list = NULL;
    size_t count = 0;
    assert_ok(store_open(fixture->url, &tool, &err));
    for (unsigned i = 0; i < 20; i++) {
        struct audit_record record = sample_record("node1", "x");
        struct store_tx *tx = begin(i % 3 == 0 ? tool : fixture->store, STORE_WRITE);
        assert_ok(store_audit_append(tx, &record, 1, &err));
        if (i % 5 == 4)
            store_rollback(&tx);
        else
            commit(tx);
    }
    store_close(&tool);
    STORE_TX_AUTO tx = begin(fixture->store, STORE_READ);
    assert_ok(store_audit_list(tx, "node1", 0, 100, &list, &count, &err));
    assert_int_equal(count, 16);
    check_chain(list, count);
    free(list);
}

static void test_pruning(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct audit_record record[6];
    struct audit_base base = {
        .last = {.node = "node1", .number = 3}, .signature = 7, .time_ms = 8, .tag = {9}};
    struct audit_base *bases = NULL;
    struct audit_record *list = NULL;
    size_t count = 9;
    uint64_t pruned = 0;
    for (size_t i = 0; i < 6; i++)
        record[i] = sample_record("node1", "x");
    struct audit_record other = sample_record("node2", "y");
    struct store_tx *tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_audit_append(tx, record, 6, &err));
    assert_ok(store_audit_append(tx, &other, 1, &err));
    assert_ok(store_audit_base_list(tx, &bases, &count, &err));
    assert_int_equal(count, 0);
    assert_ok(store_audit_base_put(tx, &base, &err));
    base.last.number = 5;
    memcpy(base.last.hash, record[4].hash, sizeof base.last.hash);
    assert_ok(store_audit_base_put(tx, &base, &err));
    assert_ok(store_audit_base_list(tx, &bases, &count, &err));
    assert_int_equal(count, 1);
    assert_memory_equal(bases, &base, sizeof base);
    free(bases);
    assert_ok(store_audit_prune(tx, "node1", 5, 3, &pruned, &err));
    assert_int_equal(pruned, 3);
    assert_ok(store_audit_prune(tx, "node1", 5, 3, &pruned, &err));
    assert_int_equal(pruned, 2);
    assert_ok(store_audit_prune(tx, "node1", 5, 3, &pruned, &err));
    assert_int_equal(pruned, 0);
    assert_ok(store_audit_prune_signatures(tx, 5, 3, &pruned, &err));
    assert_int_equal(pruned, 0);
    /* The last record stays, and the next one is numbered after it. */
    assert_ok(store_audit_prune(tx, "node2", 1, 3, &pruned, &err));
    assert_int_equal(pruned, 0);
    commit(tx);
    tx = begin(fixture->store, STORE_READ);
    assert_code(SSO_INTERNAL, store_audit_prune(tx, "node1", 6, 9, &pruned, &err));
    assert_ok(store_audit_list(tx, NULL, 0, 100, &list, &count, &err));
    assert_int_equal(count, 2);
    assert_int_equal(list[0].number, 6);
    assert_string_equal(list[1].node, "node2");
    free(list);
    store_rollback(&tx);
}

static void test_check_structure(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct system_row system = {.id = {1}, .name = "corp"};
    struct credential_row row = sample_row(50, 9, "nobody");
    char **lines = NULL;
    size_t count = 9;
    fill(fixture->store, 3);
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_system_insert(tx, &system, &err));
    assert_ok(store_check_structure(tx, &lines, &count, &err));
    if (count > 0)
        fail_msg("a sound database: %s", lines[0]);
    store_lines_free(&lines, count);
    row.generation = 8;
    assert_ok(store_credential_put(tx, &row, 0, &err)); /* no application, mapping, generation */
    credential_row_free(&row);
    assert_ok(store_mapping_delete(tx, (uint8_t[16]){1}, "user00001", &err));
    assert_ok(store_check_structure(tx, &lines, &count, &err));
    assert_int_equal(count, 4);
    store_lines_free(&lines, count);
}

/* Two nodes and one token: what one was refused the other hears of, until a PIN works. */
static void test_refusals(void **state)
{
    struct fixture *fixture = *state;
    const struct token_identity token = {.token = "t", .serial = "1"}, other = {.token = "t"};
    struct shared_refusals one, two;
    char node[PIN_BOARD_NODE_SIZE] = "";
    shared_refusals_init(&one, "node1");
    shared_refusals_init(&two, "node2");
    assert_int_equal(one.board.ask(&one, &token, node), PIN_BOARD_UNKNOWN);
    shared_refusals_use(&one, fixture->store);
    shared_refusals_use(&two, fixture->store);
    assert_int_equal(one.board.ask(&one, &token, node), PIN_BOARD_CLEAR);
    one.board.tell(&one, &token, true);
    one.board.tell(&one, &token, true);
    assert_int_equal(one.board.ask(&one, &token, node), PIN_BOARD_CLEAR); /* its own */
    assert_int_equal(two.board.ask(&two, &token, node), PIN_BOARD_REFUSED);
    assert_string_equal(node, "node1");
    assert_int_equal(two.board.ask(&two, &other, node), PIN_BOARD_CLEAR);
    two.board.tell(&two, &other, false);
    assert_int_equal(two.board.ask(&two, &token, node), PIN_BOARD_REFUSED);
    two.board.tell(&two, &token, true);
    assert_int_equal(one.board.ask(&one, &token, node), PIN_BOARD_REFUSED);
    assert_string_equal(node, "node2");
    one.board.tell(&one, &token, false);
    assert_int_equal(one.board.ask(&one, &token, node), PIN_BOARD_CLEAR);
    assert_int_equal(two.board.ask(&two, &token, node), PIN_BOARD_CLEAR);
}

int contract_records(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rotations, fixture_setup, fixture_teardown),
        cmocka_unit_test(test_names),
        cmocka_unit_test_setup_teardown(test_quarantine, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_quarantined_rows_are_tried_again, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_exposed_rows, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_audit, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_audit_of_two_programs, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_pruning, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_refusals, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_check_structure, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests_name("store: rotation, quarantine, audit, checks", tests, NULL,
                                       NULL);
}
