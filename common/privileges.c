#include "common/privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENTRY_BYTES_FIRST 1024
#define ENTRY_BYTES_MAX (1024 * 1024)
#define GROUPS_FIRST 64

/* What is asked of the system's user database: exactly one of these. */
struct question {
    const char *name;
    uid_t uid;
};

/* 0, ENOENT, or why the user database did not answer. */
static int ask_user_database(const struct question *question, struct person *out)
{
    for (size_t size = ENTRY_BYTES_FIRST; size <= ENTRY_BYTES_MAX; size *= 4) {
        char *room = malloc(size);
        struct passwd entry, *found = NULL;
        if (room == NULL)
            return ENOMEM;
        int failure = question->name != NULL
                          ? getpwnam_r(question->name, &entry, room, size, &found)
                          : getpwuid_r(question->uid, &entry, room, size, &found);
        if (found != NULL && strlen(found->pw_name) < sizeof out->name) {
            *out = (struct person){.uid = found->pw_uid, .gid = found->pw_gid};
            strcpy(out->name, found->pw_name);
            free(room);
            return 0;
        }
        free(room);
        if (failure != ERANGE)
            return failure != 0 ? failure : ENOENT;
    }
    return ERANGE;
}

/* Some name services say ENOENT, ESRCH, EBADF or EPERM for "no such user" (getpwnam(3)). */
static bool says_nobody(int failure)
{
    return failure == ENOENT || failure == ESRCH || failure == EBADF || failure == EPERM;
}

enum sso_code person_by_name(const char *name, struct person *out, struct sso_error *err)
{
    int failure = ask_user_database(&(struct question){.name = name}, out);
    if (failure == 0)
        return SSO_OK;
    if (says_nobody(failure))
        return sso_fail(err, SSO_CONFIG_ERROR, "the system has no user %s", name);
    return sso_fail_errno(err, SSO_CONFIG_ERROR, failure, "cannot look up the user %s", name);
}

enum sso_code person_by_uid(uid_t uid, struct person *out, struct sso_error *err)
{
    int failure = ask_user_database(&(struct question){.uid = uid}, out);
    if (failure == 0)
        return SSO_OK;
    if (says_nobody(failure))
        return sso_fail(err, SSO_CONFIG_ERROR, "the system has no user with uid %u", uid);
    return sso_fail_errno(err, SSO_CONFIG_ERROR, failure, "cannot look up the uid %u", uid);
}

/* The uid somebody logged in with, which sudo and su leave alone; unset is (uid_t)-1. */
static bool login_uid(uid_t *out)
{
    unsigned long uid = (uid_t)-1;
    FILE *file = fopen("/proc/self/loginuid", "re");
    if (file == NULL)
        return false;
    bool read = fscanf(file, "%lu", &uid) == 1;
    fclose(file);
    *out = (uid_t)uid;
    return read && *out != (uid_t)-1;
}

/* Anybody can set the variable: it counts only for root, who could act as any user anyway. */
static bool sudo_uid(uid_t *out)
{
    const char *text = getuid() == 0 ? getenv("SUDO_UID") : NULL;
    char *end;
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    unsigned long uid = strtoul(text, &end, 10);
    *out = (uid_t)uid;
    return errno == 0 && *end == '\0' && uid < (uid_t)-1;
}

enum sso_code person_at_console(struct person *out, struct sso_error *err)
{
    uid_t uid;
    if (!login_uid(&uid) && !sudo_uid(&uid))
        uid = getuid();
    return person_by_uid(uid, out, err);
}

enum sso_code become_user(const char *user, struct sso_error *err)
{
    struct person person;
    enum sso_code rc = person_by_name(user, &person, err);
    if (rc != SSO_OK)
        return rc;
    if (getuid() == person.uid && geteuid() == person.uid)
        return SSO_OK;
    if (geteuid() != 0)
        return sso_fail(err, SSO_FORBIDDEN,
                        "running as uid %u, but the configuration wants the user %s: start it as "
                        "root or as %s",
                        geteuid(), user, user);
    if (initgroups(person.name, person.gid) != 0 ||
        setresgid(person.gid, person.gid, person.gid) != 0 ||
        setresuid(person.uid, person.uid, person.uid) != 0)
        return sso_fail_errno(err, SSO_FORBIDDEN, errno, "cannot become the user %s", user);
    if (getuid() != person.uid || getgid() != person.gid || setuid(0) == 0)
        return sso_fail(err, SSO_INTERNAL, "became the user %s, but root is not given up", user);
    return SSO_OK;
}

static bool group_id(const char *name, gid_t *out)
{
    for (size_t size = ENTRY_BYTES_FIRST; size <= ENTRY_BYTES_MAX; size *= 4) {
        char *room = malloc(size);
        struct group entry, *found = NULL;
        if (room == NULL)
            return false;
        int failure = getgrnam_r(name, &entry, room, size, &found);
        if (found != NULL)
            *out = found->gr_gid;
        free(room);
        if (found != NULL || failure != ERANGE)
            return found != NULL;
    }
    return false;
}

/* Asks from the person's side: name services may leave the members of a large group out. */
bool person_in_group(const struct person *person, const char *group)
{
    gid_t wanted;
    if (group[0] == '\0' || !group_id(group, &wanted))
        return false;
    int room = GROUPS_FIRST;
    gid_t *groups = NULL;
    bool member = false;
    for (int tries = 0; tries < 3; tries++) {
        int count = room;
        gid_t *larger = reallocarray(groups, (size_t)room, sizeof *groups);
        if (larger == NULL)
            break;
        groups = larger;
        if (getgrouplist(person->name, person->gid, groups, &count) >= 0) {
            for (int i = 0; i < count; i++)
                member |= groups[i] == wanted;
            break;
        }
        room = count > room ? count : 2 * room;
    }
    free(groups);
    return member;
}
