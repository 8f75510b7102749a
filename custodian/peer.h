/* Who is at the other end of a connection, and which roles that gives (DESIGN §10). */
#ifndef SSO_CUSTODIAN_PEER_H
#define SSO_CUSTODIAN_PEER_H

#include <stdint.h>
#include <sys/types.h>

#include "common/config.h"
#include "common/error.h"
#include "common/policy.h"
#include "common/row.h"
#include "custodian/identity.h"

enum role {
    ROLE_SSO_ADMIN = 1 << 0,
    ROLE_AFFILIATE_ADMIN = 1 << 1,
    ROLE_APP_ADMIN = 1 << 2,    /* of the application in question */
    ROLE_APP_USER = 1 << 3,     /* of the application in question, any principal */
    ROLE_APP_USER_OWN = 1 << 4, /* of the application in question, own principal only */
    ROLE_READER = 1 << 5,       /* of the application in question */
    ROLE_AUDITOR = 1 << 6,
    ROLE_NODE = 1 << 7,
    ROLE_OWN = 1 << 8, /* any role above that the caller has, but only for the own principal */
    ROLE_ANY = 1 << 9, /* everybody who can connect */
};

struct peer {
    const struct identity *identity; /* a view */
    uid_t uid;                       /* NO_UID: by certificate */
    char name[257]; /* user name, or the certificate's first; for people and the audit */
    char principal[PRINCIPAL_BYTES_MAX + 1]; /* name, or what [roles] principal_map says */
    char how[33];                            /* "unix" or "tls" */
    unsigned roles;                          /* system-wide ones */
};

/* Membership is kept for a few seconds so that the system's user database is not asked at every
 * request. Thread-safe. */
struct peer_directory;
enum sso_code peer_directory_new(const struct config *config, struct peer_directory **out,
                                 struct sso_error *err) __attribute__((warn_unused_result));
void peer_directory_free(struct peer_directory **directory);

/* Not to be called on the event loop: it may ask a name service. A uid without a name is a peer
 * without roles, named by its number. `identity` must live as long as `out`. */
void peer_resolve(struct peer_directory *directory, const struct identity *identity,
                  struct peer *out);
/* Roles relative to an application: ROLE_APP_ADMIN, ROLE_APP_USER, ROLE_READER. */
unsigned peer_application_roles(struct peer_directory *directory, const struct peer *peer,
                                const struct application *application);
/* The first of the application's user groups that holds the peer, NULL where none does. A view into
 * the application. */
const char *peer_first_group(struct peer_directory *directory, const struct peer *peer,
                             const struct application *application);

#endif
