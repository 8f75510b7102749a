/* The PostgreSQL server of tests/postgresql.py, for one test program. */
#ifndef SSO_TESTS_STORE_SERVER_H
#define SSO_TESTS_STORE_SERVER_H

#include <stdbool.h>

/* Started at the first call; the folder of its socket. Exits with 77 (skipped) where PostgreSQL is
 * not installed. It ends with the program. */
const char *server_folder(void);
/* A word of tests/postgresql.py. */
void server_obey(const char *word);
/* Runs SQL in the database `postgres` as its owner. */
void server_sql(const char *sql);

#endif
