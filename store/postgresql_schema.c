#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "store/migration.h"
#include "store/postgresql.h"

/* What is in our schema, the first of the search path that is there. The comment is the first
 * statement of 0001_initial.sql. */
static const char look_sql[] =
    "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
    " AND relkind IN ('r', 'p', 'v', 'm', 'f')),"
    " (SELECT count(*) FROM pg_class AS c WHERE c.relname = 'schema_migrations'"
    " AND c.relnamespace = current_schema()::regnamespace"
    " AND obj_description(c.oid, 'pg_class') = 'sso-hsm'), current_schema() IS NOT NULL";

static enum sso_code query(struct postgresql_connection *connection, const char *sql,
                           PGresult **out, struct sso_error *err)
{
    const struct postgresql_query look = {.sql = sql};
    return postgresql_ask(connection, &look, out, err);
}

static int64_t integer_at(const PGresult *result, int row, int column)
{
    uint64_t value;
    memcpy(&value, PQgetvalue(result, row, column), sizeof value);
    return (int64_t)be64toh(value);
}

enum sso_code postgresql_look(struct postgresql_connection *connection,
                              enum postgresql_content *out, struct sso_error *err)
{
    PGresult *result = NULL;
    enum sso_code rc = query(connection, look_sql, &result, err);
    if (rc != SSO_OK)
        return rc;
    int64_t tables = integer_at(result, 0, 0), ours = integer_at(result, 0, 1);
    bool has_schema = PQgetvalue(result, 0, 2)[0] == 1;
    PQclear(result);
    if (!has_schema)
        return sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                        "no schema of the search path of %s is there or may be used: make one "
                        "(CREATE SCHEMA) for the role's search_path",
                        connection->store->name);
    *out = ours == 1 ? POSTGRESQL_OURS : POSTGRESQL_NONE;
    if (ours == 1 || tables == 0)
        return SSO_OK;
    return sso_fail(err, SSO_DATABASE_OF_OTHER_SYSTEM,
                    "%s is not a database of sso-hsm: its schema has tables of another program",
                    connection->store->name);
}

/* How many migrations it has, all of them ours. The newest first, so that a newer schema is named
 * as such whatever else it has. */
static enum sso_code count_applied(struct postgresql_connection *connection, unsigned *out,
                                   struct sso_error *err)
{
    static const char sql[] = "SELECT number, checksum FROM schema_migrations ORDER BY number DESC";
    PGresult *result = NULL;
    enum sso_code rc = query(connection, sql, &result, err);
    if (rc != SSO_OK)
        return rc;
    int rows = PQntuples(result);
    for (int i = 0; rc == SSO_OK && i < rows; i++)
        rc = migration_compare(postgresql_migrations, postgresql_migrations_count,
                               &(struct migration_row){
                                   .database = connection->store->name,
                                   .place = (unsigned)(rows - 1 - i),
                                   .number = integer_at(result, i, 0),
                                   .checksum = PQgetvalue(result, i, 1),
                                   .checksum_bytes = (size_t)PQgetlength(result, i, 1),
                               },
                               err);
    PQclear(result);
    *out = (unsigned)rows;
    return rc;
}

enum sso_code postgresql_check_schema(struct postgresql_connection *connection, unsigned *schema,
                                      struct sso_error *err)
{
    enum sso_code rc = count_applied(connection, schema, err);
    if (rc != SSO_OK || *schema == postgresql_migrations_count)
        return rc;
    return migration_older(connection->store->name, *schema, postgresql_migrations_count, err);
}

static enum sso_code record(struct postgresql_connection *connection,
                            const struct migration *migration, struct sso_error *err)
{
    static const char sql[] =
        "INSERT INTO schema_migrations (number, name, checksum, applied_ms) VALUES (?, ?, ?, ?)";
    struct postgresql_tx tx = {.base = {&connection->store->base, STORE_WRITE},
                               .connection = connection};
    SQL_STATEMENT_AUTO statement = {0};
    uint64_t changed = 0;
    enum sso_code rc = sql_prepare(&tx.base, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_u64(&statement, migration->number);
    sql_bind_text(&statement, migration->name);
    sql_bind_bytes(&statement, migration->checksum, sizeof migration->checksum);
    sql_bind_integer(&statement, wall_clock_ms());
    return sql_run(&statement, &changed, err);
}

/* Looks again under the lock: two programs may have come to the empty database together. */
static enum sso_code apply_missing(struct postgresql_connection *connection, struct sso_error *err)
{
    enum postgresql_content content = POSTGRESQL_NONE;
    unsigned applied = 0;
    enum sso_code rc = postgresql_execute(
        connection, "SELECT pg_advisory_xact_lock(hashtextextended('sso-hsm migration', 0))", err);
    if (rc == SSO_OK)
        rc = postgresql_look(connection, &content, err);
    if (rc == SSO_OK && content == POSTGRESQL_OURS)
        rc = count_applied(connection, &applied, err);
    for (unsigned i = applied; rc == SSO_OK && i < postgresql_migrations_count; i++) {
        rc = postgresql_execute(connection, (const char *)postgresql_migrations[i].sql, err);
        if (rc == SSO_OK)
            rc = record(connection, &postgresql_migrations[i], err);
    }
    return rc;
}

enum sso_code postgresql_migrate(struct postgresql_connection *connection, struct sso_error *err)
{
    enum sso_code rc = postgresql_execute(connection, "BEGIN", err);
    if (rc != SSO_OK)
        return rc;
    connection->answer_ms = POSTGRESQL_COUNT_MS;
    rc = apply_missing(connection, err);
    if (rc == SSO_OK)
        rc = postgresql_execute(connection, "COMMIT", err);
    if (rc != SSO_OK && !connection->unusable)
        (void)postgresql_execute(connection, "ROLLBACK", NULL);
    connection->answer_ms = POSTGRESQL_ANSWER_MS;
    return rc;
}
