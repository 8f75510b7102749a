/* Compares the rows with what the audit says of them: every write and every delete of a row is a
 * record with its id and version, so an older row that was put back, a row that vanished and one
 * that nobody wrote are told apart from what is right (DESIGN §3.3). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/ceremony/findings.h"
#include "common/audit_base.h"
#include "common/row.h"

#define PAGE_RECORDS 2000
#define PAGE_ROWS 1000

/* What the audit last said of a row. */
struct history {
    uint8_t row_id[ROW_ID_BYTES]; /* zeros: a free place of the table */
    uint64_t version;
    uint64_t number; /* of its last record, in the chain of node */
    int64_t time_ms;
    size_t node;
    bool deleted, met;
    char *target; /* application/principal */
};

/* An application's rows went all at once, without a record for each. */
struct sweep {
    char *application;
    uint64_t number;
    int64_t time_ms;
    size_t node;
};

struct comparison {
    struct store_tx *tx;
    const struct policy *policy;
    struct findings *findings;
    struct history *place; /* open addressing; row ids end in random bytes */
    size_t places, used;
    struct sweep *sweep;
    size_t sweeps;
    int64_t pruned_ms; /* of rows that are as old as this the audit need not know any more */
};

static const uint8_t no_row[ROW_ID_BYTES];

static struct history *find(struct history *place, size_t places, const uint8_t *row_id)
{
    uint64_t hash;
    memcpy(&hash, row_id + ROW_ID_BYTES - sizeof hash, sizeof hash);
    for (size_t i = (size_t)hash & (places - 1);; i = (i + 1) & (places - 1))
        if (memcmp(place[i].row_id, no_row, ROW_ID_BYTES) == 0 ||
            memcmp(place[i].row_id, row_id, ROW_ID_BYTES) == 0)
            return &place[i];
}

static enum sso_code grow(struct comparison *self, struct sso_error *err)
{
    size_t places = self->places == 0 ? 4096 : self->places * 2;
    struct history *larger = calloc(places, sizeof *larger);
    if (larger == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for what the audit says of %zu rows",
                        self->used);
    for (size_t i = 0; i < self->places; i++)
        if (memcmp(self->place[i].row_id, no_row, ROW_ID_BYTES) != 0)
            *find(larger, places, self->place[i].row_id) = self->place[i];
    free(self->place);
    self->place = larger;
    self->places = places;
    return SSO_OK;
}

/* --- reading the audit --- */

static bool writes(const struct audit_record *record)
{
    return strcmp(record->operation, "credential.set") == 0 ||
           strcmp(record->operation, "config.set") == 0 ||
           strcmp(record->operation, "config.update") == 0;
}

static bool deletes(const struct audit_record *record)
{
    return strcmp(record->operation, "credential.delete") == 0 ||
           strcmp(record->operation, "mapping.delete") == 0 ||
           strcmp(record->operation, "config.delete") == 0;
}

static bool sweeps(const struct audit_record *record)
{
    return strcmp(record->operation, "app.delete") == 0 ||
           strcmp(record->operation, "app.purge") == 0;
}

static enum sso_code note_row(struct comparison *self, const struct audit_record *record,
                              size_t node, struct sso_error *err)
{
    if (self->used * 2 >= self->places && grow(self, err) != SSO_OK)
        return SSO_NO_MEMORY;
    struct history *history = find(self->place, self->places, record->row_id);
    if (memcmp(history->row_id, no_row, ROW_ID_BYTES) == 0) {
        memcpy(history->row_id, record->row_id, ROW_ID_BYTES);
        self->used++;
    }
    history->deleted = history->deleted || deletes(record);
    if (record->row_version < history->version)
        return SSO_OK; /* two nodes: the chain of the other one told of a later write */
    history->version = record->row_version;
    history->number = record->number;
    history->time_ms = record->time_ms;
    history->node = node;
    if (history->target == NULL)
        history->target = strdup(record->target);
    return history->target != NULL ? SSO_OK
                                   : sso_fail(err, SSO_NO_MEMORY, "no memory for the audit");
}

static enum sso_code note_sweep(struct comparison *self, const struct audit_record *record,
                                size_t node, struct sso_error *err)
{
    struct sweep *grown = reallocarray(self->sweep, self->sweeps + 1, sizeof *grown);
    if (grown == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the audit");
    self->sweep = grown;
    self->sweep[self->sweeps] = (struct sweep){.application = strdup(record->target),
                                               .number = record->number,
                                               .time_ms = record->time_ms,
                                               .node = node};
    return self->sweep[self->sweeps++].application != NULL
               ? SSO_OK
               : sso_fail(err, SSO_NO_MEMORY, "no memory for the audit");
}

static enum sso_code note(struct comparison *self, const struct audit_record *record, size_t node,
                          struct sso_error *err)
{
    if (strcmp(record->outcome, "ok") != 0)
        return SSO_OK;
    bool of_row = memcmp(record->row_id, no_row, ROW_ID_BYTES) != 0;
    if (of_row && (writes(record) || deletes(record)))
        return note_row(self, record, node, err);
    /* A row that could not be read was deleted without its id. */
    if (sweeps(record) || (!of_row && deletes(record)))
        return note_sweep(self, record, node, err);
    return SSO_OK;
}

static enum sso_code read_chain(struct comparison *self, const char *name, size_t node,
                                struct sso_error *err)
{
    uint64_t after = 0;
    size_t count = 0;
    enum sso_code rc;
    do {
        struct audit_record *records = NULL;
        rc = store_audit_list(self->tx, name, after, PAGE_RECORDS, &records, &count, err);
        for (size_t i = 0; rc == SSO_OK && i < count; i++)
            rc = note(self, &records[i], node, err);
        after = rc == SSO_OK && count != 0 ? records[count - 1].number : after;
        free(records);
    } while (rc == SSO_OK && count == PAGE_RECORDS);
    return rc;
}

static bool is_announced(const struct audit_base *base, const struct audit_record *records,
                         size_t count)
{
    char target[AUDIT_BASE_TARGET_SIZE];
    bool announced = false;
    audit_base_target(base, target);
    for (size_t i = 0; i < count; i++)
        announced = announced ||
                    (strcmp(records[i].target, target) == 0 &&
                     strcmp(records[i].outcome, "ok") == 0 && records[i].time_ms >= base->time_ms);
    return announced;
}

/* What another hand has put there excuses no row. Where no token was asked for the policy key, the
 * audit itself has to announce it. */
static enum sso_code check_base(const struct comparison *self, const struct audit_base *base,
                                const struct audit_record *pruned, size_t count,
                                struct sso_error *err)
{
    if (self->policy->key.length_bytes != 0)
        return policy_check_audit_base(self->policy, base, err);
    if (is_announced(base, pruned, count))
        return SSO_OK;
    return sso_fail(err, SSO_POLICY_TAMPERED,
                    "the audit of %s is said to begin after record %llu, and no record of it tells "
                    "that those before were pruned",
                    base->last.node, (unsigned long long)base->last.number);
}

static enum sso_code read_bases(struct comparison *self, struct sso_error *err)
{
    struct audit_base *bases = NULL;
    struct audit_record *pruned = NULL;
    size_t count = 0, pruned_count = 0;
    enum sso_code rc = store_audit_base_list(self->tx, &bases, &count, err);
    if (rc == SSO_OK)
        rc = store_audit_of_operation(self->tx, AUDIT_PRUNE_OPERATION, &pruned, &pruned_count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        struct sso_error problem = {0};
        if (check_base(self, &bases[i], pruned, pruned_count, &problem) != SSO_OK)
            findings_add(self->findings, &(struct failure){.error = &problem});
        else if (bases[i].time_ms > self->pruned_ms)
            self->pruned_ms = bases[i].time_ms;
    }
    free(bases);
    free(pruned);
    return rc;
}

static enum sso_code read_audit(struct comparison *self, struct sso_error *err)
{
    struct audit_head *heads = NULL;
    size_t count = 0;
    enum sso_code rc = store_audit_heads(self->tx, &heads, &count, err);
    if (rc == SSO_OK)
        rc = read_bases(self, err);
    if (rc == SSO_OK)
        rc = grow(self, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++)
        rc = read_chain(self, heads[i].node, i, err);
    free(heads);
    return rc;
}

/* --- comparing --- */

static bool covers(const struct sweep *sweep, const struct history *history)
{
    size_t length = strlen(sweep->application);
    if (strncasecmp(history->target, sweep->application, length) != 0 ||
        (history->target[length] != '/' && history->target[length] != '\0'))
        return false;
    return sweep->node == history->node ? sweep->number > history->number
                                        : sweep->time_ms >= history->time_ms;
}

static bool was_deleted(const struct comparison *self, const struct history *history)
{
    bool deleted = history->deleted;
    for (size_t i = 0; !deleted && i < self->sweeps; i++)
        deleted = covers(&self->sweep[i], history);
    return deleted;
}

__attribute__((format(printf, 4, 5))) static void add(struct comparison *self,
                                                      const struct credential_row *row,
                                                      enum sso_code code, const char *format, ...)
{
    struct sso_error problem = {0};
    char text[200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    sso_fail(&problem, code, "%s", text);
    findings_add(self->findings, &(struct failure){.row = row,
                                                   .application = "",
                                                   .principal = row->principal,
                                                   .generation = row->generation,
                                                   .error = &problem});
}

static void compare_row(struct comparison *self, const struct credential_row *row)
{
    struct history *history = find(self->place, self->places, row->row_id);
    if (memcmp(history->row_id, no_row, ROW_ID_BYTES) == 0) {
        if (row->format == 0 || row->updated_ms > self->pruned_ms)
            add(self, row, SSO_POLICY_TAMPERED,
                "the audit knows nothing of this row: it was written outside sso-hsm");
        return;
    }
    history->met = true;
    if (was_deleted(self, history))
        add(self, row, SSO_DATABASE_WENT_BACK, "the row was deleted and is there again (%s)",
            history->target);
    else if (row->format != 0 && row->version < history->version)
        add(self, row, SSO_DATABASE_WENT_BACK,
            "the row is at version %llu, and version %llu was written: an older one was put back "
            "(%s)",
            (unsigned long long)row->version, (unsigned long long)history->version,
            history->target);
    else if (row->format != 0 && row->version > history->version)
        add(self, row, SSO_POLICY_TAMPERED,
            "the row is at version %llu, and the audit knows of version %llu (%s)",
            (unsigned long long)row->version, (unsigned long long)history->version,
            history->target);
}

static enum sso_code compare_rows(struct comparison *self, struct sso_error *err)
{
    const struct scan_options options = {.limit = PAGE_ROWS};
    struct scan_position position = {0};
    struct credential_row *rows = calloc(PAGE_ROWS, sizeof *rows);
    size_t count = 0;
    if (rows == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for rows");
    enum sso_code rc;
    do {
        rc = store_credential_scan(self->tx, &options, &position, rows, &count, err);
        for (size_t i = 0; rc == SSO_OK && i < count; i++) {
            compare_row(self, &rows[i]);
            credential_row_free(&rows[i]);
        }
    } while (rc == SSO_OK && count != 0);
    free(rows);
    return rc;
}

static void tell_of_missing(struct comparison *self)
{
    for (size_t i = 0; i < self->places; i++) {
        const struct history *history = &self->place[i];
        if (memcmp(history->row_id, no_row, ROW_ID_BYTES) == 0 || history->met ||
            was_deleted(self, history))
            continue;
        struct credential_row row = {0};
        memcpy(row.row_id, history->row_id, sizeof row.row_id);
        add(self, &row, SSO_DATABASE_WENT_BACK,
            "version %llu of the row was written and never deleted, and it is missing (%s)",
            (unsigned long long)history->version, history->target);
    }
}

enum sso_code check_against_audit(const struct ceremony *ceremony, struct store_tx *tx,
                                  struct findings *findings, struct sso_error *err)
{
    struct comparison self = {.tx = tx, .policy = &ceremony->policy, .findings = findings};
    enum sso_code rc = read_audit(&self, err);
    if (rc == SSO_OK)
        rc = compare_rows(&self, err);
    if (rc == SSO_OK)
        tell_of_missing(&self);
    for (size_t i = 0; i < self.places; i++)
        free(self.place[i].target);
    for (size_t i = 0; i < self.sweeps; i++)
        free(self.sweep[i].application);
    free(self.place);
    free(self.sweep);
    return rc;
}
