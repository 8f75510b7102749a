#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract.h"
#include "fixture.h"

#define ROWS 3000
#define CHUNK 128

static uint32_t number_of(const struct credential_row *row)
{
    return (uint32_t)row->row_id[3] << 8 | row->row_id[4];
}

static struct key_swap swap_to(const struct credential_row *row, uint32_t generation)
{
    struct key_swap swap = {.place = row->place,
                            .old_generation = row->generation,
                            .new_generation = generation,
                            .old_wrapped = row->wrapped,
                            .new_wrapped = row->wrapped};
    memcpy(swap.row_id, row->row_id, ROW_ID_BYTES);
    swap.new_wrapped.bytes[39] ^= 0xff;
    return swap;
}

static void test_scan_in_pages(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct scan_position position = {0};
    const struct scan_options options = {.limit = 7};
    struct credential_row rows[7];
    size_t count = 0, seen = 0;
    fill(fixture->store, 30);
    STORE_TX_AUTO tx = begin(fixture->store, STORE_READ);
    do {
        assert_ok(store_credential_scan(tx, &options, &position, rows, &count, &err));
        for (size_t i = 0; i < count; i++, seen++) {
            assert_int_equal(number_of(&rows[i]), seen);
            assert_null(rows[i].ciphertext);
            assert_int_equal(rows[i].ciphertext_bytes, 144);
            assert_int_equal(rows[i].format, ROW_FORMAT);
        }
    } while (count > 0);
    assert_int_equal(seen, 30);
}

static void test_scan_by_bytes(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct scan_position position = {0};
    struct scan_options options = {.with_ciphertext = true, .limit = 20, .limit_bytes = 400};
    struct credential_row rows[20];
    size_t count = 0;
    fill(fixture->store, 20);
    STORE_TX_AUTO tx = begin(fixture->store, STORE_READ);
    assert_ok(store_credential_scan(tx, &options, &position, rows, &count, &err));
    assert_int_equal(count, 3); /* 144 bytes each */
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(rows[i].ciphertext_bytes, 144);
        credential_row_free(&rows[i]);
    }
    options.limit_bytes = 1; /* one row at least, or a scan would not end */
    assert_ok(store_credential_scan(tx, &options, &position, rows, &count, &err));
    assert_int_equal(count, 1);
    assert_int_equal(number_of(&rows[0]), 3);
    credential_row_free(&rows[0]);
    /* Left in the database they count all the same. */
    options = (struct scan_options){.limit = 20, .limit_bytes = 400};
    assert_ok(store_credential_scan(tx, &options, &position, rows, &count, &err));
    assert_int_equal(count, 3);
}

static void test_scan_below_and_quarantine(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct scan_position position = {0};
    struct scan_options options = {.below = 2, .limit = 10};
    struct credential_row rows[10];
    struct key_swap swaps[2];
    size_t count = 0;
    fill(fixture->store, 6);
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_credential_scan(tx, &options, &position, rows, &count, &err));
    assert_int_equal(count, 6);
    swaps[0] = swap_to(&rows[1], 2);
    swaps[1] = swap_to(&rows[4], 2);
    assert_ok(store_credential_swap(tx, swaps, 2, &err));
    assert_true(swaps[0].swapped && swaps[1].swapped);
    struct quarantine_entry entry = {.generation = 1, .code = SSO_ROW_CORRUPT};
    memcpy(entry.row_id, rows[2].row_id, ROW_ID_BYTES);
    assert_ok(store_quarantine_put(tx, &entry, &err));

    position.started = false;
    assert_ok(store_credential_scan(tx, &options, &position, rows, &count, &err));
    assert_int_equal(count, 4);
    position.started = false;
    options.skip_quarantined = true;
    assert_ok(store_credential_scan(tx, &options, &position, rows, &count, &err));
    assert_int_equal(count, 3);
    assert_int_equal(number_of(&rows[1]), 3);
    position.started = false;
    options = (struct scan_options){.limit = 10};
    assert_ok(store_credential_scan(tx, &options, &position, rows, &count, &err));
    assert_int_equal(count, 6);
    for (size_t i = 0; i < count; i++) {
        uint32_t number = number_of(&rows[i]);
        assert_int_equal(rows[i].generation, number == 1 || number == 4 ? 2 : 1);
    }
}

static void test_swap_conflicts(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct credential_row row = {0}, after = {0};
    struct key_swap swaps[4];
    fill(fixture->store, 1);
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_credential_get(tx, (uint8_t[16]){1}, "user00000", &row, &err));
    for (size_t i = 0; i < 4; i++)
        swaps[i] = swap_to(&row, 2);
    swaps[0].row_id[0] ^= 1;
    swaps[1].old_generation = 7;
    swaps[2].old_wrapped.bytes[20] ^= 1;
    assert_ok(store_credential_swap(tx, swaps, 4, &err));
    assert_false(swaps[0].swapped || swaps[1].swapped || swaps[2].swapped);
    assert_true(swaps[3].swapped);
    assert_ok(store_credential_get(tx, (uint8_t[16]){1}, "user00000", &after, &err));
    assert_int_equal(after.generation, 2);
    assert_memory_equal(&after.wrapped, &swaps[3].new_wrapped, sizeof after.wrapped);
    /* nothing else has changed */
    assert_int_equal(after.version, row.version);
    assert_int_equal(after.born, row.born);
    assert_int_equal(after.updated_ms, row.updated_ms);
    assert_memory_equal(after.ciphertext, row.ciphertext, row.ciphertext_bytes);
    credential_row_free(&row);
    credential_row_free(&after);
}

/* Rows as a scan found them, of which some have changed since: the others are swapped all the same.
 */
static void test_swap_of_a_scan(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    const struct scan_options options = {.below = 2, .limit = 10};
    struct scan_position position = {0};
    struct credential_row rows[10];
    struct key_swap swaps[10];
    size_t count = 0;
    fill(fixture->store, 10);
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_credential_scan(tx, &options, &position, rows, &count, &err));
    assert_int_equal(count, 10);
    struct key_swap other = swap_to(&rows[3], 5);
    other.place = 0; /* as by somebody who made no scan */
    assert_ok(store_credential_swap(tx, &other, 1, &err));
    assert_true(other.swapped);
    for (size_t i = 0; i < count; i++) {
        swaps[i] = swap_to(&rows[i], i == 7 ? 3 : 2);
        swaps[i].swapped = true;
    }
    swaps[5].old_wrapped.bytes[0] ^= 1;
    swaps[8].place += 1000; /* where it no longer is */
    assert_ok(store_credential_swap(tx, swaps, count, &err));
    for (size_t i = 0; i < count; i++) {
        struct credential_row now = {0};
        assert_ok(store_credential_get_by_id(tx, rows[i].row_id, &now, &err));
        bool changes = i != 3 && i != 5 && i != 8;
        assert_int_equal(swaps[i].swapped, changes);
        assert_int_equal(now.generation, i == 3 ? 5 : i == 7 ? 3 : changes ? 2 : 1);
        assert_memory_equal(now.wrapped.bytes,
                            changes || i == 3 ? swaps[i].new_wrapped.bytes : rows[i].wrapped.bytes,
                            40);
        credential_row_free(&now);
    }
}

static void test_counts(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct generation_rows *rows = NULL;
    size_t count = 9;
    struct store_tx *tx = begin(fixture->store, STORE_READ);
    assert_ok(store_count_by_generation(tx, &rows, &count, &err));
    assert_int_equal(count, 0);
    free(rows);
    commit(tx);
    fill(fixture->store, 10);
    tx = begin(fixture->store, STORE_WRITE);
    for (uint32_t i = 0; i < 3; i++) {
        struct credential_row row = sample_row(i, 1, "");
        struct key_swap swap = swap_to(&row, 4);
        assert_ok(store_credential_swap(tx, &swap, 1, &err));
        credential_row_free(&row);
    }
    struct sealed_key key = {.purpose = "policy", .generation = 3, .born = 1};
    key.wrapped.length_bytes = 40;
    assert_ok(store_sealed_key_insert(tx, &key, &err));
    assert_ok(store_count_by_generation(tx, &rows, &count, &err));
    assert_int_equal(count, 3);
    assert_true(rows[0].generation == 1 && rows[0].credentials == 7 && rows[0].sealed_keys == 0);
    assert_true(rows[1].generation == 3 && rows[1].credentials == 0 && rows[1].sealed_keys == 1);
    assert_true(rows[2].generation == 4 && rows[2].credentials == 3 && rows[2].sealed_keys == 0);
    free(rows);
    commit(tx);
}

/* --- a scan while all of it is moved and changed --- */

struct mover {
    struct store *store;
    unsigned long moved;
};

static void *move_backwards(void *context)
{
    struct mover *mover = context;
    struct sso_error err = {0};
    for (uint32_t first = ROWS; first > 0;) {
        struct key_swap swaps[50];
        for (size_t i = 0; i < 50; i++) {
            struct credential_row row = sample_row(--first, 1, "");
            swaps[i] = swap_to(&row, 2);
            credential_row_free(&row);
        }
        STORE_TX_AUTO tx = begin(mover->store, STORE_WRITE);
        assert_ok(store_credential_swap(tx, swaps, 50, &err));
        for (size_t i = 0; i < 50; i++)
            mover->moved += swaps[i].swapped;
        assert_ok(store_commit(&tx, &err));
    }
    return NULL;
}

static size_t move_forwards(struct store *store, unsigned *seen)
{
    const struct scan_options options = {.below = 2, .limit = CHUNK};
    struct credential_row *rows = calloc(CHUNK, sizeof *rows);
    struct key_swap *swaps = calloc(CHUNK, sizeof *swaps);
    struct scan_position position = {0};
    struct sso_error err = {0};
    size_t count = 0, moved = 0;
    do {
        struct store_tx *tx = begin(store, STORE_READ);
        assert_ok(store_credential_scan(tx, &options, &position, rows, &count, &err));
        commit(tx);
        for (size_t i = 0; i < count; i++) {
            seen[number_of(&rows[i])]++;
            swaps[i] = swap_to(&rows[i], 2);
        }
        tx = begin(store, STORE_WRITE);
        assert_ok(store_credential_swap(tx, swaps, count, &err));
        commit(tx);
        for (size_t i = 0; i < count; i++)
            moved += swaps[i].swapped;
    } while (count > 0);
    free(rows);
    free(swaps);
    return moved;
}

static void test_two_movers(void **state)
{
    struct fixture *fixture = *state;
    static unsigned seen[ROWS];
    struct mover mover = {.store = fixture->store};
    pthread_t thread;
    fill(fixture->store, ROWS);
    assert_int_equal(pthread_create(&thread, NULL, move_backwards, &mover), 0);
    size_t moved = move_forwards(fixture->store, seen);
    pthread_join(thread, NULL);
    assert_int_equal(moved + mover.moved, ROWS); /* each by one of the two */
    for (size_t i = 0; i < ROWS; i++)
        assert_true(seen[i] <= 1);
    assert_int_equal(rows_of_generation(fixture->store, 1), 0);
    assert_int_equal(rows_of_generation(fixture->store, 2), ROWS);
}

static void test_every_row_once_in_a_snapshot(void **state)
{
    struct fixture *fixture = *state;
    static unsigned seen[ROWS];
    const struct scan_options options = {.limit = CHUNK};
    struct scan_position position = {0};
    struct credential_row rows[CHUNK];
    struct sso_error err = {0};
    struct mover mover = {.store = fixture->store};
    pthread_t thread;
    size_t count = 0;
    fill(fixture->store, ROWS);
    struct store_tx *tx = begin(fixture->store, STORE_READ);
    assert_ok(store_credential_scan(tx, &options, &position, rows, &count, &err));
    assert_int_equal(pthread_create(&thread, NULL, move_backwards, &mover), 0);
    while (count > 0) {
        for (size_t i = 0; i < count; i++) {
            seen[number_of(&rows[i])]++;
            assert_int_equal(rows[i].generation, 1);
        }
        assert_ok(store_credential_scan(tx, &options, &position, rows, &count, &err));
    }
    commit(tx);
    pthread_join(thread, NULL);
    for (size_t i = 0; i < ROWS; i++)
        assert_int_equal(seen[i], 1);
}

int contract_scan(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_scan_in_pages, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_scan_by_bytes, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_scan_below_and_quarantine, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_swap_conflicts, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_swap_of_a_scan, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_counts, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_two_movers, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_every_row_once_in_a_snapshot, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests_name("store: scan and swap", tests, NULL, NULL);
}
