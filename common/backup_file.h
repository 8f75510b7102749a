/*
 * The backup of a generation as a file (docs/backup-format.md, DESIGN §8): text, worthless without
 * M shares. It says what it is without any share; with them its MAC shows that nobody changed it.
 */
#ifndef SSO_COMMON_BACKUP_FILE_H
#define SSO_COMMON_BACKUP_FILE_H

#include "common/encode.h"
#include "common/share_set.h"

#define BACKUP_FILE_BYTES_MAX 65536
#define BACKUP_CHECK_BYTES 8
#define BACKUP_MAC_BYTES 32
#define BACKUP_AUDIT_KEYS_MAX 16
#define BACKUP_AUDIT_KEY_SIZE 640

struct backup_file {
    uint8_t system_id[SYSTEM_ID_BYTES];
    char system_name[129];
    uint32_t generation;
    uint8_t secret_id[SECRET_ID_BYTES];
    enum suite_id suite;
    int64_t created_ms; /* the generation */
    int64_t written_ms; /* this backup */
    struct wrapped_key wrapped;
    struct canary canary;
    struct share_set set;                                         /* without verifier and tag */
    char audit_key[BACKUP_AUDIT_KEYS_MAX][BACKUP_AUDIT_KEY_SIZE]; /* one line each, as they are */
    size_t audit_key_count;
    uint8_t check[BACKUP_CHECK_BYTES];
    uint8_t mac[BACKUP_MAC_BYTES];
    size_t authenticated_bytes; /* of the text, from its beginning */
};

/* HKDF-SHA-256 of the backup secret, no salt, info "sso-hsm backup v1" ‖ system id ‖ generation (4
 * bytes, big-endian) ‖ "kek", "mac" or "check". In locked memory. */
struct backup_keys {
    uint8_t wrapping[32];
    uint8_t mac[32];
    uint8_t check[BACKUP_CHECK_BYTES];
};
enum sso_code backup_keys_derive(const struct secret *backup_secret,
                                 const uint8_t system_id[static SYSTEM_ID_BYTES],
                                 uint32_t generation, struct backup_keys *out,
                                 struct sso_error *err) __attribute__((warn_unused_result));

/* Appends the text to `out`; check bytes and MAC come from `keys`. */
enum sso_code backup_file_write(const struct backup_file *file, const struct backup_keys *keys,
                                struct encoder *out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* SSO_BACKUP_INVALID names the line and what was expected there. */
enum sso_code backup_file_parse(const char *text, size_t bytes, struct backup_file *out,
                                struct sso_error *err) __attribute__((warn_unused_result));

/* Do the keys belong to this file? In constant time. */
bool backup_file_fits(const struct backup_file *file, const struct backup_keys *keys);
/* SSO_BACKUP_TAMPERED: the MAC over the text is another. */
enum sso_code backup_file_check(const struct backup_file *file, const char *text,
                                const struct backup_keys *keys, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
