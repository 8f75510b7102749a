/*
 * How row keys are wrapped (DESIGN §3.2). A suite is one file and one row of the table in suite.c;
 * the contract tests walk the table.
 */
#ifndef SSO_PKCS11_SUITE_H
#define SSO_PKCS11_SUITE_H

#include "pkcs11/module.h"
#include "pkcs11/session.h"

struct suite {
    enum suite_id id;
    CK_MECHANISM_TYPE mechanism;
    CK_FLAGS mechanism_flags; /* what the token must be able to do with it */
    bool wraps;               /* the master secret may WRAP and UNWRAP; else ENCRYPT and DECRYPT */

    /* `key` is the master secret's handle in `session`. Row keys lie in locked memory. What a call
     * writes counts on CKR_OK only, and no session object is left behind either way. */

    /* A new random row key, and its wrapped form. */
    struct outcome (*make)(struct session *session, CK_OBJECT_HANDLE key,
                           const uint8_t binding[static BINDING_BYTES], uint8_t *row_key,
                           struct wrapped_key *out);
    struct outcome (*wrap)(struct session *session, CK_OBJECT_HANDLE key,
                           const uint8_t binding[static BINDING_BYTES], const uint8_t *row_key,
                           struct wrapped_key *out);
    struct outcome (*unwrap)(struct session *session, CK_OBJECT_HANDLE key,
                             const uint8_t binding[static BINDING_BYTES],
                             const struct wrapped_key *in, uint8_t *row_key);
    /* From one key of this suite to another, inside the token. NULL: the worker unwraps into its
     * locked memory and wraps from there. `in` and `out` may be one. */
    struct outcome (*rewrap)(struct session *session, CK_OBJECT_HANDLE from, CK_OBJECT_HANDLE to,
                             const struct wrapped_key *in, struct wrapped_key *out);
};

extern const struct suite suite_aes256_kw;
extern const struct suite suite_aes256_gcm;

/* NULL where there is none. */
const struct suite *suite_by_id(enum suite_id id);
/* The n-th of the table, NULL past its end. */
const struct suite *suite_at(size_t n);

#endif
