/*
 * store_reference PATH ROWS: how fast SQLite itself moves credential rows: a bare loop of scan and
 * compare-and-swap in transactions of 4,096, in one thread, by the statements that cost SQLite
 * least, with the settings of the product (WAL, FULL, secure_delete). Where PATH does not exist it
 * is made with ROWS rows, in the product's schema; else it must be a *copy* of a database, whose
 * credentials (at most ROWS; 0: all) are moved to a generation that does not exist, with row keys
 * that do not open.
 *
 * Prints: rows=N seconds=S rows_per_second=R microseconds_per_row=M
 */
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/migration.h"

#define CHUNK 4096 /* as many rows as a commit of the engine at full speed */
#define WRAPPED_BYTES_MAX 60
#define CIPHERTEXT_BYTES 208 /* an external user's name and a password, padded and sealed */

struct key {
    uint8_t row_id[16];
    int64_t place;
    int64_t generation;
    uint8_t wrapped[WRAPPED_BYTES_MAX];
    int wrapped_bytes;
};

static void must(sqlite3 *db, int result, const char *doing)
{
    if (result == SQLITE_OK || result == SQLITE_DONE || result == SQLITE_ROW)
        return;
    fprintf(stderr, "store_reference: %s: %s\n", doing, sqlite3_errmsg(db));
    exit(1);
}

static void execute(sqlite3 *db, const char *sql)
{
    must(db, sqlite3_exec(db, sql, NULL, NULL, NULL), sql);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    must(db, sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL), sql);
    return statement;
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void fill_random(uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)random();
}

static void insert_row(sqlite3 *db, sqlite3_stmt *insert, long number)
{
    static const uint8_t application_id[16] = {1};
    static uint8_t ciphertext[CIPHERTEXT_BYTES];
    uint8_t bytes[16 + 16 + 12 + 40];
    char principal[48];
    fill_random(bytes, sizeof bytes);
    fill_random(ciphertext, 32);
    uint64_t milliseconds = 1700000000000 + (uint64_t)number / 50; /* UUIDv7 rises with time */
    for (int i = 0; i < 6; i++)
        bytes[i] = (uint8_t)(milliseconds >> (40 - 8 * i));
    snprintf(principal, sizeof principal, "user%08lx.%07ld", (unsigned long)random(), number);
    sqlite3_bind_blob(insert, 1, bytes, 16, SQLITE_TRANSIENT);
    sqlite3_bind_blob(insert, 2, bytes + 44, 40, SQLITE_TRANSIENT);
    sqlite3_bind_blob(insert, 3, application_id, 16, SQLITE_STATIC);
    sqlite3_bind_text(insert, 4, principal, -1, SQLITE_TRANSIENT);
    sqlite3_bind_blob(insert, 5, bytes + 16, 16, SQLITE_TRANSIENT);
    sqlite3_bind_blob(insert, 6, bytes + 32, 12, SQLITE_TRANSIENT);
    sqlite3_bind_blob(insert, 7, ciphertext, sizeof ciphertext, SQLITE_STATIC);
    must(db, sqlite3_step(insert), "insert");
    sqlite3_reset(insert);
}

static void make_rows(sqlite3 *db, long rows)
{
    for (unsigned i = 0; i < sqlite_migrations_count; i++)
        execute(db, (const char *)sqlite_migrations[i].sql);
    sqlite3_stmt *insert =
        prepare(db, "INSERT INTO credentials (row_id, generation, wrapped_row_key, format,"
                    " application_id, principal, external_user, born, row_key_id, nonce, version,"
                    " updated, ciphertext)"
                    " VALUES (?1, 1, ?2, 1, ?3, ?4, ?4, 1, ?5, ?6, 1, 1700000000000, ?7)");
    execute(db, "BEGIN");
    for (long i = 0; i < rows; i++) {
        insert_row(db, insert, i);
        if (i % 10000 == 9999)
            execute(db, "COMMIT; BEGIN");
    }
    execute(db, "COMMIT; PRAGMA wal_checkpoint(TRUNCATE)");
    sqlite3_finalize(insert);
}

static int64_t next_generation(sqlite3 *db)
{
    sqlite3_stmt *highest = prepare(db, "SELECT coalesce(max(generation), 0) FROM credentials");
    must(db, sqlite3_step(highest), "highest generation");
    int64_t next = sqlite3_column_int64(highest, 0) + 1;
    sqlite3_finalize(highest);
    return next;
}

/* The columns that a rewrap needs: all but the ciphertext. */
static int scan(sqlite3 *db, sqlite3_stmt *statement, const struct key *after, int64_t below,
                struct key *keys)
{
    int count = 0;
    sqlite3_bind_int64(statement, 1, after->place);
    sqlite3_bind_int64(statement, 2, below);
    int result;
    while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
        struct key *key = &keys[count++];
        memcpy(key->row_id, sqlite3_column_blob(statement, 0), 16);
        key->generation = sqlite3_column_int64(statement, 1);
        key->wrapped_bytes = sqlite3_column_bytes(statement, 2);
        if (key->wrapped_bytes > WRAPPED_BYTES_MAX)
            exit(1);
        memcpy(key->wrapped, sqlite3_column_blob(statement, 2), (size_t)key->wrapped_bytes);
        key->place = sqlite3_column_int64(statement, 12);
    }
    must(db, result, "scan");
    sqlite3_reset(statement);
    return count;
}

/* The rows of one chunk, in the order of the table. */
struct walk {
    const struct key *keys;
    int count, asked, written;
    uint8_t changed[WRAPPED_BYTES_MAX];
};

static const struct key *find(const struct walk *walk, int *at, int64_t place)
{
    while (*at < walk->count && walk->keys[*at].place < place)
        ++*at;
    return *at < walk->count && walk->keys[*at].place == place ? &walk->keys[*at] : NULL;
}

static int same_bytes(sqlite3_value *value, const uint8_t *bytes, int count)
{
    return sqlite3_value_bytes(value) == count &&
           memcmp(sqlite3_value_blob(value), bytes, (size_t)count) == 0;
}

/* fits(rowid, row_id, generation, wrapped_row_key) */
static void fits(sqlite3_context *context, int count, sqlite3_value **value)
{
    struct walk *walk = sqlite3_user_data(context);
    const struct key *key = find(walk, &walk->asked, sqlite3_value_int64(value[0]));
    (void)count;
    sqlite3_result_int(context, key != NULL && same_bytes(value[1], key->row_id, 16) &&
                                    sqlite3_value_int64(value[2]) == key->generation &&
                                    same_bytes(value[3], key->wrapped, key->wrapped_bytes));
}

/* fresh(rowid) */
static void fresh(sqlite3_context *context, int count, sqlite3_value **value)
{
    struct walk *walk = sqlite3_user_data(context);
    const struct key *key = find(walk, &walk->written, sqlite3_value_int64(value[0]));
    (void)count;
    if (key == NULL)
        return;
    memcpy(walk->changed, key->wrapped, sizeof walk->changed);
    walk->changed[0] ^= 0xff;
    sqlite3_result_blob(context, walk->changed, key->wrapped_bytes, SQLITE_TRANSIENT);
}

/* One statement for a chunk: one for each row costs SQLite half as much again. */
static int swap(sqlite3 *db, sqlite3_stmt *statement, int64_t to, struct walk *walk)
{
    execute(db, "BEGIN IMMEDIATE");
    walk->asked = walk->written = 0;
    sqlite3_bind_int64(statement, 1, to);
    sqlite3_bind_int64(statement, 2, walk->keys[0].place);
    sqlite3_bind_int64(statement, 3, walk->keys[walk->count - 1].place);
    must(db, sqlite3_step(statement), "swap");
    int swapped = sqlite3_changes(db);
    sqlite3_reset(statement);
    execute(db, "COMMIT");
    return swapped;
}

static long move_rows(sqlite3 *db, long limit)
{
    static struct key keys[CHUNK];
    struct key after = {0};
    struct walk walk = {.keys = keys};
    int flags = SQLITE_UTF8 | SQLITE_DIRECTONLY;
    must(db, sqlite3_create_function(db, "fits", 4, flags, &walk, fits, NULL, NULL), "fits");
    must(db, sqlite3_create_function(db, "fresh", 1, flags, &walk, fresh, NULL, NULL), "fresh");
    int64_t to = next_generation(db);
    long moved = 0;
    sqlite3_stmt *scan_statement =
        prepare(db, "SELECT row_id, generation, wrapped_row_key, format, application_id, principal,"
                    " external_user, born, row_key_id, nonce, version, updated, rowid"
                    " FROM credentials NOT INDEXED WHERE rowid > ? AND generation < ?"
                    " ORDER BY rowid LIMIT 4096");
    sqlite3_stmt *swap_statement =
        prepare(db, "UPDATE credentials NOT INDEXED SET generation = ?, wrapped_row_key ="
                    " fresh(rowid) WHERE rowid BETWEEN ? AND ?"
                    " AND fits(rowid, row_id, generation, wrapped_row_key)");
    int count;
    while ((limit == 0 || moved < limit) &&
           (count = scan(db, scan_statement, &after, to, keys)) > 0) {
        after = keys[count - 1];
        walk.count = count;
        moved += swap(db, swap_statement, to, &walk);
    }
    sqlite3_finalize(scan_statement);
    sqlite3_finalize(swap_statement);
    return moved;
}

int main(int argc, char **argv)
{
    sqlite3 *db = NULL;
    if (argc != 3) {
        fprintf(stderr, "usage: store_reference PATH ROWS\n");
        return 2;
    }
    long rows = atol(argv[2]);
    int is_new = access(argv[1], F_OK) != 0;
    must(db, sqlite3_open(argv[1], &db), "open");
    execute(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;"
                "PRAGMA mmap_size = 0; PRAGMA cache_size = -4096;");
    if (is_new)
        make_rows(db, rows);
    double start = seconds_now();
    long moved = move_rows(db, rows);
    double seconds = seconds_now() - start;
    sqlite3_close(db);
    printf("rows=%ld seconds=%.3f rows_per_second=%.0f microseconds_per_row=%.2f\n", moved, seconds,
           (double)moved / seconds, seconds * 1e6 / (double)(moved > 0 ? moved : 1));
    return 0;
}
