#include <stdlib.h>

#include "store/postgresql.h"
#include "store/sql_rows.h"

/* In the order of `place`, which no change of a row changes. Rows go no further than limit_bytes of
 * ciphertext, counted at the server, so that they are not sent in vain; the row that passes the
 * bound is the last. */
#define SCAN(columns, condition)                                                                   \
    "SELECT c.place, c.ciphertext_bytes, " columns " FROM (SELECT c.*,"                            \
    " octet_length(c.ciphertext)::bigint AS ciphertext_bytes,"                                     \
    " (sum(octet_length(c.ciphertext)) OVER (ORDER BY c.place ROWS UNBOUNDED PRECEDING)"           \
    " - octet_length(c.ciphertext))::bigint AS bytes_before FROM (SELECT * FROM credentials AS c"  \
    " WHERE c.place > ?1 AND c.generation < ?2" condition                                          \
    " ORDER BY c.place LIMIT ?3) AS c) AS c WHERE c.bytes_before < ?4 ORDER BY c.place"
#define WITHOUT_QUARANTINED                                                                        \
    " AND NOT EXISTS (SELECT 1 FROM quarantine AS q WHERE q.row_id = c.row_id AND q.retry = 0)"
#define CIPHERTEXTS ", CASE WHEN c.born <= ?5 THEN c.ciphertext END"

/* Behind place, length and the columns of every row. */
static bool has_ciphertext(const struct sql_statement *s)
{
    return postgresql_driver.column(s, CREDENTIAL_COLUMNS_COUNT + 2).type != SQL_NULL;
}

static enum sso_code read_rows(struct sql_statement *s, const struct scan_options *options,
                               struct scan_position *position, struct credential_row *rows,
                               size_t *count, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    bool more = true;
    while (rc == SSO_OK && *count < options->limit) {
        if ((rc = sql_step(s, &more, err)) != SSO_OK || !more)
            break;
        struct credential_row *row = &rows[*count];
        position->started = true;
        position->place = sql_read_integer(s, INT64_MIN, INT64_MAX);
        int64_t length = sql_read_integer(s, 0, INT64_MAX);
        rc = sql_read_credential(s, has_ciphertext(s), row, err);
        row->place = position->place;
        if (row->ciphertext == NULL)
            row->ciphertext_bytes = (size_t)length;
        if (s->damaged)
            row->format = 0;
        *count += rc == SSO_OK;
    }
    return rc;
}

static enum sso_code scan(struct store_tx *tx, const struct scan_options *options,
                          struct scan_position *position, struct credential_row *rows,
                          size_t *count, struct sso_error *err)
{
    static const char all[] = SCAN(CREDENTIAL_COLUMNS CIPHERTEXTS, "");
    static const char clean[] = SCAN(CREDENTIAL_COLUMNS CIPHERTEXTS, WITHOUT_QUARANTINED);
    SQL_STATEMENT_AUTO statement = {0};
    struct scan_position end = *position;
    *count = 0;
    enum sso_code rc = sql_prepare(tx, options->skip_quarantined ? clean : all, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_integer(&statement, end.started ? end.place : INT64_MIN);
    sql_bind_integer(&statement, options->below > 0 ? (int64_t)options->below : INT64_MAX);
    sql_bind_u64(&statement, options->limit);
    sql_bind_u64(&statement, options->limit_bytes > 0 ? options->limit_bytes : INT64_MAX);
    sql_bind_integer(&statement,
                     options->with_ciphertext ? INT64_MAX : (int64_t)options->ciphertext_born);
    rc = read_rows(&statement, options, &end, rows, count, err);
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

static void read_counts(struct sql_statement *s, void *out)
{
    struct generation_rows *rows = out;
    rows->generation = sql_read_u32(s);
    rows->credentials = sql_read_u64(s);
    rows->sealed_keys = sql_read_u64(s);
}

/* All rows are read, in whatever order is quickest (postgresql_connection.c). */
static enum sso_code count_by_generation(struct store_tx *tx, struct generation_rows **out,
                                         size_t *count, struct sso_error *err)
{
    static const char plan_sql[] = "SET LOCAL enable_seqscan = on";
    static const char sql[] =
        "SELECT generation, sum(credentials)::bigint, sum(sealed_keys)::bigint FROM"
        " (SELECT generation, count(*) AS credentials, 0 AS sealed_keys FROM credentials"
        " GROUP BY generation UNION ALL"
        " SELECT generation, 0, count(*) FROM sealed_keys GROUP BY generation) AS counts"
        " GROUP BY generation ORDER BY generation";
    static const struct sql_list list = {"the generation of a row", sizeof **out, read_counts,
                                         NULL};
    SQL_STATEMENT_AUTO plan = {0};
    SQL_STATEMENT_AUTO statement = {0};
    int64_t *answer_ms = &((struct postgresql_tx *)tx)->connection->answer_ms, before = *answer_ms;
    enum sso_code rc = sql_prepare(tx, plan_sql, &plan, err);
    if (rc == SSO_OK)
        rc = sql_run(&plan, NULL, err);
    if (rc == SSO_OK)
        rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    *answer_ms = before > POSTGRESQL_COUNT_MS ? before : POSTGRESQL_COUNT_MS;
    rc = sql_collect(&statement, &list, out, count, err);
    *answer_ms = before;
    return rc;
}

const struct store_scan_ops postgresql_scan_ops = {
    .scan = scan,
    .swap = postgresql_swap,
    .count_by_generation = count_by_generation,
};
