#include <string.h>
#include <sys/stat.h>

#include "cli/ceremony/installation.h"

#define SQLITE_SCHEME "sqlite:"

static void check_mode(const char *url, json_t *checks)
{
    struct stat status;
    if (strncmp(url, SQLITE_SCHEME, strlen(SQLITE_SCHEME)) != 0 ||
        stat(url + strlen(SQLITE_SCHEME), &status) != 0)
        return;
    unsigned mode = status.st_mode & 07777;
    if ((mode & 077) != 0)
        doctor_add(checks, "database.mode", CHECK_FAIL, "chmod 0600",
                   "the database file has mode %04o: others can read or change it", mode);
    else
        doctor_add(checks, "database.mode", CHECK_PASS, "", "%04o", mode);
}

void doctor_check_database(struct ceremony *ceremony, json_t *checks)
{
    struct sso_error problem = {0};
    const char *url = ceremony->config->database.url;
    enum sso_code rc = ceremony_open_database(ceremony, &problem);
    if (rc == SSO_OK)
        doctor_add(checks, "database", CHECK_PASS, "", "%s, schema %u, system %s, %zu generations",
                   store_kind(ceremony->store), store_schema(ceremony->store),
                   ceremony->system.name, ceremony->generation_count);
    else if (rc == SSO_NO_MASTER_SECRET)
        doctor_add(checks, "database", CHECK_WARN, "sso-hsm init", "%s", problem.detail);
    else if (rc == SSO_DATABASE_UNAVAILABLE)
        doctor_add(checks, "database", CHECK_WARN,
                   "sso-hsm init makes it; where it should be there already, see [database] url",
                   "%s", problem.detail);
    else
        doctor_add(checks, "database", CHECK_FAIL, "see [database] url", "%s: %s",
                   sso_code_facts(rc)->name, problem.detail);
    check_mode(url, checks);
}
