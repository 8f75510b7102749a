#include "custodian/rotation_status.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/error.h"
#include "common/json.h"

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* "1,2" as [1,2] */
static json_t *from_json(const char *text)
{
    json_t *list = json_array();
    while (*text != '\0') {
        char *end;
        unsigned long generation = strtoul(text, &end, 10);
        if (end == text)
            break;
        json_array_append_new(list, number(generation));
        text = *end == ',' ? end + 1 : end;
    }
    return list;
}

/* "a,b" as ["a","b"] */
static json_t *names_json(const char *text)
{
    json_t *list = json_array();
    while (*text != '\0') {
        size_t length = strcspn(text, ",");
        json_array_append_new(list, json_stringn(text, length));
        text += length + (text[length] == ',');
    }
    return list;
}

static bool ended(const struct rotation *rotation)
{
    return rotation->state == ROTATION_COMPLETED ||
           rotation->state == ROTATION_COMPLETED_WITH_ERRORS;
}

static uint64_t speed(const struct rotation *rotation, uint64_t rows_per_second)
{
    int64_t took_ms = rotation->finished_ms - rotation->started_ms;
    if (!ended(rotation) || took_ms <= 0)
        return rows_per_second;
    return rotation->done * 1000 / (uint64_t)took_ms;
}

static json_t *eta_json(const struct rotation *rotation, uint64_t rows_per_second)
{
    uint64_t dealt_with = rotation->done + rotation->skipped + rotation->failed;
    if (ended(rotation))
        return number(0);
    if (rows_per_second == 0 || rotation->state != ROTATION_RUNNING)
        return json_null();
    uint64_t left = rotation->total > dealt_with ? rotation->total - dealt_with : 0;
    return number((left + rows_per_second - 1) / rows_per_second);
}

json_t *rotation_json(const struct rotation *rotation, uint64_t rows_per_second)
{
    static const struct rotation never = {.state = ROTATION_NONE};
    bool exists = rotation != NULL;
    const struct rotation *r = exists ? rotation : &never;
    return json_pack(
        "{s:o,s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:b,s:b,s:o,s:o,s:o,s:o,s:o,s:o}", "id",
        exists ? number(r->id) : json_null(), "state",
        exists ? rotation_state_name(r->state) : "none", "phase",
        exists && r->phase != 0 ? json_string(rotation_phase_name(r->phase)) : json_null(), "from",
        from_json(r->from), "to", exists ? number(r->to) : json_null(), "total", number(r->total),
        "done", number(r->done), "skipped", number(r->skipped), "failed", number(r->failed),
        "rows_per_second", number(speed(r, rows_per_second)), "eta_seconds",
        exists ? eta_json(r, rows_per_second) : json_null(), "rate",
        r->rate != 0 ? number(r->rate) : json_null(), "dry_run", r->dry_run, "reencrypt",
        r->reencrypt, "started", json_time(r->started_ms), "finished", json_time(r->finished_ms),
        "error", json_text_or_null(r->error), "error_code",
        r->error_code != SSO_OK ? json_string(sso_code_facts(r->error_code)->name) : json_null(),
        "renew_born", r->renew_born != 0 ? number(r->renew_born) : json_null(), "without",
        names_json(r->without));
}

static json_t *entry_json(const struct quarantine_entry *entry)
{
    return json_pack(
        "{s:o,s:o,s:o,s:I,s:s,s:s,s:I,s:o}", "row", json_hex(entry->row_id, sizeof entry->row_id),
        "app", json_text_or_null(entry->application), "principal",
        json_text_or_null(entry->principal), "generation", (json_int_t)entry->generation, "code",
        sso_code_facts(entry->code)->name, "reason", entry->reason, "tries",
        (json_int_t)entry->tries, "since", json_time(entry->since_ms));
}

json_t *quarantine_json(const struct quarantine_entry *entries, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < count; i++) {
        if (json_array_append_new(list, entry_json(&entries[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}
