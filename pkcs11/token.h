/* A token of the loaded module, found by a PKCS#11 URI (RFC 7512) and never by a slot number. */
#ifndef SSO_PKCS11_TOKEN_H
#define SSO_PKCS11_TOKEN_H

#include <p11-kit/pkcs11.h>
#include <stdbool.h>

#include "common/error.h"
#include "common/generation.h"
#include "common/secret.h"
#include "pkcs11/module.h"
#include "pkcs11/ways.h"

struct token {
    struct module *module;
    CK_SLOT_ID slot;
    CK_FLAGS flags;
    struct token_identity identity;
    char firmware[16];
    char *pin_source;        /* as the URI has it, NULL where it has none */
    uint32_t sessions_max;   /* 0: it does not say, or has no limit */
    bool no_session;         /* it had none left for the login */
    CK_SESSION_HANDLE login; /* stays open while we serve: with the last session the login ends */
    bool login_doubtful; /* C_Login was called and said neither that the PIN is right nor wrong */
    struct ways ways;
};

/* SSO_TOKEN_NOT_FOUND, SSO_TOKEN_AMBIGUOUS: the text lists what was found. SSO_CONFIG_ERROR: the
 * URI is none, or has what does not belong there (pin-value, module-path, slot-id, an object). */
enum sso_code token_find(struct module *module, const char *uri, struct token *out,
                         struct sso_error *err) __attribute__((warn_unused_result));

bool token_wants_login(const struct token *token);

/* Opens the pinned session and logs in with `pin`; SSO_PIN_REFUSED where the token says so. */
enum sso_code token_login(struct token *token, const struct secret *pin, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Does the token have the mechanism, with these CKF_ flags? */
bool token_has(struct token *token, CK_MECHANISM_TYPE mechanism, CK_FLAGS flags);

#endif
