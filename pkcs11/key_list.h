/* The master secrets of a system that a token holds, by their labels. */
#ifndef SSO_PKCS11_KEY_LIST_H
#define SSO_PKCS11_KEY_LIST_H

#include "pkcs11/session.h"

/* All of them or an error: a list that is cut would let a number be used twice. More than
 * `maximum`: SSO_TOKEN_NOT_SUITABLE. What carries a label of the system and no id of ours, or other
 * usages than a suite's, has suite SUITE_NONE. */
enum sso_code key_list(struct session *session, const uint8_t system_id[static SYSTEM_ID_BYTES],
                       struct token_key *out, size_t maximum, size_t *count, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
