/* The PIN guard alone: when may a PIN be tried, and when not (DESIGN §4.2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pkcs11/pin_guard.h"

static char folder[64];
static struct pin_guard guard;
static struct hello_reply token; /* as a worker tells of it */

/* What the other nodes say, and what they were told. */
static enum pin_board_answer answer;
static unsigned told_refused, told_worked;

static enum pin_board_answer ask(void *context, const struct token_identity *of,
                                 char node[static PIN_BOARD_NODE_SIZE])
{
    assert_ptr_equal(context, &answer);
    assert_string_equal(of->token, token.token.token);
    snprintf(node, PIN_BOARD_NODE_SIZE, "node2");
    return answer;
}

static void tell(void *context, const struct token_identity *of, bool refused)
{
    (void)context;
    assert_string_equal(of->token, token.token.token);
    told_refused += refused;
    told_worked += !refused;
}

static const struct pin_board board = {.context = &answer, .ask = ask, .tell = tell};

/* As after a restart of the program: nothing is known but what the folder says. */
static void restart(void)
{
    pin_guard_free(&guard);
    assert_int_equal(pin_guard_init(&guard, folder, &board, NULL), SSO_OK);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/pin-guard-XXXXXX",
             getenv("TMPDIR") != NULL && strlen(getenv("TMPDIR")) < 40 ? getenv("TMPDIR") : "/tmp");
    token = (struct hello_reply){
        .token = {.token = "first", .serial = "1"},
        .pin = {.source = "file:/pin", .device = 1, .inode = 2, .size_bytes = 3, .modified_ns = 4}};
    answer = PIN_BOARD_CLEAR;
    told_refused = told_worked = 0;
    if (mkdtemp(folder) == NULL)
        return -1;
    return pin_guard_init(&guard, folder, &board, NULL) == SSO_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    char command[96];
    (void)state;
    pin_guard_free(&guard);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static void expect_refusal(const char *text)
{
    struct sso_error err = {0};
    assert_int_equal(pin_guard_enter(&guard, &token, &err), SSO_PIN_REFUSED);
    if (strstr(err.detail, text) == NULL)
        print_error("%s\n", err.detail);
    assert_non_null(strstr(err.detail, text));
    assert_int_equal(guard.lock, -1);
}

static void try(enum pin_outcome outcome)
{
    struct sso_error err = {0};
    enum sso_code code = pin_guard_enter(&guard, &token, &err);
    if (code != SSO_OK)
        print_error("%s\n", err.detail);
    assert_int_equal(code, SSO_OK);
    pin_guard_leave(&guard, &token, outcome);
}

static void test_refused_until_the_source_changes(void **state)
{
    (void)state;
    try(PIN_WAS_REFUSED);
    assert_int_equal(told_refused, 1);
    for (int i = 0; i < 20; i++) {
        restart();
        expect_refusal("before");
    }
    struct pin_source_facts was = token.pin;
    uint64_t *const numbers[] = {&token.pin.device, &token.pin.inode, &token.pin.size_bytes};
    for (size_t i = 0; i < 3; i++) {
        *numbers[i] += 1;
        try(PIN_NOT_TRIED);
        token.pin = was;
        expect_refusal("before");
    }
    token.pin.modified_ns++;
    try(PIN_WORKED);
    assert_int_equal(told_worked, 1);
    restart();
    try(PIN_WORKED);
}

/* A stamp is of a token and a source: what one refused says nothing of another. */
static void test_each_token_and_source_for_itself(void **state)
{
    (void)state;
    try(PIN_WAS_REFUSED);
    snprintf(token.pin.source, sizeof token.pin.source, "file:/other");
    try(PIN_WORKED);
    snprintf(token.pin.source, sizeof token.pin.source, "file:/pin");
    expect_refusal("before");
    snprintf(token.token.serial, sizeof token.token.serial, "2");
    try(PIN_WAS_REFUSED);
    snprintf(token.token.serial, sizeof token.token.serial, "1");
    expect_refusal("before");
    assert_int_equal(pin_guard_reset(&guard, &token.token, NULL), SSO_OK);
    try(PIN_WORKED);
    snprintf(token.token.serial, sizeof token.token.serial, "2");
    expect_refusal("before");
}

static void test_a_kill_allows_one_more_try(void **state)
{
    (void)state;
    try(PIN_UNKNOWN);
    restart();
    try(PIN_UNKNOWN);
    restart();
    expect_refusal("interrupted 2 time(s)");
    assert_int_equal(pin_guard_reset(&guard, &token.token, NULL), SSO_OK);
    try(PIN_UNKNOWN);
    restart();
    token.pin_count_low = true;
    expect_refusal("interrupted");
    token.pin_count_low = false;
    try(PIN_WORKED);
    /* One that worked in this process is known to be right, however often workers die. */
    for (int i = 0; i < 5; i++)
        try(PIN_UNKNOWN);
    token.pin_count_low = true;
    expect_refusal("interrupted");
}

static void test_the_last_try_is_never_spent(void **state)
{
    (void)state;
    token.pin_final_try = true;
    expect_refusal("one PIN try left");
    guard.forgiving = true;
    expect_refusal("one PIN try left");
    token.pin_final_try = false;
    token.pin_locked = true;
    expect_refusal("locked");
    token.pin_locked = false;
    try(PIN_WORKED);
}

/* C_Login failed with a code that is not a PIN's: whether a try was spent only the token knows. */
static void test_doubtful(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        try(PIN_DOUBTFUL);
        restart();
    }
    token.pin_count_low = true;
    expect_refusal("shows that a PIN was wrong");
    token.pin_count_low = false;
    try(PIN_WORKED);
    token.pin_count_low = true; /* somebody else's mistake does not matter */
    try(PIN_WORKED);
}

/* A login that never came to C_Login changes nothing of what was known. */
static void test_not_tried_keeps_what_was_known(void **state)
{
    (void)state;
    try(PIN_UNKNOWN);
    restart();
    for (int i = 0; i < 5; i++)
        try(PIN_NOT_TRIED);
    try(PIN_UNKNOWN);
    restart();
    expect_refusal("interrupted 2 time(s)");
}

static void test_refusals_of_other_nodes(void **state)
{
    (void)state;
    answer = PIN_BOARD_REFUSED;
    expect_refusal("refused the PIN of node2");
    restart();
    expect_refusal("refused the PIN of node2");
    /* Once known it holds, also while nobody can be asked. */
    answer = PIN_BOARD_UNKNOWN;
    expect_refusal("is not tried until");
    struct pin_source_facts was = token.pin;
    token.pin.inode++;
    try(PIN_NOT_TRIED);
    token.pin = was;
    answer = PIN_BOARD_CLEAR;
    try(PIN_WORKED);
    answer = PIN_BOARD_UNKNOWN;
    try(PIN_WORKED);
    /* Nor is a PIN tried that worked here before: it may have been changed. */
    answer = PIN_BOARD_REFUSED;
    expect_refusal("refused the PIN of node2");
    guard.forgiving = true;
    try(PIN_WORKED);
    /* The source changed after it was known: that is what was asked for. */
    expect_refusal("refused the PIN of node2");
    token.pin.modified_ns++;
    try(PIN_WAS_REFUSED);
    expect_refusal("before");
}

static void test_a_damaged_stamp_is_a_refusal(void **state)
{
    char command[160];
    (void)state;
    try(PIN_DOUBTFUL);
    snprintf(command, sizeof command, "for f in '%s'/pin-guard/*.stamp; do echo junk > $f; done",
             folder);
    assert_int_equal(system(command), 0);
    expect_refusal("before");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_refused_until_the_source_changes),
        T(test_each_token_and_source_for_itself),
        T(test_a_kill_allows_one_more_try),
        T(test_the_last_try_is_never_spent),
        T(test_doubtful),
        T(test_not_tried_keeps_what_was_known),
        T(test_refusals_of_other_nodes),
        T(test_a_damaged_stamp_is_a_refusal),
    };
    return cmocka_run_group_tests_name("PIN guard", tests, NULL, NULL);
}
