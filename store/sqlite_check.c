#include <stdlib.h>
#include <string.h>

#include "store/sqlite_statement.h"

#define LINES_PER_CHECK "1000"
#define ROW_NAME "'credential row ' || lower(hex(c.row_id))"

/* Each gives one text for each thing found. */
static const char *const checks[] = {
    "PRAGMA integrity_check(" LINES_PER_CHECK ")",

    "SELECT 'the ' || type || ' ' || name || ' is not ours' FROM sqlite_schema"
    " WHERE type IN ('trigger', 'view') ORDER BY name LIMIT " LINES_PER_CHECK,

    "SELECT 'the setting ' || wanted.name || ' is missing' FROM"
    " (SELECT '" SETTING_SYSTEM_ENABLED "' AS name UNION ALL SELECT '" SETTING_REVOCATION "')"
    " AS wanted WHERE EXISTS (SELECT 1 FROM system)"
    " AND NOT EXISTS (SELECT 1 FROM settings AS s WHERE s.name = wanted.name)",

    "SELECT count(*) || ' generations are active' FROM generations WHERE state = 2"
    " HAVING count(*) > 1",

    "SELECT " ROW_NAME " || ' belongs to an application that does not exist'"
    " FROM credentials AS c"
    " WHERE NOT EXISTS (SELECT 1 FROM applications AS a WHERE a.id = c.application_id)"
    " LIMIT " LINES_PER_CHECK,

    "SELECT " ROW_NAME " || ' is under generation ' || c.generation || ', which does not exist'"
    " FROM credentials AS c"
    " WHERE NOT EXISTS (SELECT 1 FROM generations AS g WHERE g.number = c.generation)"
    " LIMIT " LINES_PER_CHECK,

    "SELECT " ROW_NAME " || ' stands without its mapping' FROM credentials AS c"
    " WHERE NOT EXISTS (SELECT 1 FROM mappings AS m"
    " WHERE m.application_id = c.application_id AND m.principal = c.principal)"
    " LIMIT " LINES_PER_CHECK,

    "SELECT 'a mapping of ' || count(*) || ' principals belongs to an application that does not"
    " exist: ' || lower(hex(m.application_id)) FROM mappings AS m"
    " WHERE NOT EXISTS (SELECT 1 FROM applications AS a WHERE a.id = m.application_id)"
    " GROUP BY m.application_id LIMIT " LINES_PER_CHECK,

    "SELECT 'sealed key ' || lower(hex(k.key_id)) || ' is under generation ' || k.generation ||"
    " ', which does not exist' FROM sealed_keys AS k"
    " WHERE NOT EXISTS (SELECT 1 FROM generations AS g WHERE g.number = k.generation)"
    " LIMIT " LINES_PER_CHECK,

    "SELECT 'a token is said to hold generation ' || t.generation || ', which does not exist'"
    " FROM generation_tokens AS t"
    " WHERE NOT EXISTS (SELECT 1 FROM generations AS g WHERE g.number = t.generation)"
    " LIMIT " LINES_PER_CHECK,

    "SELECT 'row ' || lower(hex(q.row_id)) || ' is in quarantine and does not exist'"
    " FROM quarantine AS q"
    " WHERE NOT EXISTS (SELECT 1 FROM credentials AS c WHERE c.row_id = q.row_id)"
    " LIMIT " LINES_PER_CHECK,
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

/* integrity_check gives many lines in one value. */
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

/* A check that a damaged page stops is a finding; the others go on. */
static enum sso_code run_check(struct store_tx *tx, const char *sql, struct lines *lines,
                               struct sso_error *err)
{
    SQLITE_STATEMENT_AUTO statement = {0};
    struct sso_error why = {0};
    bool row = true;
    enum sso_code rc = sqlite_prepare(tx, sql, &statement, &why);
    while (rc == SSO_OK && row) {
        rc = sqlite_step(&statement, &row, &why);
        if (rc != SSO_OK || !row)
            break;
        const char *text = (const char *)sqlite3_column_text(statement.handle, 0);
        if (text != NULL)
            rc = add_lines(lines, text, &why);
    }
    if (rc == SSO_DATABASE_UNAVAILABLE)
        return add_line(lines, why.detail, err);
    if (rc != SSO_OK && err != NULL)
        *err = why;
    return rc;
}

enum sso_code sqlite_check_structure(struct store_tx *tx, char ***lines, size_t *count,
                                     struct sso_error *err)
{
    struct lines found = {0};
    enum sso_code rc = SSO_OK;
    for (size_t i = 0; rc == SSO_OK && i < sizeof checks / sizeof checks[0]; i++)
        rc = run_check(tx, checks[i], &found, err);
    if (rc != SSO_OK) {
        store_lines_free(&found.text, found.count);
        return rc;
    }
    *lines = found.text;
    *count = found.count;
    return SSO_OK;
}
