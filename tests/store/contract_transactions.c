#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract.h"
#include "fixture.h"
#include "store/wrap_budget.h"

static size_t count_settings(struct store_tx *tx)
{
    struct sso_error err = {0};
    struct setting *list = NULL;
    size_t count = 0;
    assert_ok(store_setting_list(tx, &list, &count, &err));
    free(list);
    return count;
}

static void put_setting(struct store_tx *tx, const char *name)
{
    struct sso_error err = {0};
    struct setting setting = sample_setting(name, "x", 1);
    assert_ok(store_setting_put(tx, &setting, &err));
}

static size_t settings_now(struct store *store)
{
    STORE_TX_AUTO tx = begin(store, STORE_READ);
    return count_settings(tx);
}

static void test_open_again(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    fill(fixture->store, 5);
    assert_true(store_schema(fixture->store) > 0);
    assert_non_null(store_kind(fixture->store));
    store_close(&fixture->store);
    store_close(&fixture->store);
    assert_ok(store_open(fixture->url, &fixture->store, &err));
    assert_int_equal(rows_of_generation(fixture->store, 1), 5);
    store_close(&fixture->store);
    assert_ok(store_create(fixture->url, &fixture->store, &err)); /* as it is */
    assert_int_equal(rows_of_generation(fixture->store, 1), 5);
    store_close(&fixture->store);
    assert_ok(store_upgrade(fixture->url, &err));
    assert_ok(store_open(fixture->url, &fixture->store, &err));
    assert_int_equal(rows_of_generation(fixture->store, 1), 5);
}

static void test_urls(void **state)
{
    (void)state;
    struct store *store = NULL;
    struct sso_error err = {0};
    assert_code(SSO_CONFIG_ERROR, store_open("postgresql://a:b@host/sso", &store, &err));
    assert_says("a password may not stand in it");
    assert_null(strstr(err.detail, ":b@"));
    assert_code(SSO_CONFIG_ERROR, store_open("postgresql://host/sso?nothing=1", &store, &err));
    assert_code(SSO_CONFIG_ERROR, store_open("postgresql:host", &store, &err));
    assert_code(SSO_CONFIG_ERROR, store_create("mysql:x", &store, &err));
    assert_code(SSO_CONFIG_ERROR, store_upgrade("", &err));
}

static void leave_without_commit(struct store *store)
{
    STORE_TX_AUTO tx = begin(store, STORE_WRITE);
    put_setting(tx, "lost");
}

static void test_rollback(void **state)
{
    struct fixture *fixture = *state;
    leave_without_commit(fixture->store);
    struct store_tx *tx = begin(fixture->store, STORE_WRITE);
    put_setting(tx, "lost too");
    store_rollback(&tx);
    assert_null(tx);
    store_rollback(&tx);
    assert_int_equal(settings_now(fixture->store), 0);
}

static void test_savepoints(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct store_tx *tx = begin(fixture->store, STORE_WRITE);
    assert_code(SSO_INTERNAL, store_savepoint_keep(tx, &err));
    assert_code(SSO_INTERNAL, store_savepoint_undo(tx, &err));
    put_setting(tx, "one");
    assert_ok(store_savepoint(tx, &err));
    assert_code(SSO_INTERNAL, store_savepoint(tx, &err));
    put_setting(tx, "undone");
    assert_ok(store_savepoint_undo(tx, &err));
    assert_ok(store_savepoint(tx, &err));
    put_setting(tx, "two");
    assert_ok(store_savepoint_keep(tx, &err));
    commit(tx);
    assert_int_equal(settings_now(fixture->store), 2);
}

static void test_snapshot(void **state)
{
    struct fixture *fixture = *state;
    struct store_tx *reader = begin(fixture->store, STORE_READ);
    assert_int_equal(count_settings(reader), 0);
    struct store_tx *writer = begin(fixture->store, STORE_WRITE);
    put_setting(writer, "new");
    assert_int_equal(count_settings(writer), 1);
    assert_int_equal(count_settings(reader), 0);
    commit(writer);
    assert_int_equal(count_settings(reader), 0);
    assert_int_equal(settings_now(fixture->store), 1);
    commit(reader);
}

static void test_own_write_inside_a_write(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct store_tx *inner = NULL;
    struct store_tx *tx = begin(fixture->store, STORE_WRITE);
    assert_code(SSO_INTERNAL, store_begin(fixture->store, STORE_WRITE, &inner, &err));
    assert_null(inner);
    commit(tx);
}

/* --- many threads --- */

#define THREADS 4
#define ROUNDS 50

static void *add_wraps(void *context)
{
    struct store *store = context;
    struct sso_error err = {0};
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t total = 0;
        STORE_TX_AUTO tx = begin(store, STORE_WRITE);
        assert_ok(store_generation_add_wraps(tx, 1, 1, 0, &total, &err));
        assert_ok(store_commit(&tx, &err));
    }
    return NULL;
}

static void run_threads(unsigned count, void *(*body)(void *), void *context)
{
    pthread_t thread[64];
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, body, context), 0);
    for (unsigned i = 0; i < count; i++)
        pthread_join(thread[i], NULL);
}

static void test_writers(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct generation back;
    fill(fixture->store, 0);
    run_threads(THREADS, add_wraps, fixture->store);
    STORE_TX_AUTO tx = begin(fixture->store, STORE_READ);
    assert_ok(store_generation_hold(tx, 1, STORE_SHARED, &back, &err));
    assert_int_equal(back.wraps, THREADS * ROUNDS);
}

struct turns {
    struct store *store;
    pthread_barrier_t start;
    atomic_uint next;
    unsigned order[2 * ROUNDS];
};

static void take_turns(struct turns *turns, unsigned who)
{
    pthread_barrier_wait(&turns->start);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct store_tx *tx = begin(turns->store, STORE_WRITE);
        turns->order[atomic_fetch_add(&turns->next, 1)] = who;
        uint64_t total = 0;
        struct sso_error err = {0};
        assert_ok(store_generation_add_wraps(tx, 1, 1, 0, &total, &err));
        commit(tx);
    }
}

static void *first_writer(void *context)
{
    take_turns(context, 1);
    return NULL;
}

/* Two that write without pause: each gets all its turns before the deadline of the lock, and no
 * order is promised where one has not yet come back to the queue. */
static void test_two_busy_writers(void **state)
{
    struct fixture *fixture = *state;
    static struct turns turns;
    pthread_t thread;
    fill(fixture->store, 0);
    memset(&turns, 0, sizeof turns);
    turns.store = fixture->store;
    pthread_barrier_init(&turns.start, NULL, 2);
    assert_int_equal(pthread_create(&thread, NULL, first_writer, &turns), 0);
    take_turns(&turns, 2);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&turns.start);
    unsigned changes = 0;
    for (unsigned i = 1; i < 2 * ROUNDS; i++)
        changes += turns.order[i] != turns.order[i - 1];
    print_message("two writers, %u transactions each: the turn changed %u times\n", ROUNDS,
                  changes);
    assert_int_equal(atomic_load(&turns.next), 2 * ROUNDS);
}

static void *read_rows(void *context)
{
    for (unsigned i = 0; i < ROUNDS; i++)
        assert_int_equal(rows_of_generation(context, 1), 20);
    return NULL;
}

/* More than any back end keeps connections for. */
static void test_many_readers(void **state)
{
    struct fixture *fixture = *state;
    fill(fixture->store, 20);
    run_threads(40, read_rows, fixture->store);
}

/* --- wrap budget --- */

static uint64_t wraps_of(struct store *store, uint32_t number)
{
    struct sso_error err = {0};
    struct generation generation;
    STORE_TX_AUTO tx = begin(store, STORE_READ);
    assert_ok(store_generation_hold(tx, number, STORE_SHARED, &generation, &err));
    return generation.wraps;
}

static void test_wrap_budget(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct wrap_budget *budget = NULL;
    fill(fixture->store, 0);
    assert_ok(wrap_budget_new(fixture->store, &budget, &err));
    assert_ok(wrap_budget_take(budget, 1, SUITE_AES256_KW, 1, &err));
    assert_int_equal(wraps_of(fixture->store, 1), WRAP_BLOCK);
    assert_ok(wrap_budget_take(budget, 1, SUITE_AES256_KW, WRAP_BLOCK - 1, &err));
    assert_int_equal(wraps_of(fixture->store, 1), WRAP_BLOCK);
    assert_ok(wrap_budget_take(budget, 1, SUITE_AES256_KW, WRAP_BLOCK + 1, &err));
    assert_int_equal(wraps_of(fixture->store, 1), 3 * WRAP_BLOCK);
    assert_ok(wrap_budget_take(budget, 2, SUITE_AES256_GCM, 1, &err));
    assert_int_equal(wraps_of(fixture->store, 2), WRAP_BLOCK);
    assert_code(SSO_NOT_FOUND, wrap_budget_take(budget, 9, SUITE_AES256_KW, 1, &err));
    wrap_budget_free(&budget);
    wrap_budget_free(&budget);
}

static void test_wrap_budget_ends(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct wrap_budget *budget = NULL;
    uint64_t total = 0;
    fill(fixture->store, 0);
    struct store_tx *tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_generation_add_wraps(tx, 2, GCM_WRAPS_LIMIT - 10, 0, &total, &err));
    commit(tx);
    assert_ok(wrap_budget_new(fixture->store, &budget, &err));
    assert_ok(wrap_budget_take(budget, 2, SUITE_AES256_GCM, 8, &err));
    assert_code(SSO_WRAPS_EXHAUSTED, wrap_budget_take(budget, 2, SUITE_AES256_GCM, 3, &err));
    assert_ok(wrap_budget_take(budget, 2, SUITE_AES256_GCM, 2, &err));
    assert_code(SSO_WRAPS_EXHAUSTED, wrap_budget_take(budget, 2, SUITE_AES256_GCM, 1, &err));
    assert_ok(wrap_budget_take(budget, 2, SUITE_AES256_KW, 1, &err));
    wrap_budget_free(&budget);
}

static void *take_wraps(void *context)
{
    struct sso_error err = {0};
    for (unsigned i = 0; i < ROUNDS; i++)
        assert_ok(wrap_budget_take(context, 1, SUITE_AES256_GCM, 1000, &err));
    return NULL;
}

static void test_wrap_budget_of_threads(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct wrap_budget *budget = NULL;
    fill(fixture->store, 0);
    assert_ok(wrap_budget_new(fixture->store, &budget, &err));
    run_threads(THREADS, take_wraps, budget);
    wrap_budget_free(&budget);
    uint64_t reserved = wraps_of(fixture->store, 1);
    assert_in_range(reserved, THREADS * ROUNDS * 1000, THREADS * ROUNDS * 1000 + WRAP_BLOCK);
}

int contract_transactions(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_open_again, fixture_setup, fixture_teardown),
        cmocka_unit_test(test_urls),
        cmocka_unit_test_setup_teardown(test_rollback, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_savepoints, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_snapshot, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_own_write_inside_a_write, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_writers, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_two_busy_writers, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_many_readers, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_wrap_budget, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_wrap_budget_ends, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_wrap_budget_of_threads, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests_name("store: transactions", tests, NULL, NULL);
}
