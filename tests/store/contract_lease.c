/* The master lease: one holds it, and who lost it changes nothing. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "contract.h"
#include "fixture.h"

static const struct master_lease one = {
    .node = "node1", .address = "node1:8443", .home = {1}, .instance = {1, 1}, .lease_ms = 9000};
static const struct master_lease two = {
    .node = "node2", .address = "", .home = {2}, .instance = {2, 2}};

static struct master_lease lease_now(struct store *store)
{
    struct sso_error err = {0};
    struct master_lease lease;
    STORE_TX_AUTO tx = begin(store, STORE_READ);
    assert_ok(store_master_lease_read(tx, &lease, &err));
    return lease;
}

static enum sso_code take(struct store *store, const struct master_lease *seen,
                          struct master_lease *wanted, struct sso_error *err)
{
    STORE_TX_AUTO tx = begin(store, STORE_WRITE);
    enum sso_code rc = store_master_lease_take(tx, seen, wanted, err);
    return rc == SSO_OK ? store_commit(&tx, err) : rc;
}

static enum sso_code renew(struct store *store, const struct master_lease *own,
                           struct sso_error *err)
{
    STORE_TX_AUTO tx = begin(store, STORE_WRITE);
    enum sso_code rc = store_master_lease_renew(tx, own, err);
    return rc == SSO_OK ? store_commit(&tx, err) : rc;
}

/* A master's write: of a setting, so that it can be seen. */
static enum sso_code write_as(struct store *store, const struct master_lease *own,
                              const char *setting, struct sso_error *err)
{
    struct setting row = sample_setting(setting, "x", 1);
    STORE_TX_AUTO tx = begin(store, STORE_WRITE);
    enum sso_code rc = store_master_lease_hold(tx, own, err);
    if (rc == SSO_OK)
        rc = store_setting_put(tx, &row, err);
    return rc == SSO_OK ? store_commit(&tx, err) : rc;
}

static bool is_there(struct store *store, const char *name)
{
    struct sso_error err = {0};
    struct setting *list = NULL;
    size_t count = 0;
    bool there = false;
    STORE_TX_AUTO tx = begin(store, STORE_READ);
    assert_ok(store_setting_list(tx, &list, &count, &err));
    for (size_t i = 0; i < count; i++)
        there = there || strcmp(list[i].name, name) == 0;
    free(list);
    return there;
}

static void test_take_and_renew(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct master_lease first = one, second = two, seen = lease_now(fixture->store);
    assert_int_equal(seen.epoch, 0);
    assert_true(master_lease_is_free(&seen));
    assert_ok(take(fixture->store, &seen, &first, &err));
    assert_int_equal(first.epoch, 1);
    assert_code(SSO_VERSION_CONFLICT, take(fixture->store, &seen, &second, &err));

    seen = lease_now(fixture->store);
    assert_string_equal(seen.node, "node1");
    assert_string_equal(seen.address, "node1:8443");
    assert_memory_equal(seen.home, one.home, sizeof one.home);
    assert_memory_equal(seen.instance, one.instance, sizeof one.instance);
    assert_false(master_lease_is_free(&seen));
    assert_int_equal(seen.lease_ms, 9000);
    first.lease_ms = 3000;
    assert_ok(renew(fixture->store, &first, &err));
    assert_int_equal(lease_now(fixture->store).lease_ms, 3000);
    assert_true(lease_now(fixture->store).beat > seen.beat);
    /* It lives: what was seen before is no longer so. */
    assert_code(SSO_VERSION_CONFLICT, take(fixture->store, &seen, &second, &err));
    seen = lease_now(fixture->store);
    assert_ok(take(fixture->store, &seen, &second, &err));
    assert_int_equal(second.epoch, 2);
    assert_true(lease_now(fixture->store).beat > seen.beat);
}

static void test_who_lost_it_changes_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct master_lease first = one, second = two, seen = lease_now(fixture->store);
    assert_ok(take(fixture->store, &seen, &first, &err));
    assert_ok(write_as(fixture->store, &first, "by-first", &err));
    seen = lease_now(fixture->store);
    assert_ok(take(fixture->store, &seen, &second, &err));
    struct master_lease now = lease_now(fixture->store);
    assert_code(SSO_MASTER_UNAVAILABLE, write_as(fixture->store, &first, "by-stale", &err));
    assert_code(SSO_MASTER_UNAVAILABLE, renew(fixture->store, &first, &err));
    STORE_TX_AUTO tx = begin(fixture->store, STORE_WRITE);
    assert_code(SSO_MASTER_UNAVAILABLE, store_master_lease_promise(tx, &first, "x", &err));
    assert_code(SSO_MASTER_UNAVAILABLE, store_master_lease_give_back(tx, &first, &err));
    assert_ok(store_commit(&tx, &err));
    struct master_lease after = lease_now(fixture->store);
    assert_memory_equal(&after, &now, sizeof now);
    assert_true(is_there(fixture->store, "by-first"));
    assert_false(is_there(fixture->store, "by-stale"));
    assert_ok(write_as(fixture->store, &second, "by-second", &err));
    /* The same process again, in an epoch of its own: its former one is over all the same. */
    struct master_lease again = one;
    seen = lease_now(fixture->store);
    assert_ok(take(fixture->store, &seen, &again, &err));
    assert_int_equal(again.epoch, 3);
    assert_code(SSO_MASTER_UNAVAILABLE, write_as(fixture->store, &first, "by-stale", &err));
    assert_ok(write_as(fixture->store, &again, "by-again", &err));
}

static void test_planned_move(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct master_lease first = one, second = two, seen = lease_now(fixture->store);
    assert_ok(take(fixture->store, &seen, &first, &err));
    struct store_tx *tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_master_lease_promise(tx, &first, "node2", &err));
    commit(tx);
    assert_ok(write_as(fixture->store, &first, "still-master", &err));
    tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_master_lease_give_back(tx, &first, &err));
    commit(tx);
    assert_code(SSO_MASTER_UNAVAILABLE, write_as(fixture->store, &first, "too-late", &err));
    seen = lease_now(fixture->store);
    assert_true(master_lease_is_free(&seen));
    assert_string_equal(seen.successor, "node2");
    assert_string_equal(seen.node, "node1");
    assert_int_equal(seen.epoch, 1);
    assert_ok(take(fixture->store, &seen, &second, &err));
    seen = lease_now(fixture->store);
    assert_string_equal(seen.successor, "");
    assert_int_equal(seen.epoch, 2);
}

static void test_reset(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct master_lease first = one, seen;
    struct store_tx *tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_master_lease_reset(tx, 0, &err));
    assert_ok(store_master_lease_reset(tx, 7, &err));
    commit(tx);
    seen = lease_now(fixture->store);
    assert_int_equal(seen.epoch, 7);
    assert_true(master_lease_is_free(&seen));
    assert_ok(take(fixture->store, &seen, &first, &err));
    assert_int_equal(first.epoch, 8);
    tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_master_lease_reset(tx, 3, &err));
    commit(tx);
    assert_int_equal(lease_now(fixture->store).epoch, 8);
    assert_ok(renew(fixture->store, &first, &err));
    tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_master_lease_reset(tx, 9, &err));
    commit(tx);
    seen = lease_now(fixture->store);
    assert_int_equal(seen.epoch, 9);
    assert_true(master_lease_is_free(&seen));
    assert_code(SSO_MASTER_UNAVAILABLE, renew(fixture->store, &first, &err));
}

/* --- one that takes it over while another writes --- */

struct slow_write {
    struct store *store;
    struct master_lease own;
    atomic_bool held, committed;
};

static void *write_slowly(void *context)
{
    struct slow_write *write = context;
    struct sso_error err = {0};
    struct setting row = sample_setting("slow", "x", 1);
    struct store_tx *tx = begin(write->store, STORE_WRITE);
    assert_ok(store_master_lease_hold(tx, &write->own, &err));
    atomic_store(&write->held, true);
    usleep(200 * 1000);
    assert_ok(store_setting_put(tx, &row, &err));
    atomic_store(&write->committed, true);
    assert_ok(store_commit(&tx, &err));
    return NULL;
}

/* Two stores: as two programs have the database. */
static void test_take_over_waits_for_who_holds_it(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct slow_write write = {.own = one};
    struct master_lease second = two, seen = lease_now(fixture->store);
    pthread_t thread;
    assert_ok(take(fixture->store, &seen, &write.own, &err));
    assert_ok(store_open(fixture->url, &write.store, &err));
    assert_int_equal(pthread_create(&thread, NULL, write_slowly, &write), 0);
    while (!atomic_load(&write.held))
        usleep(1000);
    seen = lease_now(fixture->store);
    assert_ok(take(fixture->store, &seen, &second, &err));
    assert_true(atomic_load(&write.committed));
    pthread_join(thread, NULL);
    assert_true(is_there(fixture->store, "slow"));
    assert_int_equal(second.epoch, 2);
    store_close(&write.store);
}

struct candidate {
    struct store *store;
    struct master_lease wanted;
    pthread_barrier_t *start;
    unsigned taken;
};

static void *try_to_take(void *context)
{
    struct candidate *candidate = context;
    struct sso_error err = {0};
    struct master_lease seen = lease_now(candidate->store);
    pthread_barrier_wait(candidate->start);
    enum sso_code rc = take(candidate->store, &seen, &candidate->wanted, &err);
    if (rc == SSO_OK)
        candidate->taken++;
    else
        assert_code(SSO_VERSION_CONFLICT, rc);
    return NULL;
}

static void test_one_of_two_gets_it(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    pthread_barrier_t start;
    struct store *other = NULL;
    assert_ok(store_open(fixture->url, &other, &err));
    pthread_barrier_init(&start, NULL, 2);
    for (unsigned round = 1; round <= 10; round++) {
        struct candidate both[2] = {{fixture->store, one, &start, 0}, {other, two, &start, 0}};
        pthread_t thread[2];
        for (size_t i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&thread[i], NULL, try_to_take, &both[i]), 0);
        for (size_t i = 0; i < 2; i++)
            pthread_join(thread[i], NULL);
        assert_int_equal(both[0].taken + both[1].taken, 1);
        assert_int_equal(lease_now(fixture->store).epoch, round);
    }
    pthread_barrier_destroy(&start);
    store_close(&other);
}

static void test_standbys(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct standby *list = NULL;
    struct standby second = {.node = "node2", .missing = "generation 2 is not in its token"};
    struct standby third = {.node = "node3", .address = "h:1", .able = true, .ready_for = 4};
    size_t count = 9;
    struct store_tx *tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_standby_list(tx, &list, &count, &err));
    assert_int_equal(count, 0);
    free(list);
    assert_ok(store_standby_put(tx, &third, &err));
    assert_ok(store_standby_put(tx, &second, &err));
    assert_ok(store_standby_put(tx, &third, &err));
    assert_ok(store_standby_list(tx, &list, &count, &err));
    assert_int_equal(count, 2);
    assert_string_equal(list[0].node, "node2");
    assert_int_equal(list[0].beat, 1);
    assert_false(list[0].able);
    assert_string_equal(list[0].missing, second.missing);
    assert_string_equal(list[1].address, "h:1");
    assert_int_equal(list[1].beat, 2);
    assert_true(list[1].able);
    assert_int_equal(list[1].ready_for, 4);
    free(list);
    assert_ok(store_standby_remove(tx, "node2", &err));
    assert_ok(store_standby_remove(tx, "node2", &err));
    assert_ok(store_standby_list(tx, &list, &count, &err));
    assert_int_equal(count, 1);
    free(list);
    commit(tx);
}

/* A changed length counts for sessions that are open already. */
static void test_another_length(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    struct master_lease first = one, seen = lease_now(fixture->store);
    assert_ok(take(fixture->store, &seen, &first, &err));
    store_use_lease(fixture->store, 3000);
    assert_ok(renew(fixture->store, &first, &err));
    assert_int_equal(lease_now(fixture->store).epoch, 1);
}

int contract_lease(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_take_and_renew, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_who_lost_it_changes_nothing, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_planned_move, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_reset, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_take_over_waits_for_who_holds_it, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_one_of_two_gets_it, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_standbys, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_another_length, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests_name("store: master lease", tests, NULL, NULL);
}
