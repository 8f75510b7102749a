#include <stdlib.h>

#include "store/sql_rows.h"
#include "store/sqlite.h"
#include "store/sqlite_swap.h"

/* --- scan --- */

/* In the order of the table itself, which no change of a row changes. A row whose rowid is not
 * above 0 is none that this program inserted; it is met all the same. */
#define SCAN(columns, condition)                                                                   \
    "SELECT c.rowid, length(c.ciphertext), " columns " FROM credentials AS c NOT INDEXED"          \
    " WHERE c.rowid > ? AND c.generation < ?" condition " ORDER BY c.rowid LIMIT ?"
#define WITHOUT_QUARANTINED                                                                        \
    " AND NOT EXISTS (SELECT 1 FROM quarantine AS q WHERE q.row_id = c.row_id AND q.retry = 0)"

/* A value that is longer than SQLite may make it here ends a statement at its row. Its key is
 * enough to call it damaged and to go on behind it. */
static const char *key_sql(bool clean)
{
    static const char all[] = SCAN("c.row_id, c.generation", "");
    static const char sound[] = SCAN("c.row_id, c.generation", WITHOUT_QUARANTINED);
    return clean ? sound : all;
}

#define SOME_CIPHERTEXTS ", CASE WHEN c.born <= ? THEN c.ciphertext END"

static bool brings_some(const struct scan_options *options)
{
    return !options->with_ciphertext && options->ciphertext_born > 0;
}

static const char *scan_sql(const struct scan_options *options, bool clean)
{
    static const char rows[] = SCAN(CREDENTIAL_COLUMNS, "");
    static const char rows_clean[] = SCAN(CREDENTIAL_COLUMNS, WITHOUT_QUARANTINED);
    static const char whole[] = SCAN(CREDENTIAL_COLUMNS ", c.ciphertext", "");
    static const char whole_clean[] =
        SCAN(CREDENTIAL_COLUMNS ", c.ciphertext", WITHOUT_QUARANTINED);
    static const char some[] = SCAN(CREDENTIAL_COLUMNS SOME_CIPHERTEXTS, "");
    static const char some_clean[] = SCAN(CREDENTIAL_COLUMNS SOME_CIPHERTEXTS, WITHOUT_QUARANTINED);
    if (brings_some(options))
        return clean ? some_clean : some;
    if (options->with_ciphertext)
        return clean ? whole_clean : whole;
    return clean ? rows_clean : rows;
}

/* Almost always nothing is in quarantine, and then no row need be looked up there. */
static enum sso_code is_quarantined(struct store_tx *tx, bool *out, struct sso_error *err)
{
    static const char sql[] = "SELECT 1 FROM quarantine WHERE retry = 0 LIMIT 1";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    return rc == SSO_OK ? sql_step(&statement, out, err) : rc;
}

/* Reads the rowid, the first column, and goes on behind it. */
static int64_t advance(struct sql_statement *s, struct scan_position *position)
{
    position->started = true;
    position->place = sql_read_integer(s, INT64_MIN, INT64_MAX);
    return position->place;
}

/* Behind rowid, length and the columns of every row. */
static bool has_ciphertext(const struct sql_statement *s, const struct scan_options *options)
{
    return options->with_ciphertext ||
           (brings_some(options) &&
            sqlite_driver.column(s, CREDENTIAL_COLUMNS_COUNT + 2).type != SQL_NULL);
}

static enum sso_code read_rows(struct sql_statement *s, const struct scan_options *options,
                               struct scan_position *position, struct credential_row *rows,
                               size_t *count, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    size_t bytes = 0;
    bool more = true;
    while (rc == SSO_OK && *count < options->limit) {
        if ((rc = sql_step(s, &more, err)) != SSO_OK || !more)
            break;
        int64_t place = advance(s, position);
        int64_t length = sql_read_integer(s, 0, INT64_MAX);
        struct credential_row *row = &rows[*count];
        rc = sql_read_credential(s, has_ciphertext(s, options), row, err);
        row->place = place;
        if (row->ciphertext == NULL)
            row->ciphertext_bytes = (size_t)length;
        if (s->damaged)
            row->format = 0;
        if (rc == SSO_OK)
            ++*count;
        bytes += row->ciphertext_bytes;
        if (options->limit_bytes > 0 && bytes >= options->limit_bytes)
            break;
    }
    return rc;
}

static void bind_scan(struct sql_statement *s, const struct scan_options *options,
                      const struct scan_position *start, size_t limit)
{
    sql_bind_integer(s, start->started ? start->place : INT64_MIN);
    sql_bind_integer(s, options->below > 0 ? (int64_t)options->below : (int64_t)UINT32_MAX + 1);
    sql_bind_u64(s, limit);
}

/* The first row from `position` on, damaged. */
static enum sso_code pass_over(struct store_tx *tx, const struct scan_options *options, bool clean,
                               struct scan_position *position, struct credential_row *row,
                               size_t *count, struct sso_error *err)
{
    SQL_STATEMENT_AUTO statement = {0};
    const struct scan_position start = *position;
    bool found = false;
    enum sso_code rc = sql_prepare(tx, key_sql(clean), &statement, err);
    if (rc != SSO_OK)
        return rc;
    bind_scan(&statement, options, &start, 1);
    if ((rc = sql_step(&statement, &found, err)) != SSO_OK || !found)
        return rc;
    *row = (struct credential_row){.place = advance(&statement, position)};
    sql_skip(&statement, 1);
    sql_read_bytes(&statement, row->row_id, sizeof row->row_id);
    row->generation = (uint32_t)sql_read_integer(&statement, 0, UINT32_MAX);
    *count = 1;
    return SSO_OK;
}

static enum sso_code scan(struct store_tx *tx, const struct scan_options *options,
                          struct scan_position *position, struct credential_row *rows,
                          size_t *count, struct sso_error *err)
{
    SQL_STATEMENT_AUTO statement = {0};
    const struct scan_position start = *position;
    struct scan_position end = start;
    bool clean = false;
    *count = 0;
    enum sso_code rc = options->skip_quarantined ? is_quarantined(tx, &clean, err) : SSO_OK;
    if (rc == SSO_OK)
        rc = sql_prepare(tx, scan_sql(options, clean), &statement, err);
    if (rc != SSO_OK)
        return rc;
    if (brings_some(options))
        sql_bind_integer(&statement, options->ciphertext_born);
    bind_scan(&statement, options, &start, options->limit);
    rc = read_rows(&statement, options, &end, rows, count, err);
    if (rc == SSO_TOO_LARGE && *count != 0)
        rc = SSO_OK; /* the next call begins at that row */
    else if (rc == SSO_TOO_LARGE && options->limit > 0)
        rc = pass_over(tx, options, clean, &end, rows, count, err);
    if (rc == SSO_OK) {
        *position = end;
        return SSO_OK;
    }
    for (size_t i = 0; i < *count; i++)
        credential_row_free(&rows[i]);
    *count = 0;
    return rc;
}

/* --- counts --- */

struct tally {
    struct generation_rows *rows;
    size_t count, room, last; /* neighbours are of one generation nearly always */
};

static int compare_numbers(const void *a, const void *b)
{
    uint32_t x = ((const struct generation_rows *)a)->generation;
    uint32_t y = ((const struct generation_rows *)b)->generation;
    return x < y ? -1 : x > y;
}

static struct generation_rows *tally_entry(struct tally *tally, uint32_t generation)
{
    for (size_t n = 0; n < tally->count; n++) {
        size_t i = (tally->last + n) % tally->count;
        if (tally->rows[i].generation == generation)
            return &tally->rows[tally->last = i];
    }
    if (tally->count == tally->room) {
        size_t room = tally->room == 0 ? 8 : tally->room * 2;
        struct generation_rows *larger = reallocarray(tally->rows, room, sizeof *larger);
        if (larger == NULL)
            return NULL;
        tally->rows = larger;
        tally->room = room;
    }
    tally->last = tally->count++;
    tally->rows[tally->last] = (struct generation_rows){.generation = generation};
    return &tally->rows[tally->last];
}

/* The generation of each row of a table, one by one: SQLite itself would sort them all first. */
static enum sso_code tally_table(struct store_tx *tx, const char *sql, bool credentials,
                                 struct tally *tally, struct sso_error *err)
{
    SQL_STATEMENT_AUTO statement = {0};
    bool more = false;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    while (rc == SSO_OK && (rc = sql_step(&statement, &more, err)) == SSO_OK && more) {
        struct generation_rows *rows = tally_entry(tally, sql_read_u32(&statement));
        if (rows == NULL)
            return sso_fail(err, SSO_NO_MEMORY, "no memory to count rows");
        rc = sql_check_row(&statement, "the generation of a row", err);
        ++*(credentials ? &rows->credentials : &rows->sealed_keys);
    }
    return rc;
}

static enum sso_code count_by_generation(struct store_tx *tx, struct generation_rows **out,
                                         size_t *count, struct sso_error *err)
{
    struct tally tally = {0};
    static const char credentials[] = "SELECT generation FROM credentials NOT INDEXED";
    static const char sealed_keys[] = "SELECT generation FROM sealed_keys";
    enum sso_code rc = tally_table(tx, credentials, true, &tally, err);
    if (rc == SSO_OK)
        rc = tally_table(tx, sealed_keys, false, &tally, err);
    if (rc != SSO_OK) {
        free(tally.rows);
        return rc;
    }
    if (tally.count > 0)
        qsort(tally.rows, tally.count, sizeof *tally.rows, compare_numbers);
    *out = tally.rows;
    *count = tally.count;
    return SSO_OK;
}

const struct store_scan_ops sqlite_scan_ops = {
    .scan = scan,
    .swap = sqlite_swap,
    .count_by_generation = count_by_generation,
};
