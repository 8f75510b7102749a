/* Statements there, answers back, and never longer than answer_ms for one. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>

#include "common/clock.h"
#include "store/postgresql.h"

#define QUEUE_MAX 128

/* --- the socket --- */

static bool wait_for(struct postgresql_connection *connection, short events, int64_t deadline_ms)
{
    struct pollfd end = {.fd = PQsocket(connection->conn), .events = events};
    for (;;) {
        int64_t left = deadline_ms - boot_clock_ms();
        int ready = left > 0 ? poll(&end, 1, left < 1000 ? (int)left : 1000) : 0;
        if (ready > 0)
            return true;
        if (left <= 0 || (ready < 0 && errno != EINTR))
            return false;
    }
}

static bool flush(struct postgresql_connection *connection, int64_t deadline_ms)
{
    int left;
    while ((left = PQflush(connection->conn)) == 1) {
        /* The server may be waiting for us to read. */
        if (!wait_for(connection, POLLIN | POLLOUT, deadline_ms) ||
            PQconsumeInput(connection->conn) != 1)
            return false;
    }
    return left == 0;
}

/* NULL at the end of an answer, and where the connection is lost or silent: unusable then. */
static PGresult *next_result(struct postgresql_connection *connection)
{
    int64_t deadline_ms = boot_clock_ms() + connection->answer_ms;
    bool here = flush(connection, deadline_ms);
    while (here && PQisBusy(connection->conn))
        here = wait_for(connection, POLLIN, deadline_ms) && PQconsumeInput(connection->conn) == 1;
    PGresult *result = here ? PQgetResult(connection->conn) : NULL;
    if (!here || (result == NULL && PQstatus(connection->conn) != CONNECTION_OK))
        connection->unusable = true;
    return result;
}

/* --- sending --- */

static bool send(struct postgresql_connection *connection, const struct postgresql_query *query)
{
    static const int binary[POSTGRESQL_PARAMETERS_MAX] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                                          1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                                          1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const struct postgresql_prepared *prepared = query->prepared;
    char name[16];
    if (query->name_to_prepare != NULL)
        return PQsendPrepare(connection->conn, query->name_to_prepare, query->sql,
                             prepared->parameters, prepared->type) == 1;
    if (prepared == NULL)
        return PQsendQueryParams(connection->conn, query->sql, 0, NULL, NULL, NULL, NULL, 1) == 1;
    snprintf(name, sizeof name, "s%u", prepared->number);
    return PQsendQueryPrepared(connection->conn, name, prepared->parameters, prepared->value,
                               prepared->length, binary, 1) == 1;
}

static bool is_good(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

/* The answers to all that was sent since the last sync: the last one to *out, the first failure to
 * *err. */
static enum sso_code read_answers(struct postgresql_connection *connection, PGresult **out,
                                  struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    unsigned left = connection->queued;
    connection->queued = 0;
    if (PQpipelineSync(connection->conn) != 1)
        return postgresql_failed(connection, NULL, err);
    for (PGresult *result = NULL; !connection->unusable; result = NULL) {
        result = next_result(connection);
        ExecStatusType status = PQresultStatus(result);
        if (result == NULL)
            continue; /* between two answers */
        if (status == PGRES_PIPELINE_SYNC) {
            PQclear(result);
            break;
        }
        if (rc == SSO_OK && !is_good(result))
            rc = postgresql_failed(connection, result, err);
        if (rc == SSO_OK && left == 1 && out != NULL)
            *out = result;
        else
            PQclear(result);
        left -= left > 0;
    }
    if (rc == SSO_OK && (connection->unusable || PQexitPipelineMode(connection->conn) != 1))
        rc = postgresql_failed(connection, NULL, err);
    else if (rc != SSO_OK && !connection->unusable && PQexitPipelineMode(connection->conn) != 1)
        connection->unusable = true;
    return rc;
}

enum sso_code postgresql_queue(struct postgresql_connection *connection,
                               const struct postgresql_query *query, struct sso_error *err)
{
    if (connection->queued == 0 && PQenterPipelineMode(connection->conn) != 1)
        return postgresql_failed(connection, NULL, err);
    if (!send(connection, query))
        return postgresql_failed(connection, NULL, err);
    connection->queued++;
    return connection->queued < QUEUE_MAX ? SSO_OK : read_answers(connection, NULL, err);
}

enum sso_code postgresql_settle(struct postgresql_connection *connection, struct sso_error *err)
{
    return connection->queued > 0 ? read_answers(connection, NULL, err) : SSO_OK;
}

enum sso_code postgresql_ask(struct postgresql_connection *connection,
                             const struct postgresql_query *query, PGresult **out,
                             struct sso_error *err)
{
    *out = NULL;
    if (connection->queued == 0 && PQenterPipelineMode(connection->conn) != 1)
        return postgresql_failed(connection, NULL, err);
    if (!send(connection, query))
        return postgresql_failed(connection, NULL, err);
    connection->queued++;
    enum sso_code rc = read_answers(connection, out, err);
    if (rc != SSO_OK) {
        PQclear(*out);
        *out = NULL;
    }
    return rc;
}

enum sso_code postgresql_execute(struct postgresql_connection *connection, const char *sql,
                                 struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    if (PQsendQuery(connection->conn, sql) != 1)
        return postgresql_failed(connection, NULL, err);
    for (PGresult *result; (result = next_result(connection)) != NULL; PQclear(result)) {
        if (rc == SSO_OK && !is_good(result))
            rc = postgresql_failed(connection, result, err);
    }
    return rc == SSO_OK && connection->unusable ? postgresql_failed(connection, NULL, err) : rc;
}

/* --- row by row --- */

enum sso_code postgresql_stream(struct postgresql_connection *connection,
                                const struct postgresql_query *query, struct sso_error *err)
{
    enum sso_code rc = postgresql_settle(connection, err);
    if (rc != SSO_OK)
        return rc;
    if (!send(connection, query) || PQsetSingleRowMode(connection->conn) != 1)
        return postgresql_failed(connection, NULL, err);
    return SSO_OK;
}

enum sso_code postgresql_next_row(struct postgresql_connection *connection, PGresult **out,
                                  struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    *out = NULL;
    PGresult *result = next_result(connection);
    if (connection->unusable)
        return postgresql_failed(connection, NULL, err);
    if (PQresultStatus(result) == PGRES_SINGLE_TUPLE) {
        *out = result;
        return SSO_OK;
    }
    if (result != NULL && !is_good(result))
        rc = postgresql_failed(connection, result, err);
    PQclear(result);
    postgresql_end_stream(connection);
    return rc;
}

void postgresql_end_stream(struct postgresql_connection *connection)
{
    PGresult *result;
    while (!connection->unusable && (result = next_result(connection)) != NULL)
        PQclear(result);
}
