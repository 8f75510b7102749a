/* The canary of a generation (DESIGN §3.1): proves that a key is the right one. */
#ifndef SSO_PKCS11_CANARY_H
#define SSO_PKCS11_CANARY_H

#include "pkcs11/session.h"
#include "pkcs11/suite.h"

/* Fills generation->canary. */
enum sso_code canary_make(struct session *session, CK_OBJECT_HANDLE key, const struct suite *suite,
                          struct generation_key *generation, struct sso_error *err)
    __attribute__((warn_unused_result));

/* SSO_WRONG_MASTER_SECRET: the token answers, and it is another key or another canary.
 * SSO_HSM_UNAVAILABLE: the token does not answer. */
enum sso_code canary_open(struct session *session, CK_OBJECT_HANDLE key, const struct suite *suite,
                          const struct generation_key *generation, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
