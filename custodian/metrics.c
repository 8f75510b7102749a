#include "custodian/metrics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/encode.h"
#include "common/secret.h"
#include "custodian/custodian.h"
#include "custodian/master.h"
#include "custodian/events.h"
#include "custodian/rotation_manager.h"
#include "custodian/tls.h"

/* Upper bounds of the latency buckets. */
static const unsigned bucket_microseconds[] = {500,   1000,   2500,   5000,    10000,  25000,
                                               50000, 100000, 250000, 1000000, 5000000};
#define BUCKETS (sizeof bucket_microseconds / sizeof *bucket_microseconds)
#define OPERATIONS_MAX 48

/* Of the requests with one operation and one outcome. */
struct latency {
    atomic_uint_fast64_t bucket[BUCKETS + 1]; /* not cumulative; the last: above all bounds */
    atomic_uint_fast64_t microseconds;
};

struct metrics {
    struct latency latency[OPERATIONS_MAX][SSO_CODES];
    atomic_uint_fast64_t unknown, turned_away;
    atomic_int connections;
    atomic_uint_fast64_t refused;
    atomic_uint_fast64_t handshakes_failed;
};

enum sso_code metrics_new(struct metrics **out, struct sso_error *err)
{
    if (operation_count > OPERATIONS_MAX)
        return sso_fail(err, SSO_INTERNAL, "metrics have room for %d operations", OPERATIONS_MAX);
    *out = calloc(1, sizeof **out);
    return *out != NULL ? SSO_OK : sso_fail(err, SSO_NO_MEMORY, "no memory for metrics");
}

void metrics_free(struct metrics **metrics)
{
    free(*metrics);
    *metrics = NULL;
}

int64_t metrics_now_microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void add(atomic_uint_fast64_t *counter, uint64_t amount)
{
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

static uint64_t get(atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void metrics_observe(struct metrics *metrics, const struct operation *operation,
                     enum sso_code outcome, int64_t microseconds)
{
    if (operation == NULL) {
        add(&metrics->unknown, 1);
        return;
    }
    struct latency *of = &metrics->latency[operation - operations][outcome];
    size_t bucket = 0;
    while (bucket < BUCKETS && microseconds > (int64_t)bucket_microseconds[bucket])
        bucket++;
    add(&of->bucket[bucket], 1);
    add(&of->microseconds, (uint64_t)microseconds);
}

void metrics_turned_away(struct metrics *metrics)
{
    add(&metrics->turned_away, 1);
}

void metrics_connection(struct metrics *metrics, int change)
{
    atomic_fetch_add_explicit(&metrics->connections, change, memory_order_relaxed);
}

void metrics_connection_refused(struct metrics *metrics)
{
    add(&metrics->refused, 1);
}

void metrics_handshake_failed(struct metrics *metrics)
{
    add(&metrics->handshakes_failed, 1);
}

static void put(struct encoder *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct encoder *out, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int count = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (count > 0)
        encode_fixed(out, line, (size_t)count < sizeof line ? (size_t)count : sizeof line - 1);
}

static void put_family(struct encoder *out, const char *name, const char *type, const char *help)
{
    put(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_number(struct encoder *out, const char *name, const char *type, const char *help,
                       uint64_t value)
{
    put_family(out, name, type, help);
    put(out, "%s %" PRIu64 "\n", name, value);
}

static uint64_t answered(struct latency *of)
{
    uint64_t sum = 0;
    for (size_t b = 0; b <= BUCKETS; b++)
        sum += get(&of->bucket[b]);
    return sum;
}

static const char *outcome_name(enum sso_code code)
{
    return code == SSO_OK ? "ok" : sso_code_facts(code)->name;
}

static void put_requests(struct encoder *out, struct metrics *metrics)
{
    put_family(out, "sso_hsm_requests_total", "counter",
               "Requests answered, by operation and outcome.");
    for (size_t i = 0; i < operation_count; i++) {
        for (enum sso_code code = SSO_OK; code < SSO_CODES; code++) {
            uint64_t count = answered(&metrics->latency[i][code]);
            if (count > 0)
                put(out, "sso_hsm_requests_total{operation=\"%s\",outcome=\"%s\"} %" PRIu64 "\n",
                    operations[i].name, outcome_name(code), count);
        }
    }
    put(out, "sso_hsm_requests_total{operation=\"unknown\",outcome=\"not_found\"} %" PRIu64 "\n",
        get(&metrics->unknown));
    put_number(out, "sso_hsm_requests_turned_away_total", "counter",
               "Requests refused before anything was done, for too many of them.",
               get(&metrics->turned_away));
}

static void put_latency_of(struct encoder *out, struct latency *of, const char *labels)
{
    const char *name = "sso_hsm_request_duration_seconds";
    uint64_t sum = 0;
    for (size_t b = 0; b < BUCKETS; b++) {
        sum += get(&of->bucket[b]);
        put(out, "%s_bucket{%s,le=\"%g\"} %" PRIu64 "\n", name, labels,
            bucket_microseconds[b] / 1e6, sum);
    }
    sum += get(&of->bucket[BUCKETS]);
    put(out, "%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n", name, labels, sum);
    put(out, "%s_sum{%s} %.6f\n", name, labels, (double)get(&of->microseconds) / 1e6);
    put(out, "%s_count{%s} %" PRIu64 "\n", name, labels, sum);
}

static void put_latency(struct encoder *out, struct metrics *metrics)
{
    put_family(out, "sso_hsm_request_duration_seconds", "histogram",
               "Time from dispatch to reply, by operation and outcome.");
    for (size_t i = 0; i < operation_count; i++) {
        for (enum sso_code code = SSO_OK; code < SSO_CODES; code++) {
            char labels[160];
            struct latency *of = &metrics->latency[i][code];
            snprintf(labels, sizeof labels, "operation=\"%s\",outcome=\"%s\"", operations[i].name,
                     outcome_name(code));
            if (code == SSO_OK || answered(of) > 0)
                put_latency_of(out, of, labels);
        }
    }
}

static void put_pools(struct encoder *out, const struct hsm_status *status,
                      const char *const *names, size_t count)
{
    static const struct {
        const char *name, *type, *help;
    } family[] = {
        {"sso_hsm_workers_wanted", "gauge", "Workers that should run, by token."},
        {"sso_hsm_workers_ready", "gauge", "Workers that serve, by token."},
        {"sso_hsm_worker_sessions", "gauge", "PKCS#11 sessions of all workers, by token."},
        {"sso_hsm_workers_replaced_total", "counter", "Workers replaced, by token."},
    };
    for (size_t f = 0; f < sizeof family / sizeof *family; f++) {
        put_family(out, family[f].name, family[f].type, family[f].help);
        for (size_t i = 0; i < count; i++) {
            const struct hsm_status *of = &status[i];
            double value[] = {of->workers_wanted, of->workers_ready, of->sessions,
                              of->workers_replaced};
            put(out, "%s{token=\"%s\"} %.15g\n", family[f].name, names[i], value[f]);
        }
    }
}

static void put_work(struct encoder *out, const struct hsm_status *status, const char *const *names,
                     size_t count)
{
    put_family(out, "sso_hsm_calls_total", "counter",
               "Row keys that the workers handled, by token and by what was done.");
    for (size_t i = 0; i < count; i++)
        for (enum hsm_work work = 0; work < HSM_WORK_KINDS; work++)
            put(out, "sso_hsm_calls_total{token=\"%s\",kind=\"%s\"} %" PRIu64 "\n", names[i],
                hsm_work_name(work), status[i].work[work].calls);
    put_family(out, "sso_hsm_call_seconds_total", "counter",
               "Time that it took the workers, by token and by what was done.");
    for (size_t i = 0; i < count; i++)
        for (enum hsm_work work = 0; work < HSM_WORK_KINDS; work++)
            put(out, "sso_hsm_call_seconds_total{token=\"%s\",kind=\"%s\"} %.6f\n", names[i],
                hsm_work_name(work), (double)status[i].work[work].microseconds / 1e6);
}

static void put_hsm(struct encoder *out, struct custodian *custodian)
{
    struct hsm *pool[CONFIG_HSM_MAX];
    struct hsm_status status[CONFIG_HSM_MAX];
    const char *names[CONFIG_HSM_MAX];
    size_t count = custodian_pools(custodian, pool);
    for (size_t i = 0; i < count; i++) {
        hsm_status(pool[i], &status[i]);
        names[i] = hsm_name(pool[i]);
    }
    put_pools(out, status, names, count);
    put_work(out, status, names, count);
}

static void put_master(struct encoder *out, struct custodian *custodian)
{
    struct master_view view;
    master_view(custodian->master, &view);
    put_number(out, "sso_hsm_master", "gauge", "1 where this node is the master.", view.me);
    put_number(out, "sso_hsm_master_seen", "gauge", "1 where some node is the master.",
               view.me || view.alive);
    put_number(out, "sso_hsm_master_epoch", "gauge", "Epoch of the master lease, as last seen.",
               view.lease.epoch);
    put_number(out, "sso_hsm_master_changes_total", "counter",
               "How often this node took or lost the master lease.",
               master_changes(custodian->master));
}

static void put_cache(struct encoder *out, struct row_key_cache *cache)
{
    struct row_key_cache_status status;
    row_key_cache_status(cache, &status);
    put_number(out, "sso_hsm_cache_entries", "gauge", "Row keys in the cache.", status.entries);
    put_number(out, "sso_hsm_cache_entries_max", "gauge", "Row keys it may hold.",
               status.max_entries);
    put_number(out, "sso_hsm_cache_hits_total", "counter", "Lookups served from the cache.",
               status.hits);
    put_number(out, "sso_hsm_cache_misses_total", "counter", "Lookups that had to unwrap.",
               status.misses);
}

static void put_rotation(struct encoder *out, struct rotation_manager *rotation)
{
    json_t *status = NULL;
    if (rotation_manager_status(rotation, &status, NULL) != SSO_OK)
        return;
    static const struct {
        const char *member, *name, *help;
    } gauge[] = {
        {"total", "sso_hsm_rotation_rows", "Rows that the latest rotation has to move."},
        {"done", "sso_hsm_rotation_rows_done", "Rows that it moved."},
        {"skipped", "sso_hsm_rotation_rows_skipped", "Rows that were right already."},
        {"failed", "sso_hsm_rotation_rows_failed", "Rows that it could not move."},
        {"rows_per_second", "sso_hsm_rotation_rows_per_second", "Its speed now."},
    };
    put_number(out, "sso_hsm_rotation_running", "gauge", "1 while a rotation runs here.",
               rotation_manager_running(rotation));
    for (size_t i = 0; i < sizeof gauge / sizeof *gauge; i++) {
        json_int_t value = json_integer_value(json_object_get(status, gauge[i].member));
        put_number(out, gauge[i].name, "gauge", gauge[i].help, value > 0 ? (uint64_t)value : 0);
    }
    json_decref(status);
}

/* A generation without a backup, or one that was never drilled, has no line. */
static void put_backup_ages(struct encoder *out, const struct generation *generation, size_t count)
{
    int64_t now_ms = wall_clock_ms();
    put_family(out, "sso_hsm_backup_age_seconds", "gauge", "Age of each generation's backup.");
    for (size_t i = 0; i < count; i++)
        if (generation[i].backed_up_ms != 0)
            put(out, "sso_hsm_backup_age_seconds{generation=\"%u\"} %" PRId64 "\n",
                generation[i].number, (now_ms - generation[i].backed_up_ms) / 1000);
    put_family(out, "sso_hsm_drill_age_seconds", "gauge",
               "Time since each generation's backup was drilled.");
    for (size_t i = 0; i < count; i++)
        if (generation[i].last_drill_ms != 0)
            put(out, "sso_hsm_drill_age_seconds{generation=\"%u\"} %" PRId64 "\n",
                generation[i].number, (now_ms - generation[i].last_drill_ms) / 1000);
}

static void put_generations(struct encoder *out, struct store *store)
{
    struct generation *generation = NULL;
    size_t count = 0;
    STORE_TX_AUTO tx = NULL;
    if (store_begin(store, STORE_READ, &tx, NULL) != SSO_OK ||
        store_generation_list(tx, &generation, &count, NULL) != SSO_OK)
        return;
    int64_t now_ms = wall_clock_ms();
    put_family(out, "sso_hsm_generation_age_seconds", "gauge",
               "Age of each generation, by number and state.");
    for (size_t i = 0; i < count; i++) {
        if (generation[i].state == 0)
            continue; /* its row is damaged */
        put(out, "sso_hsm_generation_age_seconds{generation=\"%u\",state=\"%s\"} %" PRId64 "\n",
            generation[i].number, generation_state_name(generation[i].state),
            (now_ms - generation[i].created_ms) / 1000);
    }
    put_family(out, "sso_hsm_generation_wraps_total", "counter",
               "Wraps made under each generation, counted in blocks.");
    for (size_t i = 0; i < count; i++)
        put(out, "sso_hsm_generation_wraps_total{generation=\"%u\"} %" PRIu64 "\n",
            generation[i].number, generation[i].wraps);
    put_backup_ages(out, generation, count);
    free(generation);
}

static void put_events(struct encoder *out, struct event_board *events)
{
    put_family(out, "sso_hsm_events_total", "counter", "Times each event was raised.");
    for (size_t i = 0; i < EVENTS; i++)
        put(out, "sso_hsm_events_total{event=\"%s\"} %" PRIu64 "\n", event_table[i].name,
            event_count(events, (enum event)i));
}

static void put_tls(struct encoder *out, struct custodian *custodian)
{
    struct tls_validity validity[TLS_FILES];
    tls_validity(custodian->tls, validity);
    put_number(out, "sso_hsm_tls_handshakes_failed_total", "counter",
               "TLS connections that ended before their peer was known.",
               get(&custodian->metrics->handshakes_failed));
    put_family(out, "sso_hsm_tls_expires_timestamp_seconds", "gauge",
               "Until when each file of [tls] is valid.");
    for (size_t i = 0; i < TLS_FILES; i++) {
        if (validity[i].until_ms != 0)
            put(out, "sso_hsm_tls_expires_timestamp_seconds{file=\"%s\"} %" PRId64 "\n",
                tls_file_name[i], validity[i].until_ms / 1000);
    }
}

/* OpenMetrics names a counter without the suffix of its sample, and marks its end. */
static void put_openmetrics(struct encoder *out, const char *text)
{
    static const char suffix[] = "_total ";
    while (*text != '\0') {
        size_t length = strcspn(text, "\n"), skip = 0;
        const char *name = *text == '#' ? memchr(text + 2, ' ', length - 2) : NULL;
        const char *end =
            name != NULL ? memchr(name + 1, ' ', (size_t)(text + length - name - 1)) : NULL;
        if (end != NULL && end - text > (ptrdiff_t)sizeof suffix &&
            memcmp(end + 1 - (sizeof suffix - 1), suffix, sizeof suffix - 1) == 0)
            skip = sizeof suffix - 2;
        size_t before = skip > 0 ? (size_t)(end - text) - skip : 0;
        encode_fixed(out, text, before);
        encode_fixed(out, text + before + skip, length - before - skip);
        encode_fixed(out, "\n", 1);
        text += length + (text[length] == '\n');
    }
    encode_fixed(out, "# EOF\n", 6);
}

char *metrics_text(struct custodian *custodian, bool openmetrics)
{
    struct metrics *metrics = custodian->metrics;
    struct encoder out = {0};
    put_family(&out, "sso_hsm_info", "gauge", "The version of this custodian.");
    put(&out, "sso_hsm_info{version=\"%s\"} 1\n", SSO_HSM_VERSION);
    put_number(&out, "sso_hsm_uptime_seconds", "gauge", "Since this custodian started.",
               (uint64_t)(boot_clock_ms() - custodian->started_ms) / 1000);
    put_number(&out, "sso_hsm_can_encrypt", "gauge", "1 where the last test of wrapping passed.",
               atomic_load(&custodian->can_encrypt));
    put_number(&out, "sso_hsm_can_decrypt", "gauge", "1 where the last test of unwrapping passed.",
               atomic_load(&custodian->can_decrypt));
    put_master(&out, custodian);
    put_number(&out, "sso_hsm_connections", "gauge", "Connections that are open.",
               (uint64_t)atomic_load(&metrics->connections));
    put_number(&out, "sso_hsm_connections_refused_total", "counter",
               "Connections refused above a limit.", get(&metrics->refused));
    if (custodian->tls != NULL)
        put_tls(&out, custodian);
    put_requests(&out, metrics);
    put_latency(&out, metrics);
    put_hsm(&out, custodian);
    put_events(&out, custodian->events);
    if (custodian_database(custodian, NULL) == SSO_OK) {
        put_cache(&out, custodian->cache);
        put_rotation(&out, custodian->rotation);
        put_generations(&out, custodian->store);
    }
    encode_u8(&out, '\0');
    struct encoder open = {0};
    if (openmetrics && !out.failed) {
        put_openmetrics(&open, (const char *)out.data);
        encode_u8(&open, '\0');
    }
    const struct encoder *right = openmetrics ? &open : &out;
    char *text = out.failed || right->failed ? NULL : wiping_strdup((const char *)right->data);
    encoder_free(&open);
    encoder_free(&out);
    return text;
}
