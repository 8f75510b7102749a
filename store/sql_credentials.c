#include <stdlib.h>
#include <string.h>

#include "common/encode.h"
#include "store/sql_rows.h"

/* 32 fields with labels, values and their lengths, padded and sealed (common/row.h). */
#define CIPHERTEXT_BYTES_MAX                                                                       \
    (FIELDS_MAX * (FIELD_LABEL_BYTES_MAX + FIELD_VALUE_BYTES_MAX + 8) + 2 * SEAL_PADDING_BYTES +   \
     SEAL_TAG_BYTES)

/* --- reading a row --- */

static enum sso_code read_ciphertext(struct sql_statement *s, struct credential_row *row,
                                     struct sso_error *err)
{
    size_t length;
    const void *bytes = sql_view_bytes(s, CIPHERTEXT_BYTES_MAX, &length);
    if (length < SEAL_TAG_BYTES) {
        s->damaged = true;
        return SSO_OK;
    }
    row->ciphertext = malloc(length);
    if (row->ciphertext == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a row of %zu bytes", length);
    memcpy(row->ciphertext, bytes, length);
    row->ciphertext_bytes = length;
    return SSO_OK;
}

enum sso_code sql_read_credential(struct sql_statement *s, bool with_ciphertext,
                                  struct credential_row *row, struct sso_error *err)
{
    /* Member by member: most of a row's bytes are room for names, and need not be cleared. */
    row->place = 0;
    row->ciphertext = NULL;
    row->ciphertext_bytes = 0;
    sql_read_bytes(s, row->row_id, sizeof row->row_id);
    row->generation = (uint32_t)sql_read_integer(s, 1, UINT32_MAX);
    sql_read_wrapped(s, &row->wrapped);
    row->format = (uint16_t)sql_read_integer(s, 1, UINT16_MAX);
    sql_read_bytes(s, row->application_id, sizeof row->application_id);
    sql_read_name(s, row->principal, sizeof row->principal);
    sql_read_text(s, row->external_user, sizeof row->external_user);
    if (!text_is_clean_utf8(row->external_user, strlen(row->external_user)))
        s->damaged = true; /* it is listed without the row being opened */
    row->born = (uint32_t)sql_read_integer(s, 1, UINT32_MAX);
    sql_read_bytes(s, row->row_key_id, sizeof row->row_key_id);
    sql_read_bytes(s, row->nonce, sizeof row->nonce);
    row->version = (uint64_t)sql_read_integer(s, 1, INT64_MAX);
    row->updated_ms = sql_read_time(s);
    return with_ciphertext ? read_ciphertext(s, row, err) : SSO_OK;
}

enum sso_code sql_check_credential(struct sql_statement *s, struct credential_row *row,
                                   struct sso_error *err)
{
    if (!s->damaged)
        return SSO_OK;
    char id[UUID_TEXT_SIZE];
    uuid_text(row->row_id, id);
    credential_row_free(row);
    return sso_fail(err, SSO_ROW_CORRUPT,
                    "credential row %s has a value of a wrong type or length: the database was "
                    "changed by another hand",
                    id);
}

/* One row whose values are not longer than any of ours can be. */
static enum sso_code step_to_row(struct sql_statement *s, bool *found, struct sso_error *err)
{
    enum sso_code rc = sql_step(s, found, err);
    return rc != SSO_TOO_LARGE
               ? rc
               : sso_fail(err, SSO_ROW_CORRUPT,
                          "a value of the row, or of what goes with it, is longer than any of ours "
                          "can be: the database was changed by another hand");
}

static enum sso_code read_one(struct sql_statement *s, struct credential_row *out,
                              struct sso_error *err)
{
    bool found = false;
    struct credential_row row;
    enum sso_code rc = step_to_row(s, &found, err);
    if (rc == SSO_OK && !found)
        rc = sso_fail(err, SSO_NOT_FOUND, "the credential does not exist");
    if (rc == SSO_OK)
        rc = sql_read_credential(s, true, &row, err);
    if (rc == SSO_OK)
        rc = sql_check_credential(s, &row, err);
    if (rc == SSO_OK)
        *out = row;
    return rc;
}

static enum sso_code get(struct store_tx *tx,
                         const uint8_t application_id[static APPLICATION_ID_BYTES],
                         const char *principal, struct credential_row *out, struct sso_error *err)
{
    static const char sql[] = "SELECT " CREDENTIAL_COLUMNS ", c.ciphertext FROM credentials AS c"
                              " WHERE c.application_id = ? AND c.principal = ?";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, application_id, APPLICATION_ID_BYTES);
    sql_bind_text(&statement, principal);
    rc = read_one(&statement, out, err);
    return rc != SSO_NOT_FOUND
               ? rc
               : sso_fail(err, rc, "%s has no credential in this application", principal);
}

static enum sso_code get_by_id(struct store_tx *tx, const uint8_t row_id[static ROW_ID_BYTES],
                               struct credential_row *out, struct sso_error *err)
{
    static const char sql[] = "SELECT " CREDENTIAL_COLUMNS ", c.ciphertext FROM credentials AS c"
                              " WHERE c.row_id = ?";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, row_id, ROW_ID_BYTES);
    return read_one(&statement, out, err);
}

/* --- writing --- */

static enum sso_code run_with_id(struct store_tx *tx, const char *sql, const uint8_t *row_id,
                                 struct sso_error *err)
{
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, row_id, ROW_ID_BYTES);
    return sql_run(&statement, NULL, err);
}

/* Its credential is another now, or gone: what was noted of the old one no longer holds. */
static enum sso_code forget_notes(struct store_tx *tx, const uint8_t *row_id, struct sso_error *err)
{
    static const char quarantine_sql[] = "DELETE FROM quarantine WHERE row_id = ?";
    static const char exposed_sql[] = "DELETE FROM exposed WHERE row_id = ?";
    enum sso_code rc = run_with_id(tx, quarantine_sql, row_id, err);
    return rc != SSO_OK ? rc : run_with_id(tx, exposed_sql, row_id, err);
}

static void bind_row(struct sql_statement *s, const struct credential_row *row)
{
    sql_bind_bytes(s, row->row_id, sizeof row->row_id);
    sql_bind_bytes(s, row->application_id, sizeof row->application_id);
    sql_bind_text(s, row->principal);
    sql_bind_integer(s, row->generation);
    sql_bind_wrapped(s, &row->wrapped);
    sql_bind_integer(s, row->format);
    sql_bind_text(s, row->external_user);
    sql_bind_integer(s, row->born);
    sql_bind_bytes(s, row->row_key_id, sizeof row->row_key_id);
    sql_bind_bytes(s, row->nonce, sizeof row->nonce);
    sql_bind_u64(s, row->version);
    sql_bind_integer(s, row->updated_ms);
    sql_bind_bytes(s, row->ciphertext, row->ciphertext_bytes);
}

static enum sso_code put(struct store_tx *tx, const struct credential_row *row,
                         uint64_t old_version, struct sso_error *err)
{
    static const char insert_sql[] =
        "INSERT INTO credentials (row_id, application_id, principal, generation, wrapped_row_key,"
        " format, external_user, born, row_key_id, nonce, version, updated, ciphertext)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    static const char update_sql[] =
        "UPDATE credentials SET generation = ?4, wrapped_row_key = ?5, format = ?6,"
        " external_user = ?7, born = ?8, row_key_id = ?9, nonce = ?10, version = ?11,"
        " updated = ?12, ciphertext = ?13"
        " WHERE row_id = ?1 AND application_id = ?2 AND principal = ?3 AND version = ?14";
    SQL_STATEMENT_AUTO statement = {0};
    uint64_t changed = 0;
    enum sso_code rc = sql_prepare(tx, old_version == 0 ? insert_sql : update_sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    bind_row(&statement, row);
    if (old_version != 0)
        sql_bind_u64(&statement, old_version);
    rc = sql_run(&statement, &changed, err);
    if (rc == SSO_OK && changed != 1)
        return sso_fail(err, SSO_VERSION_CONFLICT, "the credential of %s has changed meanwhile",
                        row->principal);
    return rc != SSO_OK || old_version == 0 ? rc : forget_notes(tx, row->row_id, err);
}

static enum sso_code find_version(struct store_tx *tx, const uint8_t *application_id,
                                  const char *principal, struct credential_row *out,
                                  struct sso_error *err)
{
    static const char sql[] = "SELECT row_id, version FROM credentials"
                              " WHERE application_id = ? AND principal = ? /*FOR UPDATE*/";
    SQL_STATEMENT_AUTO statement = {0};
    bool found = false;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, application_id, APPLICATION_ID_BYTES);
    sql_bind_text(&statement, principal);
    rc = sql_step(&statement, &found, err);
    if (rc == SSO_OK && !found)
        rc = sso_fail(err, SSO_NOT_FOUND, "%s has no credential in this application", principal);
    if (rc != SSO_OK)
        return rc;
    /* A damaged version reads as 0, and the row can still be deleted without one. */
    sql_read_bytes(&statement, out->row_id, sizeof out->row_id);
    out->version = sql_read_u64(&statement);
    return SSO_OK;
}

static enum sso_code delete (struct store_tx *tx,
                             const uint8_t application_id[static APPLICATION_ID_BYTES],
                             const char *principal, uint64_t version, struct sso_error *err) {
    static const char sql[] = "DELETE FROM credentials WHERE application_id = ? AND principal = ?";
    struct credential_row row = {0};
    enum sso_code rc = find_version(tx, application_id, principal, &row, err);
    if (rc != SSO_OK) return rc;
    if (version != 0 && version != row.version) return sso_fail(
        err, SSO_VERSION_CONFLICT, "the credential of %s has changed meanwhile", principal);
    SQL_STATEMENT_AUTO statement = {0};
    rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK) return rc;
    sql_bind_bytes(&statement, application_id, APPLICATION_ID_BYTES);
    sql_bind_text(&statement, principal);
    rc = sql_run(&statement, NULL, err);
    return rc != SSO_OK ? rc : forget_notes(tx, row.row_id, err);
}

/* --- pages --- */

static enum sso_code read_page_row(struct sql_statement *s, struct credential_page *page,
                                   struct sso_error *err)
{
    struct credential_row *row = &page->row[page->count];
    struct mapping *mapping = &page->mapping[page->count];
    enum sso_code rc = sql_read_credential(s, false, row, err);
    if (rc != SSO_OK)
        return rc;
    if (s->damaged)
        row->format = 0;
    s->damaged = false;
    *mapping = (struct mapping){0};
    if (!sql_next_is_null(s)) {
        sql_read_mapping(s, mapping);
        if (s->damaged) {
            mapping->state = MAPPING_DISABLED_BY_ADMIN;
            memset(mapping->tag, 0, sizeof mapping->tag);
        }
    }
    /* The next page begins after the last principal: a row without a readable one would send the
     * caller back to the start. `db check` names it. */
    if (row->principal[0] != '\0')
        page->count++;
    return rc;
}

/* A row with a value that SQLite may not make here, behind `after`: its principal alone. */
static enum sso_code pass_over(struct store_tx *tx, const uint8_t *application_id,
                               const char *after, struct credential_page *page,
                               struct sso_error *err)
{
    static const char sql[] = "SELECT c.row_id, c.principal FROM credentials AS c"
                              " WHERE c.application_id = ? AND c.principal > ?"
                              " ORDER BY c.principal LIMIT 1";
    SQL_STATEMENT_AUTO statement = {0};
    struct credential_row *row = &page->row[page->count];
    bool found = false;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, application_id, APPLICATION_ID_BYTES);
    sql_bind_text(&statement, after);
    if ((rc = step_to_row(&statement, &found, err)) != SSO_OK || !found)
        return rc;
    sql_read_bytes(&statement, row->row_id, sizeof row->row_id);
    sql_read_name(&statement, row->principal, sizeof row->principal);
    if (row->principal[0] == '\0')
        return sql_check_row(&statement, "the principal of a credential", err);
    memcpy(row->application_id, application_id, APPLICATION_ID_BYTES);
    page->count++;
    return SSO_OK;
}

static enum sso_code read_page(struct store_tx *tx, const uint8_t *application_id,
                               const char *after, size_t limit, struct credential_page *page,
                               struct sso_error *err)
{
    static const char sql[] =
        "SELECT " CREDENTIAL_COLUMNS ", " MAPPING_COLUMNS " FROM credentials AS c LEFT JOIN"
        " mappings AS m ON m.application_id = c.application_id AND m.principal = c.principal"
        " WHERE c.application_id = ? AND c.principal > ? ORDER BY c.principal";
    SQL_STATEMENT_AUTO statement = {0};
    bool more = true;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, application_id, APPLICATION_ID_BYTES);
    sql_bind_text(&statement, after);
    while (rc == SSO_OK && more && page->count < limit) {
        rc = sql_step(&statement, &more, err);
        if (rc == SSO_OK && more)
            rc = read_page_row(&statement, page, err);
    }
    return rc;
}

static enum sso_code page(struct store_tx *tx,
                          const uint8_t application_id[static APPLICATION_ID_BYTES],
                          const char *after, size_t limit, struct credential_page *out,
                          struct sso_error *err)
{
    struct credential_page result = {0};
    enum sso_code rc = SSO_OK;
    *out = result;
    result.row = calloc(limit, sizeof *result.row);
    result.mapping = calloc(limit, sizeof *result.mapping);
    if (limit > 0 && (result.row == NULL || result.mapping == NULL))
        rc = sso_fail(err, SSO_NO_MEMORY, "no memory for a page of %zu rows", limit);
    for (bool whole = false; rc == SSO_OK && !whole;) {
        const char *from = result.count == 0 ? after : result.row[result.count - 1].principal;
        rc = read_page(tx, application_id, from, limit, &result, err);
        whole = rc == SSO_OK;
        if (rc != SSO_TOO_LARGE)
            continue;
        from = result.count == 0 ? after : result.row[result.count - 1].principal;
        rc = pass_over(tx, application_id, from, &result, err);
    }
    if (rc == SSO_OK)
        *out = result;
    else
        credential_page_free(&result);
    return rc;
}

/* --- lookups --- */

static enum sso_code read_states(struct sql_statement *s, struct lookup_view *view,
                                 struct sso_error *err)
{
    sql_read_application(s, &view->application);
    enum sso_code rc = sql_check_row(s, "an application", err);
    /* A setting that is missing reads as damaged. */
    sql_read_setting(s, &view->system_enabled);
    sql_read_setting(s, &view->revocation);
    if (rc == SSO_OK)
        rc = sql_check_row(s, "the setting " SETTING_SYSTEM_ENABLED " or " SETTING_REVOCATION, err);
    view->has_mapping = !sql_next_is_null(s);
    if (!view->has_mapping) {
        sql_skip(s, MAPPING_COLUMNS_COUNT);
        return rc;
    }
    sql_read_mapping(s, &view->mapping);
    return rc == SSO_OK ? sql_check_row(s, "a mapping", err) : rc;
}

static enum sso_code read_row(struct sql_statement *s, struct lookup_view *view,
                              struct sso_error *err)
{
    view->has_row = !sql_next_is_null(s);
    if (!view->has_row)
        return SSO_OK;
    enum sso_code rc = sql_read_credential(s, true, &view->row, err);
    if (rc == SSO_OK)
        rc = sql_check_credential(s, &view->row, err);
    view->has_generation = rc == SSO_OK && !sql_next_is_null(s);
    if (!view->has_generation)
        return rc;
    sql_read_generation(s, &view->generation);
    return sql_check_row(s, "the row of a generation", err);
}

static enum sso_code lookup(struct store_tx *tx, const char *application, const char *principal,
                            struct lookup_view *out, struct sso_error *err)
{
    static const char sql[] =
        "SELECT " APPLICATION_COLUMNS ", " SETTING_COLUMNS("e") ", " SETTING_COLUMNS(
            "r") ","
                 " " MAPPING_COLUMNS ", " CREDENTIAL_COLUMNS ", c.ciphertext, " GENERATION_COLUMNS
                 " FROM applications AS a"
                 " LEFT JOIN settings AS e ON e.name = '" SETTING_SYSTEM_ENABLED "'"
                 " LEFT JOIN settings AS r ON r.name = '" SETTING_REVOCATION "'"
                 " LEFT JOIN mappings AS m ON m.application_id = a.id AND m.principal = ?2"
                 " LEFT JOIN credentials AS c ON c.application_id = a.id AND c.principal = ?2"
                 " LEFT JOIN generations AS g ON g.number = c.generation"
                 " WHERE lower(a.name) = ?1";
    SQL_STATEMENT_AUTO statement = {0};
    bool found = false;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    *out = (struct lookup_view){0};
    if (rc != SSO_OK)
        return rc;
    char folded[APPLICATION_NAME_SIZE];
    sql_bind_folded(&statement, application, folded);
    sql_bind_text(&statement, principal);
    rc = step_to_row(&statement, &found, err);
    if (rc == SSO_OK && !found)
        rc = sso_fail(err, SSO_NOT_FOUND, "application %s does not exist", application);
    if (rc == SSO_OK)
        rc = read_states(&statement, out, err);
    if (rc == SSO_OK)
        rc = read_row(&statement, out, err);
    if (rc != SSO_OK)
        lookup_view_free(out);
    return rc;
}

const struct store_credential_ops sql_credential_ops = {
    .lookup = lookup,
    .get = get,
    .get_by_id = get_by_id,
    .put = put,
    .delete = delete,
    .page = page,
};
