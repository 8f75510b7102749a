/* The engine when its token lies or goes away, when the database fails at any commit, and when rows
 * change under its hands. The linker puts the functions below in front of the real ones. */
#include "tests/rewrap/installation.h"

#define ROWS 700

/* --- what goes wrong --- */

enum trouble {
    NO_TROUBLE,
    TOKEN_LIES,        /* what it wraps does not open */
    TOKEN_AWAY,        /* for the first calls */
    WORKERS_DIE_ONCE,  /* three rows were near */
    ROW_KILLS_WORKERS, /* one row, always */
    ROW_APPEARS,       /* below the target, where the reader has been */
    ROWS_CHANGE,       /* while the batch is in the token: one is written, one deleted */
    WRAPS_END,
    COMMIT_FAILS,    /* the n-th one */
    COMMIT_PRETENDS, /* the n-th one succeeds and says it failed */
};

static struct {
    enum trouble trouble;
    struct installation *in;
    atomic_uint calls, commits;
    unsigned at_commit;
    bool commit_failed;
    struct wrapped_key killer;
} world;

static void set_trouble(struct installation *in, enum trouble trouble)
{
    world.trouble = trouble;
    world.in = in;
    world.commit_failed = false;
    atomic_store(&world.calls, 0);
    atomic_store(&world.commits, 0);
}

enum sso_code __real_keyring_rewrap(struct keyring *keyring, enum hsm_priority priority,
                                    uint32_t to, struct key_item *items, size_t count,
                                    int64_t deadline_ms, struct sso_error *err);
enum sso_code __wrap_keyring_rewrap(struct keyring *keyring, enum hsm_priority priority,
                                    uint32_t to, struct key_item *items, size_t count,
                                    int64_t deadline_ms, struct sso_error *err);
enum sso_code __real_store_commit(struct store_tx **tx, struct sso_error *err);
enum sso_code __wrap_store_commit(struct store_tx **tx, struct sso_error *err);
enum sso_code __real_wrap_budget_take(struct wrap_budget *budget, uint32_t generation,
                                      enum suite_id suite, uint64_t wraps, struct sso_error *err);
enum sso_code __wrap_wrap_budget_take(struct wrap_budget *budget, uint32_t generation,
                                      enum suite_id suite, uint64_t wraps, struct sso_error *err);

static bool is_killer(const struct key_item *item)
{
    return item->wrapped.length_bytes == world.killer.length_bytes &&
           memcmp(item->wrapped.bytes, world.killer.bytes, world.killer.length_bytes) == 0;
}

static enum sso_code with_rows_that_kill(struct keyring *keyring, uint32_t to,
                                         struct key_item *items, size_t count, int64_t deadline_ms)
{
    unsigned call = atomic_fetch_add(&world.calls, 1);
    enum sso_code rc =
        __real_keyring_rewrap(keyring, HSM_BULK, to, items, count, deadline_ms, NULL);
    for (size_t i = 0; i < count; i++)
        if (world.trouble == WORKERS_DIE_ONCE && call == 0 && i < 3)
            items[i].code = SSO_ROW_KILLS_WORKER;
    return rc;
}

enum sso_code __wrap_keyring_rewrap(struct keyring *keyring, enum hsm_priority priority,
                                    uint32_t to, struct key_item *items, size_t count,
                                    int64_t deadline_ms, struct sso_error *err)
{
    struct wrapped_key killer[256];
    bool kills[256] = {false};
    enum sso_code rc;
    switch (world.trouble) {
    case TOKEN_AWAY:
        if (atomic_fetch_add(&world.calls, 1) < 4)
            return sso_fail(err, SSO_HSM_UNAVAILABLE, "the token is away");
        break;
    case WORKERS_DIE_ONCE:
        if (count > 1)
            return with_rows_that_kill(keyring, to, items, count, deadline_ms);
        break;
    case ROW_KILLS_WORKERS:
        for (size_t i = 0; i < count; i++)
            if ((kills[i] = is_killer(&items[i])))
                killer[i] = items[i].wrapped;
        break;
    case ROW_APPEARS:
        if (count > 1 && atomic_fetch_add(&world.calls, 1) == 0)
            add_credential_below(world.in, ROWS, 1);
        break;
    case ROWS_CHANGE:
        if (count > 1 && atomic_fetch_add(&world.calls, 1) == 0) {
            write_credential(world.in, 3);
            delete_credential(world.in, 4);
        }
        break;
    default:
        break;
    }
    rc = __real_keyring_rewrap(keyring, priority, to, items, count, deadline_ms, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        if (world.trouble == TOKEN_LIES && count > 1)
            items[i].wrapped.bytes[9] ^= 1;
        if (kills[i]) {
            items[i].code = SSO_ROW_KILLS_WORKER;
            items[i].wrapped = killer[i];
        }
    }
    return rc;
}

enum sso_code __wrap_store_commit(struct store_tx **tx, struct sso_error *err)
{
    unsigned n = atomic_fetch_add(&world.commits, 1) + 1;
    if (world.trouble != COMMIT_FAILS && world.trouble != COMMIT_PRETENDS)
        return __real_store_commit(tx, err);
    if (n != world.at_commit)
        return __real_store_commit(tx, err);
    world.commit_failed = true;
    if (world.trouble == COMMIT_FAILS)
        store_rollback(tx);
    else if (__real_store_commit(tx, err) != SSO_OK)
        abort();
    return sso_fail(err, SSO_DATABASE_UNAVAILABLE, "commit %u fails for the test", n);
}

enum sso_code __wrap_wrap_budget_take(struct wrap_budget *budget, uint32_t generation,
                                      enum suite_id suite, uint64_t wraps, struct sso_error *err)
{
    if (world.trouble == WRAPS_END && atomic_fetch_add(&world.calls, 1) == 2)
        return sso_fail(err, SSO_WRAPS_EXHAUSTED, "generation %u: no more wraps", generation);
    return __real_wrap_budget_take(budget, generation, suite, wraps, err);
}

/* --- tests --- */

static struct installation in;

static void start(struct rewrap_job *job)
{
    set_trouble(&in, NO_TROUBLE);
    installation_make(&in, SUITE_AES256_KW);
    add_credentials(&in, 0, ROWS);
    plan_job(&in, job, make_generation(&in, SUITE_AES256_KW), NULL);
}

static void check_complete(struct rewrap_job *job, size_t rows)
{
    set_trouble(&in, NO_TROUBLE);
    assert_int_equal(job->rotation.state, ROTATION_COMPLETED);
    assert_int_equal(job->rotation.total,
                     job->rotation.done + job->rotation.skipped + job->rotation.failed);
    check_all_open(&in, job->rotation.to, rows);
    assert_int_equal(read_generation(&in, job->rotation.to - 1).state, GENERATION_RETIRED);
}

static void believes_no_token(void **state)
{
    (void)state;
    struct rewrap_job job;
    struct rotation row;
    struct sso_error err;
    start(&job);
    set_trouble(&in, TOKEN_LIES);
    check_failure(rewrap_run(&job, &err), SSO_TOKEN_NOT_SUITABLE, &err,
                  "nothing of its batch was written");
    set_trouble(&in, NO_TROUBLE);
    read_rotation(&in, &row);
    assert_int_equal(row.state, ROTATION_FAILED);
    assert_string_equal(row.error, err.detail);
    assert_int_equal(rows_of(&in, 1).credentials, ROWS);
    check_all_open(&in, 1, ROWS);

    struct store_tx *tx = NULL;
    OK(store_begin(in.store, STORE_WRITE, &tx, &problem));
    OK(rewrap_reopen(tx, &in.policy, &row, &problem));
    OK(store_commit(&tx, &problem));
    load_job(&in, &job);
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.done, ROWS);
    check_complete(&job, ROWS);
    installation_remove(&in);
}

static void waits_for_the_token(void **state)
{
    (void)state;
    struct rewrap_job job;
    start(&job);
    set_trouble(&in, TOKEN_AWAY);
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.done, ROWS);
    check_complete(&job, ROWS);
    installation_remove(&in);
}

static void rows_near_a_death_go_again(void **state)
{
    (void)state;
    struct rewrap_job job;
    start(&job);
    set_trouble(&in, WORKERS_DIE_ONCE);
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.done, ROWS);
    check_complete(&job, ROWS);
    installation_remove(&in);
}

static void a_row_that_kills_goes_to_quarantine(void **state)
{
    (void)state;
    struct rewrap_job job;
    struct credential_row row = {0};
    struct store_tx *tx = NULL;
    start(&job);
    OK(store_begin(in.store, STORE_READ, &tx, &problem));
    OK(store_credential_get(tx, in.application_id, "p300", &row, &problem));
    store_rollback(&tx);
    world.killer = row.wrapped;
    credential_row_free(&row);
    set_trouble(&in, ROW_KILLS_WORKERS);
    OK(rewrap_run(&job, &problem));
    set_trouble(&in, NO_TROUBLE);
    assert_int_equal(job.rotation.state, ROTATION_COMPLETED_WITH_ERRORS);
    assert_int_equal(job.rotation.done, ROWS - 1);
    assert_int_equal(job.rotation.failed, 1);
    assert_int_equal(quarantined(&in), 1);
    assert_int_equal(rows_of(&in, 1).credentials, 1);
    installation_remove(&in);
}

/* Its key is in no token that opens here: the others go on, and it can be tried again. */
static void rows_of_a_lost_generation_hold_up_nobody(void **state)
{
    (void)state;
    struct rewrap_job job;
    start(&job);
    OK(rewrap_run(&job, &problem));
    add_credential_below(&in, ROWS, 1);
    keyring_forget(in.keyring, 1);
    plan_job(&in, &job, make_generation(&in, SUITE_AES256_KW), NULL);
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.state, ROTATION_COMPLETED_WITH_ERRORS);
    assert_int_equal(job.rotation.done, ROWS);
    assert_int_equal(job.rotation.failed, 1);
    assert_int_equal(quarantined(&in), 1);
    assert_int_equal(rows_of(&in, 1).credentials, 1);
    assert_int_equal(read_generation(&in, 2).state, GENERATION_RETIRED);

    OK(open_generation(&in, 1, &problem));
    struct store_tx *tx = NULL;
    OK(store_begin(in.store, STORE_WRITE, &tx, &problem));
    OK(rewrap_retry_quarantined(tx, &in.policy, &job.rotation, &problem));
    OK(store_commit(&tx, &problem));
    load_job(&in, &job);
    OK(rewrap_run(&job, &problem));
    check_complete(&job, ROWS + 1);
    installation_remove(&in);
}

static void rows_that_change_are_skipped(void **state)
{
    (void)state;
    struct rewrap_job job;
    start(&job);
    set_trouble(&in, ROWS_CHANGE);
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.done, ROWS - 2);
    assert_int_equal(job.rotation.skipped, 2);
    check_complete(&job, ROWS - 1);
    assert_int_equal(credential_version(&in, 3), 2);
    assert_int_equal(credential_version(&in, 4), 0);
    installation_remove(&in);
}

static void streams_again_for_rows_that_appear(void **state)
{
    (void)state;
    struct rewrap_job job;
    start(&job);
    set_trouble(&in, ROW_APPEARS);
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.done, ROWS + 1);
    check_complete(&job, ROWS + 1);
    installation_remove(&in);
}

static void ends_with_the_wraps(void **state)
{
    (void)state;
    struct rewrap_job job;
    struct sso_error err;
    start(&job);
    set_trouble(&in, WRAPS_END);
    check_failure(rewrap_run(&job, &err), SSO_WRAPS_EXHAUSTED, &err, "no more wraps");
    set_trouble(&in, NO_TROUBLE);
    assert_int_equal(job.rotation.state, ROTATION_FAILED);
    check_all_open(&in, 0, ROWS);
    installation_remove(&in);
}

/* Every commit of the engine in turn, until a run has fewer: rotation follows on rotation over the
 * same rows. */
static void any_commit_may_fail(enum trouble trouble)
{
    struct rewrap_job job;
    bool failed = true;
    start(&job);
    for (world.at_commit = 1; failed; world.at_commit++) {
        set_trouble(&in, trouble);
        OK(rewrap_run(&job, &problem));
        failed = world.commit_failed;
        assert_int_equal(job.rotation.done, ROWS);
        assert_int_equal(job.rotation.total, ROWS);
        check_complete(&job, ROWS);
        assert_int_equal(rows_of(&in, job.rotation.to).sealed_keys, 1);
        if (failed)
            plan_job(&in, &job, make_generation(&in, SUITE_AES256_KW), NULL);
    }
    assert_true(world.at_commit > 4);
    installation_remove(&in);
}

static void any_commit_may_be_lost(void **state)
{
    (void)state;
    any_commit_may_fail(COMMIT_FAILS);
}

static void any_commit_may_succeed_in_silence(void **state)
{
    (void)state;
    any_commit_may_fail(COMMIT_PRETENDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(believes_no_token),
        cmocka_unit_test(waits_for_the_token),
        cmocka_unit_test(rows_near_a_death_go_again),
        cmocka_unit_test(a_row_that_kills_goes_to_quarantine),
        cmocka_unit_test(rows_of_a_lost_generation_hold_up_nobody),
        cmocka_unit_test(rows_that_change_are_skipped),
        cmocka_unit_test(streams_again_for_rows_that_appear),
        cmocka_unit_test(ends_with_the_wraps),
        cmocka_unit_test(any_commit_may_be_lost),
        cmocka_unit_test(any_commit_may_succeed_in_silence),
    };
    testing_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
