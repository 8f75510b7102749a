#include <stdio.h>

#include "store/sql_statement.h"

static enum sso_code put(struct store_tx *tx, const struct quarantine_entry *entry,
                         struct sso_error *err)
{
    static const char sql[] =
        "INSERT INTO quarantine (row_id, generation, code, reason, since_ms, seen, tries, retry)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, 0) ON CONFLICT (row_id) DO UPDATE SET"
        " generation = ?2, code = ?3, reason = ?4, seen = ?6, tries = quarantine.tries + 1, retry "
        "= 0";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, entry->row_id, sizeof entry->row_id);
    sql_bind_integer(&statement, entry->generation);
    sql_bind_text(&statement, sso_code_facts(entry->code)->name);
    sql_bind_text(&statement, entry->reason);
    sql_bind_integer(&statement, entry->since_ms);
    sql_bind_bytes(&statement, entry->seen, sizeof entry->seen);
    return sql_run(&statement, NULL, err);
}

/* Why the row is here may be that its application or principal cannot be read. */
static void read_if_sound(struct sql_statement *s, char *out, size_t size)
{
    bool damaged = s->damaged;
    sql_read_name(s, out, size);
    s->damaged = damaged;
}

static void read_entry(struct sql_statement *s, void *out)
{
    struct quarantine_entry *entry = out;
    char code[64];
    sql_read_bytes(s, entry->row_id, sizeof entry->row_id);
    entry->generation = sql_read_u32(s);
    sql_read_text(s, code, sizeof code);
    entry->code = sso_code_from_name(code);
    if (entry->code == SSO_OK)
        s->damaged = true;
    sql_read_note(s, entry->reason, sizeof entry->reason);
    entry->tries = (unsigned)sql_read_integer(s, 1, UINT32_MAX);
    entry->since_ms = sql_read_time(s);
    sql_read_bytes(s, entry->seen, sizeof entry->seen);
    entry->retry = sql_read_bool(s);
    read_if_sound(s, entry->application, sizeof entry->application);
    read_if_sound(s, entry->principal, sizeof entry->principal);
}

static void distrust(void *element)
{
    struct quarantine_entry *entry = element;
    entry->code = SSO_ROW_CORRUPT;
    snprintf(entry->reason, sizeof entry->reason,
             "this entry of the quarantine was changed by another hand");
}

static enum sso_code list(struct store_tx *tx, struct quarantine_entry **out, size_t *count,
                          struct sso_error *err)
{
    static const char sql[] =
        "SELECT q.row_id, q.generation, q.code, q.reason, q.tries, q.since_ms, q.seen,"
        " q.retry, a.name, c.principal"
        " FROM quarantine AS q LEFT JOIN credentials AS c ON c.row_id = q.row_id"
        " LEFT JOIN applications AS a ON a.id = c.application_id ORDER BY q.row_id";
    static const struct sql_list rows = {"an entry of the quarantine", sizeof **out, read_entry,
                                         distrust};
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    return rc != SSO_OK ? rc : sql_collect(&statement, &rows, out, count, err);
}

static enum sso_code retry(struct store_tx *tx, const uint8_t *row_id, struct sso_error *err)
{
    static const char one_sql[] = "UPDATE quarantine SET retry = 1 WHERE row_id = ?";
    static const char all_sql[] = "UPDATE quarantine SET retry = 1";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, row_id != NULL ? one_sql : all_sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    if (row_id != NULL)
        sql_bind_bytes(&statement, row_id, ROW_ID_BYTES);
    return sql_run(&statement, NULL, err);
}

static enum sso_code prune(struct store_tx *tx, uint32_t below, struct sso_error *err)
{
    static const char sql[] =
        "DELETE FROM quarantine WHERE NOT EXISTS (SELECT 1 FROM credentials AS c"
        " WHERE c.row_id = quarantine.row_id AND c.generation < ?)";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_integer(&statement, below);
    return sql_run(&statement, NULL, err);
}

static enum sso_code count_entries(struct store_tx *tx, struct quarantine_count *out,
                                   struct sso_error *err)
{
    static const char sql[] = "SELECT count(*), count(CASE WHEN retry <> 0 THEN 1 END)"
                              " FROM quarantine";
    SQL_STATEMENT_AUTO statement = {0};
    bool row = false;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc == SSO_OK)
        rc = sql_step(&statement, &row, err);
    if (rc != SSO_OK)
        return rc;
    out->rows = sql_read_u64(&statement);
    out->to_retry = sql_read_u64(&statement);
    return SSO_OK;
}

const struct store_quarantine_ops sql_quarantine_ops = {
    .put = put,
    .list = list,
    .retry = retry,
    .prune = prune,
    .count = count_entries,
};
