/* What a token can do, found out by doing it with session objects (lines of sso-hsm doctor). */
#ifndef SSO_PKCS11_PROBE_H
#define SSO_PKCS11_PROBE_H

#include "pkcs11/session.h"

#define PROBE_CHECKS_MAX 16

/* `sessions` is what the worker has open. Returns how many of `out` were filled. */
size_t probe_token(struct session *session, unsigned sessions, bool weak_accepted,
                   struct check out[static PROBE_CHECKS_MAX]);

#endif
