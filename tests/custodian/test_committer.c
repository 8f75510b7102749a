/* The committer over a real database: group commit, one bad write among good ones, the chain, the
 * head in the state directory, and a database that cannot be written. */
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <sqlite3.h>

#include "common/audit_head.h"
#include "common/encode.h"
#include "common/secret.h"
#include "custodian/committer.h"

#define WRITERS 16
#define WRITES_EACH 25

struct fixture {
    char folder[64];
    char url[128];
    struct store *store;
    struct committer *committer;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    struct sso_error err = {0};
    strcpy(fixture->folder, "/tmp/sso-committer-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(fixture->url, sizeof fixture->url, "sqlite:%s/credentials.db", fixture->folder);
    if (store_create(fixture->url, &fixture->store, &err) != SSO_OK ||
        committer_new(fixture->store, "node1", fixture->folder, &fixture->committer, &err) !=
            SSO_OK)
        fail_msg("%s", err.detail);
    *state = fixture;
    return 0;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    committer_free(&fixture->committer);
    store_close(&fixture->store);
    nftw(fixture->folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

static struct audit_record record_of(const char *operation, const char *target)
{
    struct audit_record record = {.actor = "alice", .how = "unix"};
    snprintf(record.operation, sizeof record.operation, "%s", operation);
    snprintf(record.target, sizeof record.target, "%s", target);
    return record;
}

/* Any row will do: a setting is the smallest. */
static enum sso_code put_setting(struct store_tx *tx, void *context, struct sso_error *err)
{
    return store_setting_put(tx, context, err);
}

static struct setting setting_of(const char *name)
{
    struct setting setting = {.value = "yes", .version = 1};
    snprintf(setting.name, sizeof setting.name, "%s", name);
    return setting;
}

static size_t count_settings(struct store *store)
{
    struct setting *settings = NULL;
    size_t count = 0;
    STORE_TX_AUTO tx = NULL;
    assert_int_equal(store_begin(store, STORE_READ, &tx, NULL), SSO_OK);
    assert_int_equal(store_setting_list(tx, &settings, &count, NULL), SSO_OK);
    free(settings);
    return count;
}

static struct audit_record *read_audit(struct store *store, size_t *count)
{
    struct audit_record *records = NULL;
    STORE_TX_AUTO tx = NULL;
    assert_int_equal(store_begin(store, STORE_READ, &tx, NULL), SSO_OK);
    assert_int_equal(store_audit_list(tx, "node1", 0, 10000, &records, count, NULL), SSO_OK);
    return records;
}

static void write_and_record_are_durable_together(void **state)
{
    struct fixture *fixture = *state;
    struct setting setting = setting_of("a");
    struct audit_record record = record_of("test.write", "a");
    struct sso_error err = {0};
    assert_int_equal(committer_run(fixture->committer, put_setting, &setting, &record, 1, &err),
                     SSO_OK);
    assert_string_equal(record.node, "node1");
    assert_string_equal(record.outcome, "ok");
    assert_int_equal(record.number, 1);
    assert_true(record.time_ms > 0);
    assert_int_equal(count_settings(fixture->store), 1);
    size_t count = 0;
    struct audit_record *records = read_audit(fixture->store, &count);
    assert_int_equal(count, 1);
    assert_memory_equal(records[0].hash, record.hash, sizeof record.hash);
    free(records);
}

static void refused_write_is_undone_and_recorded(void **state)
{
    struct fixture *fixture = *state;
    struct setting setting = setting_of("a");
    struct audit_record record = record_of("test.write", "a");
    setting.version = 7; /* replaces version 6, which does not exist */
    assert_int_equal(committer_run(fixture->committer, put_setting, &setting, &record, 1, NULL),
                     SSO_VERSION_CONFLICT);
    assert_string_equal(record.outcome, "version_conflict");
    assert_int_equal(count_settings(fixture->store), 0);
    size_t count = 0;
    struct audit_record *records = read_audit(fixture->store, &count);
    assert_int_equal(count, 1);
    assert_string_equal(records[0].outcome, "version_conflict");
    free(records);
}

struct quiet {
    struct audit_record *record;
};

static enum sso_code again_without_record(struct store_tx *tx, void *context, struct sso_error *err)
{
    struct quiet *quiet = context;
    (void)tx;
    quiet->record->operation[0] = '\0';
    return sso_fail(err, SSO_VERSION_CONFLICT, "to be tried again");
}

static void write_may_leave_its_record_out(void **state)
{
    struct fixture *fixture = *state;
    struct audit_record record = record_of("test.write", "a");
    struct quiet quiet = {&record};
    assert_int_equal(
        committer_run(fixture->committer, again_without_record, &quiet, &record, 1, NULL),
        SSO_VERSION_CONFLICT);
    size_t count = 1;
    free(read_audit(fixture->store, &count));
    assert_int_equal(count, 0);
}

struct writer {
    struct fixture *fixture;
    unsigned number;
    unsigned refused;
    pthread_t thread;
};

/* Each fifth write is refused: that must not touch those that share its transaction. */
static void *write_many(void *context)
{
    struct writer *writer = context;
    for (unsigned i = 0; i < WRITES_EACH; i++) {
        char name[32];
        snprintf(name, sizeof name, "writer%u.%u", writer->number, i);
        struct setting setting = setting_of(name);
        struct audit_record record = record_of("test.write", name);
        if (i % 5 == 0)
            setting.version = 9;
        enum sso_code rc =
            committer_run(writer->fixture->committer, put_setting, &setting, &record, 1, NULL);
        writer->refused += rc == SSO_VERSION_CONFLICT;
        if (rc != SSO_OK && rc != SSO_VERSION_CONFLICT)
            writer->refused += 1000;
    }
    return NULL;
}

static void check_head(const struct fixture *fixture, const struct audit_record *last)
{
    char path[128], hash[2 * AUDIT_HASH_BYTES + 1], found[2 * AUDIT_HASH_BYTES + 1];
    unsigned long long number = 0;
    snprintf(path, sizeof path, "%s/audit-head", fixture->folder);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%llu %64s", &number, found), 2);
    fclose(file);
    hex_encode(last->hash, sizeof last->hash, hash);
    assert_int_equal(number, last->number);
    assert_string_equal(found, hash);
}

static void many_writers_make_one_chain(void **state)
{
    struct fixture *fixture = *state;
    struct writer writer[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++) {
        writer[i] = (struct writer){.fixture = fixture, .number = i};
        assert_int_equal(pthread_create(&writer[i].thread, NULL, write_many, &writer[i]), 0);
    }
    unsigned refused = 0;
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(writer[i].thread, NULL);
        refused += writer[i].refused;
    }
    assert_int_equal(refused, WRITERS * WRITES_EACH / 5);
    assert_int_equal(count_settings(fixture->store), WRITERS * WRITES_EACH * 4 / 5);
    size_t count = 0;
    struct audit_record *records = read_audit(fixture->store, &count);
    assert_int_equal(count, WRITERS * WRITES_EACH);
    uint8_t previous[AUDIT_HASH_BYTES] = {0}, hash[AUDIT_HASH_BYTES];
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(records[i].number, i + 1);
        audit_record_hash(previous, &records[i], hash);
        assert_memory_equal(hash, records[i].hash, sizeof hash);
        memcpy(previous, hash, sizeof previous);
    }
    check_head(fixture, &records[count - 1]);
    free(records);
}

static void posted_records_are_written_before_the_end(void **state)
{
    struct fixture *fixture = *state;
    for (unsigned i = 0; i < 500; i++) {
        struct audit_record record = record_of("credential.lookup", "billing/alice");
        committer_post(fixture->committer, &record);
    }
    committer_free(&fixture->committer);
    size_t count = 0;
    free(read_audit(fixture->store, &count));
    assert_int_equal(count, 500);
}

/* As the owner of the database can, behind the program's back. */
static void change_database(const struct fixture *fixture, const char *sql)
{
    sqlite3 *database = NULL;
    assert_int_equal(sqlite3_open(fixture->url + strlen("sqlite:"), &database), SQLITE_OK);
    assert_int_equal(sqlite3_exec(database, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(database);
}

/* Records that nobody waits for: what was told of each, in which order. */
struct told {
    struct fixture *fixture;
    struct audit_record record[500];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned ended, lost;
};

static void on_ended(const struct sso_error *outcome, void *context)
{
    struct told *told = context;
    pthread_mutex_lock(&told->lock);
    told->ended++;
    told->lost += outcome->code != SSO_OK;
    pthread_cond_signal(&told->changed);
    pthread_mutex_unlock(&told->lock);
}

static void submit_all(struct told *told, unsigned count)
{
    pthread_mutex_init(&told->lock, NULL);
    pthread_cond_init(&told->changed, NULL);
    for (unsigned i = 0; i < count; i++) {
        told->record[i] = record_of("credential.lookup", "billing/alice");
        assert_int_equal(
            committer_submit(told->fixture->committer, &told->record[i], on_ended, told, NULL),
            SSO_OK);
    }
    pthread_mutex_lock(&told->lock);
    while (told->ended < count)
        pthread_cond_wait(&told->changed, &told->lock);
    pthread_mutex_unlock(&told->lock);
}

static void a_submitted_record_is_durable_when_that_is_told(void **state)
{
    struct told *told = calloc(1, sizeof *told);
    told->fixture = *state;
    submit_all(told, 500);
    assert_int_equal(told->lost, 0);
    size_t count = 0;
    struct audit_record *records = read_audit(told->fixture->store, &count);
    assert_int_equal(count, 500);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(told->record[i].number, i + 1);
        assert_memory_equal(told->record[i].hash, records[i].hash, AUDIT_HASH_BYTES);
        assert_string_equal(told->record[i].outcome, "ok");
    }
    free(records);
    free(told);
}

static void a_submitted_record_that_is_lost_is_told(void **state)
{
    struct told *told = calloc(1, sizeof *told);
    told->fixture = *state;
    change_database(told->fixture, "DROP TABLE audit");
    submit_all(told, 20);
    assert_int_equal(told->lost, 20);
    free(told);
}

static enum sso_code lose_the_database(struct store_tx *tx, void *context, struct sso_error *err)
{
    (void)tx;
    (void)context;
    return sso_fail(err, SSO_DATABASE_UNAVAILABLE, "the disk is full");
}

static void database_that_fails_is_told_apart(void **state)
{
    struct fixture *fixture = *state;
    struct audit_record record = record_of("test.write", "a");
    struct sso_error err = {0};
    assert_int_equal(committer_run(fixture->committer, lose_the_database, NULL, &record, 1, &err),
                     SSO_DATABASE_UNAVAILABLE);
    assert_string_equal(err.detail, "the disk is full");
    assert_int_equal(record.number, 0);
    assert_int_equal(committer_health(fixture->committer, NULL), SSO_DATABASE_UNAVAILABLE);
    assert_int_equal(committer_run(fixture->committer, NULL, NULL, &record, 1, &err), SSO_OK);
    assert_int_equal(record.number, 1);
    assert_int_equal(committer_health(fixture->committer, NULL), SSO_OK);
}

static void full_database_refuses_records(void **state)
{
    struct fixture *fixture = *state;
    struct sso_error err = {0};
    char url[160];
    committer_free(&fixture->committer);
    store_close(&fixture->store);
    snprintf(url, sizeof url, "%s?max_pages=1", fixture->url);
    assert_int_equal(store_open(url, &fixture->store, &err), SSO_OK);
    assert_int_equal(
        committer_new(fixture->store, "node1", fixture->folder, &fixture->committer, &err), SSO_OK);
    enum sso_code rc = SSO_OK;
    for (unsigned i = 0; i < 1000 && rc == SSO_OK; i++) {
        struct audit_record record = record_of("test.write", "a");
        rc = committer_run(fixture->committer, NULL, NULL, &record, 1, &err);
    }
    assert_int_equal(rc, SSO_AUDIT_UNAVAILABLE);
}

static struct audit_record run_record(struct fixture *fixture)
{
    struct audit_record record = record_of("test.write", "a");
    assert_int_equal(committer_run(fixture->committer, NULL, NULL, &record, 1, NULL), SSO_OK);
    return record;
}

static void start_anew(struct fixture *fixture)
{
    committer_free(&fixture->committer);
    assert_int_equal(
        committer_new(fixture->store, "node1", fixture->folder, &fixture->committer, NULL), SSO_OK);
}

/* Neither the next record nor a thousand more nor a restart make a cut chain whole again. */
static void a_cut_tail_is_never_forgotten(void **state)
{
    struct fixture *fixture = *state;
    struct audit_record last;
    struct sso_error err = {0};
    for (unsigned i = 0; i < 10; i++)
        last = run_record(fixture);
    assert_int_equal(committer_chain(fixture->committer, &err), SSO_OK);
    change_database(fixture, "DELETE FROM audit WHERE number > 5");
    struct setting setting = {.name = "cut", .value = "x", .version = 1};
    struct audit_record refused = record_of("setting.put", "cut");
    assert_int_equal(committer_run(fixture->committer, put_setting, &setting, &refused, 1, &err),
                     SSO_DATABASE_WENT_BACK);
    assert_string_equal(refused.outcome, "database_went_back");
    assert_int_equal(refused.number, 6);
    assert_int_equal(committer_chain(fixture->committer, &err), SSO_ROW_CORRUPT);
    assert_non_null(strstr(err.detail, "record 10"));
    check_head(fixture, &last);
    for (unsigned i = 0; i < 10; i++)
        run_record(fixture);
    assert_int_equal(committer_chain(fixture->committer, NULL), SSO_ROW_CORRUPT);
    check_head(fixture, &last);
    start_anew(fixture);
    assert_int_equal(committer_chain(fixture->committer, NULL), SSO_ROW_CORRUPT);
    check_head(fixture, &last);
}

static void a_cut_tail_is_seen_at_the_start(void **state)
{
    struct fixture *fixture = *state;
    run_record(fixture);
    struct audit_record last = run_record(fixture);
    change_database(fixture, "DELETE FROM audit");
    start_anew(fixture);
    assert_int_equal(committer_chain(fixture->committer, NULL), SSO_ROW_CORRUPT);
    check_head(fixture, &last);
}

/* Direct commands of the same node write to the chain, and to the file, between two commits. */
static void others_may_lengthen_the_chain(void **state)
{
    struct fixture *fixture = *state;
    run_record(fixture);
    for (unsigned i = 0; i < 2; i++) {
        struct audit_record record = record_of("database.check", "all rows");
        strcpy(record.node, "node1");
        STORE_TX_AUTO tx = NULL;
        assert_int_equal(store_begin(fixture->store, STORE_WRITE, &tx, NULL), SSO_OK);
        assert_int_equal(store_audit_append(tx, &record, 1, NULL), SSO_OK);
        assert_int_equal(store_commit(&tx, NULL), SSO_OK);
        if (i == 0)
            assert_true(audit_head_raise(fixture->folder, &record, true));
    }
    struct audit_record last = run_record(fixture);
    assert_int_equal(last.number, 4);
    assert_int_equal(committer_chain(fixture->committer, NULL), SSO_OK);
    check_head(fixture, &last);
}

/* What cannot be read must not pass for no head: the next record would move it over a cut. */
static void unreadable_head_fails_the_record(void **state)
{
    struct fixture *fixture = *state;
    char path[512], kept[256] = "";
    struct audit_head head;
    struct sso_error err = {0};
    struct audit_record first = run_record(fixture);
    snprintf(path, sizeof path, "%s/audit-head", fixture->folder);
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    assert_true(fread(kept, 1, sizeof kept, file) > 64);
    rewind(file);
    for (size_t i = 0; i < strlen(kept); i++)
        fputc(0, file);
    fclose(file);
    struct audit_record record = record_of("credential.read", "payroll/alice");
    assert_int_equal(committer_run(fixture->committer, NULL, NULL, &record, 1, &err),
                     SSO_AUDIT_UNAVAILABLE);
    assert_non_null(strstr(err.detail, "is damaged"));
    assert_int_equal(unlink(path), 0);
    struct audit_record next = run_record(fixture);
    assert_int_equal(next.number, first.number + 1);
    /* An empty one is what a crash may leave of the first. */
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(audit_head_read(fixture->folder, &head, NULL), SSO_OK);
    assert_int_equal(head.number, 0);
    assert_true(audit_head_raise(fixture->folder, &next, false));
    assert_true(audit_head_raise(fixture->folder, &first, true)); /* came late: goes not down */
    check_head(fixture, &next);
    assert_true(audit_head_write(fixture->folder, &first));
    check_head(fixture, &first);
}

struct guard {
    enum sso_code says;
    unsigned asked;
};

static enum sso_code guarded(void *context, struct store_tx *tx, struct sso_error *err)
{
    struct guard *guard = context;
    (void)tx;
    guard->asked++;
    return guard->says == SSO_OK ? SSO_OK : sso_fail(err, guard->says, "the guard says no");
}

static void a_guard_refuses_writes_and_no_records(void **state)
{
    struct fixture *fixture = *state;
    struct guard guard = {.says = SSO_MASTER_UNAVAILABLE};
    struct setting setting = setting_of("a");
    struct audit_record record = record_of("test.write", "a");
    struct sso_error err = {0};
    committer_guard(fixture->committer, guarded, &guard);
    assert_int_equal(committer_run(fixture->committer, put_setting, &setting, &record, 1, &err),
                     SSO_MASTER_UNAVAILABLE);
    assert_string_equal(record.outcome, "master_unavailable");
    assert_string_equal(err.detail, "the guard says no");
    assert_int_equal(guard.asked, 1);
    run_record(fixture);
    assert_int_equal(guard.asked, 1);
    guard.says = SSO_DATABASE_UNAVAILABLE;
    assert_int_equal(committer_run(fixture->committer, put_setting, &setting, &record, 1, &err),
                     SSO_DATABASE_UNAVAILABLE);
    assert_int_equal(count_settings(fixture->store), 0);
    guard.says = SSO_OK;
    assert_int_equal(committer_run(fixture->committer, put_setting, &setting, &record, 1, &err),
                     SSO_OK);
    assert_int_equal(count_settings(fixture->store), 1);
}

int main(void)
{
    wiping_allocator_install();
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(write_and_record_are_durable_together),
        TEST(refused_write_is_undone_and_recorded),
        TEST(write_may_leave_its_record_out),
        TEST(many_writers_make_one_chain),
        TEST(posted_records_are_written_before_the_end),
        TEST(a_submitted_record_is_durable_when_that_is_told),
        TEST(a_submitted_record_that_is_lost_is_told),
        TEST(database_that_fails_is_told_apart),
        TEST(full_database_refuses_records),
        TEST(a_cut_tail_is_never_forgotten),
        TEST(a_cut_tail_is_seen_at_the_start),
        TEST(others_may_lengthen_the_chain),
        TEST(unreadable_head_fails_the_record),
        TEST(a_guard_refuses_writes_and_no_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
