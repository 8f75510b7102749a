#include "sqlite_hands.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

const char *path_of(const struct fixture *fixture)
{
    return fixture->url + strlen("sqlite:");
}

void by_another_hand(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    char *text = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &text) != SQLITE_OK)
        fail_msg("%s: %s", sql, text);
    sqlite3_close(db);
}

void reopen(struct fixture *fixture, const char *options)
{
    struct sso_error err = {0};
    char url[256];
    store_close(&fixture->store);
    snprintf(url, sizeof url, "%s%s", fixture->url, options);
    assert_ok(store_open(url, &fixture->store, &err));
}
