/*
 * Row keys rewrapped, released, made or wrapped per second through a pool, without a database: what
 * is between p11_reference and P1.
 *
 *   hsm_rate MODULE ENVIRONMENT TOKEN-URI aes256-kw|aes256-gcm rewrap|release|make|wrap WORKERS
 *            SECONDS [THREADS] [BATCH]
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/row.h"
#include "pkcs11/hsm.h"

#define BATCH_MAX 1024
#define ROWS 1024

struct rate {
    struct hsm *hsm;
    const char *operation;
    size_t batch;
    struct key_item *rows;
    _Atomic bool stop;
    _Atomic unsigned long long done;
};

static enum sso_code call(struct rate *rate, struct key_item *items, int64_t deadline,
                          struct sso_error *err)
{
    if (strcmp(rate->operation, "rewrap") == 0)
        return hsm_rewrap(rate->hsm, HSM_BULK, 2, items, rate->batch, deadline, err);
    if (strcmp(rate->operation, "make") == 0)
        return hsm_make(rate->hsm, HSM_LIVE, items, rate->batch, deadline, err);
    if (strcmp(rate->operation, "wrap") == 0)
        return hsm_wrap(rate->hsm, HSM_LIVE, items, rate->batch, deadline, err);
    return hsm_unwrap(rate->hsm, HSM_LIVE, items, rate->batch, deadline, err);
}

static void *caller(void *arg)
{
    struct rate *rate = arg;
    struct sso_error err = {0};
    struct key_item *items = calloc(rate->batch, sizeof *items);
    uint8_t *keys = secret_alloc(rate->batch * ROW_KEY_BYTES);
    if (items == NULL || keys == NULL)
        exit(1);
    for (size_t first = 0; !atomic_load(&rate->stop); first += rate->batch) {
        for (size_t i = 0; i < rate->batch; i++) {
            items[i] = rate->rows[(first + i) % ROWS];
            items[i].row_key = keys + i * ROW_KEY_BYTES;
        }
        enum sso_code code = call(rate, items, boot_clock_ms() + 30000, &err);
        if (code != SSO_OK || items[0].code != SSO_OK) {
            fprintf(stderr, "hsm_rate: %s\n", err.detail);
            exit(1);
        }
        atomic_fetch_add(&rate->done, rate->batch);
    }
    secret_dealloc(keys);
    free(items);
    return NULL;
}

static enum sso_code prepare(struct rate *rate, enum suite_id suite, struct generation_key *keys,
                             struct sso_error *err)
{
    struct evidence evidence;
    uint8_t *row_keys = secret_alloc((size_t)ROWS * ROW_KEY_BYTES);
    enum sso_code code = row_keys != NULL ? SSO_OK : SSO_NO_MEMORY;
    for (uint32_t n = 1; n <= 2 && code == SSO_OK; n++) {
        keys[n - 1] = (struct generation_key){.number = n, .suite = suite};
        code = random_bytes(keys[n - 1].system_id, SYSTEM_ID_BYTES, err);
        if (code == SSO_OK)
            code = hsm_generate(rate->hsm, &keys[n - 1], &evidence, err);
        if (code == SSO_OK)
            code = hsm_open_generation(rate->hsm, &keys[n - 1], false, err);
    }
    for (size_t i = 0; i < ROWS; i++) {
        rate->rows[i].generation = 1;
        rate->rows[i].row_key = row_keys + i * ROW_KEY_BYTES;
    }
    if (code == SSO_OK)
        code = hsm_make(rate->hsm, HSM_LIVE, rate->rows, ROWS, boot_clock_ms() + 60000, err);
    secret_dealloc(row_keys);
    return code;
}

int main(int argc, char **argv)
{
    struct spawner *spawner = NULL;
    struct sso_error err = {0};
    struct generation_key keys[2];
    char state[] = "/tmp/hsm-rate-XXXXXX";
    wiping_allocator_install();
    if (argc < 8) {
        fputs("usage: hsm_rate MODULE ENVIRONMENT TOKEN-URI SUITE rewrap|release|make|wrap WORKERS "
              "SECONDS [THREADS] [BATCH]\n",
              stderr);
        return 2;
    }
    struct config_hsm section = {.name = (char *)"",
                                 .module = argv[1],
                                 .environment = argv[2],
                                 .token = argv[3],
                                 .workers = (unsigned)atoi(argv[6]),
                                 .deadline_ms = 10000,
                                 .worker_memory_limit_bytes = (uint64_t)1 << 30,
                                 .weak_token_accepted = true};
    int thread_count = argc > 8 ? atoi(argv[8]) : 4;
    struct rate rate = {.operation = argv[5], .batch = argc > 9 ? (size_t)atoi(argv[9]) : 256};
    pthread_t threads[64];
    if (thread_count < 1 || thread_count > 64 || rate.batch < 1 || rate.batch > BATCH_MAX)
        return 2;
    rate.rows = calloc(ROWS, sizeof *rate.rows);
    if (rate.rows == NULL || mkdtemp(state) == NULL ||
        spawner_start(getenv("SSO_HSM_WORKER"), &section, 1, &spawner, &err) != SSO_OK ||
        secret_memory_init((size_t)4 << 20, &err) != SSO_OK ||
        hsm_open(&section, state, spawner, false, &rate.hsm, &err) != SSO_OK ||
        prepare(&rate, suite_from_name(argv[4]), keys, &err) != SSO_OK) {
        fprintf(stderr, "hsm_rate: %s\n", err.detail);
        return 1;
    }
    for (int i = 0; i < thread_count; i++)
        pthread_create(&threads[i], NULL, caller, &rate);
    sleep(1);
    unsigned long long first = rate.done;
    int64_t began = boot_clock_ms();
    sleep((unsigned)atoi(argv[7]));
    unsigned long long rows = rate.done - first;
    int64_t took = boot_clock_ms() - began;
    rate.stop = true;
    for (int i = 0; i < thread_count; i++)
        pthread_join(threads[i], NULL);
    struct hsm_status status;
    hsm_status(rate.hsm, &status);
    uint64_t items = 0, microseconds = 0;
    for (size_t i = 0; i < HSM_WORK_KINDS; i++) {
        items += status.work[i].calls;
        microseconds += status.work[i].microseconds;
    }
    printf("worker_microseconds=%.1f ", (double)microseconds / (double)items);
    printf("suite=%s operation=%s workers=%s threads=%d batch=%zu rows_per_second=%.0f\n", argv[4],
           argv[5], argv[6], thread_count, rate.batch, (double)rows * 1000 / (double)took);
    for (size_t n = 0; n < 2; n++)
        if (hsm_destroy_key(rate.hsm, &keys[n], &err) != SSO_OK)
            fprintf(stderr, "hsm_rate: %s\n", err.detail);
    hsm_close(&rate.hsm);
    spawner_stop(&spawner);
    free(rate.rows);
    return 0;
}
