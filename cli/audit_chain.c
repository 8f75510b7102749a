#include "cli/audit_chain.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

#define PAGE_RECORDS 1000
/* Records that do not fit where they stand are kept, to be tried in other places. */
#define STRAYS_MAX 256

struct chain {
    struct store_tx *tx;
    const struct audit_head *base;
    const char *node;
    const struct chain_anchor *anchor;
    size_t anchor_count;
    json_t *findings; /* NULL in the first pass, which only gathers strays and acceptances */
    json_t *accepted; /* as findings */
    uint64_t accepted_at, accepted_known; /* the last acceptance, and the highest it tells of */
    struct audit_record *stray;
    size_t stray_count;
    uint8_t previous[AUDIT_HASH_BYTES];
    uint64_t number; /* of the record last seen */
    uint64_t count;
};

static void add_finding(struct chain *chain, uint64_t number, const char *kind, const char *format,
                        ...) __attribute__((format(printf, 4, 5)));
static void add_finding(struct chain *chain, uint64_t number, const char *kind, const char *format,
                        ...)
{
    char detail[256];
    va_list arguments;
    if (chain->findings == NULL)
        return;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    json_array_append_new(chain->findings,
                          json_pack("{s:s, s:I, s:s, s:s}", "node", chain->node, "number",
                                    (json_int_t)number, "kind", kind, "detail", detail));
}

static bool follows(const uint8_t *previous, const struct audit_record *record, uint64_t number)
{
    struct audit_record there = *record;
    uint8_t hash[AUDIT_HASH_BYTES];
    there.number = number;
    audit_record_hash(previous, &there, hash);
    return memcmp(hash, record->hash, sizeof hash) == 0;
}

static const struct audit_record *stray_for(const struct chain *chain, uint64_t number)
{
    for (size_t i = 0; i < chain->stray_count; i++) {
        if (chain->stray[i].number != number && follows(chain->previous, &chain->stray[i], number))
            return &chain->stray[i];
    }
    return NULL;
}

/* Where the database was put back, and the node knew more: by the record that says so. */
static void take_acceptance(struct chain *chain, const struct audit_record *record)
{
    unsigned long long known = 0;
    if (strcmp(record->operation, AUDIT_ACCEPT_OPERATION) != 0)
        return;
    (void)!sscanf(record->target, "this node knew record %llu", &known);
    chain->accepted_at = record->number;
    if (known > chain->accepted_known)
        chain->accepted_known = known;
    if (chain->accepted != NULL)
        json_array_append_new(chain->accepted,
                              json_pack("{s:s, s:I, s:o, s:s, s:o, s:s}", "node", chain->node,
                                        "number", (json_int_t)record->number, "time",
                                        json_time(record->time_ms), "actor", record->actor, "known",
                                        known != 0 ? json_integer((json_int_t)known) : json_null(),
                                        "detail", record->target));
}

/* For the text of what an anchor finds missing or changed. */
static void explain(const struct chain *chain, uint64_t number, char out[static 96])
{
    out[0] = '\0';
    if (chain->accepted_at != 0 &&
        (number <= chain->accepted_known || number >= chain->accepted_at))
        snprintf(out, 96, "; the database was put back, and accepted by record %llu",
                 (unsigned long long)chain->accepted_at);
}

static void compare_anchors(struct chain *chain, uint64_t number, const uint8_t *hash)
{
    char why[96];
    explain(chain, number, why);
    for (size_t i = 0; i < chain->anchor_count; i++) {
        if (chain->anchor[i].number == number &&
            memcmp(chain->anchor[i].hash, hash, AUDIT_HASH_BYTES) != 0)
            add_finding(chain, number, "changed", "the hash is not the one in %s%s",
                        chain->anchor[i].where, why);
    }
}

static void take_record(struct chain *chain, const struct audit_record *record)
{
    const struct audit_record *right = record;
    uint64_t expected = chain->number + 1;
    if (record->number != expected) {
        /* What came before is not there, so that this record follows it cannot be told. */
        add_finding(chain, expected, "missing", "records %llu to %llu are missing",
                    (unsigned long long)expected, (unsigned long long)record->number - 1);
    } else if (!follows(chain->previous, record, record->number)) {
        if (chain->findings == NULL && chain->stray_count < STRAYS_MAX)
            chain->stray[chain->stray_count++] = *record;
        const struct audit_record *stray = stray_for(chain, record->number);
        if (stray != NULL) {
            add_finding(chain, record->number, "reordered",
                        "the record that belongs here stands at number %llu",
                        (unsigned long long)stray->number);
            right = stray;
        } else {
            add_finding(chain, record->number, "changed",
                        "the record, or the hash of the one before, was changed");
        }
    }
    memcpy(chain->previous, right->hash, AUDIT_HASH_BYTES);
    chain->number = record->number;
    chain->count++;
    compare_anchors(chain, record->number, record->hash);
    take_acceptance(chain, record);
}

static enum sso_code walk(struct chain *chain, struct sso_error *err)
{
    memcpy(chain->previous, chain->base->hash, sizeof chain->previous);
    chain->number = chain->base->number;
    chain->count = 0;
    for (;;) {
        struct audit_record *records = NULL;
        size_t count = 0;
        enum sso_code rc = store_audit_list(chain->tx, chain->node, chain->number, PAGE_RECORDS,
                                            &records, &count, err);
        for (size_t i = 0; rc == SSO_OK && i < count; i++)
            take_record(chain, &records[i]);
        free(records);
        if (rc != SSO_OK || count == 0)
            return rc;
    }
}

enum sso_code chain_verify(struct store_tx *tx, const struct audit_head *base,
                           const struct chain_anchor *anchors, size_t anchor_count,
                           struct chain_report *report, struct sso_error *err)
{
    struct chain chain = {.tx = tx,
                          .base = base,
                          .node = base->node,
                          .anchor = anchors,
                          .anchor_count = anchor_count};
    chain.stray = calloc(STRAYS_MAX, sizeof *chain.stray);
    if (chain.stray == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for audit records");
    enum sso_code rc = walk(&chain, err);
    chain.findings = report->findings;
    chain.accepted = report->accepted;
    if (base->number > 0)
        compare_anchors(&chain, base->number, base->hash);
    if (rc == SSO_OK)
        rc = walk(&chain, err);
    for (size_t i = 0; rc == SSO_OK && i < anchor_count; i++) {
        char why[96];
        explain(&chain, anchors[i].number, why);
        if (anchors[i].number > chain.number)
            add_finding(&chain, chain.number + 1, "truncated",
                        "%s knows record %llu, the last one here is %llu%s", anchors[i].where,
                        (unsigned long long)anchors[i].number, (unsigned long long)chain.number,
                        why);
    }
    report->records += chain.count;
    free(chain.stray);
    return rc;
}
