/* As whom somebody at the other end of a connection was authenticated: by the kernel on the Unix
 * socket, by a certificate over TLS. */
#ifndef SSO_CUSTODIAN_IDENTITY_H
#define SSO_CUSTODIAN_IDENTITY_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/san.h"

#define IDENTITY_NAMES_MAX 8
#define NO_UID ((uid_t)-1) /* nobody has it */

struct identity {
    uid_t uid; /* NO_UID: by certificate */
    /* The subject alternative names of the certificate: "san:DNS:app1.sso.example" … The first is
     * what the peer is called; each may give a role. */
    unsigned name_count;
    char name[IDENTITY_NAMES_MAX][SAN_BYTES_MAX + 1];
};

/* Does one of its names fit the pattern? Never on the Unix socket. */
bool identity_matches(const struct identity *identity, const char *pattern);
/* Somebody with a certificate of this one name. */
void identity_of_name(const char *name, struct identity *out);

#endif
