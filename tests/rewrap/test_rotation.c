/* The engine on a real database and a real token: what a rotation does to every row. */
#include "tests/rewrap/installation.h"

#include <pthread.h>
#include <unistd.h>

#define ROWS 3000
#define MORE_ROWS 10000 /* than all batches hold together */

static void check_counts(const struct rotation *rotation, uint64_t done, uint64_t skipped,
                         uint64_t failed)
{
    assert_int_equal(rotation->done, done);
    assert_int_equal(rotation->skipped, skipped);
    assert_int_equal(rotation->failed, failed);
    assert_int_equal(rotation->total, done + skipped + failed);
}

static void check_audited(struct installation *in, const char *operation, const char *outcome)
{
    struct audit_record *records = NULL;
    size_t count, found = 0;
    STORE_TX_AUTO tx = NULL;
    OK(store_begin(in->store, STORE_READ, &tx, &problem));
    OK(store_audit_list(tx, "node1", 0, 1000, &records, &count, &problem));
    for (size_t i = 0; i < count; i++)
        found += strcmp(records[i].operation, operation) == 0 &&
                 strcmp(records[i].outcome, outcome) == 0 &&
                 strcmp(records[i].actor, "operator") == 0;
    free(records);
    assert_int_equal(found, 1);
}

static void check_moved(struct installation *in, uint32_t to, size_t rows)
{
    check_all_open(in, to, rows);
    assert_int_equal(rows_of(in, to).credentials, rows);
    assert_int_equal(rows_of(in, to).sealed_keys, 1);
}

/* Twice, so that the second run moves what the first one wrapped. */
static void rotate_twice(enum suite_id first, enum suite_id second, size_t rows)
{
    struct installation in;
    struct rewrap_job job;
    installation_make(&in, first);
    add_credentials(&in, 0, (unsigned)rows);
    for (uint32_t n = 0; n < 2; n++) {
        uint32_t to = make_generation(&in, second);
        plan_job(&in, &job, to, NULL);
        assert_int_equal(job.rotation.total, rows);
        OK(rewrap_run(&job, &problem));
        assert_int_equal(job.rotation.state, ROTATION_COMPLETED);
        check_counts(&job.rotation, rows, 0, 0);
        assert_int_equal(atomic_load(&job.done), rows);
        check_moved(&in, to, rows);
        assert_int_equal(read_generation(&in, to - 1).state, GENERATION_RETIRED);
        assert_true(read_generation(&in, to - 1).retired_ms > 0);
        assert_int_equal(read_generation(&in, to).state, GENERATION_ACTIVE);
        assert_true(read_generation(&in, to).wraps >= rows);
    }
    assert_int_equal(atomic_load(&in.states_changed), 4);
    installation_remove(&in);
}

static void rotates_key_wrap(void **state)
{
    (void)state;
    rotate_twice(SUITE_AES256_KW, SUITE_AES256_KW, MORE_ROWS);
}

static void rotates_gcm(void **state)
{
    (void)state;
    rotate_twice(SUITE_AES256_GCM, SUITE_AES256_GCM, ROWS);
}

static void rotates_from_one_suite_to_another(void **state)
{
    (void)state;
    rotate_twice(SUITE_AES256_KW, SUITE_AES256_GCM, ROWS);
}

static void rotates_nothing(void **state)
{
    (void)state;
    rotate_twice(SUITE_AES256_KW, SUITE_AES256_KW, 0);
}

static void verifies_each_row(void **state)
{
    (void)state;
    struct installation in;
    struct rewrap_job job;
    installation_make(&in, SUITE_AES256_KW);
    add_credentials(&in, 0, ROWS);
    damage_credential(&in, 77, DAMAGE_CIPHERTEXT);
    plan_job(&in, &job, make_generation(&in, SUITE_AES256_KW),
             &(struct rotation){.verify = VERIFY_FULL});
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.state, ROTATION_COMPLETED_WITH_ERRORS);
    check_counts(&job.rotation, ROWS - 1, 0, 1);
    check_audited(&in, "rotation.switch", "ok");
    check_audited(&in, "rotation.finish", "completed_with_errors");
    assert_int_equal(rows_of(&in, 1).credentials, 1);
    installation_remove(&in);
}

static void quarantines_what_cannot_be_moved(void **state)
{
    (void)state;
    struct installation in;
    struct rewrap_job job;
    size_t unopened;
    installation_make(&in, SUITE_AES256_KW);
    add_credentials(&in, 0, ROWS);
    damage_credential(&in, 5, DAMAGE_WRAPPED_KEY);
    damage_credential(&in, 1000, DAMAGE_WRAPPED_KEY);
    damage_credential(&in, 2000, DAMAGE_LENGTH);
    damage_credential(&in, 2999, DAMAGE_GENERATION);
    assert_int_equal(make_generation(&in, SUITE_AES256_KW), 2); /* never becomes active */
    plan_job(&in, &job, make_generation(&in, SUITE_AES256_KW), NULL);
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.state, ROTATION_COMPLETED_WITH_ERRORS);
    check_counts(&job.rotation, ROWS - 4, 0, 4);
    assert_int_equal(quarantined(&in), 4);
    check_reason(&in, "p5", "does not open under generation 1");
    check_reason(&in, "p2000", "39 bytes");
    check_reason(&in, "p2999", "generation 2 is pending");
    assert_int_equal(open_all(&in, 3, &unopened), ROWS);
    assert_int_equal(unopened, 4);
    assert_int_equal(read_generation(&in, 1).state, GENERATION_RETIRING);

    /* Two are repaired by their owners, one is deleted; the last stays bad. */
    write_credential(&in, 5);
    write_credential(&in, 2999);
    delete_credential(&in, 2000);
    struct store_tx *tx = NULL;
    OK(store_begin(in.store, STORE_WRITE, &tx, &problem));
    OK(rewrap_retry_quarantined(tx, &in.policy, &job.rotation, &problem));
    OK(store_commit(&tx, &problem));
    load_job(&in, &job);
    assert_int_equal(job.rotation.state, ROTATION_RUNNING);
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.state, ROTATION_COMPLETED_WITH_ERRORS);
    assert_int_equal(job.rotation.failed, 1);

    /* A new rotation tries it again; without it the old generations retire. */
    delete_credential(&in, 1000);
    plan_job(&in, &job, make_generation(&in, SUITE_AES256_KW), NULL);
    assert_int_equal(quarantined(&in), 0);
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.state, ROTATION_COMPLETED);
    check_moved(&in, 4, ROWS - 2);
    assert_int_equal(read_generation(&in, 1).state, GENERATION_RETIRED);
    assert_int_equal(read_generation(&in, 2).state, GENERATION_PENDING);
    assert_int_equal(read_generation(&in, 3).state, GENERATION_RETIRED);
    installation_remove(&in);
}

static void dry_run_changes_nothing(void **state)
{
    (void)state;
    struct installation in;
    struct rewrap_job job;
    size_t unopened;
    installation_make(&in, SUITE_AES256_KW);
    add_credentials(&in, 0, ROWS);
    damage_credential(&in, 9, DAMAGE_CIPHERTEXT);
    damage_credential(&in, 10, DAMAGE_WRAPPED_KEY);
    uint32_t to = make_generation(&in, SUITE_AES256_KW);
    plan_job(&in, &job, to, &(struct rotation){.dry_run = true});
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.state, ROTATION_COMPLETED_WITH_ERRORS);
    check_counts(&job.rotation, ROWS - 1, 0, 1);
    plan_job(&in, &job, to, &(struct rotation){.dry_run = true, .verify = VERIFY_FULL});
    OK(rewrap_run(&job, &problem));
    check_counts(&job.rotation, ROWS - 2, 0, 2);
    assert_non_null(strstr(job.rotation.error, "does not open"));
    assert_int_equal(quarantined(&in), 0);
    assert_int_equal(open_all(&in, 1, &unopened), ROWS);
    assert_int_equal(rows_of(&in, 1).credentials, ROWS);
    assert_int_equal(rows_of(&in, 1).sealed_keys, 1);
    assert_int_equal(read_generation(&in, to).state, GENERATION_PENDING);
    assert_int_equal(read_generation(&in, to).wraps, 0);
    assert_int_equal(read_generation(&in, 1).state, GENERATION_ACTIVE);
    assert_int_equal(atomic_load(&in.states_changed), 0);
    installation_remove(&in);
}

/* --- control --- */

static void *run_in_thread(void *argument)
{
    OK(rewrap_run(argument, &problem));
    return NULL;
}

/* Runs the job until some rows are done, then asks. The cap keeps it from ending before. */
static void run_and_ask(struct rewrap_job *job, enum rewrap_request request)
{
    pthread_t thread;
    uint64_t before = job->rotation.done;
    atomic_store(&job->rate, 500);
    assert_int_equal(pthread_create(&thread, NULL, run_in_thread, job), 0);
    while (atomic_load(&job->done) <= before)
        usleep(1000);
    atomic_store(&job->request, request);
    pthread_join(thread, NULL);
    assert_true(job->rotation.done > before);
    assert_true(job->rotation.done < job->rotation.total);
}

static void reopen(struct installation *in, struct rewrap_job *job)
{
    struct store_tx *tx = NULL;
    OK(store_begin(in->store, STORE_WRITE, &tx, &problem));
    OK(rewrap_reopen(tx, &in->policy, &job->rotation, &problem));
    OK(store_commit(&tx, &problem));
    load_job(in, job);
    assert_int_equal(job->rotation.state, ROTATION_RUNNING);
}

static void stops_pauses_and_cancels(void **state)
{
    (void)state;
    struct installation in;
    struct rewrap_job job;
    struct rotation row;
    struct sso_error err;
    installation_make(&in, SUITE_AES256_KW);
    add_credentials(&in, 0, ROWS);
    plan_job(&in, &job, make_generation(&in, SUITE_AES256_KW), NULL);
    run_and_ask(&job, REWRAP_STOP);
    read_rotation(&in, &row);
    assert_int_equal(row.state, ROTATION_RUNNING);
    assert_int_equal(row.rate, 500);
    assert_int_equal(rows_of(&in, 2).credentials, row.done);

    load_job(&in, &job);
    run_and_ask(&job, REWRAP_PAUSE);
    assert_int_equal(job.rotation.state, ROTATION_PAUSED);
    check_failure(rewrap_run(&job, &err), SSO_BAD_REQUEST, &err, "paused");
    reopen(&in, &job);
    run_and_ask(&job, REWRAP_CANCEL);
    assert_int_equal(job.rotation.state, ROTATION_CANCELLED);
    assert_int_equal(read_generation(&in, 1).state, GENERATION_RETIRING);
    assert_int_equal(read_generation(&in, 2).state, GENERATION_ACTIVE);
    check_all_open(&in, 0, ROWS);

    reopen(&in, &job);
    job.rotation.rate = 0;
    struct store_tx *tx = NULL;
    OK(store_begin(in.store, STORE_WRITE, &tx, &problem));
    OK(store_rotation_update(tx, &job.rotation, &problem));
    OK(store_commit(&tx, &problem));
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.state, ROTATION_COMPLETED);
    check_counts(&job.rotation, ROWS, 0, 0);
    check_moved(&in, 2, ROWS);
    installation_remove(&in);
}

static void changes_what_nobody_runs(void **state)
{
    (void)state;
    struct installation in;
    struct rewrap_job job;
    struct rotation rotation;
    struct sso_error err;
    installation_make(&in, SUITE_AES256_KW);
    struct store_tx *tx = NULL;
    OK(store_begin(in.store, STORE_WRITE, &tx, &problem));
    check_failure(rewrap_pause(tx, &rotation, &err), SSO_NOT_FOUND, &err, "never");
    store_rollback(&tx);
    plan_job(&in, &job, make_generation(&in, SUITE_AES256_KW), NULL);
    OK(store_begin(in.store, STORE_WRITE, &tx, &problem));
    for (int twice = 0; twice < 2; twice++) {
        OK(rewrap_pause(tx, &rotation, &problem));
        assert_int_equal(rotation.state, ROTATION_PAUSED);
    }
    OK(rewrap_reopen(tx, &in.policy, &rotation, &problem));
    assert_int_equal(rotation.state, ROTATION_PREPARING);
    for (int twice = 0; twice < 2; twice++) {
        OK(rewrap_cancel(tx, &rotation, &problem));
        assert_int_equal(rotation.state, ROTATION_CANCELLED);
        assert_true(rotation.finished_ms > 0);
    }
    check_failure(rewrap_pause(tx, &rotation, &err), SSO_BAD_REQUEST, &err, "cancelled");
    OK(store_commit(&tx, &problem));
    /* Cancelled before the switch: the same generation may be taken again. */
    plan_job(&in, &job, 2, NULL);
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.state, ROTATION_COMPLETED);
    OK(store_begin(in.store, STORE_WRITE, &tx, &problem));
    check_failure(rewrap_reopen(tx, &in.policy, &rotation, &err), SSO_BAD_REQUEST, &err,
                  "completed");
    OK(rewrap_retry_quarantined(tx, &in.policy, &rotation, &problem));
    assert_int_equal(rotation.state, ROTATION_COMPLETED);
    store_rollback(&tx);
    installation_remove(&in);
}

static atomic_uint asked_for_delay;

static void always_slow(void *context, bool slowest, struct live_requests *out)
{
    (void)context;
    (void)slowest;
    *out = (struct live_requests){
        .any = true, .percent = 10000, .count = 100 * atomic_fetch_add(&asked_for_delay, 1)};
}

static void gives_way_but_goes_on(void **state)
{
    (void)state;
    struct installation in;
    struct rewrap_job job;
    installation_make(&in, SUITE_AES256_KW);
    add_credentials(&in, 0, 600);
    atomic_store(&asked_for_delay, 0);
    plan_job(&in, &job, make_generation(&in, SUITE_AES256_KW), NULL);
    job.live_requests = always_slow;
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.state, ROTATION_COMPLETED);
    assert_int_not_equal(atomic_load(&asked_for_delay), 0);
    installation_remove(&in);
}

static void change_generation(struct installation *in, struct generation generation, bool tagged)
{
    struct store_tx *tx = NULL;
    generation.version++;
    if (tagged)
        policy_tag_generation(&in->policy, &generation);
    OK(store_begin(in->store, STORE_WRITE, &tx, &problem));
    OK(store_generation_update(tx, &generation, &problem));
    OK(store_commit(&tx, &problem));
}

static void quarantines_a_row_of_a_destroyed_generation(void **state)
{
    (void)state;
    struct installation in;
    struct rewrap_job job;
    installation_make(&in, SUITE_AES256_KW);
    add_credentials(&in, 0, 50);
    damage_credential(&in, 7, DAMAGE_GENERATION);
    struct generation gone = read_generation(&in, make_generation(&in, SUITE_AES256_KW));
    gone.state = GENERATION_DESTROYED;
    change_generation(&in, gone, true);
    plan_job(&in, &job, make_generation(&in, SUITE_AES256_KW), NULL);
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.state, ROTATION_COMPLETED_WITH_ERRORS);
    check_counts(&job.rotation, 49, 0, 1);
    check_reason(&in, "p7", "generation 2 is destroyed");
    assert_int_equal(rows_of(&in, 2).credentials, 1);
    assert_int_equal(read_generation(&in, 1).state, GENERATION_RETIRED);
    installation_remove(&in);
}

/* --- guards --- */

static void check_refused(struct installation *in, struct rotation rotation, enum sso_code code,
                          const char *part)
{
    struct sso_error err = {0};
    STORE_TX_AUTO tx = NULL;
    OK(store_begin(in->store, STORE_WRITE, &tx, &problem));
    check_failure(rewrap_plan(tx, &in->policy, &rotation, &err), code, &err, part);
}

static void guards_the_start(void **state)
{
    (void)state;
    struct installation in;
    struct rewrap_job job;
    installation_make(&in, SUITE_AES256_KW);
    check_refused(&in, (struct rotation){.to = 2}, SSO_NOT_FOUND, "generation 2");
    check_refused(&in, (struct rotation){.to = 1}, SSO_BAD_REQUEST, "is active");
    uint32_t to = make_generation(&in, SUITE_AES256_KW);
    struct generation generation = read_generation(&in, to);
    generation.no_backup = false;
    change_generation(&in, generation, true);
    check_refused(&in, (struct rotation){.to = to}, SSO_BAD_REQUEST, "has no backup");
    generation = read_generation(&in, to);
    generation.backed_up_ms = 1;
    change_generation(&in, generation, false);
    check_refused(&in, (struct rotation){.to = to}, SSO_POLICY_TAMPERED, NULL);
    generation.version++;
    change_generation(&in, generation, true);
    plan_job(&in, &job, to, NULL);
    check_refused(&in, (struct rotation){.to = to}, SSO_ROTATION_IN_PROGRESS, "preparing");
    installation_remove(&in);
}

/* --- writers --- */

struct writer {
    struct installation *in;
    atomic_bool stop;
    unsigned first, count; /* the principals that are its own */
    uint64_t *version;     /* as it knows them: 0: deleted */
    unsigned writes;
};

static void *write_on(void *argument)
{
    struct writer *writer = argument;
    unsigned seed = writer->first + 1;
    while (!atomic_load(&writer->stop)) {
        unsigned i = (unsigned)rand_r(&seed) % writer->count;
        if (writer->version[i] != 0 && rand_r(&seed) % 4 == 0) {
            delete_credential(writer->in, writer->first + i);
            writer->version[i] = 0;
        } else {
            write_credential(writer->in, writer->first + i);
            writer->version[i]++;
        }
        writer->writes++;
    }
    return NULL;
}

/* Half of the rows belong to writers that change, delete and make them while the engine moves all.
 * Afterwards every write is there, and no row that was deleted. */
static void loses_no_write(void **state)
{
    (void)state;
    struct installation in;
    struct rewrap_job job;
    struct writer writer[2];
    pthread_t thread[2];
    installation_make(&in, SUITE_AES256_KW);
    add_credentials(&in, 0, 2 * ROWS);
    for (unsigned w = 0; w < 2; w++) {
        writer[w] = (struct writer){.in = &in, .first = w * ROWS, .count = ROWS / 2};
        writer[w].version = calloc(writer[w].count, sizeof *writer[w].version);
        for (unsigned i = 0; i < writer[w].count; i++)
            writer[w].version[i] = 1;
        assert_int_equal(pthread_create(&thread[w], NULL, write_on, &writer[w]), 0);
    }
    for (uint32_t to = 2; to < 5; to++) {
        assert_int_equal(make_generation(&in, SUITE_AES256_KW), to);
        plan_job(&in, &job, to, NULL);
        OK(rewrap_run(&job, &problem));
        assert_int_equal(job.rotation.state, ROTATION_COMPLETED);
        assert_int_equal(job.rotation.failed, 0);
        assert_int_equal(job.rotation.total, job.rotation.done + job.rotation.skipped);
        assert_int_equal(read_generation(&in, to - 1).state, GENERATION_RETIRED);
        assert_int_equal(rows_of(&in, to - 1).credentials, 0);
    }
    size_t rows = ROWS;
    unsigned writes = 0;
    for (unsigned w = 0; w < 2; w++) {
        atomic_store(&writer[w].stop, true);
        pthread_join(thread[w], NULL);
        for (unsigned i = 0; i < writer[w].count; i++) {
            rows += writer[w].version[i] != 0;
            assert_int_equal(credential_version(&in, writer[w].first + i), writer[w].version[i]);
        }
        writes += writer[w].writes;
        free(writer[w].version);
    }
    assert_true(writes > 0);
    check_all_open(&in, 4, rows);
    installation_remove(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rotates_key_wrap),
        cmocka_unit_test(rotates_gcm),
        cmocka_unit_test(rotates_from_one_suite_to_another),
        cmocka_unit_test(rotates_nothing),
        cmocka_unit_test(verifies_each_row),
        cmocka_unit_test(quarantines_what_cannot_be_moved),
        cmocka_unit_test(dry_run_changes_nothing),
        cmocka_unit_test(stops_pauses_and_cancels),
        cmocka_unit_test(changes_what_nobody_runs),
        cmocka_unit_test(gives_way_but_goes_on),
        cmocka_unit_test(quarantines_a_row_of_a_destroyed_generation),
        cmocka_unit_test(guards_the_start),
        cmocka_unit_test(loses_no_write),
    };
    testing_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
