/* How fast a token is, and how much of that is left of it behind workers and frames. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/ceremony/installation.h"
#include "common/clock.h"
#include "common/secret.h"

#define PHASE_MS 200
#define CALLERS_PER_SESSION 2
#define CALLERS_MAX 16
#define BATCH 256
#define WORKERS_MAX 64
#define DEADLINE_MS 60000

static const enum suite_id suites[] = {SUITE_AES256_KW, SUITE_AES256_GCM};
static const unsigned session_counts[] = {1, 4, 16};

/* What the system does with a token: batches of a key that it has, through workers. */
struct load {
    struct hsm *pool;
    const struct sealed_key *sealed;
    uint8_t binding[BINDING_BYTES];
    bool rewrap;
    int64_t until_ms;
    _Atomic uint64_t done;
    _Atomic bool failed;
};

static bool one_batch(struct load *load, struct key_item *items, uint8_t *row_keys)
{
    int64_t deadline_ms = boot_clock_ms() + DEADLINE_MS;
    for (size_t i = 0; i < BATCH; i++) {
        items[i] = (struct key_item){.generation = load->sealed->generation,
                                     .wrapped = load->sealed->wrapped,
                                     .row_key = row_keys + i * ROW_KEY_BYTES};
        memcpy(items[i].binding, load->binding, BINDING_BYTES);
    }
    enum sso_code rc = load->rewrap
                           ? hsm_rewrap(load->pool, HSM_BULK, load->sealed->generation, items,
                                        BATCH, deadline_ms, NULL)
                           : hsm_unwrap(load->pool, HSM_BULK, items, BATCH, deadline_ms, NULL);
    for (size_t i = 0; rc == SSO_OK && i < BATCH; i++)
        rc = items[i].code;
    return rc == SSO_OK;
}

static void *caller_main(void *arg)
{
    struct load *load = arg;
    struct key_item *items = calloc(BATCH, sizeof *items);
    uint8_t *row_keys = secret_alloc((size_t)BATCH * ROW_KEY_BYTES);
    bool sound = items != NULL && row_keys != NULL;
    while (sound && boot_clock_ms() < load->until_ms) {
        sound = one_batch(load, items, row_keys);
        if (sound)
            atomic_fetch_add(&load->done, BATCH);
    }
    if (!sound)
        atomic_store(&load->failed, true);
    secret_dealloc(row_keys);
    free(items);
    return NULL;
}

/* A second; null where it cannot be told. */
static json_t *load_rate(struct load *load, unsigned sessions)
{
    pthread_t threads[CALLERS_MAX];
    unsigned callers = sessions * CALLERS_PER_SESSION, started = 0;
    if (callers > CALLERS_MAX)
        callers = CALLERS_MAX;
    int64_t began_ms = boot_clock_ms();
    atomic_store(&load->done, 0);
    load->until_ms = began_ms + PHASE_MS;
    for (; started < callers; started++)
        if (pthread_create(&threads[started], NULL, caller_main, load) != 0)
            break;
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    int64_t took_ms = boot_clock_ms() - began_ms;
    if (started == 0 || atomic_load(&load->failed))
        return json_null();
    return json_integer((json_int_t)(atomic_load(&load->done) * 1000 / (uint64_t)took_ms));
}

/* The policy key is under the active generation; nothing is written, and under aes256-gcm nothing
 * is wrapped either, since every wrap counts. */
static void measure_system(const struct ceremony *ceremony, struct hsm *pool, enum suite_id suite,
                           json_t *row)
{
    const struct generation *active = installation_active(ceremony);
    struct load load = {.pool = pool};
    struct generation_key key;
    for (size_t i = 0; active != NULL && i < ceremony->sealed_count; i++)
        if (ceremony->sealed[i].generation == active->number)
            load.sealed = &ceremony->sealed[i];
    if (load.sealed == NULL || active->suite != suite)
        return;
    generation_key_of(ceremony->system.id, active, &key);
    if (hsm_open_generation(pool, &key, false, NULL) != SSO_OK)
        return; /* it is in another token */
    struct hsm_status status;
    hsm_status(pool, &status);
    sealed_key_binding(ceremony->system.id, load.sealed, load.binding);
    json_object_set_new(row, "system_releases", load_rate(&load, status.sessions));
    if (suite != SUITE_AES256_KW)
        return;
    load.rewrap = true;
    json_object_set_new(row, "system_rewraps", load_rate(&load, status.sessions));
}

static json_t *row_new(enum suite_id suite, unsigned workers, unsigned sessions)
{
    return json_pack("{s:s, s:i, s:i, s:n, s:n, s:n, s:n, s:n}", "suite", suite_name(suite),
                     "workers", (int)workers, "sessions", (int)sessions, "raw_releases",
                     "raw_rewraps", "system_releases", "system_rewraps", "error");
}

static void measure(const struct ceremony *ceremony, struct hsm *pool,
                    const struct config_hsm *section, json_t *rows)
{
    unsigned workers = (unsigned)section->workers;
    unsigned sessions = (unsigned)section->sessions_per_worker;
    for (size_t s = 0; s < sizeof suites / sizeof suites[0]; s++) {
        struct hsm_bench bench = {suites[s], sessions, PHASE_MS};
        struct hsm_rates rates;
        struct sso_error problem = {0};
        json_t *row = row_new(suites[s], workers, sessions);
        if (hsm_bench(pool, &bench, &rates, &problem) == SSO_OK) {
            json_object_set_new(row, "raw_releases", json_integer((json_int_t)rates.releases));
            json_object_set_new(row, "raw_rewraps", json_integer((json_int_t)rates.rewraps));
            measure_system(ceremony, pool, suites[s], row);
        } else {
            json_object_set_new(row, "error", json_string(problem.detail));
        }
        json_array_append_new(rows, row);
    }
}

/* A pool of so many workers and sessions. */
static enum sso_code bench_with(struct ceremony *ceremony, size_t section, unsigned workers,
                                unsigned sessions, json_t *rows, struct sso_error *err)
{
    struct config_hsm *copy = &ceremony->section[section];
    const struct hsm_options options = {.state_directory = ceremony->config->system.state_directory,
                                        .spawner = ceremony->spawner,
                                        .board = &ceremony->refusals.board};
    *copy = ceremony->config->hsm[section];
    copy->workers = workers;
    copy->sessions_per_worker = sessions;
    enum sso_code rc = hsm_open_with(copy, &options, &ceremony->pool[section], err);
    if (rc != SSO_OK)
        return rc;
    measure(ceremony, ceremony->pool[section], copy, rows);
    hsm_close(&ceremony->pool[section]);
    return SSO_OK;
}

/* As many as the configuration has, or cores. */
static unsigned workers_most(const struct config_hsm *section)
{
    long most =
        section->workers != CONFIG_AUTO ? (long)section->workers : sysconf(_SC_NPROCESSORS_ONLN);
    return most < 1 ? 1 : most > WORKERS_MAX ? WORKERS_MAX : (unsigned)most;
}

enum sso_code ceremony_bench(struct ceremony *ceremony, const char *token, json_t **result,
                             struct sso_error *err)
{
    const struct config *config = ceremony->config;
    const char *name = token != NULL ? token : "";
    size_t section = 0;
    enum sso_code rc = SSO_OK;
    while (section < config->hsm_count && strcmp(config->hsm[section].name, name) != 0)
        section++;
    if (section == config->hsm_count)
        return sso_fail(err, SSO_CONFIG_ERROR, "%s has no section [hsm%s%s]", config->file,
                        name[0] != '\0' ? " " : "", name);
    /* Without a database there is nothing of the system to measure: the token alone, then. */
    (void)!ceremony_open_database(ceremony, NULL);
    json_t *rows = json_array();
    unsigned most = workers_most(&config->hsm[section]);
    for (unsigned workers = 1; rc == SSO_OK && workers <= most; workers *= 2)
        for (size_t i = 0; rc == SSO_OK && i < sizeof session_counts / sizeof session_counts[0];
             i++)
            rc = bench_with(ceremony, section, workers, session_counts[i], rows, err);
    if (rc == SSO_OK)
        *result = json_pack("{s:s, s:O}", "token", name, "rows", rows);
    json_decref(rows);
    return rc;
}
