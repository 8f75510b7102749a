#include <stdlib.h>

#include "common/clock.h"
#include "common/json.h"
#include "custodian/custodian.h"
#include "custodian/events.h"
#include "custodian/master.h"
#include "custodian/metrics.h"
#include "custodian/operations.h"
#include "custodian/rotation_manager.h"
#include "custodian/row_counts.h"
#include "custodian/token_status.h"

static enum sso_code no_memory(struct sso_error *err)
{
    return sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}

static const char *status_name(enum severity severity)
{
    return severity == SEVERITY_INFO ? "ok" : severity_name(severity);
}

/* A state that no event tells of (the first seconds after the start) is an error all the same. */
static enum severity severity_now(struct custodian *custodian, json_t **events)
{
    enum severity severity = event_board_read(custodian->events, events);
    return custodian_ready(custodian, NULL) == SSO_OK ? severity : SEVERITY_ERROR;
}

/* Without its row there is nothing that could be decrypted, and nowhere to write. */
static json_t *health_json(struct custodian *custodian, enum severity *severity)
{
    json_t *events = NULL;
    *severity = severity_now(custodian, &events);
    bool rows = event_age_ms(custodian->events, EVENT_DATABASE_UNAVAILABLE) < 0;
    return json_pack("{s:s,s:b,s:b,s:s,s:o}", "status", status_name(*severity), "encrypt",
                     (int)(rows && atomic_load(&custodian->can_encrypt)), "decrypt",
                     (int)(rows && atomic_load(&custodian->can_decrypt)), "role",
                     master_is(custodian->master) ? "master" : "sso_server", "events", events);
}

enum sso_code op_health(struct request *request, struct sso_error *err)
{
    struct custodian *custodian = request->custodian;
    enum severity severity;
    if (request->peer.roles != 0) {
        request->reply = health_json(custodian, &severity);
    } else {
        severity = severity_now(custodian, NULL);
        request->reply = json_pack("{s:s}", "status", status_name(severity));
    }
    request->status = severity == SEVERITY_ERROR ? 503 : 200;
    return request->reply != NULL ? SSO_OK : no_memory(err);
}

/* What status reads from the database; all of it null while that is away. */
struct facts {
    json_t *generation;
    struct counted_rows rows;
    json_int_t total, below, quarantined;
};

static enum sso_code read_rows(struct custodian *custodian, struct store_tx *tx, uint32_t active,
                               struct facts *out, json_int_t *active_rows)
{
    struct quarantine_count quarantine = {0};
    enum sso_code rc = row_counts_read(custodian->counts, custodian->store, tx, &out->rows, NULL);
    if (rc != SSO_OK || (rc = store_quarantine_count(tx, &quarantine, NULL)) != SSO_OK)
        return rc;
    out->total = out->below = 0;
    for (size_t i = 0; i < out->rows.count; i++) {
        const struct generation_rows *rows = &out->rows.rows[i];
        out->total += (json_int_t)rows->credentials;
        if (rows->generation < active)
            out->below += (json_int_t)rows->credentials;
        if (rows->generation == active)
            *active_rows = (json_int_t)rows->credentials;
    }
    out->quarantined = (json_int_t)quarantine.rows;
    return SSO_OK;
}

static enum sso_code read_facts(struct custodian *custodian, uint32_t active, struct facts *out)
{
    struct generation *generation = NULL;
    struct generation_token *token = NULL;
    size_t count = 0, tokens = 0;
    json_int_t active_rows = 0;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(custodian->store, STORE_READ, &tx, NULL);
    if (rc != SSO_OK || (rc = store_generation_list(tx, &generation, &count, NULL)) != SSO_OK ||
        (rc = store_generation_token_list(tx, &token, &tokens, NULL)) != SSO_OK ||
        (rc = read_rows(custodian, tx, active, out, &active_rows)) != SSO_OK)
        goto out;
    for (size_t i = 0; i < count; i++) {
        if (generation[i].number == active)
            out->generation = json_generation(&generation[i], token, tokens, active_rows);
    }
out:
    free(generation);
    free(token);
    return rc;
}

static json_t *number_or_null(json_int_t number)
{
    return number < 0 ? json_null() : json_integer(number);
}

static json_t *workers_json(struct custodian *custodian)
{
    struct hsm *pool[CONFIG_HSM_MAX];
    size_t count = custodian_pools(custodian, pool);
    json_int_t wanted = 0, ready = 0, sessions = 0, replaced = 0;
    for (size_t i = 0; i < count; i++) {
        struct hsm_status status;
        hsm_status(pool[i], &status);
        wanted += status.workers_wanted;
        ready += status.workers_ready;
        sessions += status.sessions;
        replaced += status.workers_replaced;
    }
    return json_pack("{s:I,s:I,s:I,s:I}", "wanted", wanted, "ready", ready, "sessions", sessions,
                     "replaced", replaced);
}

static json_t *rotation_json(struct custodian *custodian)
{
    json_t *rotation = NULL;
    if (custodian_database(custodian, NULL) != SSO_OK ||
        rotation_manager_status(custodian->rotation, &rotation, NULL) != SSO_OK)
        return json_null();
    return rotation;
}

static json_t *system_json(struct custodian *custodian, bool known)
{
    if (!known)
        return json_pack("{s:n,s:s}", "id", "name", custodian->config->system.name);
    return json_pack("{s:o,s:s}", "id", json_hex(custodian->system.id, SYSTEM_ID_BYTES), "name",
                     custodian->system.name);
}

static json_t *database_json(struct custodian *custodian, bool known, bool available)
{
    if (!known)
        return json_pack("{s:n,s:n,s:b}", "kind", "schema", "available", 0);
    return json_pack("{s:s,s:i,s:b}", "kind", store_kind(custodian->store), "schema",
                     (int)store_schema(custodian->store), "available", (int)available);
}

/* Null where none is known to live. */
static json_t *master_json(struct custodian *custodian)
{
    struct master_view view;
    master_view(custodian->master, &view);
    if (!view.me && !view.alive)
        return json_null();
    return json_pack("{s:s,s:I}", "node", view.lease.node, "epoch", (json_int_t)view.lease.epoch);
}

enum sso_code op_status(struct request *request, struct sso_error *err)
{
    struct custodian *custodian = request->custodian;
    struct facts facts = {.total = -1, .below = -1, .quarantined = -1};
    enum severity severity;
    pthread_rwlock_rdlock(&custodian->lock);
    uint32_t active = custodian->active;
    bool store_known = custodian->store != NULL, system_known = custodian->keyring != NULL;
    /* Without the key no tag can be looked at, and nothing that has one is told. */
    bool policy_known = custodian->policy.key.length_bytes == POLICY_KEY_BYTES;
    pthread_rwlock_unlock(&custodian->lock);
    bool available = store_known && read_facts(custodian, active, &facts) == SSO_OK;

    request->reply = json_pack(
        "{s:o,s:s,s:s,s:I,s:o,s:o,s:o,s:{s:o,s:o,s:o,s:o},s:o,s:o,s:o,s:o}", "system",
        system_json(custodian, system_known), "node", custodian->node, "version", SSO_HSM_VERSION,
        "uptime_seconds", (json_int_t)(boot_clock_ms() - custodian->started_ms) / 1000, "health",
        health_json(custodian, &severity), "generation",
        facts.generation != NULL ? facts.generation : json_null(), "master", master_json(custodian),
        "rows", "total", number_or_null(facts.total), "below_active", number_or_null(facts.below),
        "quarantined", number_or_null(facts.quarantined), "counted",
        json_time(facts.rows.counted_ms), "workers", workers_json(custodian), "rotation",
        rotation_json(custodian), "database", database_json(custodian, store_known, available),
        "tokens",
        available && policy_known ? token_status_json(custodian, facts.rows.rows, facts.rows.count)
                                  : json_null());
    free(facts.rows.rows);
    return request->reply != NULL ? SSO_OK : no_memory(err);
}

enum sso_code op_metrics(struct request *request, struct sso_error *err)
{
    request->text = metrics_text(request->custodian, request->openmetrics);
    request->content_type = request->openmetrics
                                ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                                : "text/plain; version=0.0.4; charset=utf-8";
    return request->text != NULL ? SSO_OK : no_memory(err);
}
