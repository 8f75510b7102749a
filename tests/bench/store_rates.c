/*
 * store_rates FOLDER ROWS: the same work as store_reference through store/store.h, and the reads
 * that requests and status make, each in its own transactions as in the service. FOLDER must not
 * have rates.db; it is left there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/store.h"

#define CHUNK 1000
#define LOOKUPS 20000

static double now(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static struct sso_error err;

static void must(enum sso_code rc)
{
    if (rc == SSO_OK)
        return;
    fprintf(stderr, "store_rates: %s: %s\n", sso_code_facts(rc)->name, err.detail);
    exit(1);
}

static struct store_tx *begin(struct store *store, enum store_access access)
{
    struct store_tx *tx = NULL;
    must(store_begin(store, access, &tx, &err));
    return tx;
}

static void put_frame(struct store *store)
{
    struct store_tx *tx = begin(store, STORE_WRITE);
    struct generation generation = {.number = 1,
                                    .suite = SUITE_AES256_KW,
                                    .state = GENERATION_ACTIVE,
                                    .canary.wrapped.length_bytes = 40,
                                    .version = 1};
    struct application application = {.id = {1},
                                      .name = "bench",
                                      .type = APPLICATION_INDIVIDUAL,
                                      .field = {{"password", true}},
                                      .field_count = 1,
                                      .users = {"users"},
                                      .user_group_count = 1,
                                      .version = 1};
    struct setting enabled = {.name = SETTING_SYSTEM_ENABLED, .value = "yes", .version = 1};
    struct setting revocation = {.name = SETTING_REVOCATION, .value = "0", .version = 1};
    must(store_generation_insert(tx, &generation, &err));
    must(store_application_insert(tx, &application, &err));
    must(store_setting_put(tx, &enabled, &err));
    must(store_setting_put(tx, &revocation, &err));
    must(store_commit(&tx, &err));
}

static void put_rows(struct store *store, long rows)
{
    uint8_t ciphertext[208] = {0};
    struct store_tx *tx = NULL;
    for (long i = 0; i < rows; i++) {
        struct credential_row row = {.format = ROW_FORMAT,
                                     .application_id = {1},
                                     .generation = 1,
                                     .born = 1,
                                     .wrapped.length_bytes = 40,
                                     .ciphertext = ciphertext,
                                     .ciphertext_bytes = sizeof ciphertext,
                                     .version = 1,
                                     .updated_ms = 1700000000000};
        struct mapping mapping = {
            .application_id = {1}, .state = MAPPING_ENABLED, .updated_ms = 1, .version = 1};
        must(uuid_v7(row.row_id, &err));
        must(random_bytes(row.wrapped.bytes, 40, &err));
        snprintf(row.principal, sizeof row.principal, "user%07ld", i * 7919 % rows);
        strcpy(row.external_user, row.principal);
        strcpy(mapping.principal, row.principal);
        if (tx == NULL)
            tx = begin(store, STORE_WRITE);
        must(store_credential_put(tx, &row, 0, &err));
        must(store_mapping_put(tx, &mapping, &err));
        if (i % CHUNK == CHUNK - 1 || i + 1 == rows)
            must(store_commit(&tx, &err));
    }
}

struct times {
    double scan, swap, commit;
};

static long move_rows(struct store *store, struct times *times)
{
    const struct scan_options options = {.below = 2, .limit = CHUNK};
    struct credential_row *rows = calloc(CHUNK, sizeof *rows);
    struct key_swap *swaps = calloc(CHUNK, sizeof *swaps);
    struct scan_position position = {0};
    size_t count = 0;
    long moved = 0;
    do {
        double at = now(CLOCK_PROCESS_CPUTIME_ID);
        struct store_tx *tx = begin(store, STORE_READ);
        must(store_credential_scan(tx, &options, &position, rows, &count, &err));
        must(store_commit(&tx, &err));
        for (size_t i = 0; i < count; i++) {
            memcpy(swaps[i].row_id, rows[i].row_id, ROW_ID_BYTES);
            swaps[i].place = rows[i].place;
            swaps[i].old_generation = rows[i].generation;
            swaps[i].new_generation = 2;
            swaps[i].old_wrapped = swaps[i].new_wrapped = rows[i].wrapped;
            swaps[i].new_wrapped.bytes[0] ^= 0xff;
        }
        double scanned = now(CLOCK_PROCESS_CPUTIME_ID);
        tx = begin(store, STORE_WRITE);
        must(store_credential_swap(tx, swaps, count, &err));
        double swapped = now(CLOCK_PROCESS_CPUTIME_ID);
        must(store_commit(&tx, &err));
        times->scan += scanned - at;
        times->swap += swapped - scanned;
        times->commit += now(CLOCK_PROCESS_CPUTIME_ID) - swapped;
        for (size_t i = 0; i < count; i++)
            moved += swaps[i].swapped;
    } while (count > 0);
    free(rows);
    free(swaps);
    return moved;
}

static void look_up(struct store *store, long rows)
{
    double start = now(CLOCK_MONOTONIC);
    for (long i = 0; i < LOOKUPS; i++) {
        struct lookup_view view;
        char principal[32];
        snprintf(principal, sizeof principal, "user%07ld", i * 104729 % rows);
        struct store_tx *tx = begin(store, STORE_READ);
        must(store_lookup(tx, "bench", principal, &view, &err));
        must(store_commit(&tx, &err));
        lookup_view_free(&view);
    }
    printf("lookups_per_second=%.0f\n", LOOKUPS / (now(CLOCK_MONOTONIC) - start));
}

static void count_rows(struct store *store)
{
    struct generation_rows *counts = NULL;
    size_t count = 0;
    double start = now(CLOCK_MONOTONIC);
    struct store_tx *tx = begin(store, STORE_READ);
    must(store_count_by_generation(tx, &counts, &count, &err));
    must(store_commit(&tx, &err));
    printf("count_by_generation_milliseconds=%.2f\n", (now(CLOCK_MONOTONIC) - start) * 1e3);
    free(counts);
}

int main(int argc, char **argv)
{
    struct store *store = NULL;
    struct times times = {0};
    char url[512];
    if (argc != 3) {
        fprintf(stderr, "usage: store_rates FOLDER ROWS\n");
        return 2;
    }
    long rows = atol(argv[2]);
    snprintf(url, sizeof url, "sqlite:%s/rates.db", argv[1]);
    must(store_create(url, &store, &err));
    put_frame(store);
    double start = now(CLOCK_MONOTONIC);
    put_rows(store, rows);
    printf("inserts_per_second=%.0f\n", (double)rows / (now(CLOCK_MONOTONIC) - start));
    count_rows(store);
    start = now(CLOCK_MONOTONIC);
    long moved = move_rows(store, &times);
    double seconds = now(CLOCK_MONOTONIC) - start;
    printf("rows=%ld seconds=%.3f rows_per_second=%.0f microseconds_per_row=%.2f\n", moved, seconds,
           (double)moved / seconds, seconds * 1e6 / (double)rows);
    printf("processor microseconds per row: scan=%.2f swap=%.2f commit=%.2f\n",
           times.scan * 1e6 / (double)rows, times.swap * 1e6 / (double)rows,
           times.commit * 1e6 / (double)rows);
    count_rows(store);
    look_up(store, rows);
    store_close(&store);
    return 0;
}
