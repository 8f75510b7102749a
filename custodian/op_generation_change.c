/* A generation's key became known to others, and what that means for its rows (DESIGN §3.1). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/encode.h"
#include "common/json.h"
#include "common/log.h"
#include "custodian/application_access.h"
#include "custodian/custodian.h"
#include "custodian/high_water_watch.h"
#include "custodian/operations.h"
#include "custodian/rotation_events.h"
#include "custodian/snapshot.h"

#define EXPOSED_DEFAULT 100
#define EXPOSED_MAX 1000

/* `verb` follows the number: "" or ":confirm". A place in the table of operations takes any text.
 */
static enum sso_code number_of_path(const struct request *request, const char *verb,
                                    uint32_t *number, struct sso_error *err)
{
    const char *text = request->segment[2];
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '1' || text[0] > '9' || strcmp(end, verb) != 0 || value > UINT32_MAX)
        return sso_fail(err, SSO_NOT_FOUND,
                        "a generation is named by its number: see sso-hsm key "
                        "list");
    *number = (uint32_t)value;
    return SSO_OK;
}

/* --- marking --- */

struct mark {
    const struct policy *policy;
    uint32_t number;
    const struct peer *peer; /* who asks */
};

static enum sso_code write_mark(struct store_tx *tx, void *context, struct sso_error *err)
{
    const struct mark *mark = context;
    struct generation generation;
    enum sso_code rc = store_generation_hold(tx, mark->number, STORE_EXCLUSIVE, &generation, err);
    if (rc != SSO_OK || (rc = policy_check_generation(mark->policy, &generation, err)) != SSO_OK)
        return rc;
    if (generation.state == GENERATION_PENDING)
        return sso_fail(err, SSO_BAD_REQUEST,
                        "generation %u is pending: nothing was ever wrapped under it, so it needs "
                        "no mark; make another with sso-hsm key generate",
                        generation.number);
    if (generation.compromised)
        return SSO_OK;
    generation.compromised = true;
    generation.version++;
    policy_tag_generation(mark->policy, &generation);
    return store_generation_update(tx, &generation, err);
}

/* --- retiring: no more than the state, so it is undone by nothing and loses nothing --- */

static enum sso_code write_retired(struct store_tx *tx, void *context, struct sso_error *err)
{
    const struct mark *mark = context;
    struct generation generation;
    struct generation_usage usage;
    enum sso_code rc = store_generation_hold(tx, mark->number, STORE_EXCLUSIVE, &generation, err);
    if (rc != SSO_OK || (rc = policy_check_generation(mark->policy, &generation, err)) != SSO_OK)
        return rc;
    if (generation.state == GENERATION_RETIRED)
        return SSO_OK;
    if (generation.state == GENERATION_ACTIVE || generation.state == GENERATION_DESTROYED)
        return sso_fail(err, SSO_IN_USE, "generation %u is %s: it cannot be retired", mark->number,
                        generation_state_name(generation.state));
    if (generation.going_ms != 0)
        return sso_fail(err, SSO_IN_USE,
                        "the keys of generation %u are being destroyed, and one may be gone: there "
                        "is no way back; sso-hsm key destroy %u ends it",
                        mark->number, mark->number);
    if ((rc = store_generation_usage(tx, mark->number, &usage, err)) != SSO_OK ||
        (rc = generation_usage_check(&usage, mark->number, err)) != SSO_OK)
        return rc;
    /* From destroying this is the way back, while the grace lasts. */
    if (generation.state != GENERATION_DESTROYING)
        generation.retired_ms = wall_clock_ms();
    generation.state = GENERATION_RETIRED;
    generation.version++;
    policy_tag_generation(mark->policy, &generation);
    return store_generation_update(tx, &generation, err);
}

/* --- the second administrator's word for a destruction --- */

static enum sso_code write_confirmed(struct store_tx *tx, void *context, struct sso_error *err)
{
    const struct mark *mark = context;
    struct destruction row;
    int64_t now_ms = wall_clock_ms();
    enum sso_code rc = store_destruction_get(tx, mark->number, &row, err);
    if (rc == SSO_OK && row.number != 0)
        rc = policy_check_destruction(mark->policy, &row, err);
    if (rc != SSO_OK)
        return rc;
    if (row.number == 0 || row.confirmed_ms != 0 || row.destroying_ms != 0 ||
        now_ms < row.asked_ms || now_ms - row.asked_ms > DESTRUCTION_CONFIRM_MS)
        return sso_fail(err, SSO_NOT_FOUND,
                        "nobody has asked within the last ten minutes for generation %u to be "
                        "destroyed",
                        mark->number);
    if (row.asked_uid == mark->peer->uid || strcmp(row.asked_by, mark->peer->name) == 0 ||
        strcmp(row.asked_by, mark->peer->principal) == 0)
        return sso_fail(err, SSO_CONFIRMATION_NEEDED,
                        "the caller asked for it: another SSO administrator must confirm");
    snprintf(row.confirmed_by, sizeof row.confirmed_by, "%s", mark->peer->name);
    row.confirmed_ms = now_ms;
    row.version++;
    policy_tag_destruction(mark->policy, &row);
    return store_destruction_put(tx, &row, err);
}

static enum sso_code reply_generation(struct request *request, uint32_t number,
                                      struct sso_error *err)
{
    struct snapshot now = {0};
    enum sso_code rc = snapshot_read(request->custodian->store, &now, err);
    for (size_t i = 0; rc == SSO_OK && i < now.generation_count; i++)
        if (now.generation[i].number == number)
            request->reply = json_generation(&now.generation[i], now.token, now.token_count, -1);
    snapshot_free(&now);
    if (rc == SSO_OK && request->reply == NULL)
        rc = sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
    return rc;
}

enum sso_code op_generation_change(struct request *request, struct sso_error *err)
{
    static const char *const allowed[] = {"compromised", "state", NULL};
    struct custodian *custodian = request->custodian;
    struct mark mark = {.policy = &custodian->policy};
    enum sso_code rc = request_authorise(request, NULL, false, err);
    if (rc != SSO_OK || (rc = number_of_path(request, "", &mark.number, err)) != SSO_OK ||
        (request->body != NULL && (rc = json_only_members(request->body, allowed, err)) != SSO_OK))
        return rc;
    const char *state = json_string_value(json_object_get(request->body, "state"));
    bool retire = state != NULL && strcmp(state, "retired") == 0;
    if (json_object_size(request->body) != 1 ||
        (!retire && !json_is_true(json_object_get(request->body, "compromised"))))
        return sso_fail(err, SSO_BAD_REQUEST,
                        "the body must be {\"compromised\":true}, a mark that is never taken away, "
                        "or {\"state\":\"retired\"}");
    struct audit_record *record = &request->audit;
    snprintf(record->operation, sizeof record->operation,
             retire ? "generation.retire" : "generation.mark-compromised");
    snprintf(record->target, sizeof record->target, "generation %u", mark.number);
    request->audited = true;
    /* An older row of the generation, from before its keys began to go, would take it back. */
    if (retire && (rc = high_water_look(custodian, err)) != SSO_OK)
        return rc;
    rc = committer_run(custodian->committer, retire ? write_retired : write_mark, &mark, record, 1,
                       err);
    if (rc != SSO_OK)
        return policy_alarm(custodian, rc, err);
    /* What every write asks first; the transaction of each asks the database again. */
    struct sso_error problem = {0};
    if (installation_refresh(custodian, &problem) != SSO_OK)
        log_line(LOG_LEVEL_WARNING, "generations not read after a change", "reason", problem.detail,
                 NULL);
    rotation_events_refresh(custodian);
    return reply_generation(request, mark.number, err);
}

enum sso_code op_generation_confirm(struct request *request, struct sso_error *err)
{
    struct custodian *custodian = request->custodian;
    struct mark mark = {.policy = &custodian->policy, .peer = &request->peer};
    enum sso_code rc = request_authorise(request, NULL, false, err);
    if (rc == SSO_OK)
        rc = number_of_path(request, ":confirm", &mark.number, err);
    if (rc != SSO_OK)
        return rc;
    snprintf(request->audit.target, sizeof request->audit.target, "generation %u", mark.number);
    request->audited = true;
    rc = committer_run(custodian->committer, write_confirmed, &mark, &request->audit, 1, err);
    return rc == SSO_OK ? reply_generation(request, mark.number, err)
                        : policy_alarm(custodian, rc, err);
}

/* --- whose credentials could be read --- */

static json_t *exposed_json(const struct exposed_row *row)
{
    return json_pack("{s:o,s:o,s:o,s:I,s:o}", "row", json_hex(row->row_id, sizeof row->row_id),
                     "app", json_text_or_null(row->application), "principal",
                     json_text_or_null(row->principal), "born", (json_int_t)row->born, "renewed",
                     json_time(row->renewed_ms));
}

static enum sso_code is_compromised(struct request *request, struct store_tx *tx, uint32_t number,
                                    struct sso_error *err)
{
    struct generation *list = NULL;
    size_t count = 0;
    enum sso_code rc = store_generation_list(tx, &list, &count, err);
    if (rc != SSO_OK)
        return rc;
    rc = sso_fail(err, SSO_NOT_FOUND, "generation %u does not exist: see sso-hsm key list", number);
    for (size_t i = 0; i < count; i++) {
        if (list[i].number != number)
            continue;
        rc = policy_check_generation(&request->custodian->policy, &list[i], err);
        if (rc == SSO_OK && !list[i].compromised)
            rc = sso_fail(err, SSO_BAD_REQUEST,
                          "generation %u is not marked compromised: sso-hsm key mark-compromised "
                          "%u marks it",
                          number, number);
    }
    free(list);
    return policy_alarm(request->custodian, rc, err);
}

enum sso_code op_generation_exposed(struct request *request, struct sso_error *err)
{
    uint32_t number;
    uint64_t limit;
    uint8_t after[ROW_ID_BYTES];
    char text[2 * ROW_ID_BYTES + 1];
    struct exposed_row *rows = NULL;
    size_t count = 0;
    STORE_TX_AUTO tx = NULL;
    bool has_after = request_query(request, "after", text, sizeof text);
    enum sso_code rc = number_of_path(request, "", &number, err);
    if (rc == SSO_OK)
        rc = request_query_number(request, "limit", EXPOSED_DEFAULT, EXPOSED_MAX, &limit, err);
    if (rc == SSO_OK && (limit == 0 || (has_after && !hex_decode(text, after, sizeof after))))
        rc = sso_fail(err, SSO_BAD_REQUEST,
                      "limit takes a number from 1 to %d, after the \"next\" of the page before",
                      EXPOSED_MAX);
    if (rc != SSO_OK ||
        (rc = store_begin(request->custodian->store, STORE_READ, &tx, err)) != SSO_OK ||
        (rc = is_compromised(request, tx, number, err)) != SSO_OK ||
        (rc = store_exposed_list(tx, number, has_after ? after : NULL, (size_t)limit, &rows, &count,
                                 err)) != SSO_OK)
        return rc;
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, exposed_json(&rows[i]));
    json_t *next = count == limit ? json_hex(rows[count - 1].row_id, sizeof rows[count - 1].row_id)
                                  : json_null();
    request->reply = json_pack("{s:o,s:o}", "exposed", list, "next", next);
    free(rows);
    return request->reply != NULL ? SSO_OK
                                  : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}
