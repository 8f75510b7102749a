#include "common/clock.h"
#include "store/migration.h"
#include "store/sqlite.h"

enum sso_code sqlite_look(struct sqlite_connection *connection, enum sqlite_content *out,
                          struct sso_error *err)
{
    int64_t application_id = 0, objects = 0;
    enum sso_code rc =
        sqlite_query_integer(connection, "PRAGMA application_id", &application_id, err);
    if (rc == SSO_OK)
        rc = sqlite_query_integer(connection, "SELECT count(*) FROM sqlite_schema", &objects, err);
    if (rc != SSO_OK)
        return rc;
    if (application_id == 0 && objects == 0) {
        *out = CONTENT_NONE;
        return SSO_OK;
    }
    *out = CONTENT_OURS;
    if (application_id == SQLITE_APPLICATION_ID)
        return SSO_OK;
    return sso_fail(err, SSO_DATABASE_OF_OTHER_SYSTEM,
                    "%s is not a database of sso-hsm: another program made it",
                    connection->store->path);
}

/* How many migrations it has, all of them ours. The newest first, so that a newer schema is named
 * as such whatever else it has. */
static enum sso_code count_applied(struct sqlite_connection *connection, unsigned *out,
                                   struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    sqlite3_stmt *statement = NULL;
    int64_t rows = 0;
    rc = sqlite_query_integer(connection, "SELECT count(*) FROM schema_migrations", &rows, err);
    if (rc != SSO_OK)
        return rc;
    int result = sqlite3_prepare_v2(
        connection->db, "SELECT number, checksum FROM schema_migrations ORDER BY number DESC", -1,
        &statement, NULL);
    unsigned left = (unsigned)rows;
    while (rc == SSO_OK && result == SQLITE_OK) {
        int step = sqlite3_step(statement);
        if (step == SQLITE_DONE || (step == SQLITE_ROW && left == 0))
            break;
        if (step == SQLITE_ROW)
            rc = migration_compare(sqlite_migrations, sqlite_migrations_count,
                                   &(struct migration_row){
                                       .database = connection->store->path,
                                       .place = --left,
                                       .number = sqlite3_column_int64(statement, 0),
                                       .checksum = sqlite3_column_blob(statement, 1),
                                       .checksum_bytes = (size_t)sqlite3_column_bytes(statement, 1),
                                   },
                                   err);
        else
            result = step;
    }
    if (rc == SSO_OK && result != SQLITE_OK)
        rc = sqlite_failed(connection, result, err);
    sqlite3_finalize(statement);
    *out = (unsigned)rows;
    return rc;
}

enum sso_code sqlite_check_schema(struct sqlite_connection *connection, unsigned *schema,
                                  struct sso_error *err)
{
    enum sso_code rc = count_applied(connection, schema, err);
    if (rc != SSO_OK || *schema == sqlite_migrations_count)
        return rc;
    return migration_older(connection->store->path, *schema, sqlite_migrations_count, err);
}

static enum sso_code record(struct sqlite_connection *connection, const struct migration *migration,
                            struct sso_error *err)
{
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(connection->db,
                                    "INSERT INTO schema_migrations"
                                    " (number, name, checksum, applied_ms) VALUES (?, ?, ?, ?)",
                                    -1, &statement, NULL);
    if (result == SQLITE_OK) {
        sqlite3_bind_int64(statement, 1, migration->number);
        sqlite3_bind_text(statement, 2, migration->name, -1, SQLITE_STATIC);
        sqlite3_bind_blob(statement, 3, migration->checksum, MIGRATION_CHECKSUM_BYTES,
                          SQLITE_STATIC);
        sqlite3_bind_int64(statement, 4, wall_clock_ms());
        result = sqlite3_step(statement);
    }
    sqlite3_finalize(statement);
    return result == SQLITE_DONE ? SSO_OK : sqlite_failed(connection, result, err);
}

/* Looks again under the write lock: two programs may have come to the empty file together. */
static enum sso_code apply_missing(struct sqlite_connection *connection, struct sso_error *err)
{
    enum sqlite_content content = CONTENT_NONE;
    unsigned applied = 0;
    enum sso_code rc = sqlite_look(connection, &content, err);
    if (rc == SSO_OK && content == CONTENT_OURS)
        rc = count_applied(connection, &applied, err);
    if (rc == SSO_OK && content == CONTENT_NONE) {
        char *mark = sqlite3_mprintf("PRAGMA application_id = %d", SQLITE_APPLICATION_ID);
        rc = mark != NULL ? sqlite_execute(connection, mark, err)
                          : sqlite_failed(connection, SQLITE_NOMEM, err);
        sqlite3_free(mark);
    }
    for (unsigned i = applied; rc == SSO_OK && i < sqlite_migrations_count; i++) {
        rc = sqlite_execute(connection, (const char *)sqlite_migrations[i].sql, err);
        if (rc == SSO_OK)
            rc = record(connection, &sqlite_migrations[i], err);
    }
    return rc;
}

enum sso_code sqlite_migrate(struct sqlite_connection *connection, struct sso_error *err)
{
    enum sso_code rc = sqlite_execute(connection, "BEGIN IMMEDIATE", err);
    if (rc != SSO_OK)
        return rc;
    rc = apply_missing(connection, err);
    if (rc == SSO_OK)
        rc = sqlite_execute(connection, "COMMIT", err);
    if (rc != SSO_OK && !sqlite3_get_autocommit(connection->db))
        (void)sqlite_execute(connection, "ROLLBACK", NULL);
    return rc;
}
