#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/encode.h"
#include "store/sql_ops.h"
#include "store/sql_statement.h"

#define LINES_PER_CHECK " LIMIT 1000"
#define ID_BYTES_MAX 64

/* Each gives for each thing found a text, an id or NULL, and the rest of the text. */
static const char *const checks[] = {
    "SELECT 'the setting ' || wanted.name || ' is missing', NULL, '' FROM"
    " (SELECT '" SETTING_SYSTEM_ENABLED "' AS name UNION ALL SELECT '" SETTING_REVOCATION "')"
    " AS wanted WHERE EXISTS (SELECT 1 FROM system)"
    " AND NOT EXISTS (SELECT 1 FROM settings AS s WHERE s.name = wanted.name)",

    "SELECT count(*) || ' generations are active', NULL, '' FROM generations WHERE state = 2"
    " HAVING count(*) > 1",

    "SELECT 'credential row ', c.row_id, ' belongs to an application that does not exist'"
    " FROM credentials AS c"
    " WHERE NOT EXISTS (SELECT 1 FROM applications AS a WHERE a.id = "
    "c.application_id)" LINES_PER_CHECK,

    "SELECT 'credential row ', c.row_id, ' is under generation ' || c.generation ||"
    " ', which does not exist' FROM credentials AS c"
    " WHERE NOT EXISTS (SELECT 1 FROM generations AS g WHERE g.number = "
    "c.generation)" LINES_PER_CHECK,

    "SELECT 'credential row ', c.row_id, ' stands without its mapping' FROM credentials AS c"
    " WHERE NOT EXISTS (SELECT 1 FROM mappings AS m"
    " WHERE m.application_id = c.application_id AND m.principal = c.principal)" LINES_PER_CHECK,

    "SELECT 'a mapping of ' || count(*) || ' principals belongs to an application that does not"
    " exist: ', m.application_id, '' FROM mappings AS m"
    " WHERE NOT EXISTS (SELECT 1 FROM applications AS a WHERE a.id = m.application_id)"
    " GROUP BY m.application_id" LINES_PER_CHECK,

    "SELECT 'sealed key ', k.key_id, ' is under generation ' || k.generation ||"
    " ', which does not exist' FROM sealed_keys AS k"
    " WHERE NOT EXISTS (SELECT 1 FROM generations AS g WHERE g.number = "
    "k.generation)" LINES_PER_CHECK,

    "SELECT 'a token is said to hold generation ' || t.generation || ', which does not exist',"
    " NULL, '' FROM generation_tokens AS t"
    " WHERE NOT EXISTS (SELECT 1 FROM generations AS g WHERE g.number = "
    "t.generation)" LINES_PER_CHECK,

    "SELECT 'row ', q.row_id, ' is in quarantine and does not exist'"
    " FROM quarantine AS q"
    " WHERE NOT EXISTS (SELECT 1 FROM credentials AS c WHERE c.row_id = q.row_id)" LINES_PER_CHECK,
};

struct lines {
    char **text;
    size_t count, room;
};

static enum sso_code add_line(struct lines *lines, const char *text, struct sso_error *err)
{
    if (lines->count == lines->room) {
        size_t room = lines->room == 0 ? 16 : lines->room * 2;
        char **larger = reallocarray(lines->text, room, sizeof *larger);
        if (larger == NULL)
            return sso_fail(err, SSO_NO_MEMORY, "no memory for %zu findings", room);
        lines->text = larger;
        lines->room = room;
    }
    lines->text[lines->count] = strdup(text);
    if (lines->text[lines->count] == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a finding");
    lines->count++;
    return SSO_OK;
}

/* SQLite's integrity_check gives many lines in one value. */
static enum sso_code add_lines(struct lines *lines, const char *text, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    char *copy = strdup(text), *rest = copy;
    if (copy == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a finding");
    for (const char *line; rc == SSO_OK && (line = strsep(&rest, "\n")) != NULL;)
        if (line[0] != '\0' && strncmp(line, "***", 3) != 0 && strcmp(line, "ok") != 0)
            rc = add_line(lines, line, err);
    free(copy);
    return rc;
}

/* A text of the database's: one column, or three as above. */
static enum sso_code add_row(struct sql_statement *s, bool with_id, struct lines *lines,
                             struct sso_error *err)
{
    char id[2 * ID_BYTES_MAX + 1] = "", *line = NULL;
    const char *rest = "";
    size_t length, id_length, rest_length = 0;
    const char *text = sql_view_text(s, SIZE_MAX, &length);
    if (with_id) {
        const uint8_t *bytes = sql_view_bytes(s, ID_BYTES_MAX, &id_length);
        hex_encode(bytes, id_length, id);
        rest = sql_view_text(s, SIZE_MAX, &rest_length);
    }
    if (asprintf(&line, "%.*s%s%.*s", (int)length, text != NULL ? text : "", id, (int)rest_length,
                 rest != NULL ? rest : "") < 0)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a finding");
    enum sso_code rc = add_lines(lines, line, err);
    free(line);
    return rc;
}

/* A check that a damaged page stops is a finding; the others go on. */
static enum sso_code run_check(struct store_tx *tx, const char *sql, bool with_id,
                               struct lines *lines, struct sso_error *err)
{
    SQL_STATEMENT_AUTO statement = {0};
    struct sso_error why = {0};
    bool row = true;
    enum sso_code rc = sql_prepare(tx, sql, &statement, &why);
    while (rc == SSO_OK && row) {
        rc = sql_step(&statement, &row, &why);
        if (rc == SSO_OK && row)
            rc = add_row(&statement, with_id, lines, &why);
    }
    if (rc == SSO_DATABASE_UNAVAILABLE)
        return add_line(lines, why.detail, err);
    if (rc != SSO_OK && err != NULL)
        *err = why;
    return rc;
}

enum sso_code sql_check_structure(struct store_tx *tx, char ***lines, size_t *count,
                                  struct sso_error *err)
{
    struct lines found = {0};
    enum sso_code rc = SSO_OK;
    sql_be_patient(tx);
    const char *const *own = tx->store->ops->sql->own_checks;
    for (size_t i = 0; rc == SSO_OK && own[i] != NULL; i++)
        rc = run_check(tx, own[i], false, &found, err);
    for (size_t i = 0; rc == SSO_OK && i < sizeof checks / sizeof checks[0]; i++)
        rc = run_check(tx, checks[i], true, &found, err);
    if (rc != SSO_OK) {
        store_lines_free(&found.text, found.count);
        return rc;
    }
    *lines = found.text;
    *count = found.count;
    return SSO_OK;
}
