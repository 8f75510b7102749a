#include <stdlib.h>
#include <string.h>

#include "store/sqlite_rows.h"

/* --- scan --- */

/* INDEXED BY: without statistics SQLite might sort. A position before the first row is generation
 * -1, since a damaged row can have 0. */
#define SCAN(columns, condition)                                                                   \
    "SELECT " columns " FROM credentials AS c INDEXED BY credentials_by_generation"                \
    " WHERE (c.generation, c.row_id) > (?, ?) AND c.generation < ?" condition                      \
    " ORDER BY c.generation, c.row_id LIMIT ?"
#define WITHOUT_QUARANTINED                                                                        \
    " AND NOT EXISTS (SELECT 1 FROM quarantine AS q WHERE q.row_id = c.row_id AND q.retry = 0)"

/* A value that is longer than SQLite may make it here ends a statement at its row. Its key is
 * enough to call it damaged and to go on behind it. */
static const char *key_sql(const struct scan_options *options)
{
    static const char all[] = SCAN("c.row_id, c.generation", "");
    static const char clean[] = SCAN("c.row_id, c.generation", WITHOUT_QUARANTINED);
    return options->skip_quarantined ? clean : all;
}

#define SOME_CIPHERTEXTS ", CASE WHEN c.born <= ? THEN c.ciphertext END"

static bool brings_some(const struct scan_options *options)
{
    return !options->with_ciphertext && options->ciphertext_born > 0;
}

static const char *scan_sql(const struct scan_options *options)
{
    static const char rows[] = SCAN(CREDENTIAL_COLUMNS, "");
    static const char rows_clean[] = SCAN(CREDENTIAL_COLUMNS, WITHOUT_QUARANTINED);
    static const char whole[] = SCAN(CREDENTIAL_COLUMNS ", c.ciphertext", "");
    static const char whole_clean[] =
        SCAN(CREDENTIAL_COLUMNS ", c.ciphertext", WITHOUT_QUARANTINED);
    static const char some[] = SCAN(CREDENTIAL_COLUMNS SOME_CIPHERTEXTS, "");
    static const char some_clean[] = SCAN(CREDENTIAL_COLUMNS SOME_CIPHERTEXTS, WITHOUT_QUARANTINED);
    if (brings_some(options))
        return options->skip_quarantined ? some_clean : some;
    if (options->with_ciphertext)
        return options->skip_quarantined ? whole_clean : whole;
    return options->skip_quarantined ? rows_clean : rows;
}

/* Where the row stands in the order. The constraints of the table see to it that this can be read
 * even of a row that is damaged otherwise. */
static enum sso_code advance(struct sqlite_statement *s, struct scan_position *position,
                             struct sso_error *err)
{
    size_t length = (size_t)sqlite3_column_bytes(s->handle, 0);
    int64_t generation = sqlite3_column_int64(s->handle, 1);
    if (length != ROW_ID_BYTES || generation < 0 || generation > UINT32_MAX)
        return sso_fail(err, SSO_ROW_CORRUPT,
                        "a key in the table of credentials of %s is damaged, so that it cannot be "
                        "read in order: run sso-hsm db check",
                        s->tx->connection->store->path);
    position->started = true;
    position->generation = (uint32_t)generation;
    memcpy(position->row_id, sqlite3_column_blob(s->handle, 0), ROW_ID_BYTES);
    return SSO_OK;
}

static bool has_ciphertext(const struct sqlite_statement *s, const struct scan_options *options)
{
    return options->with_ciphertext ||
           (brings_some(options) &&
            sqlite3_column_type(s->handle, CREDENTIAL_COLUMNS_COUNT) != SQLITE_NULL);
}

static enum sso_code read_rows(struct sqlite_statement *s, const struct scan_options *options,
                               struct scan_position *position, struct credential_row *rows,
                               size_t *count, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    size_t bytes = 0;
    bool more = true;
    while (rc == SSO_OK && *count < options->limit) {
        if ((rc = sqlite_step(s, &more, err)) != SSO_OK || !more)
            break;
        if ((rc = advance(s, position, err)) != SSO_OK)
            break;
        struct credential_row *row = &rows[*count];
        rc = sqlite_read_credential(s, has_ciphertext(s, options), row, err);
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

static void bind_scan(struct sqlite_statement *s, const struct scan_options *options,
                      const struct scan_position *start, size_t limit)
{
    sqlite_bind_integer(s, start->started ? (int64_t)start->generation : -1);
    sqlite_bind_bytes(s, start->row_id, sizeof start->row_id);
    sqlite_bind_integer(s, options->below > 0 ? (int64_t)options->below : (int64_t)UINT32_MAX + 1);
    sqlite_bind_u64(s, limit);
}

/* The first row from `position` on, damaged. */
static enum sso_code pass_over(struct store_tx *tx, const struct scan_options *options,
                               struct scan_position *position, struct credential_row *row,
                               size_t *count, struct sso_error *err)
{
    SQLITE_STATEMENT_AUTO statement = {0};
    const struct scan_position start = *position;
    bool found = false;
    enum sso_code rc = sqlite_prepare(tx, key_sql(options), &statement, err);
    if (rc != SSO_OK)
        return rc;
    bind_scan(&statement, options, &start, 1);
    if ((rc = sqlite_step(&statement, &found, err)) != SSO_OK || !found ||
        (rc = advance(&statement, position, err)) != SSO_OK)
        return rc;
    *row = (struct credential_row){.generation = position->generation};
    memcpy(row->row_id, position->row_id, sizeof row->row_id);
    *count = 1;
    return SSO_OK;
}

static enum sso_code scan(struct store_tx *tx, const struct scan_options *options,
                          struct scan_position *position, struct credential_row *rows,
                          size_t *count, struct sso_error *err)
{
    SQLITE_STATEMENT_AUTO statement = {0};
    const struct scan_position start = *position;
    struct scan_position end = start;
    *count = 0;
    enum sso_code rc = sqlite_prepare(tx, scan_sql(options), &statement, err);
    if (rc != SSO_OK)
        return rc;
    if (brings_some(options))
        sqlite_bind_integer(&statement, options->ciphertext_born);
    bind_scan(&statement, options, &start, options->limit);
    rc = read_rows(&statement, options, &end, rows, count, err);
    if (rc == SSO_TOO_LARGE && *count != 0)
        rc = SSO_OK; /* the next call begins at that row */
    else if (rc == SSO_TOO_LARGE && options->limit > 0)
        rc = pass_over(tx, options, &end, rows, count, err);
    if (rc == SSO_OK) {
        *position = end;
        return SSO_OK;
    }
    for (size_t i = 0; i < *count; i++)
        credential_row_free(&rows[i]);
    *count = 0;
    return rc;
}

/* --- swap --- */

#define SWAP(columns)                                                                              \
    "UPDATE credentials INDEXED BY credentials_by_row_id SET " columns                             \
    " generation = ?, wrapped_row_key = ?"                                                         \
    " WHERE row_id = ? AND generation = ? AND wrapped_row_key = ?"

/* The statement's last five values. */
static enum sso_code swap_one(struct sqlite_statement *s, struct key_swap *one,
                              struct sso_error *err)
{
    uint64_t changed = 0;
    sqlite_bind_integer(s, one->new_generation);
    sqlite_bind_wrapped(s, &one->new_wrapped);
    sqlite_bind_bytes(s, one->row_id, sizeof one->row_id);
    sqlite_bind_integer(s, one->old_generation);
    sqlite_bind_wrapped(s, &one->old_wrapped);
    enum sso_code rc = sqlite_run(s, &changed, err);
    if (rc == SSO_TOO_LARGE)
        rc = SSO_OK; /* it cannot even be read whole (scan): not swapped */
    one->swapped = rc == SSO_OK && changed == 1;
    return rc;
}

static enum sso_code swap_keys(struct store_tx *tx, struct key_swap *swaps, size_t count,
                               struct sso_error *err)
{
    static const char sql[] = SWAP("");
    SQLITE_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sqlite_prepare(tx, sql, &statement, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++)
        if (swaps[i].renewal == NULL)
            rc = swap_one(&statement, &swaps[i], err);
    return rc;
}

static enum sso_code swap_renewed(struct store_tx *tx, struct key_swap *swaps, size_t count,
                                  struct sso_error *err)
{
    static const char sql[] = SWAP("born = ?, row_key_id = ?, nonce = ?, ciphertext = ?,");
    SQLITE_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sqlite_prepare(tx, sql, &statement, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        const struct row_renewal *renewal = swaps[i].renewal;
        if (renewal == NULL)
            continue;
        sqlite_bind_integer(&statement, renewal->born);
        sqlite_bind_bytes(&statement, renewal->row_key_id, sizeof renewal->row_key_id);
        sqlite_bind_bytes(&statement, renewal->nonce, sizeof renewal->nonce);
        sqlite_bind_bytes(&statement, renewal->ciphertext, renewal->ciphertext_bytes);
        rc = swap_one(&statement, &swaps[i], err);
    }
    return rc;
}

static enum sso_code swap(struct store_tx *tx, struct key_swap *swaps, size_t count,
                          struct sso_error *err)
{
    size_t renewed = 0;
    for (size_t i = 0; i < count; i++)
        renewed += swaps[i].renewal != NULL;
    enum sso_code rc = renewed < count ? swap_keys(tx, swaps, count, err) : SSO_OK;
    return rc == SSO_OK && renewed > 0 ? swap_renewed(tx, swaps, count, err) : rc;
}

/* --- counts --- */

static enum sso_code count_one(struct store_tx *tx, const char *sql, const uint32_t *generation,
                               uint64_t *out, struct sso_error *err)
{
    SQLITE_STATEMENT_AUTO statement = {0};
    bool row = false;
    enum sso_code rc = sqlite_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    if (generation != NULL)
        sqlite_bind_integer(&statement, *generation);
    rc = sqlite_step(&statement, &row, err);
    if (rc == SSO_OK)
        *out = sqlite_read_u64(&statement);
    return rc;
}

static void read_generation_number(struct sqlite_statement *s, void *out)
{
    struct generation_rows *rows = out;
    rows->generation = sqlite_read_u32(s);
    rows->sealed_keys = sqlite_read_u64(s);
}

/* The numbers in use, each found by one step into an index, however many rows there are. */
static enum sso_code list_numbers(struct store_tx *tx, struct generation_rows **out, size_t *count,
                                  struct sso_error *err)
{
    static const char sql[] =
        "WITH RECURSIVE used(number) AS ("
        " SELECT min(generation) FROM credentials UNION ALL"
        " SELECT (SELECT min(generation) FROM credentials WHERE generation > used.number)"
        " FROM used WHERE used.number IS NOT NULL),"
        " every(number) AS (SELECT number FROM used WHERE number IS NOT NULL"
        " UNION SELECT generation FROM sealed_keys)"
        " SELECT number, (SELECT count(*) FROM sealed_keys WHERE generation = number)"
        " FROM every ORDER BY number";
    static const struct sqlite_list rows = {"the generation of a sealed key", sizeof **out,
                                            read_generation_number};
    SQLITE_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sqlite_prepare(tx, sql, &statement, err);
    return rc != SSO_OK ? rc : sqlite_collect(&statement, &rows, out, count, err);
}

/* Nearly always all rows are on the newest generation, and SQLite counts a whole index page by page
 * but a range of it row by row (1 M rows: 80 ms): so the newest one gets what the others leave. */
static enum sso_code count_by_generation(struct store_tx *tx, struct generation_rows **out,
                                         size_t *count, struct sso_error *err)
{
    static const char all_sql[] = "SELECT count(*) FROM credentials";
    static const char one_sql[] = "SELECT count(*) FROM credentials WHERE generation = ?";
    struct generation_rows *rows = NULL;
    size_t used = 0;
    uint64_t left = 0;
    enum sso_code rc = list_numbers(tx, &rows, &used, err);
    if (rc == SSO_OK)
        rc = count_one(tx, all_sql, NULL, &left, err);
    for (size_t i = 0; rc == SSO_OK && i + 1 < used; i++) {
        rc = count_one(tx, one_sql, &rows[i].generation, &rows[i].credentials, err);
        left -= rows[i].credentials;
    }
    if (rc != SSO_OK) {
        free(rows);
        return rc;
    }
    if (used > 0)
        rows[used - 1].credentials = left;
    *out = rows;
    *count = used;
    return SSO_OK;
}

const struct store_scan_ops sqlite_scan_ops = {
    .scan = scan,
    .swap = swap,
    .count_by_generation = count_by_generation,
};
