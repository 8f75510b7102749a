#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "store/postgresql.h"

#define RETRY_MS_MIN 100
#define RETRY_MS_MAX 5000
#define SERVER_VERSION_MIN 130000
#define READ_IDLE_MS 20000u

/* The server may be set to confirm more than `on` does, not less. Our statements find rows by keys
 * or read whole tables and say so; statistics that are old or missing must not make a plan of
 * sorts. */
static const char session_sql[] =
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write');"
    "SET lock_timeout = '5s';"
    "SET client_min_messages = error; SET jit = off; SET standard_conforming_strings = on;"
    "SET enable_seqscan = off; SET enable_bitmapscan = off;"
    "SET plan_cache_mode = force_generic_plan;";

static void ignore_notice(void *context, const PGresult *result)
{
    (void)context, (void)result;
}

/* One at a time learns whether the server is back; the others are told at once that it is not. */
static enum sso_code may_try(struct postgresql_store *store, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    pthread_mutex_lock(&store->retry_lock);
    int64_t now = boot_clock_ms();
    if (store->failures > 0 && now < store->retry_ms)
        rc = sso_fail(err, SSO_DATABASE_UNAVAILABLE, "%s", store->why.detail);
    else if (store->failures > 0)
        store->retry_ms = now + RETRY_MS_MAX;
    pthread_mutex_unlock(&store->retry_lock);
    return rc;
}

static void tried(struct postgresql_store *store, enum sso_code rc, const struct sso_error *why)
{
    pthread_mutex_lock(&store->retry_lock);
    if (rc == SSO_OK) {
        store->failures = 0;
    } else {
        int64_t pause = RETRY_MS_MIN;
        for (unsigned i = 0; i < store->failures && pause < RETRY_MS_MAX; i++)
            pause *= 2;
        store->failures++;
        store->retry_ms = boot_clock_ms() + (pause < RETRY_MS_MAX ? pause : RETRY_MS_MAX);
        store->why = *why;
    }
    pthread_mutex_unlock(&store->retry_lock);
}

static enum sso_code check_server(struct postgresql_connection *connection, struct sso_error *err)
{
    const struct postgresql_store *store = connection->store;
    const char *encoding = PQparameterStatus(connection->conn, "server_encoding");
    if (PQserverVersion(connection->conn) < SERVER_VERSION_MIN)
        return sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                        "%s is of PostgreSQL %d; 13 or newer is needed", store->name,
                        PQserverVersion(connection->conn) / 10000);
    if (encoding == NULL || strcmp(encoding, "UTF8") != 0)
        return sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                        "%s keeps text as %s: make it anew with ENCODING 'UTF8'", store->name,
                        encoding != NULL ? encoding : "(unknown)");
    return SSO_OK;
}

/* A process that is stopped or cut off inside a transaction must not hold its locks against its
 * successor: after a third of the lease the server ends its session. One that reads holds no lock
 * that anybody waits for, and may work on what it read. */
static enum sso_code bound_silence(struct postgresql_connection *connection,
                                   enum store_access access, struct sso_error *err)
{
    unsigned third_ms = connection->lease_ms / 3, third_s = third_ms / 1000;
    char sql[320];
    snprintf(sql, sizeof sql,
             "SET idle_in_transaction_session_timeout = %u; SET tcp_user_timeout = %u;"
             " SET tcp_keepalives_idle = %u; SET tcp_keepalives_interval = 1;"
             " SET tcp_keepalives_count = %u;",
             access == STORE_WRITE ? third_ms : READ_IDLE_MS, third_ms,
             third_s > 3 ? third_s - 2 : 1, third_s > 2 ? 2 : 1);
    return postgresql_execute(connection, sql, err);
}

static enum sso_code set_up(struct postgresql_connection *connection, enum store_access access,
                            struct sso_error *err)
{
    if (PQstatus(connection->conn) != CONNECTION_OK)
        return postgresql_failed(connection, NULL, err);
    enum sso_code rc = check_server(connection, err);
    PQsetNoticeReceiver(connection->conn, ignore_notice, NULL);
    if (rc == SSO_OK && PQsetnonblocking(connection->conn, 1) != 0)
        rc = postgresql_failed(connection, NULL, err);
    connection->answer_ms = POSTGRESQL_WAIT_MS;
    if (rc == SSO_OK)
        rc = postgresql_execute(connection, session_sql, err);
    if (rc == SSO_OK)
        rc = bound_silence(connection, access, err);
    connection->answer_ms = POSTGRESQL_ANSWER_MS;
    return rc;
}

enum sso_code postgresql_connect(struct postgresql_store *store, enum store_access access,
                                 struct postgresql_connection **out, struct sso_error *err)
{
    struct postgresql_parameters parameters;
    struct sso_error why = {0};
    enum sso_code rc = may_try(store, err);
    if (rc != SSO_OK)
        return rc;
    struct postgresql_connection *connection = calloc(1, sizeof *connection);
    if (connection != NULL) {
        connection->store = store;
        connection->lease_ms = atomic_load(&store->lease_ms);
        postgresql_parameters(store, connection->lease_ms, &parameters);
        connection->conn = PQconnectdbParams(parameters.name, parameters.value, 1);
    }
    if (connection == NULL || connection->conn == NULL)
        rc = sso_fail(&why, SSO_NO_MEMORY, "no memory for a connection to %s", store->name);
    else
        rc = set_up(connection, access, &why);
    tried(store, rc, &why);
    if (rc != SSO_OK) {
        postgresql_disconnect(&connection);
        if (err != NULL)
            *err = why;
    }
    *out = connection;
    return rc;
}

void postgresql_disconnect(struct postgresql_connection **connection)
{
    if (*connection == NULL)
        return;
    for (size_t i = 0; i < POSTGRESQL_STATEMENTS_MAX; i++)
        free((*connection)->prepared[i]);
    PQfinish((*connection)->conn);
    free(*connection);
    *connection = NULL;
}

bool postgresql_is_alive(struct postgresql_connection *connection)
{
    struct pollfd end = {.fd = PQsocket(connection->conn), .events = POLLIN};
    if (connection->unusable || PQstatus(connection->conn) != CONNECTION_OK ||
        connection->lease_ms != atomic_load(&connection->store->lease_ms))
        return false;
    /* An idle server says nothing but that it goes away. */
    if (poll(&end, 1, 0) > 0)
        return PQconsumeInput(connection->conn) == 1 && PQstatus(connection->conn) == CONNECTION_OK;
    return true;
}
