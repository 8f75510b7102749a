/* A pool over a token that fails in every way there is: it comes back by itself, and no row is
 * lost, blamed without need, or opened to the wrong key. SSO_HSM_LONG=1: every case. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "rig.h"

static struct rig rig;

static struct hsm_status status_of(void)
{
    struct hsm_status status;
    hsm_status(rig.hsm, &status);
    return status;
}

/* ---- every function × every class × every call ---- */

/* What a worker calls; `starts`: only when it comes up or goes. */
static const struct {
    const char *name;
    bool starts;
} functions[] = {
    {"C_Initialize", true},    {"C_GetSlotList", true},
    {"C_GetTokenInfo", true},  {"C_OpenSession", true},
    {"C_Login", true},         {"C_FindObjectsInit", true},
    {"C_FindObjects", true},   {"C_FindObjectsFinal", true},
    {"C_Finalize", true},      {"C_GetAttributeValue", false},
    {"C_CreateObject", false}, {"C_UnwrapKey", false},
    {"C_WrapKey", false},      {"C_DestroyObject", false},
    {"C_EncryptInit", false},  {"C_Encrypt", false},
    {"C_DecryptInit", false},  {"C_Decrypt", false},
};
/* One of each class, and a vendor's own. */
static const char *const codes[] = {
    "CKR_WRAPPED_KEY_INVALID",
    "CKR_GENERAL_ERROR",
    "CKR_DEVICE_MEMORY",
    "CKR_SESSION_HANDLE_INVALID",
    "CKR_CRYPTOKI_NOT_INITIALIZED",
    "CKR_DEVICE_REMOVED",
    "CKR_PIN_INCORRECT",
    "CKR_MECHANISM_INVALID",
    "0x80000001",
};
/* In the long form: of the other codes those that a class has more than once. */
static const char *const more_codes[] = {
    "CKR_FUNCTION_FAILED",    "CKR_DEVICE_ERROR",           "CKR_ARGUMENTS_BAD",
    "CKR_SESSION_COUNT",      "CKR_OPERATION_ACTIVE",       "CKR_OBJECT_HANDLE_INVALID",
    "CKR_KEY_HANDLE_INVALID", "CKR_USER_NOT_LOGGED_IN",     "CKR_HOST_MEMORY",
    "CKR_TOKEN_NOT_PRESENT",  "CKR_ENCRYPTED_DATA_INVALID", "CKR_KEY_FUNCTION_NOT_PERMITTED",
};

struct tally {
    unsigned cases, refused; /* calls that were refused while the fault was there */
    int64_t slowest_ms;      /* until the service was back */
};

/* A worker does each kind of work, and starts before where that is what is to fail. False: the
 * fault did not come, there is no n-th call.
 */
static bool one_case(size_t f, const char *code, unsigned n, struct tally *tally)
{
    const char *function = functions[f].name;
    struct sso_error err = {0};
    test_token_control(&rig.token, "%s at %u return %s", function, n, code);
    if (functions[f].starts)
        tally->refused += hsm_open_generation(rig.hsm, &rig.key[1], true, &err) != SSO_OK;
    for (uint32_t to = 3; to >= 1; to--) {
        enum sso_code code_here = rig_rewrap(&rig, to, &err);
        /* One fault blames no row. */
        assert_int_not_equal(code_here, SSO_ROW_CORRUPT);
        assert_int_not_equal(code_here, SSO_ROW_KILLS_WORKER);
        tally->refused += code_here != SSO_OK;
    }
    struct key_item made = {.generation = 2, .row_key = secret_alloc(ROW_KEY_BYTES)};
    tally->refused += hsm_make(rig.hsm, HSM_LIVE, &made, 1, rig_soon(), &err) != SSO_OK;
    secret_dealloc(made.row_key);
    bool fired = test_token_count(&rig.token, "fired") > 0;
    test_token_control(&rig.token, "%s", "");
    /* A refused PIN, or a login that nobody knows the outcome of, waits for an operator. */
    if (strcmp(function, "C_Login") == 0 && status_of().state != HSM_READY)
        (void)!hsm_pin_reset(rig.hsm, &err);
    int64_t took = rig_await_service(&rig);
    tally->slowest_ms = took > tally->slowest_ms ? took : tally->slowest_ms;
    tally->cases += fired;
    return fired;
}

static void every_call(size_t f, const char *code, unsigned most, struct tally *tally)
{
    for (unsigned n = 1; n <= most && one_case(f, code, n, tally); n++)
        ;
}

static void test_every_fault(void **state)
{
    bool whole = getenv("SSO_HSM_LONG") != NULL;
    struct tally tally = {0};
    (void)state;
    rig.token.section.workers = 1;
    rig_open(&rig);
    rig_fill(&rig, 4);
    for (size_t f = 0; f < sizeof functions / sizeof *functions; f++) {
        unsigned before = tally.cases;
        for (size_t c = 0; c < sizeof codes / sizeof *codes; c++)
            every_call(f, codes[c], whole ? ~0U : 1, &tally);
        for (size_t c = 0; whole && c < sizeof more_codes / sizeof *more_codes; c++)
            every_call(f, more_codes[c], ~0U, &tally);
        print_message("%s: %u cases\n", functions[f].name, tally.cases - before);
        assert_true(tally.cases > before); /* a function that is not called is none of the list */
    }
    print_message("%u cases: no row lost, blamed or opened to another key; %u calls refused "
                  "meanwhile; back after at most %lld ms\n",
                  tally.cases, tally.refused, (long long)tally.slowest_ms);
}

/* What a token holds is listed whole or not at all, whichever call fails. */
static void test_list_of_keys_is_never_cut(void **state)
{
    static const char *const called[] = {"C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal",
                                         "C_GetAttributeValue"};
    struct sso_error err = {0};
    unsigned cases = 0, refused = 0, fired = 1;
    unsigned most = getenv("SSO_HSM_LONG") != NULL ? ~0U : 8;
    (void)state;
    rig.token.section.workers = 1;
    rig_open(&rig);
    rig_fill(&rig, 2);
    for (size_t f = 0; f < sizeof called / sizeof *called; f++, fired = 1)
        for (unsigned n = 1; fired > 0 && n <= most; n++) {
            struct token_key *keys = NULL;
            size_t count = 0;
            test_token_control(&rig.token, "%s at %u return CKR_DEVICE_ERROR", called[f], n);
            enum sso_code code = hsm_list_keys(rig.hsm, rig.key[1].system_id, &keys, &count, &err);
            fired = (unsigned)test_token_count(&rig.token, "fired");
            assert_true(code != SSO_OK || count == 3);
            cases += fired > 0;
            refused += code != SSO_OK;
            free(keys);
            test_token_control(&rig.token, "%s", "");
            rig_await_service(&rig);
        }
    assert_true(refused > 0 && refused <= cases);
    print_message("%u cases, %u of them refused\n", cases, refused);
}

/* A token that says that somebody is logged in already is believed where its session says so too.
 */
static void test_already_logged_in(void **state)
{
    struct sso_error err = {0};
    (void)state;
    rig.token.section.workers = 1;
    rig_open(&rig);
    rig_fill(&rig, 4);
    rig_close(&rig);
    test_token_control(&rig.token, "C_Login after return CKR_USER_ALREADY_LOGGED_IN");
    rig_open(&rig);
    for (uint32_t n = 1; n <= 3; n++)
        assert_int_equal(hsm_open_generation(rig.hsm, &rig.key[n], false, &err), SSO_OK);
    assert_true(test_token_count(&rig.token, "fired") > 0);
    assert_int_equal(rig_check(&rig, &err), SSO_OK);
    test_token_control(&rig.token, "C_Login return CKR_USER_ALREADY_LOGGED_IN");
    int pids[8], count = test_worker_pids(pids, 8);
    for (int i = 0; i < count; i++)
        kill(pids[i], SIGKILL);
    RIG_WAIT(test_token_count(&rig.token, "fired") > 0);
    RIG_WAIT(status_of().state != HSM_READY && status_of().state != HSM_STARTING);
    assert_int_equal(rig_check(&rig, &err), SSO_HSM_UNAVAILABLE);
    test_token_control(&rig.token, "%s", "");
    (void)!hsm_pin_reset(rig.hsm, &err);
    rig_await_service(&rig);
}

/* ---- rungs of the ladder ---- */

/* A session that is broken for good costs that session and no worker. */
static void test_rung_of_the_session(void **state)
{
    struct sso_error err = {0};
    (void)state;
    rig_open(&rig);
    rig_fill(&rig, 20);
    unsigned replaced = status_of().workers_replaced;
    test_token_control(&rig.token, "C_UnwrapKey at 3 break-session CKR_DEVICE_ERROR");
    assert_int_equal(rig_rewrap(&rig, 3, &err), SSO_OK);
    assert_int_equal(test_token_count(&rig.token, "fired"), 1);
    assert_int_equal(rig_check(&rig, &err), SSO_OK);
    assert_int_equal(status_of().workers_replaced, replaced);
}

/* A module that is broken for good costs its worker. */
static void test_rung_of_the_worker(void **state)
{
    struct sso_error err = {0};
    (void)state;
    rig_open(&rig);
    rig_fill(&rig, 20);
    unsigned replaced = status_of().workers_replaced;
    test_token_control(&rig.token, "C_UnwrapKey at 3 break-process CKR_DEVICE_ERROR");
    assert_int_equal(rig_rewrap(&rig, 3, &err), SSO_OK);
    assert_int_equal(rig_check(&rig, &err), SSO_OK);
    assert_true(status_of().workers_replaced > replaced);
}

/* One of several sessions hangs: the others go on, and its worker goes when its own time is up. */
static void test_one_session_hangs(void **state)
{
    struct rig_load load = {.rig = &rig, .callers = 8, .deadline_ms = 120000};
    (void)state;
    rig.token.section.workers = 1;
    rig.token.section.sessions_per_worker = 4;
    rig.token.section.deadline_ms = 3000;
    rig_open(&rig);
    rig_fill(&rig, 64);
    unsigned lost = status_of().workers_lost;
    rig_load_start(&load);
    rig_load_until(&load, 100);
    test_token_control(&rig.token, "C_UnwrapKey times 1 hang 1000");
    RIG_WAIT(test_token_count(&rig.token, "fired") == 1);
    rig_load_until(&load, 50); /* with three sessions left */
    RIG_WAIT(status_of().workers_lost > lost);
    rig_load_until(&load, 100);
    rig_load_stop(&load);
    assert_int_equal(load.failed, 0);
}

/* Never an answer to C_OpenSession: whoever asks has an answer by his own deadline. */
static void test_open_session_hangs(void **state)
{
    struct sso_error err = {0};
    struct key_item item = {0};
    (void)state;
    rig.token.section.workers = 1;
    rig.token.section.deadline_ms = 2000;
    rig_open(&rig);
    rig_fill(&rig, 4);
    item = rig.row[0];
    test_token_control(&rig.token, "C_OpenSession hang 300\nC_UnwrapKey return CKR_DEVICE_ERROR");
    assert_int_equal(hsm_rewrap(rig.hsm, HSM_LIVE, 3, &item, 1, boot_clock_ms() + 500, &err),
                     SSO_HSM_UNAVAILABLE);
    RIG_WAIT(status_of().state == HSM_DOWN);
    assert_int_equal(hsm_rewrap(rig.hsm, HSM_LIVE, 3, &item, 1, rig_soon(), &err),
                     SSO_HSM_UNAVAILABLE);
    print_message("%s\n", err.detail);
    test_token_control(&rig.token, "%s", "");
    rig_await_service(&rig);
}

/* A generation whose key cannot be looked for is given up for a while and no longer; the others
 * are served meanwhile. */
static void test_generation_comes_back(void **state)
{
    struct sso_error err = {0};
    (void)state;
    rig.token.section.workers = 1;
    rig_open(&rig);
    rig_fill(&rig, 8);
    assert_int_equal(rig_rewrap(&rig, 3, &err), SSO_OK);
    test_token_control(&rig.token, "C_FindObjectsInit from 3 return CKR_DEVICE_ERROR\n");
    struct key_item item = {.generation = 1, .row_key = secret_alloc(ROW_KEY_BYTES)};
    int pids[8], count = test_worker_pids(pids, 8);
    for (int i = 0; i < count; i++)
        kill(pids[i], SIGKILL);
    RIG_WAIT(test_token_count(&rig.token, "fired") > 0);
    test_token_control(&rig.token, "%s", "");
    RIG_WAIT(hsm_make(rig.hsm, HSM_LIVE, &item, 1, rig_soon(), &err) == SSO_OK &&
             item.code == SSO_OK);
    secret_dealloc(item.row_key);
    rig_await_service(&rig);
}

/* ---- sessions ---- */

/* A token with two sessions for two workers of four each, and many callers. */
static void starve(const char *code)
{
    struct rig_load load = {.rig = &rig, .callers = 64, .deadline_ms = 120000};
    rig.token.section.sessions_per_worker = 4;
    rig_open(&rig);
    rig_fill(&rig, 64);
    RIG_WAIT(status_of().sessions == 8);
    rig_load_start(&load);
    rig_load_until(&load, 100);
    test_token_control(&rig.token, "sessions 2 %s\nhide-session-limit", code);
    /* What they leave is not enough for both. */
    int pids[8], count = test_worker_pids(pids, 8);
    for (int i = 0; i < count; i++)
        kill(pids[i], SIGKILL);
    RIG_WAIT(status_of().sessions_short && status_of().workers_ready == 1);
    rig_load_until(&load, 1000);
    assert_true(status_of().sessions <= 2);
    test_token_control(&rig.token, "%s", "");
    RIG_WAIT(status_of().workers_ready == 2);
    rig_load_stop(&load);
    assert_int_equal(load.failed, 0);
    print_message("%s: %lu calls of %zu callers over 2 sessions, none failed\n", code, load.done,
                  load.callers);
}

static void test_two_sessions(void **state)
{
    (void)state;
    starve("CKR_SESSION_COUNT");
}

/* As CloudHSM says it. */
static void test_two_sessions_arguments_bad(void **state)
{
    (void)state;
    starve("CKR_ARGUMENTS_BAD");
}

/* A token that says how many it has is asked for no more: each worker gets its share. */
static void test_session_limit_is_known(void **state)
{
    (void)state;
    rig.token.section.sessions_per_worker = 4;
    rig_open(&rig);
    rig_fill(&rig, 16);
    rig_close(&rig);
    test_token_control(&rig.token, "sessions 4\nlog");
    rig_open(&rig);
    RIG_WAIT(status_of().workers_ready == 2);
    assert_int_equal(status_of().sessions, 4);
}

/* ---- auto ---- */

static unsigned kept_sessions(void)
{
    char path[128];
    unsigned sessions = 0;
    snprintf(path, sizeof path, "%s/sessions", rig.token.state);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        assert_int_equal(fscanf(file, "sessions %u", &sessions), 1);
        fclose(file);
    }
    return sessions;
}

/* A token that computes here: one session in each worker, and no measurement at the next start. */
static void test_auto_without_latency(void **state)
{
    (void)state;
    rig_open(&rig);
    rig_fill(&rig, 4);
    assert_int_equal(kept_sessions(), 1);
    RIG_WAIT(status_of().workers_ready == status_of().workers_wanted);
    assert_int_equal(status_of().sessions, status_of().workers_wanted);
}

/* Waited for: many; kept for the next start; fewer once the token gives no more. */
static void test_auto_with_latency(void **state)
{
    struct sso_error err = {0};
    (void)state;
    test_token_control(&rig.token, "* delay 4000");
    rig_open(&rig);
    rig_fill(&rig, 4);
    unsigned measured = kept_sessions();
    print_message("4 ms for each call: %u sessions in each worker\n", measured);
    assert_true(measured >= 2); /* 8 or 16 where the machine does nothing else */
    RIG_WAIT(status_of().sessions == 2 * measured);
    rig_close(&rig);
    rig_open(&rig);
    RIG_WAIT(status_of().sessions == 2 * measured);
    test_token_control(&rig.token, "sessions 3\nhide-session-limit");
    for (uint32_t n = 1; n <= 3; n++)
        assert_int_equal(hsm_open_generation(rig.hsm, &rig.key[n], true, &err), SSO_OK);
    RIG_WAIT(kept_sessions() <= 3);
    assert_int_equal(rig_check(&rig, &err), SSO_OK);
    /* Another token in its place begins anew. */
    rig_close(&rig);
    test_token_control(&rig.token, "serial ANOTHER");
    rig_open(&rig);
    RIG_WAIT(status_of().workers_ready == 2);
    assert_int_equal(status_of().sessions, 2);
}

/* ---- memory ---- */

static uint64_t resident_bytes(int pid)
{
    char path[64];
    unsigned long total, resident = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    FILE *file = fopen(path, "r");
    if (file != NULL && fscanf(file, "%lu %lu", &total, &resident) != 2)
        resident = 0;
    if (file != NULL)
        fclose(file);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t largest_worker(void)
{
    uint64_t largest = 0;
    int pids[8], count = test_worker_pids(pids, 8);
    for (int i = 0; i < count; i++) {
        uint64_t here = resident_bytes(pids[i]);
        largest = here > largest ? here : largest;
    }
    return largest;
}

/* A module that leaks: its workers are replaced before they reach their limit, and no row fails.
 * Rewraps go on until four of them were; in the long form until a million are done. */
static void test_memory_limit_is_kept(void **state)
{
    struct sso_error err = {0};
    unsigned long rewraps = 0, wanted = getenv("SSO_HSM_LONG") != NULL ? 1000000 : 0;
    uint64_t largest = 0, here;
    (void)state;
    rig_open(&rig);
    rig_fill(&rig, RIG_ROWS_MAX);
    RIG_WAIT(status_of().workers_ready == 2);
    uint64_t limit = (largest_worker() + (8u << 20)) / 7 * 8;
    rig.token.section.worker_memory_limit_bytes = (size_t)limit;
    test_token_control(&rig.token, "C_UnwrapKey grow 1024");
    unsigned replaced = status_of().workers_replaced, lost = status_of().workers_lost;
    for (int64_t until = rig_soon();
         status_of().workers_replaced < replaced + 4 || rewraps < wanted;) {
        assert_true(wanted > 0 || boot_clock_ms() < until);
        assert_int_equal(rig_rewrap(&rig, rewraps / RIG_ROWS_MAX % 2 == 0 ? 3 : 1, &err), SSO_OK);
        rewraps += RIG_ROWS_MAX;
        here = largest_worker();
        largest = here > largest ? here : largest;
    }
    assert_int_equal(rig_check(&rig, &err), SSO_OK);
    print_message("%lu rewraps, none failed; %u workers replaced; limit %llu KiB, the largest had "
                  "%llu KiB\n",
                  rewraps, status_of().workers_replaced - replaced, (unsigned long long)limit >> 10,
                  (unsigned long long)largest >> 10);
    assert_int_equal(status_of().workers_lost, lost);
#ifndef __SANITIZE_ADDRESS__ /* which keeps what is freed, and would be measured here */
    assert_true(largest <= limit);
#endif
}

/* ---- another token ---- */

/* The label fits, the token is another: nothing is done with it, and the right one is taken back.
 */
static void test_another_token(void **state)
{
    struct sso_error err = {0};
    struct key_item before[RIG_ROWS_MAX];
    (void)state;
    rig_open(&rig);
    rig_fill(&rig, 8);
    memcpy(before, rig.row, sizeof before);
    test_token_control(&rig.token, "gone");
    assert_int_not_equal(rig_rewrap(&rig, 3, &err), SSO_OK);
    RIG_WAIT(status_of().state == HSM_DOWN || status_of().state == HSM_MISCONFIGURED);
    test_token_control(&rig.token, "serial ANOTHER\nemptied\nlog");
    RIG_WAIT(status_of().last_error.code == SSO_NO_MASTER_SECRET);
    assert_int_equal(rig_rewrap(&rig, 3, &err), SSO_NO_MASTER_SECRET);
    print_message("%s\n", err.detail);
    assert_memory_equal(before, rig.row, sizeof before);
    test_token_control(&rig.token, "%s", "");
    rig_await_service(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(test_every_fault),
        RIG_TEST(test_list_of_keys_is_never_cut),
        RIG_TEST(test_already_logged_in),
        RIG_TEST(test_rung_of_the_session),
        RIG_TEST(test_rung_of_the_worker),
        RIG_TEST(test_one_session_hangs),
        RIG_TEST(test_open_session_hangs),
        RIG_TEST(test_generation_comes_back),
        RIG_TEST(test_two_sessions),
        RIG_TEST(test_two_sessions_arguments_bad),
        RIG_TEST(test_session_limit_is_known),
        RIG_TEST(test_auto_without_latency),
        RIG_TEST(test_auto_with_latency),
        RIG_TEST(test_memory_limit_is_kept),
        RIG_TEST(test_another_token),
    };
    int rc = rig_prepare();
    return rc != 0 ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
