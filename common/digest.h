/* SHA-256 (FIPS 180-4), HMAC-SHA-256 (RFC 2104) and AES-256-GCM from OpenSSL, looked up once. Both
 * digests keep a context for each thread, since a lookup checks several tags: after the first call
 * of a thread nothing is allocated, and they cannot fail (a thread for which OpenSSL has no memory
 * at all ends the process). */
#ifndef SSO_COMMON_DIGEST_H
#define SSO_COMMON_DIGEST_H

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_BYTES 32

void digest_sha256(const void *bytes, size_t count, uint8_t out[static DIGEST_BYTES]);

/* Nothing of the key stays behind. */
void digest_hmac_sha256(const uint8_t *key, size_t key_bytes, const void *bytes, size_t count,
                        uint8_t out[static DIGEST_BYTES]);

const EVP_CIPHER *digest_aes_256_gcm(void);

#endif
