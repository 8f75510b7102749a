/* What a token can do, found out by doing it with session objects (lines of sso-hsm doctor). */
#ifndef SSO_PKCS11_PROBE_H
#define SSO_PKCS11_PROBE_H

#include "pkcs11/session.h"
#include "pkcs11/suite.h"

#define PROBE_CHECKS_MAX 32

/* Returns how many of `out` were filled. */
size_t probe_token(struct session *session, bool weak_accepted,
                   struct check out[static PROBE_CHECKS_MAX]);

/* ---- between probe.c and probe_measure.c ---- */

struct probe {
    struct session *session;
    struct check *out;
    size_t count;
    bool weak_accepted;
    unsigned suites_usable;
};

/* `remedy` is left out where the check passes. */
void probe_report(struct probe *probe, const char *id, enum check_result result, const char *remedy,
                  const char *detail, ...) __attribute__((format(printf, 5, 6)));

/* probe_measure.c: how many sessions, how long a search, how fast. */
void probe_sessions(struct probe *probe);
void probe_search(struct probe *probe);
void probe_speed(struct probe *probe, const struct suite *suite, CK_OBJECT_HANDLE key);

#endif
