/* What only SQLite has: files, locks of other programs, a full disk. */
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/secret.h"
#include "sqlite_hands.h"

static const uint8_t payroll[APPLICATION_ID_BYTES] = {1};

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* --- files --- */

static mode_t mode_of(const char *path, const char *suffix)
{
    char name[256];
    struct stat status;
    snprintf(name, sizeof name, "%s%s", path, suffix);
    assert_int_equal(stat(name, &status), 0);
    return status.st_mode & 07777;
}

static void test_modes(void **state)
{
    struct fixture *fixture = *state;
    fill(fixture->store, 1);
    assert_int_equal(mode_of(path_of(fixture), ""), 0600);
    assert_int_equal(mode_of(path_of(fixture), "-wal"), 0600);
    assert_int_equal(mode_of(path_of(fixture), "-shm"), 0600);
}

static void test_bad_urls(void **state)
{
    (void)state;
    static const char *const urls[] = {
        "sqlite:relative.db",     "sqlite:",
        "sqlite:/x?busy_timeout", "sqlite:/x?busy_timeout=soon",
        "sqlite:/x?max_pages=-1", "sqlite:/x?max_pages=1&",
        "sqlite:/x?mode=memory",  "sqlite:/x?busy_timeout=400d",
    };
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        struct store *store = NULL;
        struct sso_error err = {0};
        assert_code(SSO_CONFIG_ERROR, store_open(urls[i], &store, &err));
        assert_says("[database] url");
        assert_null(store);
    }
}

static void test_no_file(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = NULL;
    struct sso_error err = {0};
    char url[256];
    snprintf(url, sizeof url, "sqlite:%s/none", fixture->folder);
    assert_code(SSO_DATABASE_UNAVAILABLE, store_open(url, &store, &err));
    assert_says("run sso-hsm init");
    assert_int_equal(access(url + strlen("sqlite:"), F_OK), -1);
    snprintf(url, sizeof url, "sqlite:%s", fixture->folder);
    assert_code(SSO_DATABASE_UNAVAILABLE, store_open(url, &store, &err));
    assert_says("is not a file");
    assert_code(SSO_DATABASE_UNAVAILABLE, store_create(url, &store, &err));
    snprintf(url, sizeof url, "sqlite:%s/no/folder", fixture->folder);
    assert_code(SSO_DATABASE_UNAVAILABLE, store_create(url, &store, &err));
    assert_says("/no");
}

static void test_empty_file(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    store_close(&fixture->store);
    write_file(path_of(fixture), "");
    assert_code(SSO_DATABASE_UNAVAILABLE, store_open(fixture->url, &fixture->store, &err));
    assert_says("is empty");
    assert_ok(store_create(fixture->url, &fixture->store, &err));
}

static void test_other_programs_files(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = NULL;
    struct sso_error err = {0};
    char url[256], text[32] = "";
    snprintf(url, sizeof url, "sqlite:%s/text", fixture->folder);
    write_file(url + strlen("sqlite:"), "a letter to my aunt, and not a database of anything");
    assert_code(SSO_DATABASE_OF_OTHER_SYSTEM, store_open(url, &store, &err));
    assert_code(SSO_DATABASE_OF_OTHER_SYSTEM, store_create(url, &store, &err));
    assert_code(SSO_DATABASE_OF_OTHER_SYSTEM, store_upgrade(url, &err));
    FILE *file = fopen(url + strlen("sqlite:"), "r");
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    assert_int_equal(strncmp(text, "a letter", 8), 0);

    snprintf(url, sizeof url, "sqlite:%s/theirs", fixture->folder);
    by_another_hand(url + strlen("sqlite:"), "CREATE TABLE aunts (name TEXT)");
    assert_code(SSO_DATABASE_OF_OTHER_SYSTEM, store_open(url, &store, &err));
    assert_says("another program made it");
    assert_code(SSO_DATABASE_OF_OTHER_SYSTEM, store_create(url, &store, &err));
    by_another_hand(url + strlen("sqlite:"), "INSERT INTO aunts VALUES ('Zoë')");
}

static void test_schema_numbers(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    const char *path = path_of(fixture);
    store_close(&fixture->store);
    by_another_hand(path, "INSERT INTO schema_migrations VALUES (9999, 'later', x'00', 0)");
    assert_code(SSO_SCHEMA_NEWER, store_open(fixture->url, &fixture->store, &err));
    assert_says("9999");
    assert_code(SSO_SCHEMA_NEWER, store_create(fixture->url, &fixture->store, &err));
    assert_code(SSO_SCHEMA_NEWER, store_upgrade(fixture->url, &err));
    by_another_hand(path, "DELETE FROM schema_migrations");
    assert_code(SSO_SCHEMA_OLDER, store_open(fixture->url, &fixture->store, &err));
    assert_says("db upgrade");
}

static void test_schema_checksum(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    store_close(&fixture->store);
    by_another_hand(path_of(fixture), "UPDATE schema_migrations SET checksum = zeroblob(32)");
    assert_code(SSO_DATABASE_OF_OTHER_SYSTEM, store_open(fixture->url, &fixture->store, &err));
    assert_says("checksum");
}

/* Runs `body` in a process that has no rights over files of root; 77: cannot be tried here. */
static int run_as_nobody(void (*body)(struct fixture *), struct fixture *fixture)
{
    pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setresgid(65534, 65534, 65534) != 0 ||
                               setresuid(65534, 65534, 65534) != 0))
            _exit(77);
        body(fixture);
        _exit(0);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define expect_in_child(condition)                                                                 \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s: %s\n", #condition, err.detail);                                   \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void open_read_only_file(struct fixture *fixture)
{
    struct store *store = NULL;
    struct sso_error err = {0};
    expect_in_child(store_open(fixture->url, &store, &err) == SSO_DATABASE_UNAVAILABLE);
    expect_in_child(strstr(err.detail, path_of(fixture)) != NULL);
    expect_in_child(strstr(err.detail, "writable") != NULL);
}

static void open_in_read_only_folder(struct fixture *fixture)
{
    struct store *store = NULL;
    struct sso_error err = {0};
    char url[256];
    expect_in_child(store_open(fixture->url, &store, &err) == SSO_DATABASE_UNAVAILABLE);
    expect_in_child(strstr(err.detail, "the folder") != NULL);
    snprintf(url, sizeof url, "%s-new", fixture->url);
    expect_in_child(store_create(url, &store, &err) == SSO_DATABASE_UNAVAILABLE);
    expect_in_child(strstr(err.detail, "the folder") != NULL);
}

static void test_rights(void **state)
{
    struct fixture *fixture = *state;
    store_close(&fixture->store);
    chmod(fixture->folder, 0777);
    chmod(path_of(fixture), 0444);
    int file = run_as_nobody(open_read_only_file, fixture);
    chmod(path_of(fixture), 0666);
    chmod(fixture->folder, 0555);
    int folder = run_as_nobody(open_in_read_only_folder, fixture);
    chmod(fixture->folder, 0700);
    if (file == 77 || folder == 77)
        skip();
    assert_int_equal(file, 0);
    assert_int_equal(folder, 0);
}

static void test_replaced_file(void **state)
{
    struct fixture *fixture = *state;
    struct store_tx *tx = NULL;
    struct sso_error err = {0};
    char aside[256];
    snprintf(aside, sizeof aside, "%s/aside", fixture->folder);
    assert_int_equal(rename(path_of(fixture), aside), 0);
    assert_code(SSO_DATABASE_UNAVAILABLE, store_begin(fixture->store, STORE_WRITE, &tx, &err));
    assert_says("is gone");
    write_file(path_of(fixture), "");
    assert_code(SSO_DATABASE_UNAVAILABLE, store_begin(fixture->store, STORE_READ, &tx, &err));
    assert_says("replaced");
    assert_int_equal(rename(aside, path_of(fixture)), 0);
    assert_ok(store_begin(fixture->store, STORE_WRITE, &tx, &err));
    store_rollback(&tx);
}

/* --- another program --- */

/* A process that holds the write lock until it is killed. */
static pid_t start_holder(const char *path)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        sqlite3 *db = NULL;
        if (sqlite3_open(path, &db) != SQLITE_OK ||
            sqlite3_exec(db, "BEGIN IMMEDIATE; DELETE FROM settings", NULL, NULL, NULL) !=
                SQLITE_OK)
            _exit(1);
        (void)!write(ready[1], "x", 1);
        pause();
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return child;
}

static void test_lock_of_another_program(void **state)
{
    struct fixture *fixture = *state;
    struct store_tx *tx = NULL;
    struct sso_error err = {0};
    char process[32];
    fill(fixture->store, 1);
    store_close(&fixture->store);
    pid_t holder = start_holder(path_of(fixture));
    reopen(fixture, "?busy_timeout=50ms");
    assert_code(SSO_DATABASE_UNAVAILABLE, store_begin(fixture->store, STORE_WRITE, &tx, &err));
    assert_says("another program");
    assert_says(path_of(fixture));
    snprintf(process, sizeof process, "process %d", (int)holder);
    if (strstr(err.detail, process) == NULL)
        print_message("/proc/locks does not show the holder here: %s\n", err.detail);
    assert_int_equal(rows_of_generation(fixture->store, 1), 1); /* readers go on */

    kill(holder, SIGKILL);
    waitpid(holder, NULL, 0);
    tx = begin(fixture->store, STORE_WRITE);
    struct lookup_view view;
    assert_ok(store_lookup(tx, "Payroll", "user00000", &view, &err)); /* settings are back */
    lookup_view_free(&view);
    commit(tx);
}

/* --- a full disk --- */

static enum sso_code put_big(struct store_tx *tx, uint32_t number, struct sso_error *err)
{
    char principal[32];
    snprintf(principal, sizeof principal, "big%05u", number);
    struct credential_row row = sample_row(100 + number, 1, principal);
    free(row.ciphertext);
    row.ciphertext_bytes = 20000;
    row.ciphertext = calloc(1, row.ciphertext_bytes);
    assert_non_null(row.ciphertext);
    enum sso_code rc = store_credential_put(tx, &row, 0, err);
    credential_row_free(&row);
    return rc;
}

static void test_full(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    fill(fixture->store, 10);
    reopen(fixture, "?max_pages=80");
    for (int attempt = 0; attempt < 2; attempt++) {
        struct store_tx *tx = begin(fixture->store, STORE_WRITE);
        enum sso_code rc = SSO_OK;
        for (uint32_t i = 0; rc == SSO_OK && i < 100; i++)
            rc = put_big(tx, i, &err);
        assert_int_equal(rc, SSO_DATABASE_UNAVAILABLE);
        assert_says("no room is left");
        assert_code(SSO_DATABASE_UNAVAILABLE, put_big(tx, 200, &err));
        assert_says("undone before");
        assert_code(SSO_DATABASE_UNAVAILABLE, store_commit(&tx, &err));
        assert_null(tx);
    }
    assert_int_equal(rows_of_generation(fixture->store, 1), 10);
    struct store_tx *tx = begin(fixture->store, STORE_WRITE);
    assert_ok(store_credential_delete(tx, payroll, "user00003", 0, &err)); /* making room works */
    commit(tx);
    reopen(fixture, "");
    tx = begin(fixture->store, STORE_WRITE);
    assert_ok(put_big(tx, 1, &err));
    commit(tx);
    assert_int_equal(rows_of_generation(fixture->store, 1), 10);
}

/* A writer that is killed leaves nothing of its transaction, and what it committed stays. */
static void test_killed_writer(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    store_close(&fixture->store);
    pid_t child = fork();
    if (child == 0) {
        struct store *store = NULL;
        if (store_open(fixture->url, &store, &err) != SSO_OK)
            _exit(1);
        fill(store, 7);
        struct store_tx *tx = begin(store, STORE_WRITE);
        if (store_credential_delete(tx, payroll, "user00000", 0, &err) == SSO_OK)
            raise(SIGKILL);
        _exit(1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    reopen(fixture, "");
    assert_int_equal(rows_of_generation(fixture->store, 1), 7);
}

static off_t size_of(const char *path, const char *suffix)
{
    char name[256];
    struct stat status;
    snprintf(name, sizeof name, "%s%s", path, suffix);
    assert_int_equal(stat(name, &status), 0);
    return status.st_size;
}

/* Some 80 MB go through the log, in commits without a pause. */
static void test_log_is_folded_in(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    enum { ROUNDS = 400, BYTES = 200000 };
    fill(fixture->store, 1);
    off_t longest = 0;
    for (uint64_t version = 1; version <= ROUNDS; version++) {
        struct credential_row row = sample_row(0, 1, "user00000");
        free(row.ciphertext);
        row.ciphertext = malloc(BYTES);
        assert_non_null(row.ciphertext);
        memset(row.ciphertext, (int)version, BYTES); /* what is the same is not written */
        row.ciphertext_bytes = BYTES;
        row.version = version + 1;
        struct store_tx *tx = begin(fixture->store, STORE_WRITE);
        assert_ok(store_credential_put(tx, &row, version, &err));
        commit(tx);
        credential_row_free(&row);
        off_t now = size_of(path_of(fixture), "-wal");
        longest = now > longest ? now : longest;
    }
    /* The bound of 32 MiB, and what was written before the thread had its turn to run. */
    assert_in_range(longest, 4 << 20, 64 << 20);
    assert_in_range(size_of(path_of(fixture), ""), BYTES, 4 * BYTES + (1 << 20));
    assert_int_equal(rows_of_generation(fixture->store, 1), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_modes, fixture_setup, fixture_teardown),
        cmocka_unit_test(test_bad_urls),
        cmocka_unit_test_setup_teardown(test_no_file, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_empty_file, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_other_programs_files, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_schema_numbers, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_schema_checksum, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_rights, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_replaced_file, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_lock_of_another_program, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_full, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_killed_writer, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_log_is_folded_in, fixture_setup, fixture_teardown),
    };
    wiping_allocator_install();
    return cmocka_run_group_tests_name("store: SQLite, faults", tests, NULL, NULL);
}
