/*
 * Where a PIN comes from: a file, or a program whose output it is (RFC 7512 §2.4: pin-source).
 *
 *   file:/path, /path   regular, mode 0400 or 0600, owned by the token's user or root
 *   |/path              absolute path of a program owned by root that nobody else may write; it is
 *                       run without a shell and prints the PIN
 *   credential:NAME, prompt:   handed over by the spawner (pkcs11/pin_handed.h)
 *
 * One newline at the end is cut.
 */
#ifndef SSO_PKCS11_PIN_H
#define SSO_PKCS11_PIN_H

#include "common/error.h"
#include "common/secret.h"
#include "pkcs11/frame.h"

/* `source` NULL: SSO_CONFIG_ERROR. A source that cannot be looked at is one too. */
enum sso_code pin_source_look(const char *source, struct pin_source_facts *out,
                              struct sso_error *err) __attribute__((warn_unused_result));

/* On error `out` is empty. */
enum sso_code pin_read(const char *source, struct secret *out, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
