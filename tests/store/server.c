#include "server.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static FILE *server;
static char folder[128];

static void fail(const char *what)
{
    fprintf(stderr, "the PostgreSQL server of the tests: %s\n", what);
    exit(1);
}

static void read_line(char *out, size_t size)
{
    if (fgets(out, (int)size, server) == NULL) {
        int status = 0;
        wait(&status);
        exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1);
    }
    out[strcspn(out, "\n")] = '\0';
}

const char *server_folder(void)
{
    int ends[2];
    if (server != NULL)
        return folder;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        fail("no socket");
    if (fork() == 0) {
        dup2(ends[1], 0);
        dup2(ends[1], 1);
        execl(SERVER_PROGRAM, SERVER_PROGRAM, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    server = fdopen(ends[0], "r+");
    if (server == NULL)
        fail("no memory");
    read_line(folder, sizeof folder);
    return folder;
}

void server_obey(const char *word)
{
    char answer[16];
    fprintf(server, "%s\n", word);
    fflush(server);
    read_line(answer, sizeof answer);
    if (strcmp(answer, "ok") != 0)
        fail(answer);
}

void server_sql(const char *sql)
{
    char where[200];
    snprintf(where, sizeof where, "host=%s dbname=postgres user=postgres", server_folder());
    PGconn *connection = PQconnectdb(where);
    PGresult *result = PQexec(connection, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail(PQerrorMessage(connection));
    PQclear(result);
    PQfinish(connection);
}
