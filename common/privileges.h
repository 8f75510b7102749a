/* Who the process runs as. Programs started as root give root up before they do anything else but
 * start the spawner. */
#ifndef SSO_COMMON_PRIVILEGES_H
#define SSO_COMMON_PRIVILEGES_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/error.h"

struct person {
    uid_t uid;
    gid_t gid;
    char name[257];
};

/* SSO_CONFIG_ERROR where the system has no such user. */
enum sso_code person_by_name(const char *name, struct person *out, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code person_by_uid(uid_t uid, struct person *out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* The real person at the console: login uid (/proc/self/loginuid), else SUDO_UID, else the uid. */
enum sso_code person_at_console(struct person *out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Becomes `user`: supplementary groups, gid, uid, in that order and checked. Nothing to do where we
 * are that user already; SSO_FORBIDDEN where we are another one and not root. */
enum sso_code become_user(const char *user, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Is the user (by uid and name, from the system's user database) a member of the Unix group? A
 * group that does not exist has no members. */
bool person_in_group(const struct person *person, const char *group);

#endif
