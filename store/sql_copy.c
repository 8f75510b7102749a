/* store_copy: row by row, in the order of each table's key, so that what has arrived is compared
 * with what was sent in one walk through both. The rows stay what they are: sealed rows, wrapped
 * keys, tags and the hashes of the audit say nothing of the database they stand in. */
#include "store/sql_copy.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/sql_statement.h"
#include "store/sqlite_file.h"

#define COLUMNS_MAX 32

static enum sql_type type_of(char letter)
{
    return letter == 'i' ? SQL_INTEGER : letter == 't' ? SQL_TEXT : SQL_BYTES;
}

struct row {
    struct sql_value value[COLUMNS_MAX];
    size_t columns;
};

static enum sso_code prepare(struct store_tx *tx, const char *sql, struct sql_statement *out,
                             struct sso_error *err)
{
    enum sso_code rc = sql_prepare(tx, sql, out, err);
    out->streams = true;
    return rc;
}

static enum sso_code next_row(struct sql_statement *s, const struct sql_table *table, bool *found,
                              struct row *out, struct sso_error *err)
{
    enum sso_code rc = sql_step(s, found, err);
    out->columns = strlen(table->types);
    for (size_t i = 0; rc == SSO_OK && *found && i < out->columns; i++) {
        out->value[i] = sql_next_value(s);
        if (out->value[i].type != type_of(table->types[i]))
            rc = sso_fail(err, SSO_POLICY_TAMPERED,
                          "a row of the table %s in %s has a value of a wrong type: the database "
                          "was changed by another hand; `sso-hsm db check` names such rows",
                          table->name, sql_name(s->tx));
    }
    return rc;
}

/* --- copying --- */

static void bind_value(struct sql_statement *s, const struct sql_value *value)
{
    if (value->type == SQL_INTEGER)
        sql_bind_integer(s, value->integer);
    else if (value->type == SQL_TEXT)
        sql_bind_text_of(s, value->bytes, value->length);
    else
        sql_bind_bytes(s, value->bytes, value->length);
}

static enum sso_code copy_table(struct store_tx *from, struct store_tx *to,
                                const struct sql_table *table, uint64_t *rows,
                                struct sso_error *err)
{
    SQL_STATEMENT_AUTO source = {0};
    SQL_STATEMENT_AUTO target = {0};
    struct row row;
    bool found = false;
    enum sso_code rc = prepare(from, table->select, &source, err);
    if (rc == SSO_OK)
        rc = sql_prepare(to, table->insert, &target, err);
    while (rc == SSO_OK && (rc = next_row(&source, table, &found, &row, err)) == SSO_OK && found) {
        for (size_t i = 0; i < row.columns; i++)
            bind_value(&target, &row.value[i]);
        rc = sql_run(&target, NULL, err);
        *rows += rc == SSO_OK;
    }
    return rc;
}

/* --- comparing --- */

static bool is_same(const struct row *a, const struct row *b)
{
    for (size_t i = 0; i < a->columns; i++) {
        const struct sql_value *x = &a->value[i], *y = &b->value[i];
        bool same = x->type == SQL_INTEGER
                        ? x->integer == y->integer
                        : x->length == y->length && memcmp(x->bytes, y->bytes, x->length) == 0;
        if (!same)
            return false;
    }
    return true;
}

static enum sso_code compare_table(struct store_tx *from, struct store_tx *to,
                                   const struct sql_table *table, struct sso_error *err)
{
    SQL_STATEMENT_AUTO source = {0};
    SQL_STATEMENT_AUTO target = {0};
    struct row sent, arrived;
    bool more = true, there = true;
    uint64_t number = 0;
    enum sso_code rc = prepare(from, table->select, &source, err);
    if (rc == SSO_OK)
        rc = prepare(to, table->select, &target, err);
    while (rc == SSO_OK && more) {
        rc = next_row(&source, table, &more, &sent, err);
        if (rc == SSO_OK)
            rc = next_row(&target, table, &there, &arrived, err);
        if (rc == SSO_OK && (more != there || (more && !is_same(&sent, &arrived))))
            rc = sso_fail(err, SSO_INTERNAL,
                          "row %" PRIu64 " of the table %s did not arrive in %s as it was sent",
                          number + 1, table->name, sql_name(to));
        number++;
    }
    return rc;
}

enum sso_code sql_table_is_empty(struct store_tx *tx, const struct sql_table *table, bool *out,
                                 struct sso_error *err)
{
    SQL_STATEMENT_AUTO statement = {0};
    bool found = false;
    enum sso_code rc = sql_prepare(tx, table->probe, &statement, err);
    if (rc == SSO_OK)
        rc = sql_step(&statement, &found, err);
    *out = !found;
    return rc;
}

static enum sso_code must_be_empty(struct store_tx *to, const struct sql_table *table,
                                   struct sso_error *err)
{
    bool empty = false;
    enum sso_code rc = sql_table_is_empty(to, table, &empty, err);
    if (rc == SSO_OK && !empty)
        rc = sso_fail(err, SSO_ALREADY_EXISTS,
                      "%s is not empty (its table %s): a copy goes into an empty database",
                      sql_name(to), table->name);
    return rc;
}

enum sso_code store_copy(struct store *from, struct store *to, uint64_t *rows,
                         struct sso_error *err)
{
    STORE_TX_AUTO source = NULL;
    STORE_TX_AUTO target = NULL;
    *rows = 0;
    enum sso_code rc = store_begin(from, STORE_READ, &source, err);
    if (rc == SSO_OK)
        rc = store_begin(to, STORE_WRITE, &target, err);
    if (rc != SSO_OK)
        return rc;
    sql_be_patient(source);
    sql_be_patient(target);
    for (size_t i = 0; rc == SSO_OK && i < sql_tables_count; i++)
        rc = must_be_empty(target, &sql_tables[i], err);
    for (size_t i = 0; rc == SSO_OK && i < sql_tables_count; i++)
        rc = copy_table(source, target, &sql_tables[i], rows, err);
    for (size_t i = 0; rc == SSO_OK && i < sql_tables_count; i++)
        rc = compare_table(source, target, &sql_tables[i], err);
    return rc == SSO_OK ? store_commit(&target, err) : rc;
}

/* --- a backup --- */

/* The copy grows beside its name, and gets it when it is whole. */
enum sso_code sql_backup(struct store *store, const char *path, struct sso_error *err)
{
    char url[PATH_MAX + 16];
    struct store *copy = NULL;
    uint64_t rows = 0;
    if (strchr(path, '?') != NULL)
        return sso_fail(err, SSO_CONFIG_ERROR, "the backup %s: a name with ? is not taken", path);
    enum sso_code rc = sqlite_make_file(path, err);
    if (rc != SSO_OK)
        return rc;
    snprintf(url, sizeof url, "sqlite:%s", path);
    rc = store_create(url, &copy, err);
    if (rc == SSO_OK)
        rc = store_copy(store, copy, &rows, err);
    store_close(&copy);
    if (rc == SSO_OK)
        rc = sqlite_close_file(path, err);
    if (rc != SSO_OK)
        sqlite_remove_file(path);
    return rc;
}
