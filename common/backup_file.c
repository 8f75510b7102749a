#include "common/backup_file.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/digest.h"

static const char info_label[] = "sso-hsm backup v1";
static const char first_line[] = "sso-hsm backup 1";

/* What a stranger with M shares must know first. Part of what the MAC covers. */
static const char preface[] =
    "# A backup of a master secret. Without the shares of its officers it opens nothing; anybody\n"
    "# may keep it. Restored by: sso-hsm key restore FILE. How it is opened with other tools:\n"
    "# join the shares by SLIP-39 (secret S of 32 bytes); HKDF-SHA-256 of S without salt, info =\n"
    "# \"sso-hsm backup v1\", system id (16 bytes), generation (4 bytes, big-endian), then "
    "\"kek\",\n"
    "# \"mac\" or \"check\", gives the key that unwraps wrapped-key (RFC 3394), the key of the "
    "MAC\n"
    "# (HMAC-SHA-256 over every byte before the line \"mac\") and the 8 bytes of \"check\".\n";

static enum sso_code derive(const struct secret *secret, struct encoder *info, const char *purpose,
                            uint8_t *out, size_t bytes)
{
    size_t kept = info->length_bytes;
    encode_fixed(info, purpose, strlen(purpose));
    enum sso_code rc =
        info->failed ? SSO_INTERNAL
                     : backup_secret_expand(secret, info->data, info->length_bytes, out, bytes);
    info->length_bytes = kept;
    return rc;
}

enum sso_code backup_keys_derive(const struct secret *backup_secret,
                                 const uint8_t system_id[static SYSTEM_ID_BYTES],
                                 uint32_t generation, struct backup_keys *out,
                                 struct sso_error *err)
{
    uint8_t bytes[64];
    struct encoder info = {.data = bytes, .capacity_bytes = sizeof bytes, .fixed = true};
    encode_fixed(&info, info_label, sizeof info_label - 1);
    encode_fixed(&info, system_id, SYSTEM_ID_BYTES);
    encode_u32(&info, generation);
    enum sso_code rc = derive(backup_secret, &info, "kek", out->wrapping, sizeof out->wrapping);
    if (rc == SSO_OK)
        rc = derive(backup_secret, &info, "mac", out->mac, sizeof out->mac);
    if (rc == SSO_OK)
        rc = derive(backup_secret, &info, "check", out->check, sizeof out->check);
    return rc == SSO_OK ? rc : sso_fail(err, SSO_INTERNAL, "HKDF failed");
}

/* --- writing --- */

static void __attribute__((format(printf, 3, 4)))
put(struct encoder *out, const char *name, const char *format, ...)
{
    char line[BACKUP_AUDIT_KEY_SIZE + 64];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    encode_fixed(out, name, strlen(name));
    encode_fixed(out, ": ", 2);
    encode_fixed(out, line, strlen(line));
    encode_u8(out, '\n');
}

static void put_hex(struct encoder *out, const char *name, const uint8_t *bytes, size_t count)
{
    char hex[2 * WRAPPED_KEY_BYTES_MAX + 1];
    hex_encode(bytes, count, hex);
    put(out, name, "%s", hex);
}

static void put_set(struct encoder *out, const struct share_set *set)
{
    char time[RFC3339_SIZE];
    put(out, "share-set", "%s", set->id);
    put(out, "share-set-created", "%s", rfc3339(set->created_ms, time));
    put(out, "shares", "%u/%u", set->scheme.threshold, set->scheme.count);
    put(out, "passphrase", "%s", set->passphrase ? "yes" : "no");
    put(out, "slip39-identifier", "%u", set->identifier);
    put(out, "slip39-iteration-exponent", "%u", set->scheme.iteration_exponent);
    for (unsigned i = 0; i < set->scheme.count; i++)
        put_hex(out, "share-fingerprint", set->fingerprint[i], SHARE_FINGERPRINT_BYTES);
}

enum sso_code backup_file_write(const struct backup_file *file, const struct backup_keys *keys,
                                struct encoder *out, struct sso_error *err)
{
    char time[RFC3339_SIZE];
    uint8_t mac[BACKUP_MAC_BYTES];
    size_t begin = out->length_bytes;
    encode_fixed(out, first_line, sizeof first_line - 1);
    encode_u8(out, '\n');
    encode_fixed(out, preface, sizeof preface - 1);
    put_hex(out, "system-id", file->system_id, SYSTEM_ID_BYTES);
    put(out, "system-name", "%s", file->system_name);
    put(out, "generation", "%" PRIu32, file->generation);
    put_hex(out, "secret-id", file->secret_id, SECRET_ID_BYTES);
    put(out, "suite", "%s", suite_name(file->suite));
    put(out, "created", "%s", rfc3339(file->created_ms, time));
    put(out, "written", "%s", rfc3339(file->written_ms, time));
    put_hex(out, "wrapped-key", file->wrapped.bytes, file->wrapped.length_bytes);
    put_hex(out, "canary", file->canary.wrapped.bytes, file->canary.wrapped.length_bytes);
    put_hex(out, "canary-mac", file->canary.mac, TAG_BYTES);
    put_set(out, &file->set);
    for (size_t i = 0; i < file->audit_key_count; i++)
        put(out, "audit-key", "%s", file->audit_key[i]);
    put_hex(out, "check", keys->check, BACKUP_CHECK_BYTES);
    if (!out->failed)
        digest_hmac_sha256(keys->mac, sizeof keys->mac, out->data + begin,
                           out->length_bytes - begin, mac);
    put_hex(out, "mac", mac, sizeof mac);
    return out->failed ? sso_fail(err, SSO_NO_MEMORY, "no memory for the backup") : SSO_OK;
}

bool backup_file_fits(const struct backup_file *file, const struct backup_keys *keys)
{
    return CRYPTO_memcmp(file->check, keys->check, BACKUP_CHECK_BYTES) == 0;
}

enum sso_code backup_file_check(const struct backup_file *file, const char *text,
                                const struct backup_keys *keys, struct sso_error *err)
{
    uint8_t mac[BACKUP_MAC_BYTES];
    digest_hmac_sha256(keys->mac, sizeof keys->mac, text, file->authenticated_bytes, mac);
    if (CRYPTO_memcmp(mac, file->mac, sizeof mac) == 0)
        return SSO_OK;
    return sso_fail(err, SSO_BACKUP_TAMPERED,
                    "the shares are right and the backup's MAC does not fit: the file was changed "
                    "or damaged after it was written; use another copy of it");
}
