/*
 * Some tokens read a key from slow storage at every use: NSS softoken asks its database each time,
 * and rewraps 2,000 rows a second with a token object, 200,000 with a session object. So where a
 * token allows a copy, and is much faster with it, a session works with a copy of the master secret
 * that is a session object: as sensitive, as little extractable, with the same usages, and gone
 * with the session. The master secret itself stays where it was.
 */
#ifndef SSO_PKCS11_SESSION_COPY_H
#define SSO_PKCS11_SESSION_COPY_H

#include "pkcs11/session.h"

/* The handle to work with in place of key->handle, whose canary has just opened; CK_INVALID_HANDLE
 * where there shall be none. */
CK_OBJECT_HANDLE session_copy_make(struct session *session, const struct session_key *key);
/* Destroys the copies of a session that goes on without them. */
void session_copies_drop(struct session *session);

#endif
