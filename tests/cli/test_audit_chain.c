/* chain_verify over records held in memory, in the place of store_audit_list. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/audit_chain.h"

#define RECORDS 2500 /* more than two pages */

static struct audit_record chain[RECORDS];
static size_t chain_count;
static struct audit_head base; /* after which it begins */

enum sso_code store_audit_list(struct store_tx *tx, const char *node, uint64_t after, size_t limit,
                               struct audit_record **out, size_t *count, struct sso_error *err)
{
    (void)tx, (void)node, (void)err;
    *out = calloc(limit, sizeof **out);
    assert_non_null(*out);
    *count = 0;
    for (size_t i = 0; i < chain_count && *count < limit; i++) {
        if (chain[i].number > after)
            (*out)[(*count)++] = chain[i];
    }
    return SSO_OK;
}

static int make_chain(void **state)
{
    (void)state;
    uint8_t previous[AUDIT_HASH_BYTES] = {0};
    chain_count = RECORDS;
    base = (struct audit_head){.node = "node1"};
    for (size_t i = 0; i < RECORDS; i++) {
        struct audit_record *record = &chain[i];
        *record = (struct audit_record){.number = i + 1, .time_ms = (int64_t)i};
        strcpy(record->node, "node1");
        snprintf(record->target, sizeof record->target, "app/%zu", i);
        audit_record_hash(previous, record, record->hash);
        memcpy(previous, record->hash, sizeof previous);
    }
    return 0;
}

static json_t *verify(uint64_t anchor_number)
{
    struct chain_anchor anchor = {.number = anchor_number, .where = "the test"};
    if (anchor_number > 0 && anchor_number <= RECORDS)
        memcpy(anchor.hash, chain[anchor_number - 1].hash, sizeof anchor.hash);
    json_t *findings = json_array();
    struct chain_report report = {.findings = findings};
    assert_int_equal(chain_verify(NULL, &base, &anchor, 1, &report, NULL), SSO_OK);
    assert_int_equal(report.records, chain_count);
    return findings;
}

static void expect(json_t *findings, size_t count, uint64_t number, const char *kind)
{
    assert_int_equal(json_array_size(findings), count);
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        const json_t *finding = json_array_get(findings, i);
        found |= json_integer_value(json_object_get(finding, "number")) == (json_int_t)number &&
                 strcmp(json_string_value(json_object_get(finding, "kind")), kind) == 0;
    }
    assert_true(count == 0 || found);
    json_decref(findings);
}

static void test_sound_chain(void **state)
{
    (void)state;
    expect(verify(RECORDS), 0, 0, "");
}

static void test_changed_record(void **state)
{
    (void)state;
    strcpy(chain[1200].outcome, "ok!");
    expect(verify(RECORDS), 1, 1201, "changed");
}

static void test_missing_records(void **state)
{
    (void)state;
    memmove(&chain[5], &chain[7], (RECORDS - 7) * sizeof chain[0]);
    chain_count -= 2;
    struct chain_anchor none = {0};
    json_t *findings = json_array();
    struct chain_report report = {.findings = findings};
    assert_int_equal(chain_verify(NULL, &base, &none, 1, &report, NULL), SSO_OK);
    expect(findings, 1, 6, "missing");
}

static void test_reordered_records(void **state)
{
    (void)state;
    struct audit_record first = chain[10], second = chain[20];
    chain[10] = second;
    chain[10].number = 11;
    chain[20] = first;
    chain[20].number = 21;
    json_t *findings = json_incref(verify(0));
    expect(json_incref(findings), 2, 11, "reordered");
    expect(findings, 2, 21, "reordered");
    json_decref(findings);
}

static void test_cut_tail(void **state)
{
    (void)state;
    struct chain_anchor anchor = {.number = RECORDS, .where = "the test"};
    json_t *findings = json_array();
    struct chain_report report = {.findings = findings};
    chain_count = RECORDS - 3;
    assert_int_equal(chain_verify(NULL, &base, &anchor, 1, &report, NULL), SSO_OK);
    expect(findings, 1, RECORDS - 2, "truncated");
}

static void test_whole_chain_made_anew(void **state)
{
    (void)state;
    struct chain_anchor anchor = {.number = RECORDS, .where = "the test"};
    json_t *findings = json_array();
    struct chain_report report = {.findings = findings};
    memset(anchor.hash, 7, sizeof anchor.hash);
    assert_int_equal(chain_verify(NULL, &base, &anchor, 1, &report, NULL), SSO_OK);
    expect(findings, 1, RECORDS, "changed");
}

/* The first 1,000 records are gone. */
static void prune(void)
{
    base.number = 1000;
    memcpy(base.hash, chain[999].hash, sizeof base.hash);
    memmove(chain, chain + 1000, (RECORDS - 1000) * sizeof chain[0]);
    chain_count -= 1000;
}

static json_t *verify_pruned(const struct chain_anchor *anchor)
{
    json_t *findings = json_array();
    struct chain_report report = {.findings = findings};
    assert_int_equal(chain_verify(NULL, &base, anchor, 1, &report, NULL), SSO_OK);
    assert_int_equal(report.records, chain_count);
    return findings;
}

static void test_pruned_chain(void **state)
{
    (void)state;
    struct chain_anchor anchor = {.number = 1000, .where = "the test"};
    memcpy(anchor.hash, chain[999].hash, sizeof anchor.hash);
    prune();
    expect(verify_pruned(&anchor), 0, 0, "");
    anchor.number = 500; /* known from elsewhere, and pruned */
    expect(verify_pruned(&anchor), 0, 0, "");
    anchor.number = 1000;
    anchor.hash[0] ^= 1;
    expect(verify_pruned(&anchor), 1, 1000, "changed");
}

static void test_more_gone_than_pruned(void **state)
{
    (void)state;
    const struct chain_anchor none = {0};
    prune();
    memmove(chain, chain + 1, --chain_count * sizeof chain[0]);
    expect(verify_pruned(&none), 1, 1001, "missing");
    make_chain(state);
    prune();
    base.hash[5] ^= 1;
    expect(verify_pruned(&none), 1, 1001, "changed");
}

/* Whoever knew more than the chain that was put back still finds the cut, and is told why. */
static void test_database_put_back(void **state)
{
    (void)state;
    struct chain_anchor anchors[] = {{.number = 900, .hash = {7}, .where = "the test"},
                                     {.number = RECORDS + 5, .where = "the test"}};
    struct chain_report report = {.findings = json_array(), .accepted = json_array()};
    uint8_t previous[AUDIT_HASH_BYTES];
    snprintf(chain[1000].operation, sizeof chain[1000].operation, "%s", AUDIT_ACCEPT_OPERATION);
    snprintf(chain[1000].target, sizeof chain[1000].target,
             "this node knew record 950 00; active 1");
    memcpy(previous, chain[999].hash, sizeof previous);
    for (size_t i = 1000; i < RECORDS; i++) {
        audit_record_hash(previous, &chain[i], chain[i].hash);
        memcpy(previous, chain[i].hash, sizeof previous);
    }
    assert_int_equal(chain_verify(NULL, &base, anchors, 2, &report, NULL), SSO_OK);
    assert_int_equal(json_array_size(report.accepted), 1);
    const json_t *accepted = json_array_get(report.accepted, 0);
    assert_int_equal(json_integer_value(json_object_get(accepted, "number")), 1001);
    assert_int_equal(json_integer_value(json_object_get(accepted, "known")), 950);
    assert_int_equal(json_array_size(report.findings), 2);
    for (size_t i = 0; i < 2; i++)
        assert_non_null(
            strstr(json_string_value(json_object_get(json_array_get(report.findings, i), "detail")),
                   "accepted by record 1001"));
    json_decref(report.accepted);
    json_decref(report.findings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_sound_chain, make_chain),
        cmocka_unit_test_setup(test_changed_record, make_chain),
        cmocka_unit_test_setup(test_missing_records, make_chain),
        cmocka_unit_test_setup(test_reordered_records, make_chain),
        cmocka_unit_test_setup(test_cut_tail, make_chain),
        cmocka_unit_test_setup(test_whole_chain_made_anew, make_chain),
        cmocka_unit_test_setup(test_database_put_back, make_chain),
        cmocka_unit_test_setup(test_pruned_chain, make_chain),
        cmocka_unit_test_setup(test_more_gone_than_pruned, make_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
