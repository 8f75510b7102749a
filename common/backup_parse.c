/* Reading a backup file: strict, every line in its place. */
#include <stdlib.h>
#include <string.h>

#include "common/backup_file.h"
#include "common/clock.h"

struct cursor {
    const char *text, *next, *end;
    unsigned line;     /* of the one that was taken last */
    unsigned bad_line; /* and looked at last */
    const char *wanted;
};

static enum sso_code invalid(const struct cursor *cursor, struct sso_error *err)
{
    return sso_fail(err, SSO_BACKUP_INVALID, "line %u: %s was expected: this is no backup file",
                    cursor->bad_line, cursor->wanted);
}

/* The next line that is no remark, without its end. */
static bool next_line(struct cursor *cursor, const char **line, size_t *length)
{
    do {
        const char *end = cursor->next < cursor->end
                              ? memchr(cursor->next, '\n', (size_t)(cursor->end - cursor->next))
                              : NULL;
        cursor->line++;
        if (end == NULL)
            return false;
        *line = cursor->next;
        *length = (size_t)(end - cursor->next);
        cursor->next = end + 1;
    } while (*length > 0 && **line == '#');
    return true;
}

/* "name: value" into out[size]; false, and nothing taken, where the next line is another. */
static bool take(struct cursor *cursor, const char *name, char *out, size_t size)
{
    struct cursor before = *cursor;
    const char *line;
    size_t length, name_length = strlen(name);
    if (next_line(cursor, &line, &length) && length > name_length + 2 &&
        memcmp(line, name, name_length) == 0 && memcmp(line + name_length, ": ", 2) == 0 &&
        length - name_length - 2 < size &&
        text_is_clean_utf8(line + name_length + 2, length - name_length - 2)) {
        memcpy(out, line + name_length + 2, length - name_length - 2);
        out[length - name_length - 2] = '\0';
        cursor->wanted = name;
        cursor->bad_line = cursor->line;
        return true;
    }
    before.bad_line = cursor->line;
    before.wanted = name;
    *cursor = before;
    return false;
}

/* In small letters only: there is one way to write a file. */
static bool decode_hex(const char *hex, uint8_t *out, size_t count)
{
    return strpbrk(hex, "ABCDEF") == NULL && hex_decode(hex, out, count);
}

static bool take_hex(struct cursor *cursor, const char *name, uint8_t *out, size_t count)
{
    char hex[2 * WRAPPED_KEY_BYTES_MAX + 1];
    if (!take(cursor, name, hex, sizeof hex))
        return false;
    return decode_hex(hex, out, count);
}

static bool take_wrapped(struct cursor *cursor, const char *name, struct wrapped_key *out)
{
    char hex[2 * WRAPPED_KEY_BYTES_MAX + 1];
    if (!take(cursor, name, hex, sizeof hex))
        return false;
    size_t count = strlen(hex) / 2;
    out->length_bytes = (uint8_t)count;
    return decode_hex(hex, out->bytes, count);
}

/* Decimal, without signs or leading zeros. */
static bool number(const char *text, uint64_t maximum, uint64_t *out)
{
    *out = 0;
    if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0'))
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || *out > (maximum - (uint64_t)(*text - '0')) / 10)
            return false;
        *out = *out * 10 + (uint64_t)(*text - '0');
    }
    return true;
}

static bool take_number(struct cursor *cursor, const char *name, uint64_t maximum, uint64_t *out)
{
    char text[24];
    if (!take(cursor, name, text, sizeof text))
        return false;
    return number(text, maximum, out);
}

static bool take_time(struct cursor *cursor, const char *name, int64_t *out)
{
    char text[RFC3339_SIZE];
    if (!take(cursor, name, text, sizeof text))
        return false;
    return rfc3339_parse(text, out);
}

static bool take_scheme(struct cursor *cursor, struct slip39_scheme *out)
{
    char text[16];
    uint64_t threshold, count;
    if (!take(cursor, "shares", text, sizeof text))
        return false;
    char *slash = strchr(text, '/');
    if (slash == NULL)
        return false;
    *slash = '\0';
    if (!number(text, SLIP39_SHARES_MAX, &threshold) ||
        !number(slash + 1, SLIP39_SHARES_MAX, &count))
        return false;
    out->threshold = (uint8_t)threshold;
    out->count = (uint8_t)count;
    return slip39_scheme_check(out, NULL) == SSO_OK;
}

static bool parse_key(struct cursor *cursor, struct backup_file *out)
{
    char text[32];
    uint64_t generation;
    if (!take_hex(cursor, "system-id", out->system_id, SYSTEM_ID_BYTES) ||
        !take(cursor, "system-name", out->system_name, sizeof out->system_name) ||
        !take_number(cursor, "generation", UINT32_MAX, &generation) || generation == 0 ||
        !take_hex(cursor, "secret-id", out->secret_id, SECRET_ID_BYTES) ||
        !take(cursor, "suite", text, sizeof text))
        return false;
    out->generation = (uint32_t)generation;
    out->suite = suite_from_name(text);
    return out->suite != SUITE_NONE && take_time(cursor, "created", &out->created_ms) &&
           take_time(cursor, "written", &out->written_ms) &&
           take_wrapped(cursor, "wrapped-key", &out->wrapped) && out->wrapped.length_bytes == 40 &&
           take_wrapped(cursor, "canary", &out->canary.wrapped) &&
           take_hex(cursor, "canary-mac", out->canary.mac, TAG_BYTES);
}

static bool parse_set(struct cursor *cursor, struct share_set *out)
{
    char text[8];
    uint64_t identifier, exponent;
    if (!take(cursor, "share-set", out->id, sizeof out->id) ||
        !take_time(cursor, "share-set-created", &out->created_ms) ||
        !take_scheme(cursor, &out->scheme) || !take(cursor, "passphrase", text, sizeof text))
        return false;
    out->passphrase = strcmp(text, "yes") == 0;
    if ((!out->passphrase && strcmp(text, "no") != 0) ||
        !take_number(cursor, "slip39-identifier", 0x7fff, &identifier) ||
        !take_number(cursor, "slip39-iteration-exponent", 15, &exponent))
        return false;
    out->identifier = (uint16_t)identifier;
    out->scheme.iteration_exponent = (uint8_t)exponent;
    for (unsigned i = 0; i < out->scheme.count; i++)
        if (!take_hex(cursor, "share-fingerprint", out->fingerprint[i], SHARE_FINGERPRINT_BYTES))
            return false;
    return true;
}

static bool parse_end(struct cursor *cursor, struct backup_file *out)
{
    while (
        out->audit_key_count < BACKUP_AUDIT_KEYS_MAX &&
        take(cursor, "audit-key", out->audit_key[out->audit_key_count], sizeof out->audit_key[0]))
        out->audit_key_count++;
    if (!take_hex(cursor, "check", out->check, BACKUP_CHECK_BYTES))
        return false;
    /* The MAC's own line follows at once: a remark in front of it would not be covered. */
    out->authenticated_bytes = (size_t)(cursor->next - cursor->text);
    cursor->wanted = "mac";
    if (cursor->next == cursor->end || *cursor->next != 'm' ||
        !take_hex(cursor, "mac", out->mac, BACKUP_MAC_BYTES))
        return false;
    cursor->bad_line++;
    cursor->wanted = "the end of the file";
    return cursor->next == cursor->end;
}

enum sso_code backup_file_parse(const char *text, size_t bytes, struct backup_file *out,
                                struct sso_error *err)
{
    static const char magic[] = "sso-hsm backup ";
    struct cursor cursor = {.text = text, .next = text, .end = text + bytes, .wanted = "a backup"};
    const char *line;
    size_t length;
    *out = (struct backup_file){0};
    if (bytes > BACKUP_FILE_BYTES_MAX)
        return sso_fail(err, SSO_BACKUP_INVALID, "it is longer than any backup file (%d bytes)",
                        BACKUP_FILE_BYTES_MAX);
    cursor.wanted = "\"sso-hsm backup 1\"";
    cursor.bad_line = 1;
    if (!next_line(&cursor, &line, &length) || length < sizeof magic - 1 ||
        memcmp(line, magic, sizeof magic - 1) != 0)
        return invalid(&cursor, err);
    if (length != sizeof magic || line[length - 1] != '1')
        return sso_fail(err, SSO_BACKUP_INVALID,
                        "it is a backup file of another version than 1: restore it with the "
                        "version of sso-hsm that wrote it");
    if (!parse_key(&cursor, out) || !parse_set(&cursor, &out->set) || !parse_end(&cursor, out))
        return invalid(&cursor, err);
    return SSO_OK;
}
