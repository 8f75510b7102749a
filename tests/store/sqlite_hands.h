/* What only the tests of SQLite need. */
#ifndef SSO_TESTS_STORE_SQLITE_HANDS_H
#define SSO_TESTS_STORE_SQLITE_HANDS_H

#include "fixture.h"

const char *path_of(const struct fixture *fixture);
/* Runs SQL as the sqlite3 tool would. */
void by_another_hand(const char *path, const char *sql);
/* With `options` behind the URL. */
void reopen(struct fixture *fixture, const char *options);

#endif
