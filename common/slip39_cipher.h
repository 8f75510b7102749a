/* The cipher between secret and shares (SLIP-0039, "Encryption of the master secret"): four rounds
 * of a Feistel network over PBKDF2-HMAC-SHA-256 (RFC 8018). */
#ifndef SSO_COMMON_SLIP39_CIPHER_H
#define SSO_COMMON_SLIP39_CIPHER_H

#include "common/slip39.h"

/* `value`, of `bytes`, is encrypted or decrypted in place; `set` gives identifier, extendable and
 * iteration exponent. SSO_USAGE: the passphrase is too long or not of printable ASCII. */
enum sso_code slip39_cipher(const struct slip39_share *set, const struct secret *passphrase,
                            bool encrypt, uint8_t *value, size_t bytes, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
