/* What a token says and does about a master secret (DESIGN §3.1). */
#ifndef SSO_PKCS11_EVIDENCE_H
#define SSO_PKCS11_EVIDENCE_H

#include "pkcs11/session.h"

/* Takes the evidence in a session of its own. The outcome is SSO_OK where it could be taken,
 * accepted or not. */
enum sso_code evidence_take(struct session *session, const struct generation_key *generation,
                            CK_OBJECT_HANDLE key, bool weak_accepted, struct evidence *out,
                            struct sso_error *err) __attribute__((warn_unused_result));

/* SSO_KEY_NOT_ACCEPTABLE names the required checks that failed, unless it is accepted. */
enum sso_code evidence_verdict(const struct evidence *evidence, const struct token *token,
                               struct sso_error *err) __attribute__((warn_unused_result));

#endif
