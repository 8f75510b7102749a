/* Opens every credential row. One thread reads, in one snapshot, and looks at mappings; several
 * have the row keys unwrapped and open the rows. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ceremony/findings.h"
#include "common/clock.h"
#include "common/row.h"
#include "common/secret.h"

#define BATCH_ROWS 512
#define BATCH_BYTES ((size_t)4 << 20)
#define OPENERS_MAX 64
#define QUEUED_MAX 4
#define PROGRESS_MS 500
#define DEADLINE_MS 120000

struct batch {
    struct credential_row row[BATCH_ROWS];
    struct sso_error mapping[BATCH_ROWS]; /* code SSO_OK: the row's mapping is sound */
    size_t count;
    struct batch *next;
};

struct row_check {
    struct ceremony *ceremony;
    struct findings *findings;
    struct application *application; /* all */
    size_t application_count;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct batch *first, **last;
    size_t queued;
    bool read_all;
    struct sso_error stopped; /* code SSO_OK: goes on */
};

static const struct application *application_of(const struct row_check *check,
                                                const struct credential_row *row)
{
    for (size_t i = 0; i < check->application_count; i++) {
        if (memcmp(check->application[i].id, row->application_id, APPLICATION_ID_BYTES) == 0)
            return &check->application[i];
    }
    return NULL;
}

static void free_batch(struct batch *batch)
{
    if (batch == NULL)
        return;
    for (size_t i = 0; i < batch->count; i++)
        credential_row_free(&batch->row[i]);
    free(batch);
}

static void stop(struct row_check *check, const struct sso_error *why)
{
    pthread_mutex_lock(&check->lock);
    if (check->stopped.code == SSO_OK)
        check->stopped = *why;
    pthread_cond_broadcast(&check->changed);
    pthread_mutex_unlock(&check->lock);
}

/* --- opening --- */

static enum sso_code open_one(struct row_check *check, const struct credential_row *row,
                              const struct key_item *item, struct sso_error *problem)
{
    struct credential_fields fields = {0};
    if (application_of(check, row) == NULL)
        return sso_fail(problem, SSO_ROW_CORRUPT, "the row belongs to no application");
    if (row->format == 0)
        return sso_fail(problem, SSO_ROW_CORRUPT, "the row's columns cannot be those of a row");
    if (item->code != SSO_OK)
        return sso_fail(problem, item->code, "the row key does not open: %s",
                        sso_code_facts(item->code)->title);
    enum sso_code rc = row_open(check->ceremony->system.id, row, item->row_key, &fields, problem);
    credential_fields_free(&fields);
    return rc;
}

static void judge_row(struct row_check *check, const struct batch *batch, size_t i,
                      const struct key_item *item)
{
    const struct credential_row *row = &batch->row[i];
    const struct application *application = application_of(check, row);
    struct sso_error problem = {0};
    enum sso_code rc = open_one(check, row, item, &problem);
    if (rc == SSO_OK && batch->mapping[i].code != SSO_OK) {
        problem = batch->mapping[i];
        rc = problem.code;
    }
    if (rc != SSO_OK)
        findings_add(check->findings,
                     &(struct failure){.row = row,
                                       .application = application != NULL ? application->name : "",
                                       .principal = row->principal,
                                       .generation = row->generation,
                                       .error = &problem});
    pthread_mutex_lock(&check->findings->lock);
    check->findings->rows++;
    check->findings->opened += rc == SSO_OK;
    pthread_mutex_unlock(&check->findings->lock);
}

static enum sso_code open_batch(struct row_check *check, const struct batch *batch,
                                struct key_item *items, uint8_t *row_keys, struct sso_error *err)
{
    for (size_t i = 0; i < batch->count; i++) {
        items[i] = (struct key_item){.generation = batch->row[i].generation,
                                     .wrapped = batch->row[i].wrapped,
                                     .row_key = row_keys + i * ROW_KEY_BYTES};
        row_binding_digest(check->ceremony->system.id, &batch->row[i], items[i].binding);
    }
    enum sso_code rc = keyring_unwrap(check->ceremony->keyring, HSM_BULK, items, batch->count,
                                      boot_clock_ms() + DEADLINE_MS, err);
    for (size_t i = 0; rc == SSO_OK && i < batch->count; i++)
        judge_row(check, batch, i, &items[i]);
    return rc;
}

static struct batch *take_batch(struct row_check *check)
{
    pthread_mutex_lock(&check->lock);
    while (check->first == NULL && !check->read_all && check->stopped.code == SSO_OK)
        pthread_cond_wait(&check->changed, &check->lock);
    struct batch *batch = check->stopped.code == SSO_OK ? check->first : NULL;
    if (batch != NULL) {
        check->first = batch->next;
        if (check->first == NULL)
            check->last = &check->first;
        check->queued--;
        pthread_cond_broadcast(&check->changed);
    }
    pthread_mutex_unlock(&check->lock);
    return batch;
}

static void *run_opener(void *context)
{
    struct row_check *check = context;
    struct key_item *items = calloc(BATCH_ROWS, sizeof *items);
    uint8_t *row_keys = secret_alloc((size_t)BATCH_ROWS * ROW_KEY_BYTES);
    struct sso_error problem = {0};
    if (items == NULL || row_keys == NULL) {
        sso_fail(&problem, SSO_NO_MEMORY, "no locked memory for row keys");
        stop(check, &problem);
    }
    for (struct batch *batch; (batch = take_batch(check)) != NULL; free_batch(batch)) {
        if (open_batch(check, batch, items, row_keys, &problem) != SSO_OK)
            stop(check, &problem);
    }
    secret_dealloc(row_keys);
    free(items);
    return NULL;
}

/* --- reading --- */

static enum sso_code check_mapping(struct row_check *check, struct store_tx *tx,
                                   const struct credential_row *row, struct sso_error *finding,
                                   struct sso_error *err)
{
    struct mapping mapping;
    if (row->format == 0)
        return SSO_OK;
    enum sso_code rc =
        store_mapping_get(tx, row->application_id, row->principal, &mapping, finding);
    if (rc == SSO_NOT_FOUND)
        sso_fail(finding, SSO_ROW_CORRUPT, "the row stands without its mapping");
    else if (rc == SSO_OK)
        rc = policy_check_mapping(&check->ceremony->policy, &mapping, finding);
    if (rc == SSO_DATABASE_UNAVAILABLE)
        return sso_fail(err, rc, "%s", finding->detail);
    return SSO_OK;
}

static enum sso_code read_batch(struct row_check *check, struct store_tx *tx,
                                struct scan_position *position, struct batch *batch,
                                struct sso_error *err)
{
    const struct scan_options options = {
        .with_ciphertext = true, .limit = BATCH_ROWS, .limit_bytes = BATCH_BYTES};
    enum sso_code rc =
        store_credential_scan(tx, &options, position, batch->row, &batch->count, err);
    for (size_t i = 0; rc == SSO_OK && i < batch->count; i++)
        rc = check_mapping(check, tx, &batch->row[i], &batch->mapping[i], err);
    return rc;
}

static bool put_batch(struct row_check *check, struct batch *batch)
{
    pthread_mutex_lock(&check->lock);
    while (check->queued == QUEUED_MAX && check->stopped.code == SSO_OK)
        pthread_cond_wait(&check->changed, &check->lock);
    bool taken = check->stopped.code == SSO_OK;
    if (taken) {
        *check->last = batch;
        check->last = &batch->next;
        check->queued++;
        pthread_cond_broadcast(&check->changed);
    }
    pthread_mutex_unlock(&check->lock);
    return taken;
}

static void show_progress(struct findings *findings, int64_t *shown_ms)
{
    if (!findings->progress || boot_clock_ms() - *shown_ms < PROGRESS_MS)
        return;
    *shown_ms = boot_clock_ms();
    pthread_mutex_lock(&findings->lock);
    fprintf(stderr, "\r%llu of %llu rows, %llu failed\033[K", (unsigned long long)findings->rows,
            (unsigned long long)findings->total, (unsigned long long)findings->failed);
    pthread_mutex_unlock(&findings->lock);
}

static enum sso_code read_all(struct row_check *check, struct store_tx *tx, struct sso_error *err)
{
    struct scan_position position = {0};
    int64_t shown_ms = boot_clock_ms();
    for (;;) {
        show_progress(check->findings, &shown_ms);
        struct batch *batch = calloc(1, sizeof *batch);
        if (batch == NULL)
            return sso_fail(err, SSO_NO_MEMORY, "no memory for rows");
        enum sso_code rc = read_batch(check, tx, &position, batch, err);
        bool more = rc == SSO_OK && batch->count > 0;
        if (!more || !put_batch(check, batch)) {
            free_batch(batch);
            return rc;
        }
    }
}

/* Two for each worker: while one opens rows, the other's batch keeps the worker busy. */
static unsigned openers_wanted(const struct ceremony *ceremony)
{
    unsigned workers = 0;
    for (size_t i = 0; i < CONFIG_HSM_MAX; i++) {
        struct hsm_status status;
        if (ceremony->pool[i] == NULL)
            continue;
        hsm_status(ceremony->pool[i], &status);
        workers += status.workers_wanted;
    }
    return 2 * workers + 1 < OPENERS_MAX ? 2 * workers + 1 : OPENERS_MAX;
}

static enum sso_code run_check(struct row_check *check, struct store_tx *tx, struct sso_error *err)
{
    pthread_t opener[OPENERS_MAX];
    unsigned started = 0, wanted = openers_wanted(check->ceremony);
    enum sso_code rc = SSO_OK;
    for (; rc == SSO_OK && started < wanted; started++) {
        int failure = pthread_create(&opener[started], NULL, run_opener, check);
        if (failure != 0) {
            rc = sso_fail_errno(err, SSO_INTERNAL, failure, "a thread cannot be started");
            break;
        }
    }
    if (rc == SSO_OK)
        rc = read_all(check, tx, err);
    pthread_mutex_lock(&check->lock);
    check->read_all = true;
    if (rc != SSO_OK && check->stopped.code == SSO_OK)
        sso_fail(&check->stopped, rc, "the rows cannot be read");
    pthread_cond_broadcast(&check->changed);
    pthread_mutex_unlock(&check->lock);
    while (started > 0)
        pthread_join(opener[--started], NULL);
    if (check->findings->progress)
        fputs("\r\033[K", stderr);
    if (rc == SSO_OK && check->stopped.code != SSO_OK)
        rc = sso_fail(err, check->stopped.code, "%s", check->stopped.detail);
    return rc;
}

enum sso_code check_credential_rows(struct ceremony *ceremony, struct store_tx *tx,
                                    struct findings *findings, struct sso_error *err)
{
    struct row_check check = {.ceremony = ceremony, .findings = findings};
    check.last = &check.first;
    enum sso_code rc =
        store_application_list(tx, &check.application, &check.application_count, err);
    if (rc != SSO_OK)
        return rc;
    pthread_mutex_init(&check.lock, NULL);
    pthread_cond_init(&check.changed, NULL);
    rc = run_check(&check, tx, err);
    while (check.first != NULL) {
        struct batch *next = check.first->next;
        free_batch(check.first);
        check.first = next;
    }
    pthread_cond_destroy(&check.changed);
    pthread_mutex_destroy(&check.lock);
    free(check.application);
    return rc;
}
