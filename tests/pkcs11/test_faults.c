/* What a pool does when things go wrong: workers killed, tokens gone, PINs refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/encode.h"
#include "pkcs11/hsm.h"
#include "tokens.h"

#define ITEMS 100
#define THREADS 4
#define BATCH 512
#define KILLS 10
#define KILLS_MAX (KILLS + 1)

static struct spawner *spawner;
static struct test_token token;
static struct hsm *hsm;

static int64_t soon(void)
{
    return boot_clock_ms() + 60000;
}

static void assert_ok(enum sso_code code, const struct sso_error *err)
{
    if (code != SSO_OK)
        print_error("%s: %s\n", sso_code_facts(code)->name, err->detail);
    assert_int_equal(code, SSO_OK);
}

static int new_token(void **state)
{
    static const char *const labels[] = {"first", "second", NULL};
    (void)state;
    return test_token_new(&token, TOKEN_SOFTHSM, labels) ? 0 : -1;
}

static int free_token(void **state)
{
    (void)state;
    hsm_close(&hsm);
    test_token_free(&token);
    return 0;
}

static enum sso_code open_pool(struct sso_error *err)
{
    assert_true(test_token_spawner(&token, &spawner));
    return hsm_open(&token.section, token.state, spawner, false, &hsm, err);
}

static struct generation_key generate(uint32_t number, enum suite_id suite)
{
    struct generation_key key = {.number = number, .suite = suite};
    struct evidence evidence;
    struct sso_error err = {0};
    assert_ok(hsm_generate(hsm, &key, &evidence, &err), &err);
    assert_ok(hsm_open_generation(hsm, &key, false, &err), &err);
    return key;
}

static void make(struct key_item *items, size_t count, uint32_t generation)
{
    struct sso_error err = {0};
    uint8_t *keys = secret_alloc(count * ROW_KEY_BYTES);
    assert_non_null(keys);
    memset(items, 0, count * sizeof *items);
    for (size_t i = 0; i < count; i++) {
        items[i].generation = generation;
        items[i].row_key = keys + i * ROW_KEY_BYTES;
    }
    assert_ok(hsm_make(hsm, HSM_LIVE, items, count, soon(), &err), &err);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(items[i].code, SSO_OK);
        items[i].row_key = NULL;
    }
    secret_dealloc(keys);
}

/* ---- opening ---- */

static void expect_refusal(enum sso_code wanted, const char *text)
{
    struct sso_error err = {0};
    enum sso_code code = open_pool(&err);
    print_message("%s: %s\n", sso_code_facts(code)->name, err.detail);
    assert_int_equal(code, wanted);
    assert_non_null(strstr(err.detail, text));
    assert_null(hsm);
}

static void test_selection(void **state)
{
    (void)state;
    char *own = token.section.token, uri[256];
    token.section.token = (char *)"pkcs11:manufacturer=SoftHSM%20project";
    expect_refusal(SSO_TOKEN_AMBIGUOUS, "\"second\"");
    token.section.token = (char *)"pkcs11:token=third";
    expect_refusal(SSO_TOKEN_NOT_FOUND, "\"first\"");
    token.section.token = (char *)"pkcs11:token=first?pin-value=1234-test";
    expect_refusal(SSO_CONFIG_ERROR, "pin-value");
    token.section.token = (char *)"pkcs11:token=first?module-path=/tmp/evil.so";
    expect_refusal(SSO_CONFIG_ERROR, "module");
    token.section.token = (char *)"pkcs11:slot-id=3";
    expect_refusal(SSO_CONFIG_ERROR, "slot-id");
    token.section.token = (char *)"token=first";
    expect_refusal(SSO_CONFIG_ERROR, "URI");
    token.section.token = (char *)"pkcs11:token=first";
    expect_refusal(SSO_CONFIG_ERROR, "pin-source");
    snprintf(uri, sizeof uri, "pkcs11:token=first?pin-source=file:%s/none", token.folder);
    token.section.token = uri;
    expect_refusal(SSO_CONFIG_ERROR, "none");
    token.section.token = own;
    char *module = token.section.module;
    token.section.module = (char *)"/nonexistent/module.so";
    expect_refusal(SSO_CONFIG_ERROR, "/nonexistent/module.so");
    token.section.module = module;
    char path[128];
    snprintf(path, sizeof path, "%s/pin", token.folder);
    chmod(path, 0644);
    expect_refusal(SSO_CONFIG_ERROR, "mode");
}

static void write_file(const char *name, const void *bytes, size_t count)
{
    char path[128], final[128];
    snprintf(path, sizeof path, "%s/.%s", token.folder, name);
    snprintf(final, sizeof final, "%s/%s", token.folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0 && write(fd, bytes, count) == (ssize_t)count && close(fd) == 0);
    assert_int_equal(rename(path, final), 0);
}

/* A program may give the PIN: root's, and writable by nobody else. */
static void test_pin_program(void **state)
{
    static const char script[] = "#!/bin/sh\necho " TEST_PIN "\n";
    struct sso_error err = {0};
    char uri[256], path[128];
    (void)state;
    if (geteuid() != 0)
        skip();
    char *own = token.section.token;
    write_file("pin-program", script, sizeof script - 1);
    snprintf(path, sizeof path, "%s/pin-program", token.folder);
    snprintf(uri, sizeof uri, "pkcs11:token=first?pin-source=%%7C%s", path);
    token.section.token = uri;
    chmod(path, 0722);
    expect_refusal(SSO_CONFIG_ERROR, "others may write");
    chmod(path, 0700);
    assert_ok(open_pool(&err), &err);
    hsm_close(&hsm);
    token.section.token = own;
}

/* A worker runs as the token's user and sees the configured environment and no other. */
static void test_worker_user(void **state)
{
    struct sso_error err = {0};
    char path[64], line[256], text[512] = "";
    int socket, uid = -1;
    pid_t pid;
    (void)state;
    if (geteuid() != 0)
        skip();
    char command[160], *own = token.section.user, *before = token.section.environment;
    snprintf(command, sizeof command, "chown -R nobody %s", token.folder);
    snprintf(line, sizeof line, "%s,ONE=1,TWO=2", before);
    token.section.environment = line;
    token.section.user = (char *)"no-such-user";
    assert_true(test_token_spawner(&token, &spawner));
    assert_int_equal(spawner_spawn(spawner, "", 1, &socket, &pid, &err), SSO_CONFIG_ERROR);
    token.section.user = (char *)"nobody";
    assert_true(test_token_spawner(&token, &spawner));
    assert_int_equal(spawner_spawn(spawner, "other", 1, &socket, &pid, &err), SSO_CONFIG_ERROR);
    assert_int_equal(system(command), 0);
    assert_ok(spawner_spawn(spawner, "", 1, &socket, &pid, &err), &err);
    token.section.user = own;
    token.section.environment = before;
    for (int64_t until = soon(); strcmp(text, "sso-hsm-worker\n") != 0; usleep(1000)) {
        assert_true(boot_clock_ms() < until);
        snprintf(path, sizeof path, "/proc/%d/comm", pid);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        assert_non_null(fgets(text, sizeof text, file));
        fclose(file);
    }
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "Uid: %d", &uid) == 1)
            assert_int_not_equal(uid, 0);
        if (strncmp(line, "Groups:", 7) == 0)
            assert_null(strstr(line, " 0 "));
    }
    fclose(file);
    assert_true(uid > 0);
    snprintf(path, sizeof path, "/proc/%d/environ", pid);
    file = fopen(path, "r");
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    unsigned variables = 0;
    for (size_t i = 0; i < n; i += strlen(text + i) + 1, variables++)
        print_message("%s\n", text + i);
    assert_int_equal(variables, 5);
    close(socket);
}

/* What one wrong PIN costs a token: one try, however often a program with four workers starts. */
static void test_twenty_starts_spend_one_try(void **state)
{
    struct sso_error err = {0};
    struct hsm_status status;
    (void)state;
    test_token_make_faulty(&token);
    test_token_set_pin(&token, "wrong");
    token.section.workers = 4;
    for (int i = 0; i < 20; i++) {
        assert_true(test_token_spawner(&token, &spawner));
        assert_ok(hsm_open(&token.section, token.state, spawner, true, &hsm, &err), &err);
        hsm_await_start(hsm);
        hsm_status(hsm, &status);
        assert_int_equal(status.state, HSM_PIN_REFUSED);
        hsm_close(&hsm);
    }
    assert_int_equal(test_token_count(&token, "logins"), 1);
    print_message("20 starts of 4 workers: %u C_Login\n",
                  (unsigned)test_token_count(&token, "logins"));
    test_token_set_pin(&token, TEST_PIN);
    assert_true(test_token_spawner(&token, &spawner));
    assert_ok(hsm_open(&token.section, token.state, spawner, false, &hsm, &err), &err);
}

static void test_pin(void **state)
{
    struct sso_error err = {0};
    struct hsm_status status;
    (void)state;
    test_token_make_faulty(&token);
    test_token_set_pin(&token, "wrong");
    expect_refusal(SSO_PIN_REFUSED, "CKR_PIN_INCORRECT");
    assert_int_equal(test_token_count(&token, "logins"), 1);
    expect_refusal(SSO_PIN_REFUSED, "before");
    expect_refusal(SSO_PIN_REFUSED, "before");
    assert_int_equal(test_token_count(&token, "logins"), 1);
    /* The daemon stays up, tries nothing, and serves once the PIN file is right. */
    assert_true(test_token_spawner(&token, &spawner));
    assert_ok(hsm_open(&token.section, token.state, spawner, true, &hsm, &err), &err);
    hsm_await_start(hsm);
    hsm_status(hsm, &status);
    assert_int_equal(status.state, HSM_PIN_REFUSED);
    struct key_item item = {.generation = 1};
    assert_int_equal(hsm_unwrap(hsm, HSM_LIVE, &item, 1, soon(), &err), SSO_PIN_REFUSED);
    assert_int_equal(test_token_count(&token, "logins"), 1);
    /* A reset allows one more try, with what is still the wrong PIN. */
    assert_ok(hsm_pin_reset(hsm, &err), &err);
    while (test_token_count(&token, "logins") < 2)
        usleep(10000);
    test_token_set_pin(&token, TEST_PIN);
    for (int64_t until = soon(); status.state != HSM_READY && boot_clock_ms() < until;) {
        usleep(10000);
        hsm_status(hsm, &status);
    }
    assert_int_equal(status.state, HSM_READY);
    print_message("logins: 2 refused, %ld in all\n", test_token_count(&token, "logins"));
}

static void test_keep_trying(void **state)
{
    struct sso_error err = {0};
    struct key_item item = {.generation = 1};
    struct hsm_status status;
    (void)state;
    char tokens[128], away[128];
    assert_ok(open_pool(&err), &err);
    struct generation_key key = generate(1, SUITE_AES256_KW);
    make(&item, 1, 1);
    hsm_close(&hsm);
    snprintf(tokens, sizeof tokens, "%s/tokens", token.folder);
    snprintf(away, sizeof away, "%s/away", token.folder);
    assert_int_equal(rename(tokens, away), 0);
    assert_int_equal(mkdir(tokens, 0700), 0);
    assert_true(test_token_spawner(&token, &spawner));
    assert_ok(hsm_open(&token.section, token.state, spawner, true, &hsm, &err), &err);
    hsm_await_start(hsm);
    hsm_status(hsm, &status);
    assert_int_equal(status.state, HSM_MISCONFIGURED);
    assert_int_equal(status.last_error.code, SSO_TOKEN_NOT_FOUND);
    assert_int_equal(hsm_unwrap(hsm, HSM_LIVE, &item, 1, soon(), &err), SSO_HSM_UNAVAILABLE);
    assert_int_equal(rmdir(tokens), 0);
    assert_int_equal(rename(away, tokens), 0);
    for (int64_t until = soon(); status.state != HSM_READY && boot_clock_ms() < until;) {
        usleep(10000);
        hsm_status(hsm, &status);
    }
    assert_ok(hsm_open_generation(hsm, &key, false, &err), &err);
    uint8_t *row_key = secret_alloc(ROW_KEY_BYTES);
    item.row_key = row_key;
    assert_ok(hsm_unwrap(hsm, HSM_LIVE, &item, 1, soon(), &err), &err);
    assert_int_equal(item.code, SSO_OK);
    secret_dealloc(row_key);
}

/* ---- workers that die ---- */

struct load {
    const struct key_item *rows;
    _Atomic bool stop;
    _Atomic unsigned long done, failed, in_flight;
    struct sso_error err;
};

static void *load_main(void *arg)
{
    struct load *load = arg;
    struct key_item *items = calloc(BATCH, sizeof *items);
    while (!atomic_load(&load->stop)) {
        memcpy(items, load->rows, BATCH * sizeof *items);
        atomic_fetch_add(&load->in_flight, BATCH);
        enum sso_code code = hsm_rewrap(hsm, HSM_BULK, 2, items, BATCH, soon(), &load->err);
        atomic_fetch_sub(&load->in_flight, BATCH);
        for (size_t i = 0; i < BATCH; i++) {
            atomic_fetch_add(&load->done, 1);
            if (code != SSO_OK || items[i].code != SSO_OK)
                atomic_fetch_add(&load->failed, 1);
        }
    }
    free(items);
    return NULL;
}

static void test_kills(void **state)
{
    static struct key_item rows[BATCH];
    struct load load = {.rows = rows};
    struct sso_error err = {0};
    struct hsm_status status;
    pthread_t threads[THREADS];
    unsigned long least = ~0UL;
    int kills = 0, killed[KILLS_MAX];
    (void)state;
    assert_ok(open_pool(&err), &err);
    (void)generate(1, SUITE_AES256_KW);
    (void)generate(2, SUITE_AES256_KW);
    make(rows, BATCH, 1);
    hsm_status(hsm, &status);
    unsigned replaced = status.workers_replaced;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, load_main, &load);
    while (kills < KILLS) {
        int pids[8];
        int count = test_worker_pids(pids, 8);
        unsigned long busy = atomic_load(&load.in_flight);
        /* Both at once every other time; each pid once, since the dead stay listed for a moment. */
        for (int i = 0, wanted = 1 + kills % 2; i < count && busy >= 1000 && wanted > 0; i++) {
            bool dead = kills == KILLS_MAX;
            for (int k = 0; k < kills; k++)
                dead = dead || killed[k] == pids[i];
            if (dead)
                continue;
            kill(pids[i], SIGKILL);
            least = busy < least ? busy : least;
            killed[kills++] = pids[i];
            wanted--;
        }
        unsigned long before = atomic_load(&load.done);
        while (atomic_load(&load.done) < before + BATCH)
            usleep(1000);
    }
    atomic_store(&load.stop, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    hsm_status(hsm, &status);
    print_message(
        "%d workers killed, %u replaced, %lu items rewrapped, %lu failed, at least %lu in "
        "flight\n",
        kills, status.workers_replaced - replaced, load.done, load.failed, least);
    if (load.failed > 0)
        print_error("%s\n", load.err.detail);
    assert_int_equal(load.failed, 0);
    /* One that was killed before it served is a start that failed, and not counted. */
    assert_true(status.workers_replaced > replaced);
}

static void test_poison(void **state)
{
    struct key_item items[ITEMS];
    struct sso_error err = {0};
    (void)state;
    test_token_make_faulty(&token);
    assert_ok(open_pool(&err), &err);
    (void)generate(1, SUITE_AES256_KW);
    (void)generate(2, SUITE_AES256_KW);
    make(items, ITEMS, 1);
    char hex[2 * WRAPPED_KEY_BYTES_MAX + 1];
    hex_encode(items[37].wrapped.bytes, items[37].wrapped.length_bytes, hex);
    test_token_control(&token, "C_UnwrapKey data %s crash", hex);
    assert_ok(hsm_rewrap(hsm, HSM_BULK, 2, items, ITEMS, soon(), &err), &err);
    for (size_t i = 0; i < ITEMS; i++)
        assert_int_equal(items[i].code, i == 37 ? SSO_ROW_KILLS_WORKER : SSO_OK);
    struct hsm_status status;
    hsm_status(hsm, &status);
    print_message("1 of %d rows kills its worker: %u workers replaced, %d rows done\n", ITEMS,
                  status.workers_replaced, ITEMS - 1);
}

static void test_hang(void **state)
{
    struct key_item items[ITEMS];
    struct sso_error err = {0};
    struct hsm_status before, after;
    (void)state;
    test_token_make_faulty(&token);
    assert_ok(open_pool(&err), &err);
    (void)generate(1, SUITE_AES256_KW);
    (void)generate(2, SUITE_AES256_KW);
    make(items, ITEMS, 1);
    hsm_status(hsm, &before);
    token.section.deadline_ms = 2000;
    test_token_control(&token, "C_UnwrapKey times 1 hang 1000");
    assert_ok(hsm_rewrap(hsm, HSM_BULK, 2, items, ITEMS, soon(), &err), &err);
    for (size_t i = 0; i < ITEMS; i++)
        assert_int_equal(items[i].code, SSO_OK);
    hsm_status(hsm, &after);
    assert_int_equal(after.workers_replaced, before.workers_replaced + 1);
}

/* A caller whose own deadline is nearer than the worker's gets its answer then. */
static void test_deadline(void **state)
{
    struct key_item items[ITEMS];
    struct sso_error err = {0};
    (void)state;
    test_token_make_faulty(&token);
    token.section.workers = 1;
    assert_ok(open_pool(&err), &err);
    (void)generate(1, SUITE_AES256_KW);
    (void)generate(2, SUITE_AES256_KW);
    make(items, ITEMS, 1);
    test_token_control(&token, "C_UnwrapKey times 1 hang 1000");
    int64_t began = boot_clock_ms();
    assert_int_equal(hsm_rewrap(hsm, HSM_BULK, 2, items, ITEMS, began + 300, &err),
                     SSO_HSM_UNAVAILABLE);
    assert_true(boot_clock_ms() - began < 60000);
    print_message("%s\n", err.detail);
    began = boot_clock_ms();
    hsm_close(&hsm); /* does not wait for a worker that hangs */
    assert_true(boot_clock_ms() - began < 60000);
}

/* Codes that may mean the row or the token: the canary decides, and the token recovers. */
static void test_codes(void **state)
{
    static const char *const codes[] = {"0x5",  "0x30",       "0xb3", "0xb0", "0x60", "0x82",
                                        "0x90", "0x80000001", "0x31", "0x50", "0x190"};
    struct key_item items[ITEMS];
    struct sso_error err = {0};
    (void)state;
    test_token_make_faulty(&token);
    assert_ok(open_pool(&err), &err);
    (void)generate(1, SUITE_AES256_KW);
    (void)generate(2, SUITE_AES256_KW);
    for (size_t c = 0; c < sizeof codes / sizeof codes[0]; c++) {
        unsigned corrupt = 0;
        make(items, ITEMS, 1);
        test_token_control(&token, "C_UnwrapKey times 1 return %s", codes[c]);
        assert_ok(hsm_rewrap(hsm, HSM_BULK, 2, items, ITEMS, soon(), &err), &err);
        for (size_t i = 0; i < ITEMS; i++) {
            assert_true(items[i].code == SSO_OK || items[i].code == SSO_ROW_CORRUPT);
            corrupt += items[i].code == SSO_ROW_CORRUPT;
        }
        struct hsm_status status;
        hsm_status(hsm, &status);
        print_message("%s: %u of %d rows refused, workers replaced so far %u\n", codes[c], corrupt,
                      ITEMS, status.workers_replaced);
        assert_int_equal(corrupt, 0); /* a fault that passes blames no row */
    }
}

static void test_token_goes_and_comes(void **state)
{
    struct key_item items[ITEMS];
    struct sso_error err = {0};
    struct hsm_status status;
    (void)state;
    test_token_make_faulty(&token);
    assert_ok(open_pool(&err), &err);
    (void)generate(1, SUITE_AES256_KW);
    (void)generate(2, SUITE_AES256_KW);
    make(items, ITEMS, 1);
    test_token_control(&token, "gone");
    assert_int_equal(hsm_rewrap(hsm, HSM_BULK, 2, items, ITEMS, soon(), &err), SSO_HSM_UNAVAILABLE);
    print_message("%s\n", err.detail);
    test_token_control(&token, "%s", "");
    do {
        usleep(10000);
        hsm_status(hsm, &status);
    } while (status.state != HSM_READY);
    assert_ok(hsm_rewrap(hsm, HSM_BULK, 2, items, ITEMS, soon(), &err), &err);
    for (size_t i = 0; i < ITEMS; i++)
        assert_int_equal(items[i].code, SSO_OK);
}

/* Unwraps, each of which leaks in SoftHSM, until so many workers were replaced; none fails. */
static void unwrap_until_replaced(unsigned wanted)
{
    static struct key_item rows[BATCH];
    struct sso_error err = {0};
    struct hsm_status before, after;
    (void)generate(1, SUITE_AES256_KW);
    make(rows, BATCH, 1);
    uint8_t *keys = secret_alloc((size_t)BATCH * ROW_KEY_BYTES);
    for (size_t i = 0; i < BATCH; i++)
        rows[i].row_key = keys + i * ROW_KEY_BYTES;
    hsm_status(hsm, &before);
    after = before;
    unsigned long items = 0;
    while (after.workers_replaced < before.workers_replaced + wanted) {
        assert_ok(hsm_unwrap(hsm, HSM_LIVE, rows, BATCH, soon(), &err), &err);
        for (size_t i = 0; i < BATCH; i++)
            assert_int_equal(rows[i].code, SSO_OK);
        items += BATCH;
        hsm_status(hsm, &after);
    }
    print_message("%u workers replaced for their size in %lu items, none failed\n", wanted, items);
    assert_int_equal(after.workers_lost, before.workers_lost);
    secret_dealloc(keys);
}

static void test_memory_limit(void **state)
{
    struct sso_error err = {0};
    (void)state;
    token.section.worker_memory_limit_bytes = 1;
    assert_ok(open_pool(&err), &err);
    unwrap_until_replaced(2);
}

/* Far below the limit, which is 256 MiB. */
static void test_leak(void **state)
{
    struct sso_error err = {0};
    (void)state;
    assert_ok(open_pool(&err), &err);
    unwrap_until_replaced(1);
}

/* Several sessions in one worker, many callers. */
static void test_sessions(void **state)
{
    static struct key_item rows[BATCH];
    struct load load = {.rows = rows};
    struct sso_error err = {0};
    pthread_t threads[THREADS];
    (void)state;
    token.section.workers = 1;
    token.section.sessions_per_worker = 3;
    assert_ok(open_pool(&err), &err);
    (void)generate(1, SUITE_AES256_KW);
    (void)generate(2, SUITE_AES256_GCM);
    make(rows, BATCH, 1);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, load_main, &load);
    while (atomic_load(&load.done) < 20 * BATCH)
        usleep(1000);
    atomic_store(&load.stop, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    struct hsm_status status;
    hsm_status(hsm, &status);
    assert_int_equal(status.sessions, 3);
    assert_int_equal(load.failed, 0);
}

/* No worker outlives its pool. */
static void test_workers_end(void **state)
{
    (void)state;
    struct sso_error err = {0};
    assert_ok(open_pool(&err), &err);
    int pids[8];
    int count = test_worker_pids(pids, 8);
    assert_true(count >= 1);
    hsm_close(&hsm);
    for (int i = 0; i < count; i++)
        for (int64_t until = soon(); kill(pids[i], 0) == 0; usleep(1000))
            assert_true(boot_clock_ms() < until);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, new_token, free_token)
        T(test_selection),    T(test_pin),         T(test_twenty_starts_spend_one_try),
        T(test_pin_program),  T(test_worker_user), T(test_keep_trying),
        T(test_kills),        T(test_poison),      T(test_hang),
        T(test_deadline),     T(test_codes),       T(test_token_goes_and_comes),
        T(test_memory_limit), T(test_leak),        T(test_sessions),
        T(test_workers_end),
#undef T
    };
    struct sso_error err = {0};
    wiping_allocator_install();
    if (secret_memory_init((size_t)4 << 20, &err) != SSO_OK) {
        fprintf(stderr, "%s\n", err.detail);
        return 1;
    }
    if (access("/usr/lib/softhsm/libsofthsm2.so", R_OK) != 0)
        return 77;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    spawner_stop(&spawner);
    return failed;
}
