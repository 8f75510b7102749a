/* commit_reference FOLDER BATCH SECONDS: what durable group commits of records allow: SQLite alone,
 * in WAL with synchronous=FULL, BATCH rows of the size of an audit record in each transaction. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static sqlite3 *db;

static void must(int code, const char *what)
{
    if (code == SQLITE_OK || code == SQLITE_DONE)
        return;
    fprintf(stderr, "commit_reference: %s: %s\n", what, sqlite3_errmsg(db));
    exit(1);
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: commit_reference FOLDER BATCH SECONDS\n");
        return 2;
    }
    char path[4096];
    sqlite3_stmt *insert = NULL;
    int batch = atoi(argv[2]);
    snprintf(path, sizeof path, "%s/commits.db", argv[1]);
    must(sqlite3_open(path, &db), "open");
    must(sqlite3_exec(db,
                      "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                      "CREATE TABLE a (node TEXT, number INTEGER, record BLOB,"
                      " PRIMARY KEY (node, number)) WITHOUT ROWID",
                      NULL, NULL, NULL),
         "make");
    must(sqlite3_prepare_v2(db, "INSERT INTO a VALUES ('node1', ?, randomblob(200))", -1, &insert,
                            NULL),
         "prepare");
    long rows = 0;
    double began = now(), end = began + atof(argv[3]);
    while (now() < end) {
        must(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), "begin");
        for (int i = 0; i < batch; i++) {
            sqlite3_bind_int64(insert, 1, ++rows);
            must(sqlite3_step(insert), "insert");
            sqlite3_reset(insert);
        }
        must(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), "commit");
    }
    printf("rows_per_second=%.0f\n", (double)rows / (now() - began));
    sqlite3_finalize(insert);
    sqlite3_close(db);
    return 0;
}
