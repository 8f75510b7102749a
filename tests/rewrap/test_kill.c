/* A process that runs a rotation is killed at each numbered point; another one takes the job up.
 * Needs a build with -Dfault_points=true. The program runs itself again as that process. */
#include "tests/rewrap/installation.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROWS 3000

static int run_job(const char *folder)
{
    struct installation in;
    struct rewrap_job job;
    struct sso_error err = {0};
    installation_open(&in, folder);
    load_job(&in, &job);
    enum sso_code rc = SSO_OK;
    /* Else it was killed after the last thing it did. */
    if (job.rotation.state == ROTATION_PREPARING || job.rotation.state == ROTATION_RUNNING)
        rc = rewrap_run(&job, &err);
    if (rc != SSO_OK)
        fprintf(stderr, "%s\n", err.detail);
    installation_close(&in);
    return rc == SSO_OK ? 0 : 1;
}

/* The child's wait status; `fault` as in SSO_HSM_FAULT, or NULL. */
static int run_process(const struct installation *in, const char *fault)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (fault != NULL)
            setenv("SSO_HSM_FAULT", fault, 1);
        else
            unsetenv("SSO_HSM_FAULT");
        execl("/proc/self/exe", "test_kill", "run", in->folder, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static struct installation in;
static bool has_fault_points;

/* Every second rotation renews the rows. */
static void plan(bool renewing)
{
    struct rewrap_job job;
    plan_job(&in, &job, make_generation(&in, SUITE_AES256_KW),
             &(struct rotation){.reencrypt = renewing});
}

/* One long life of rows: whatever happened, each opens, and the job's counts are exact. */
static void check_after(uint32_t to)
{
    struct rotation rotation;
    read_rotation(&in, &rotation);
    assert_int_equal(rotation.to, to);
    assert_int_equal(rotation.state, ROTATION_COMPLETED);
    assert_int_equal(rotation.done, ROWS);
    assert_int_equal(rotation.total, ROWS);
    assert_int_equal(rotation.failed + rotation.skipped, 0);
    OK(open_generation(&in, to, &problem));
    check_all_open(&in, to, ROWS);
}

static int make(void **state)
{
    (void)state;
    installation_make(&in, SUITE_AES256_KW);
    add_credentials(&in, 0, ROWS);
    plan(false);
    int status = run_process(&in, "rotation.prepare:kill");
    has_fault_points = WIFSIGNALED(status);
    return 0;
}

static int clear(void **state)
{
    (void)state;
    installation_remove(&in);
    return 0;
}

static void check_born(uint32_t to)
{
    const struct scan_options options = {.limit = ROWS};
    struct scan_position position = {0};
    struct credential_row *rows = calloc(ROWS, sizeof *rows);
    size_t count;
    STORE_TX_AUTO tx = NULL;
    assert_non_null(rows);
    OK(store_begin(in.store, STORE_READ, &tx, &problem));
    OK(store_credential_scan(tx, &options, &position, rows, &count, &problem));
    assert_int_equal(count, ROWS);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(rows[i].born, to);
    free(rows);
}

static void goes_on_after_a_kill_at(const char *point, unsigned passage, bool renewing)
{
    char fault[80];
    struct rotation rotation;
    if (!has_fault_points) {
        print_message("skipped: built without -Dfault_points=true\n");
        skip();
    }
    read_rotation(&in, &rotation);
    if (rotation.state != ROTATION_PREPARING)
        plan(renewing);
    read_rotation(&in, &rotation);
    snprintf(fault, sizeof fault, "%s:kill:%u", point, passage);
    int status = run_process(&in, fault);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        fail_msg("%s was not reached", fault);
    status = run_process(&in, NULL);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    check_after(rotation.to);
    if (rotation.reencrypt)
        check_born(rotation.to);
}

#define KILL_TEST(name, point, passage)                                                            \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        goes_on_after_a_kill_at(point, passage, false);                                            \
    }                                                                                              \
    static void name##_renewing(void **state)                                                      \
    {                                                                                              \
        (void)state;                                                                               \
        goes_on_after_a_kill_at(point, passage, true);                                             \
    }

KILL_TEST(at_prepare, "rotation.prepare", 1)
KILL_TEST(before_switch, "rotation.before-switch", 1)
KILL_TEST(after_switch, "rotation.after-switch", 1)
KILL_TEST(with_first_batch_in_hand, "rotation.batch-moved", 1)
KILL_TEST(with_fifth_batch_in_hand, "rotation.batch-moved", 5)
KILL_TEST(before_first_commit, "rotation.before-commit", 1)
KILL_TEST(after_first_commit, "rotation.after-commit", 1)
KILL_TEST(before_second_commit, "rotation.before-commit", 2)
KILL_TEST(before_finish, "rotation.before-finish", 1)
KILL_TEST(after_finish, "rotation.after-finish", 1)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_prepare),
        cmocka_unit_test(before_switch),
        cmocka_unit_test(after_switch),
        cmocka_unit_test(with_first_batch_in_hand),
        cmocka_unit_test(with_fifth_batch_in_hand),
        cmocka_unit_test(before_first_commit),
        cmocka_unit_test(after_first_commit),
        cmocka_unit_test(before_second_commit),
        cmocka_unit_test(before_finish),
        cmocka_unit_test(after_finish),
        cmocka_unit_test(before_first_commit_renewing),
        cmocka_unit_test(after_first_commit_renewing),
        cmocka_unit_test(before_second_commit_renewing),
    };
    /* With scripts/test --long the other points of a renewing rotation too. */
    const struct CMUnitTest long_tests[] = {
        cmocka_unit_test(at_prepare_renewing),
        cmocka_unit_test(before_switch_renewing),
        cmocka_unit_test(after_switch_renewing),
        cmocka_unit_test(with_first_batch_in_hand_renewing),
        cmocka_unit_test(with_fifth_batch_in_hand_renewing),
        cmocka_unit_test(before_finish_renewing),
        cmocka_unit_test(after_finish_renewing),
    };
    testing_start();
    if (argc == 3 && strcmp(argv[1], "run") == 0)
        return run_job(argv[2]);
    int failed = cmocka_run_group_tests(tests, make, clear);
    if (getenv("SSO_HSM_LONG") != NULL)
        failed += cmocka_run_group_tests(long_tests, make, clear);
    return failed;
}
