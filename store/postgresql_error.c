#include <stdio.h>
#include <string.h>

#include "store/postgresql.h"

/* SQLSTATEs (PostgreSQL's Appendix A) by their beginning; the longest that fits comes first. */
struct state {
    const char *begins;
    enum sso_code code;
    bool lost;        /* the connection is of no use any more */
    const char *text; /* after the name of the database; NULL: what the server says */
};

static const struct state states[] = {
    {"23505", SSO_ALREADY_EXISTS, false, "has a row with this key already"},
    {"23503", SSO_VERSION_CONFLICT, false,
     "undid this: an application was deleted while something of it was written; look at what is "
     "there now, and try again"},
    {"25006", SSO_DATABASE_UNAVAILABLE, true,
     "is read-only: it is a standby, or was made one; name the primary in [database] url"},
    {"25P03", SSO_DATABASE_UNAVAILABLE, true, "ended a transaction that stood still"},
    {"40P01", SSO_DATABASE_UNAVAILABLE, false,
     "undid the transaction since another one was in its way; try again"},
    {"40001", SSO_DATABASE_UNAVAILABLE, false,
     "undid the transaction since another one was in its way; try again"},
    {"42501", SSO_DATABASE_UNAVAILABLE, false, NULL},
    {"42", SSO_DATABASE_UNAVAILABLE, false, NULL},
    {"55P03", SSO_DATABASE_UNAVAILABLE, false,
     "did not give a lock within 5 seconds: another program holds it (pg_stat_activity tells "
     "which); try again"},
    {"57014", SSO_DATABASE_UNAVAILABLE, false, "cancelled the statement as somebody asked"},
    {"08", SSO_DATABASE_UNAVAILABLE, true, NULL},
    {"28", SSO_DATABASE_UNAVAILABLE, true, NULL},
    {"3D", SSO_DATABASE_UNAVAILABLE, true, NULL},
    {"53", SSO_DATABASE_UNAVAILABLE, true, NULL},
    {"54", SSO_TOO_LARGE, false, NULL},
    {"57", SSO_DATABASE_UNAVAILABLE, true, NULL},
    {"58", SSO_DATABASE_UNAVAILABLE, true, NULL},
    {"XX", SSO_DATABASE_UNAVAILABLE, true, NULL},
};

/* libpq's texts have several lines. */
static void one_line(const char *text, char *out, size_t size)
{
    size_t used = 0;
    for (const char *c = text; *c != '\0' && used + 1 < size; c++) {
        bool space = *c == '\n' || *c == '\t' || *c == '\r';
        if (space && (used == 0 || out[used - 1] == ' '))
            continue;
        out[used++] = space ? ' ' : *c;
    }
    while (used > 0 && out[used - 1] == ' ')
        used--;
    out[used] = '\0';
}

static enum sso_code connection_failed(struct postgresql_connection *connection,
                                       struct sso_error *err)
{
    char text[400];
    connection->unusable = true;
    one_line(PQerrorMessage(connection->conn), text, sizeof text);
    return sso_fail(err, SSO_DATABASE_UNAVAILABLE, "%s cannot be reached: %s",
                    connection->store->name, text[0] != '\0' ? text : "it gave no answer in time");
}

enum sso_code postgresql_failed(struct postgresql_connection *connection, const PGresult *result,
                                struct sso_error *err)
{
    const char *name = connection->store->name;
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    char text[400];
    if (result == NULL || state == NULL || PQstatus(connection->conn) != CONNECTION_OK)
        return connection_failed(connection, err);
    /* The primary message alone: the detail may quote values of rows. */
    const char *said = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    one_line(said != NULL ? said : "", text, sizeof text);
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        const struct state *known = &states[i];
        if (strncmp(state, known->begins, strlen(known->begins)) != 0)
            continue;
        connection->unusable |= known->lost;
        if (known->text != NULL)
            return sso_fail(err, known->code, "%s %s", name, known->text);
        return sso_fail(err, known->code, "%s: %s (SQLSTATE %s)", name, text, state);
    }
    return sso_fail(err, SSO_INTERNAL, "%s: %s (SQLSTATE %s)", name, text, state);
}
