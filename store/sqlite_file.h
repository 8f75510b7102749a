/* A file that is to hold a copy. */
#ifndef SSO_STORE_SQLITE_FILE_H
#define SSO_STORE_SQLITE_FILE_H

#include "common/error.h"

/* Of mode 0600; SSO_ALREADY_EXISTS. */
enum sso_code sqlite_make_file(const char *path, struct sso_error *err);
/* Makes a database that nobody has open one file, which needs no log beside it, and durable. */
enum sso_code sqlite_close_file(const char *path, struct sso_error *err);
/* With what SQLite keeps beside it. */
void sqlite_remove_file(const char *path);

#endif
