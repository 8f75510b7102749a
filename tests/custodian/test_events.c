/* The table of events is complete, and the board tells each transition once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/secret.h"
#include "custodian/events.h"

static void table_is_complete(void **state)
{
    (void)state;
    for (size_t i = 0; i < EVENTS; i++) {
        const struct event_facts *facts = &event_table[i];
        assert_non_null(facts->name);
        assert_int_equal(strspn(facts->name, "abcdefghijklmnopqrstuvwxyz_"), strlen(facts->name));
        assert_true(strlen(facts->meaning) > 20 && strlen(facts->remedy) > 10);
        assert_true(facts->severity <= SEVERITY_ERROR);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(facts->name, event_table[j].name);
    }
}

static size_t on_board(struct event_board *board, enum severity *highest)
{
    json_t *events = NULL;
    *highest = event_board_read(board, &events);
    size_t count = json_array_size(events);
    json_decref(events);
    return count;
}

static void board_holds_what_is_true_now(void **state)
{
    struct event_board *board = NULL;
    enum severity highest;
    (void)state;
    assert_int_equal(event_board_new(&board, NULL), SSO_OK);
    assert_int_equal(on_board(board, &highest), 0);
    assert_int_equal(highest, SEVERITY_INFO);
    event_raise(board, EVENT_BACKUP_MISSING, "generation %d", 1);
    event_raise(board, EVENT_BACKUP_MISSING, "generation %d", 1);
    assert_int_equal(event_count(board, EVENT_BACKUP_MISSING), 1);
    assert_int_equal(on_board(board, &highest), 1);
    assert_int_equal(highest, SEVERITY_WARNING);
    event_raise(board, EVENT_HSM_UNAVAILABLE, "gone");
    assert_int_equal(on_board(board, &highest), 2);
    assert_int_equal(highest, SEVERITY_ERROR);
    event_clear(board, EVENT_HSM_UNAVAILABLE);
    event_clear(board, EVENT_HSM_UNAVAILABLE);
    assert_int_equal(on_board(board, &highest), 1);
    event_raise(board, EVENT_HSM_UNAVAILABLE, "gone again");
    assert_int_equal(event_count(board, EVENT_HSM_UNAVAILABLE), 2);
    event_board_free(&board);
    event_board_free(&board);
}

static void passing_events_are_only_counted(void **state)
{
    struct event_board *board = NULL;
    enum severity highest;
    (void)state;
    assert_int_equal(event_board_new(&board, NULL), SSO_OK);
    event_raise(board, EVENT_WORKER_REPLACED, "one");
    event_raise(board, EVENT_WORKER_REPLACED, "two");
    assert_int_equal(event_count(board, EVENT_WORKER_REPLACED), 2);
    assert_int_equal(on_board(board, &highest), 0);
    event_board_free(&board);
}

int main(void)
{
    wiping_allocator_install();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_complete),
        cmocka_unit_test(board_holds_what_is_true_now),
        cmocka_unit_test(passing_events_are_only_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
