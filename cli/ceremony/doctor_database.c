#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/ceremony/installation.h"
#include "common/clock.h"
#include "store/store.h"

#define SQLITE_SCHEME "sqlite:"
#define CLOCK_TOLERANCE_S 60

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

/* Who may write into the folder may put another database in its place. */
static void check_folder(const char *url, json_t *checks)
{
    char folder[PATH_MAX];
    struct stat status;
    if (strncmp(url, SQLITE_SCHEME, strlen(SQLITE_SCHEME)) != 0)
        return;
    snprintf(folder, sizeof folder, "%s", url + strlen(SQLITE_SCHEME));
    char *slash = strrchr(folder, '/');
    if (slash == NULL || slash == folder)
        return;
    *slash = '\0';
    if (stat(folder, &status) != 0)
        return; /* then the database is not there either */
    if ((status.st_mode & S_IWOTH) != 0 && (status.st_mode & S_ISVTX) == 0)
        doctor_add(checks, "database.folder", CHECK_FAIL, "chmod o-w",
                   "%s can be written by everybody", folder);
    else
        doctor_add(checks, "database.folder", CHECK_PASS, "", "%s, mode %04o", folder,
                   status.st_mode & 07777);
}

static enum sso_code newest_record(struct ceremony *ceremony, int64_t *time_ms,
                                   struct sso_error *err)
{
    struct audit_head *heads = NULL;
    size_t count = 0;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(ceremony->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_audit_heads(tx, &heads, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        struct audit_record *record = NULL;
        size_t records = 0;
        rc = store_audit_list(tx, heads[i].node, heads[i].number - 1, 1, &record, &records, err);
        if (rc == SSO_OK && records > 0 && record->time_ms > *time_ms)
            *time_ms = record->time_ms;
        free(record);
    }
    free(heads);
    return rc;
}

/* A clock that was put back, here or on another node. */
static void check_clock(struct ceremony *ceremony, json_t *checks)
{
    struct sso_error problem = {0};
    int64_t newest_ms = 0;
    if (newest_record(ceremony, &newest_ms, &problem) != SSO_OK) {
        doctor_add(checks, "clock.audit", CHECK_SKIP, "", "%s", problem.detail);
        return;
    }
    int64_t ahead_s = (newest_ms - wall_clock_ms()) / 1000;
    if (ahead_s > CLOCK_TOLERANCE_S)
        doctor_add(checks, "clock.audit", CHECK_WARN, "set the clock of this host, or of that node",
                   "the audit's newest record is %lld s ahead of this clock", (long long)ahead_s);
    else
        doctor_add(checks, "clock.audit", CHECK_PASS, "", "not behind the audit");
}

/* Nothing at the URL is how a new installation looks; not where a file is there, or the state
 * directory remembers a system. */
static void tell_unavailable(const struct config *config, const char *detail, json_t *checks)
{
    const char *url = config->database.url;
    struct sso_error problem = {0};
    struct stat status;
    HIGH_WATER_AUTO marks = {0};
    bool of_file = strncmp(url, SQLITE_SCHEME, strlen(SQLITE_SCHEME)) == 0;
    bool there = of_file && stat(url + strlen(SQLITE_SCHEME), &status) == 0;
    if (store_high_water_marks(config->system.state_directory, config->cluster.node, &marks,
                               &problem) != SSO_NOT_FOUND)
        doctor_add(checks, "database", CHECK_FAIL,
                   "this node had one: mount its disk, or put a copy back, owned by [system] user "
                   "with mode 0600; no sso-hsm init here",
                   "%s", detail);
    else if (there || !of_file)
        doctor_add(checks, "database", CHECK_FAIL,
                   of_file ? "it has to be [system] user's, with mode 0600; or correct [database] "
                             "url"
                           : "see [database] url",
                   "%s", detail);
    else
        doctor_add(checks, "database", CHECK_WARN,
                   "sso-hsm init makes it; where it should be there already, see [database] url",
                   "%s", detail);
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
        tell_unavailable(ceremony->config, problem.detail, checks);
    else
        doctor_add(checks, "database", CHECK_FAIL, "see [database] url", "%s: %s",
                   sso_code_facts(rc)->name, problem.detail);
    check_mode(url, checks);
    check_folder(url, checks);
    if (rc == SSO_OK)
        check_clock(ceremony, checks);
}
