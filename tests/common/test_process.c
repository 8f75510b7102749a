/* Clock, log, users and fault points: what concerns the process as a whole. */
#include "tests/common/testing.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/privileges.h"

static void times_are_rfc_3339(void **state)
{
    (void)state;
    char text[RFC3339_SIZE];
    assert_string_equal(rfc3339(0, text), "");
    assert_string_equal(rfc3339(1769851800123, text), "2026-01-31T09:30:00.123Z");
    assert_string_equal(rfc3339(1, text), "1970-01-01T00:00:00.001Z");
    assert_string_equal(rfc3339(-1, text), "1969-12-31T23:59:59.999Z");
    assert_string_equal(rfc3339(253402300799999, text), "9999-12-31T23:59:59.999Z");
    assert_string_equal(rfc3339(253402300800000, text), "");
    assert_string_equal(rfc3339(INT64_MAX, text), "");
    assert_string_equal(rfc3339(INT64_MIN, text), "");
    assert_true(wall_clock_ms() > 1700000000000);
    int64_t before = boot_clock_ms();
    assert_true(before > 0 && boot_clock_ms() >= before);
}

/* Runs `act` in a child and reads what it writes to standard error. */
static int in_child(void (*act)(void), char *out, size_t size)
{
    int ends[2], status = 0;
    size_t length = 0;
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        act();
        _exit(0);
    }
    close(ends[1]);
    for (ssize_t got;
         length < size - 1 && (got = read(ends[0], out + length, size - 1 - length)) > 0;)
        length += (size_t)got;
    out[length] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    if (WIFSTOPPED(status)) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    return status;
}

static void log_some(void)
{
    log_init("test", LOG_LEVEL_INFO);
    log_line(LOG_LEVEL_DEBUG, "not shown", NULL);
    log_line(LOG_LEVEL_WARNING, "worker replaced", "token", "sso \"hsm\"", "reason",
             "a\nlevel=error \\ \x7f", "name", "Zo\xc3\xab", "bad", "\xff", "none", (char *)NULL,
             NULL);
}

static void log_lines_cannot_be_forged(void **state)
{
    (void)state;
    char out[8192];
    unsetenv("JOURNAL_STREAM");
    in_child(log_some, out, sizeof out);
    char *after_time = strchr(out, ' ');
    assert_non_null(after_time);
    assert_memory_equal(out, "time=2", 6);
    assert_string_equal(after_time,
                        " level=warning program=test message=\"worker replaced\" "
                        "token=\"sso \\\"hsm\\\"\" reason=\"a\\x0alevel=error \\\\ \\x7f\" "
                        "name=\"Zo\xc3\xab\" bad=\"\\xff\" none=\"\"\n");
}

static void log_much(void)
{
    static char value[20000];
    memset(value, 'v', sizeof value - 1);
    log_line(LOG_LEVEL_ERROR, "long", "value", value, "more", "x", NULL);
}

static void long_log_lines_are_cut_but_stay_lines(void **state)
{
    (void)state;
    char out[32768];
    in_child(log_much, out, sizeof out);
    assert_int_equal(strlen(out), 4096);
    assert_ptr_equal(strchr(out, '\n'), out + 4095);
}

static void log_to_journal(void)
{
    struct stat facts;
    char stream[64];
    if (fstat(STDERR_FILENO, &facts) != 0)
        _exit(1);
    snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)facts.st_dev,
             (unsigned long long)facts.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_init("test", LOG_LEVEL_INFO);
    log_line(LOG_LEVEL_ERROR, "m", NULL);
}

static void the_journal_gets_priorities(void **state)
{
    (void)state;
    char out[512];
    in_child(log_to_journal, out, sizeof out);
    assert_memory_equal(out, "<3>time=", 8);
}

static void people_are_found(void **state)
{
    (void)state;
    struct person by_name, by_uid;
    struct sso_error err;
    assert_int_equal(person_by_name("root", &by_name, &err), SSO_OK);
    assert_int_equal(by_name.uid, 0);
    assert_int_equal(person_by_uid(0, &by_uid, &err), SSO_OK);
    assert_string_equal(by_uid.name, "root");
    check_failure(person_by_name("no-such-user-here", &by_name, &err), SSO_CONFIG_ERROR, &err,
                  "no user no-such-user-here");
    check_failure(person_by_uid(4000000001U, &by_name, &err), SSO_CONFIG_ERROR, &err, "4000000001");
}

static void membership_comes_from_the_user_database(void **state)
{
    (void)state;
    struct person root;
    assert_int_equal(person_by_uid(0, &root, NULL), SSO_OK);
    assert_true(person_in_group(&root, "root")); /* the primary group */
    assert_false(person_in_group(&root, "no-such-group-here"));
    assert_false(person_in_group(&root, ""));
    assert_false(person_in_group(&root, "nogroup"));
}

static void becoming_who_one_is_needs_nothing(void **state)
{
    (void)state;
    struct person self;
    struct sso_error err;
    if (person_by_uid(getuid(), &self, NULL) != SSO_OK)
        skip();
    assert_int_equal(become_user(self.name, &err), SSO_OK);
    check_failure(become_user("no-such-user-here", &err), SSO_CONFIG_ERROR, &err, NULL);
}

static void become_nobody(void)
{
    struct sso_error err = {0};
    struct person nobody;
    bool done = person_by_name("nobody", &nobody, &err) == SSO_OK &&
                become_user("nobody", &err) == SSO_OK && getuid() == nobody.uid &&
                geteuid() == nobody.uid && getegid() == nobody.gid && setuid(0) != 0 &&
                become_user("nobody", &err) == SSO_OK && become_user("root", &err) == SSO_FORBIDDEN;
    gid_t groups[64];
    int count = getgroups(64, groups);
    for (int i = 0; i < count; i++)
        done &= groups[i] != 0;
    _exit(done ? 0 : 1);
}

static void root_is_given_up_for_good(void **state)
{
    (void)state;
    char out[512];
    if (geteuid() != 0)
        skip();
    assert_int_equal(in_child(become_nobody, out, sizeof out), 0);
}

static void console_person(void)
{
    struct person person;
    struct sso_error err;
    setenv("SUDO_UID", "2x", 1); /* not a number: passed over */
    if (person_at_console(&person, &err) != SSO_OK)
        _exit(1);
}

static void somebody_is_at_the_console(void **state)
{
    (void)state;
    char out[512];
    struct person self;
    if (person_by_uid(getuid(), &self, NULL) != SSO_OK)
        skip();
    assert_int_equal(in_child(console_person, out, sizeof out), 0);
}

/* Linked with fault_on.c, whatever the library was built with. */
static void pass_three_times(void)
{
    for (int i = 0; i < 3; i++) {
        fault_point("other");
        if (fault_point("write.wrapped"))
            fprintf(stderr, "failed at %d;", i);
    }
    fputs("through", stderr);
}

static int run_with_fault(const char *fault, char *out, size_t size)
{
    setenv("SSO_HSM_FAULT", fault, 1);
    int status = in_child(pass_three_times, out, size);
    unsetenv("SSO_HSM_FAULT");
    return status;
}

static void fault_points_do_as_told(void **state)
{
    (void)state;
    char out[512];
    assert_int_equal(run_with_fault("", out, sizeof out), 0);
    assert_string_equal(out, "through");
    assert_int_equal(run_with_fault("write.wrapped:fail", out, sizeof out), 0);
    assert_string_equal(out, "failed at 0;through");
    assert_int_equal(run_with_fault("write.wrapped:fail:3", out, sizeof out), 0);
    assert_string_equal(out, "failed at 2;through");
    assert_int_equal(run_with_fault("elsewhere:kill", out, sizeof out), 0);
    int status = run_with_fault("write.wrapped:kill:2", out, sizeof out);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    status = run_with_fault("write.wrapped:explode", out, sizeof out);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(out, "NAME:stop|kill|fail"));
}

static void stop_at_point(void)
{
    setenv("SSO_HSM_FAULT", "p:stop", 1);
    close(STDERR_FILENO); /* whoever reads it would wait for a stopped process */
    fault_point("p");
}

static void a_fault_point_can_stop_the_process(void **state)
{
    (void)state;
    char out[16];
    int status = in_child(stop_at_point, out, sizeof out);
    assert_true(WIFSTOPPED(status));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_rfc_3339),
        cmocka_unit_test(log_lines_cannot_be_forged),
        cmocka_unit_test(long_log_lines_are_cut_but_stay_lines),
        cmocka_unit_test(the_journal_gets_priorities),
        cmocka_unit_test(people_are_found),
        cmocka_unit_test(membership_comes_from_the_user_database),
        cmocka_unit_test(becoming_who_one_is_needs_nothing),
        cmocka_unit_test(root_is_given_up_for_good),
        cmocka_unit_test(somebody_is_at_the_console),
        cmocka_unit_test(fault_points_do_as_told),
        cmocka_unit_test(a_fault_point_can_stop_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
