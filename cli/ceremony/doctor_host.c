/* Doctor's checks of the host: what can be seen without database and token. */
#include <grp.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <unistd.h>

#include "cli/ceremony/installation.h"
#include "cli/ceremony/journal.h"

#define MEMLOCK_WANTED_BYTES ((rlim_t)8 << 20)
#define MEMLOCK_NEEDED_BYTES ((rlim_t)4 << 20)

void doctor_add(json_t *checks, const char *id, enum check_result result, const char *remedy,
                const char *format, ...)
{
    char detail[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    json_t *check = json_object();
    json_t *text = json_string(detail);
    json_object_set_new(check, "id", json_string(id));
    json_object_set_new(check, "result", json_string(check_result_name(result)));
    json_object_set_new(check, "detail", text != NULL ? text : json_string("(no UTF-8)"));
    json_object_set_new(check, "remedy", json_string(remedy));
    json_array_append_new(checks, check);
}

static void check_users(const struct config *config, json_t *checks)
{
    struct person system, token;
    struct sso_error problem = {0};
    if (person_by_name(config->system.user, &system, &problem) != SSO_OK) {
        doctor_add(checks, "users", CHECK_FAIL, "make the user, or correct [system] user", "%s",
                   problem.detail);
        return;
    }
    for (size_t i = 0; i < config->hsm_count; i++) {
        if (person_by_name(config->hsm[i].user, &token, &problem) != SSO_OK) {
            doctor_add(checks, "users", CHECK_FAIL, "make the user, or correct [hsm] user", "%s",
                       problem.detail);
            return;
        }
        if (token.uid == system.uid) {
            doctor_add(checks, "users", CHECK_WARN,
                       "give [hsm] user a user of its own, who alone can read PIN and token",
                       "workers and service are both %s: the service could read the PIN",
                       system.name);
            return;
        }
    }
    doctor_add(checks, "users", CHECK_PASS, "", "service and workers are different users");
}

static void check_groups(const struct config *config, json_t *checks)
{
    const struct config_list *const lists[] = {
        &config->roles.sso_admins, &config->roles.affiliate_admins, &config->roles.auditors};
    char missing[256] = "";
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        for (size_t j = 0; j < lists[i]->count; j++) {
            const char *group = lists[i]->item[j];
            size_t used = strlen(missing);
            if (strncmp(group, "san:", 4) != 0 && getgrnam(group) == NULL)
                snprintf(missing + used, sizeof missing - used, " %s", group);
        }
    }
    if (missing[0] != '\0')
        doctor_add(checks, "groups", CHECK_WARN, "make them with groupadd, or correct [roles]",
                   "these groups do not exist:%s", missing);
    else
        doctor_add(checks, "groups", CHECK_PASS, "", "every group of [roles] exists");
}

static void check_memlock(json_t *checks)
{
    const char *remedy = "raise it: LimitMEMLOCK= of the unit, or limits.conf(5)";
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
        doctor_add(checks, "memlock", CHECK_PASS, "", "memory may be locked without a limit");
        return;
    }
    unsigned long long kib = limit.rlim_cur >> 10;
    if (limit.rlim_cur < MEMLOCK_NEEDED_BYTES)
        doctor_add(checks, "memlock", CHECK_FAIL, remedy,
                   "RLIMIT_MEMLOCK is %llu KiB, 4096 are needed", kib);
    else if (limit.rlim_cur < MEMLOCK_WANTED_BYTES)
        doctor_add(checks, "memlock", CHECK_WARN, remedy,
                   "RLIMIT_MEMLOCK is %llu KiB: the service works with less than 8 MiB", kib);
    else
        doctor_add(checks, "memlock", CHECK_PASS, "", "RLIMIT_MEMLOCK is %llu KiB", kib);
}

static void check_state_directory(const struct config *config, json_t *checks)
{
    const char *path = config->system.state_directory;
    struct stat status;
    if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode))
        doctor_add(checks, "state_directory", CHECK_FAIL,
                   "make the folder, owned by [system] user, mode 0700", "there is no folder %s",
                   path);
    else if (access(path, W_OK | X_OK) != 0)
        doctor_add(checks, "state_directory", CHECK_FAIL, "give it to [system] user",
                   "%s cannot be written by %s", path, config->system.user);
    else if ((status.st_mode & S_IWOTH) != 0)
        doctor_add(checks, "state_directory", CHECK_FAIL, "chmod o-w",
                   "%s can be written by everybody", path);
    else
        doctor_add(checks, "state_directory", CHECK_PASS, "", "%s", path);
}

static void check_socket_folder(const struct config *config, json_t *checks)
{
    char folder[PATH_MAX];
    struct stat status;
    snprintf(folder, sizeof folder, "%s", config->listen.socket);
    char *slash = strrchr(folder, '/');
    if (slash == NULL)
        snprintf(folder, sizeof folder, ".");
    else
        slash[slash == folder] = '\0';
    if (stat(folder, &status) != 0 || !S_ISDIR(status.st_mode))
        doctor_add(checks, "socket", CHECK_FAIL,
                   "make the folder, owned by [system] user, mode 0755 (RuntimeDirectory= of the "
                   "unit)",
                   "there is no folder %s for the socket", folder);
    else if (access(folder, W_OK | X_OK) != 0)
        doctor_add(checks, "socket", CHECK_FAIL, "give it to [system] user",
                   "%s cannot be written by %s", folder, config->system.user);
    else if ((status.st_mode & S_IWOTH) != 0 && (status.st_mode & S_ISVTX) == 0)
        doctor_add(checks, "socket", CHECK_WARN, "chmod o-w",
                   "%s can be written by everybody, who could put a socket of their own there",
                   folder);
    else if ((status.st_mode & S_IXOTH) == 0)
        doctor_add(checks, "socket", CHECK_WARN, "chmod 0755: roles decide, not the folder",
                   "%s can be entered by its owner or group only", folder);
    else
        doctor_add(checks, "socket", CHECK_PASS, "", "%s", folder);
}

/* The file decides which module is loaded, and as which user. One that everybody may write is not
 * read at all. */
static void check_config_file(const struct config *config, json_t *checks)
{
    struct stat status;
    if (stat(config->file, &status) != 0)
        doctor_add(checks, "config.mode", CHECK_WARN, "see the folders above it",
                   "%s cannot be looked at by %s", config->file, config->system.user);
    else if ((status.st_mode & S_IWGRP) != 0 && status.st_gid != 0)
        doctor_add(checks, "config.mode", CHECK_WARN, "chmod g-w", "%s can be written by its group",
                   config->file);
    else
        doctor_add(checks, "config.mode", CHECK_PASS, "", "%04o", status.st_mode & 07777);
}

/* Times are for people, but records of several nodes are put side by side. */
static void check_clock(json_t *checks)
{
    struct timex clock = {0};
    int state = adjtimex(&clock);
    if (state < 0 || state == TIME_ERROR || (clock.status & STA_UNSYNC) != 0)
        doctor_add(checks, "clock", CHECK_WARN, "run chrony or systemd-timesyncd",
                   "the kernel does not know the clock to be synchronised");
    else
        doctor_add(checks, "clock", CHECK_PASS, "", "synchronised, to within %ld ms",
                   clock.esterror / 1000);
}

static void check_ceremony(const struct config *config, json_t *checks)
{
    struct journal_entry left = {0};
    struct sso_error problem = {0};
    char label[GENERATION_LABEL_SIZE];
    enum sso_code rc = journal_read(config, &left, &problem);
    if (rc == SSO_NOT_FOUND) {
        doctor_add(checks, "ceremony.interrupted", CHECK_PASS, "", "no ceremony is left half done");
        return;
    }
    if (rc != SSO_OK) {
        doctor_add(checks, "ceremony.interrupted", CHECK_WARN, "give it to [system] user", "%s",
                   problem.detail);
        return;
    }
    if (left.generation == 0) {
        doctor_add(checks, "ceremony.interrupted", CHECK_WARN,
                   "unless one runs now, start the command again: it cleans up first",
                   "a reshare is under way or was interrupted; it may have left backups of the "
                   "share set %s in %s",
                   left.share_set, left.backup);
        return;
    }
    generation_label(left.system_id, left.generation, label);
    doctor_add(checks, "ceremony.interrupted", CHECK_WARN,
               "unless one runs now, start the command again: it cleans up first",
               "a ceremony is under way or was interrupted; it may have left the key %s%s%s", label,
               left.backup[0] != '\0' ? " and the file " : "", left.backup);
}

void doctor_check_host(const struct config *config, json_t *checks)
{
    check_ceremony(config, checks);
    check_users(config, checks);
    check_groups(config, checks);
    check_memlock(checks);
    check_clock(checks);
    check_config_file(config, checks);
    check_state_directory(config, checks);
    check_socket_folder(config, checks);
}
