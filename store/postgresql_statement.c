/* The driver of sql_statement.h for PostgreSQL. Parameters and columns are in binary form: integers
 * of 8 bytes, text and bytes as they are. A statement is prepared when it runs first, since only
 * then the types of its parameters are known. */
#include <ctype.h>
#include <endian.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/postgresql.h"

static struct postgresql_tx *tx_of(const struct sql_statement *statement)
{
    return (struct postgresql_tx *)statement->tx;
}

/* --- errors --- */

enum sso_code postgresql_tx_failed(struct postgresql_tx *tx, const struct sso_error *why,
                                   struct sso_error *err)
{
    tx->undone = true;
    tx->why = *why;
    if (err != NULL)
        *err = *why;
    return why->code;
}

static enum sso_code check_tx(const struct postgresql_tx *tx, struct sso_error *err)
{
    if (!tx->undone)
        return SSO_OK;
    return sso_fail(err, tx->why.code, "the transaction was undone before: %s", tx->why.detail);
}

/* --- preparing --- */

#define LOCKS_ROWS "/*FOR UPDATE*/"

/* ? and ?1 to $1; the comment that asks for it to a lock of the rows. Our SQL has no ? in texts. */
static char *translate(const char *sql)
{
    size_t room = 2 * strlen(sql) + 16, used = 0;
    char *out = malloc(room);
    unsigned number = 0;
    for (const char *c = sql; out != NULL && *c != '\0'; c++) {
        if (strncmp(c, LOCKS_ROWS, strlen(LOCKS_ROWS)) == 0) {
            used += (size_t)snprintf(out + used, room - used, "FOR UPDATE");
            c += strlen(LOCKS_ROWS) - 1;
        } else if (*c != '?') {
            out[used++] = *c;
        } else if (isdigit((unsigned char)c[1])) {
            out[used++] = '$';
        } else {
            used += (size_t)snprintf(out + used, room - used, "$%u", ++number);
        }
    }
    if (out != NULL)
        out[used] = '\0';
    return out;
}

static enum sso_code find_prepared(struct postgresql_connection *connection, const char *sql,
                                   struct postgresql_prepared **out, struct sso_error *err)
{
    size_t slot = ((uintptr_t)sql >> 4) % POSTGRESQL_STATEMENTS_MAX;
    while (connection->prepared[slot] != NULL && connection->prepared[slot]->sql != sql)
        slot = (slot + 1) % POSTGRESQL_STATEMENTS_MAX;
    *out = connection->prepared[slot];
    if (*out != NULL)
        return SSO_OK;
    if (connection->prepared_count + 1 == POSTGRESQL_STATEMENTS_MAX)
        return sso_fail(err, SSO_INTERNAL, "the cache of statements is full");
    struct postgresql_prepared *prepared = calloc(1, sizeof *prepared);
    if (prepared == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a statement");
    prepared->sql = sql;
    prepared->number = connection->prepared_count++;
    *out = connection->prepared[slot] = prepared;
    return SSO_OK;
}

static enum sso_code prepare(struct sql_statement *statement, const char *sql,
                             struct sso_error *err)
{
    struct postgresql_prepared *prepared = NULL;
    enum sso_code rc = check_tx(tx_of(statement), err);
    if (rc == SSO_OK)
        rc = find_prepared(tx_of(statement)->connection, sql, &prepared, err);
    statement->handle = prepared;
    return rc;
}

static void forget_result(struct postgresql_prepared *prepared)
{
    PQclear(prepared->result);
    prepared->result = NULL;
    prepared->row = 0;
}

static void finish(struct sql_statement *statement)
{
    struct postgresql_prepared *prepared = statement->handle;
    if (prepared->streaming)
        postgresql_end_stream(tx_of(statement)->connection);
    prepared->streaming = false;
    forget_result(prepared);
    prepared->parameters = 0;
}

/* --- parameters --- */

void postgresql_bind(struct sql_statement *statement, Oid type, const void *bytes, size_t count)
{
    struct postgresql_prepared *prepared = statement->handle;
    int at = statement->parameter++;
    if (at >= POSTGRESQL_PARAMETERS_MAX || count > INT32_MAX ||
        (prepared->known && prepared->type[at] != type)) {
        statement->unfit = true;
        return;
    }
    prepared->type[at] = type;
    prepared->value[at] = bytes;
    prepared->length[at] = (int)count;
    prepared->parameters = at + 1;
}

static void bind(struct sql_statement *statement, int parameter, const struct sql_value *value)
{
    struct postgresql_prepared *prepared = statement->handle;
    statement->parameter = parameter - 1;
    if (parameter > POSTGRESQL_PARAMETERS_MAX) {
        statement->unfit = true;
    } else if (value->type == SQL_INTEGER) {
        uint64_t *integer = &prepared->integer[parameter - 1];
        *integer = htobe64((uint64_t)value->integer);
        postgresql_bind(statement, POSTGRESQL_INT8, integer, sizeof *integer);
    } else {
        postgresql_bind(statement, value->type == SQL_TEXT ? POSTGRESQL_TEXT : POSTGRESQL_BYTEA,
                        value->bytes, value->length);
    }
}

/* --- running --- */

/* Makes the statement known to the server, in an exchange of its own: once per connection. */
static enum sso_code make_known(struct postgresql_connection *connection,
                                struct postgresql_prepared *prepared, struct sso_error *err)
{
    if (prepared->known)
        return SSO_OK;
    char name[16];
    char *text = translate(prepared->sql);
    if (text == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a statement");
    snprintf(name, sizeof name, "s%u", prepared->number);
    const struct postgresql_query query = {
        .sql = text, .prepared = prepared, .name_to_prepare = name};
    PGresult *result = NULL;
    enum sso_code rc = postgresql_ask(connection, &query, &result, err);
    PQclear(result);
    free(text);
    prepared->known = rc == SSO_OK;
    return rc;
}

/* `result` NULL: queued. */
static enum sso_code send_it(struct sql_statement *statement, PGresult **result,
                             struct sso_error *err)
{
    struct postgresql_tx *tx = tx_of(statement);
    const struct postgresql_query query = {.prepared = statement->handle};
    struct sso_error why = {0};
    enum sso_code rc = check_tx(tx, err);
    if (rc != SSO_OK)
        return rc;
    rc = make_known(tx->connection, statement->handle, &why);
    if (rc == SSO_OK && result == NULL)
        rc = postgresql_queue(tx->connection, &query, &why);
    else if (rc == SSO_OK && statement->streams)
        rc = postgresql_stream(tx->connection, &query, &why);
    else if (rc == SSO_OK)
        rc = postgresql_ask(tx->connection, &query, result, &why);
    return rc == SSO_OK ? rc : postgresql_tx_failed(tx, &why, err);
}

static enum sso_code step_stream(struct sql_statement *statement, bool *row, struct sso_error *err)
{
    struct postgresql_prepared *prepared = statement->handle;
    struct postgresql_tx *tx = tx_of(statement);
    struct sso_error why = {0};
    if (!prepared->streaming) {
        enum sso_code rc = send_it(statement, &prepared->result, err);
        if (rc != SSO_OK)
            return rc;
        prepared->streaming = true;
    }
    forget_result(prepared);
    enum sso_code rc = postgresql_next_row(tx->connection, &prepared->result, &why);
    *row = prepared->result != NULL;
    prepared->row = 1;
    prepared->streaming = *row;
    return rc == SSO_OK ? rc : postgresql_tx_failed(tx, &why, err);
}

static enum sso_code step(struct sql_statement *statement, bool *row, struct sso_error *err)
{
    struct postgresql_prepared *prepared = statement->handle;
    enum sso_code rc = SSO_OK;
    if (statement->streams)
        return step_stream(statement, row, err);
    if (prepared->result == NULL)
        rc = send_it(statement, &prepared->result, err);
    *row = rc == SSO_OK && prepared->row < PQntuples(prepared->result);
    prepared->row += *row;
    return rc;
}

static enum sso_code run(struct sql_statement *statement, uint64_t *changed, struct sso_error *err)
{
    struct postgresql_prepared *prepared = statement->handle;
    if (changed == NULL)
        return send_it(statement, NULL, err);
    enum sso_code rc = send_it(statement, &prepared->result, err);
    if (rc == SSO_OK)
        *changed = strtoull(PQcmdTuples(prepared->result), NULL, 10);
    forget_result(prepared);
    return rc;
}

/* --- columns --- */

static int64_t integer_of(const void *bytes, size_t length)
{
    uint64_t wide;
    uint32_t narrow;
    if (length == sizeof wide) {
        memcpy(&wide, bytes, sizeof wide);
        return (int64_t)be64toh(wide);
    }
    memcpy(&narrow, bytes, sizeof narrow);
    return (int32_t)be32toh(narrow);
}

static struct sql_value column(const struct sql_statement *statement, int number)
{
    const struct postgresql_prepared *prepared = statement->handle;
    int row = prepared->row - 1;
    if (number >= PQnfields(prepared->result))
        return (struct sql_value){.type = SQL_OTHER};
    if (PQgetisnull(prepared->result, row, number))
        return (struct sql_value){.type = SQL_NULL};
    struct sql_value out = {.type = SQL_OTHER,
                            .bytes = PQgetvalue(prepared->result, row, number),
                            .length = (size_t)PQgetlength(prepared->result, row, number)};
    switch (PQftype(prepared->result, number)) {
    case POSTGRESQL_INT8:
    case POSTGRESQL_INT4:
        out.type = SQL_INTEGER;
        out.integer = integer_of(out.bytes, out.length);
        break;
    case POSTGRESQL_TEXT:
        out.type = SQL_TEXT;
        break;
    case POSTGRESQL_BYTEA:
        out.type = SQL_BYTES;
        break;
    default: /* of a column whose type another hand has changed */
        break;
    }
    return out;
}

/* --- locks --- */

/* The id as it is now: in the transaction that makes the system it is not yet the store's. */
static enum sso_code read_system_id(struct store_tx *tx, uint8_t *id, struct sso_error *err)
{
    static const char sql[] = "SELECT id FROM system";
    const struct postgresql_store *store = (const struct postgresql_store *)tx->store;
    SQL_STATEMENT_AUTO statement = {0};
    bool found = false;
    if (store->has_system) {
        memcpy(id, store->system_id, SYSTEM_ID_BYTES);
        return SSO_OK;
    }
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc == SSO_OK)
        rc = sql_step(&statement, &found, err);
    if (rc == SSO_OK && found)
        sql_read_bytes(&statement, id, SYSTEM_ID_BYTES);
    return rc;
}

/* SHA-256(system id, noun with its NUL, id), of it the first 8 bytes: a chance of 2^-64 that two
 * things share a lock, and then one waits for the other. */
static enum sso_code lock_key(struct store_tx *tx, const struct sql_lock *lock, int64_t *out,
                              struct sso_error *err)
{
    uint8_t system_id[SYSTEM_ID_BYTES] = {0}, digest[SHA256_DIGEST_LENGTH];
    uint64_t first;
    ENCODER_AUTO all = {0};
    enum sso_code rc = read_system_id(tx, system_id, err);
    if (rc != SSO_OK)
        return rc;
    encode_fixed(&all, system_id, sizeof system_id);
    encode_fixed(&all, lock->noun, strlen(lock->noun) + 1);
    encode_fixed(&all, lock->id, lock->id_bytes);
    if (all.failed || SHA256(all.data, all.length_bytes, digest) == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the key of a lock");
    memcpy(&first, digest, sizeof first);
    *out = (int64_t)be64toh(first);
    return SSO_OK;
}

static enum sso_code lock(struct store_tx *tx, const struct sql_lock *wanted, struct sso_error *err)
{
    static const char shared_sql[] = "SELECT pg_advisory_xact_lock_shared(?)";
    static const char exclusive_sql[] = "SELECT pg_advisory_xact_lock(?)";
    SQL_STATEMENT_AUTO statement = {0};
    int64_t key = 0;
    enum sso_code rc = lock_key(tx, wanted, &key, err);
    if (rc == SSO_OK)
        rc = sql_prepare(tx, wanted->mode == STORE_SHARED ? shared_sql : exclusive_sql, &statement,
                         err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_integer(&statement, key);
    return sql_run(&statement, NULL, err);
}

static void be_patient(struct store_tx *tx)
{
    ((struct postgresql_tx *)tx)->connection->answer_ms = POSTGRESQL_PATIENT_MS;
}

static const char *name(const struct store *store)
{
    return ((const struct postgresql_store *)store)->name;
}

static const char *const own_checks[] = {
    "SELECT 'the trigger ' || t.tgname::text || ' on ' || c.relname::text || ' is not ours'"
    " FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid"
    " WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::regnamespace"
    " ORDER BY t.tgname LIMIT 1000",

    "SELECT 'the rule ' || r.rulename::text || ' on ' || c.relname::text || ' is not ours'"
    " FROM pg_rewrite AS r JOIN pg_class AS c ON c.oid = r.ev_class"
    " WHERE c.relnamespace = current_schema()::regnamespace ORDER BY r.rulename LIMIT 1000",

    "SELECT 'the table ' || relname::text || ' shows some rows only (row security)'"
    " FROM pg_class WHERE relrowsecurity AND relnamespace = current_schema()::regnamespace",

    "SELECT 'the index ' || c.relname::text || ' is not valid'"
    " FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
    " WHERE NOT i.indisvalid AND c.relnamespace = current_schema()::regnamespace",

    NULL,
};

const struct sql_driver postgresql_driver = {
    .prepare = prepare,
    .finish = finish,
    .bind = bind,
    .step = step,
    .run = run,
    .column = column,
    .lock = lock,
    .be_patient = be_patient,
    .own_checks = own_checks,
    .name = name,
};
