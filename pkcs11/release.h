/*
 * Row keys as session objects in the token, under aes256-kw: how they get there and how their bytes
 * come out, by the way that this token wants (ways.h). Every outcome that is not about the wrapped
 * row key at hand says so (outcome.own).
 */
#ifndef SSO_PKCS11_RELEASE_H
#define SSO_PKCS11_RELEASE_H

#include "pkcs11/session.h"
#include "pkcs11/ways.h"

/* Unwraps into a sensitive session object that may be wrapped and nothing else. */
struct outcome release_unwrap(struct session *session, CK_OBJECT_HANDLE key,
                              const struct wrapped_key *in, CK_OBJECT_HANDLE *out);
/* Wraps a session object, and destroys it whatever comes of that. */
struct outcome release_wrap(struct session *session, CK_OBJECT_HANDLE key, CK_OBJECT_HANDLE object,
                            struct wrapped_key *out);

/* Brings a row key of the host into the token as a session object. */
struct outcome release_admit(struct session *session, const uint8_t *row_key,
                             CK_OBJECT_HANDLE *out);
/* Unwraps, and brings the row key's bytes to the host. */
struct outcome release_open(struct session *session, CK_OBJECT_HANDLE key,
                            const struct wrapped_key *in, uint8_t *row_key);

/* Does this way work here, with a key of the probe's own? For doctor. */
struct outcome release_try(struct session *session, enum release_way way);

#endif
