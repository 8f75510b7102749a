/* A share set: M of N shares that stand for one backup secret (DESIGN §8). What is known of it
 * without any share. */
#ifndef SSO_COMMON_SHARE_SET_H
#define SSO_COMMON_SHARE_SET_H

#include "common/generation.h"
#include "common/slip39.h"

#define SHARE_SET_ID_SIZE 37 /* a UUID as text */
#define SHARE_FINGERPRINT_BYTES 8
#define SHARE_SET_VERIFIER_BYTES 8
#define BACKUP_SECRET_BYTES 32

struct share_set {
    char id[SHARE_SET_ID_SIZE];
    struct slip39_scheme scheme;
    uint16_t identifier; /* of SLIP-39 */
    bool passphrase;     /* the shares want one */
    int64_t created_ms;
    uint8_t fingerprint[SLIP39_SHARES_MAX][SHARE_FINGERPRINT_BYTES];
    /* Tells whether shares give the secret of this set. In the database only. */
    uint8_t verifier[SHARE_SET_VERIFIER_BYTES];
    uint64_t version;
    uint8_t tag[TAG_BYTES]; /* policy tag (common/policy.h) */
};

/* The words of a share as one line, with one blank between two. `out`, of
 * SLIP39_MNEMONIC_BYTES_MAX, lies in locked memory. Returns its length. */
size_t share_text(const struct slip39_share *share, char *out);

/* SHA-256("sso-hsm share v1 " ‖ words with one blank between two), cut: names a share and tells
 * nothing of it. */
enum sso_code share_fingerprint(const struct slip39_share *share,
                                uint8_t out[static SHARE_FINGERPRINT_BYTES], struct sso_error *err)
    __attribute__((warn_unused_result));

/* HKDF-SHA-256 (RFC 5869, no salt) of a backup secret: `info_bytes` of info, `bytes` out. */
enum sso_code backup_secret_expand(const struct secret *secret, const void *info, size_t info_bytes,
                                   uint8_t *out, size_t bytes) __attribute__((warn_unused_result));

/* info = "sso-hsm share set v1" ‖ system id ‖ set id (text). */
enum sso_code share_set_verifier(const struct secret *secret,
                                 const uint8_t system_id[static SYSTEM_ID_BYTES], const char *id,
                                 uint8_t out[static SHARE_SET_VERIFIER_BYTES],
                                 struct sso_error *err) __attribute__((warn_unused_result));

#endif
