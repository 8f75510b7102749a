#include "cli/ceremony/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/audit_head.h"
#include "common/encode.h"
#include "common/json.h"

#define JOURNAL_BYTES_MAX 16384

/* A file that was just made is there after a power cut only if its folder is durable too. */
static void make_durable(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!fsync(fd);
        close(fd);
    }
}

enum sso_code journal_open(const struct ceremony *ceremony, struct journal *out,
                           struct sso_error *err)
{
    const char *folder = ceremony->config->system.state_directory;
    out->config = ceremony->config;
    snprintf(out->path, sizeof out->path, "%s/" JOURNAL_FILE, folder);
    out->fd = open(out->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (out->fd < 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "the ceremony's journal %s", out->path);
    make_durable(folder);
    if (flock(out->fd, LOCK_EX | LOCK_NB) == 0)
        return SSO_OK;
    journal_close(out);
    return sso_fail(err, SSO_IN_USE,
                    "another ceremony runs on this node: wait for it, or end it, first");
}

void journal_close(struct journal *journal)
{
    if (journal->fd >= 0)
        close(journal->fd);
    journal->fd = -1;
}

enum sso_code journal_write(struct journal *journal, const struct journal_entry *entry,
                            struct sso_error *err)
{
    const struct config *config = journal->config;
    struct audit_head head;
    enum sso_code rc = audit_head_read(config->system.state_directory, &head, err);
    if (rc != SSO_OK)
        return rc;
    json_t *object = json_pack(
        "{s:o, s:I, s:o, s:o, s:s, s:b, s:s, s:s, s:s, s:I, s:s, s:I, s:o}", "system_id",
        json_hex(entry->system_id, SYSTEM_ID_BYTES), "generation", (json_int_t)entry->generation,
        "secret_id", json_hex(entry->secret_id, SECRET_ID_BYTES), "audit_key",
        json_hex(entry->audit_key, AUDIT_KEY_ID_BYTES), "section", entry->section, "restored",
        entry->restored, "backup", entry->backup, "shares_folder", entry->shares_folder,
        "share_set", entry->share_set, "shares", (json_int_t)entry->share_count, "database",
        config->database.url, "head_number", (json_int_t)head.number, "head_hash",
        json_hex(head.hash, AUDIT_HASH_BYTES));
    char *line = object != NULL ? json_line(object) : NULL;
    size_t length = line != NULL ? strlen(line) : 0;
    errno = ENOMEM;
    bool good = line != NULL && ftruncate(journal->fd, 0) == 0 &&
                pwrite(journal->fd, line, length, 0) == (ssize_t)length && fsync(journal->fd) == 0;
    int why = errno;
    wiping_free(line);
    json_decref(object);
    if (entry != &journal->entry)
        journal->entry = *entry;
    return good ? SSO_OK
                : sso_fail_errno(err, SSO_CONFIG_ERROR, why, "the ceremony's journal %s",
                                 journal->path);
}

enum sso_code journal_note_audit_key(struct journal *journal,
                                     const uint8_t id[static AUDIT_KEY_ID_BYTES],
                                     struct sso_error *err)
{
    memcpy(journal->entry.audit_key, id, AUDIT_KEY_ID_BYTES);
    return journal_write(journal, &journal->entry, err);
}

void journal_clear(struct journal *journal)
{
    if (journal->fd >= 0 && (ftruncate(journal->fd, 0) != 0 || fsync(journal->fd) != 0))
        console_warn("the ceremony's journal %s cannot be emptied: the next ceremony will look "
                     "after what this one did, and find it done",
                     journal->path);
}

bool journal_is_open(const struct ceremony *ceremony)
{
    if (ceremony->store == NULL || !store_commit_unknown(ceremony->store))
        return false;
    console_warn("it is not known whether this was done: nothing of it is taken back. The next "
                 "ceremony on this node asks the database first, and says; keep the new backup "
                 "files and shares as well as the old ones until then");
    return true;
}

static bool get_text(const json_t *object, const char *name, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL && (size_t)snprintf(out, size, "%s", text) < size;
}

static bool get_hex(const json_t *object, const char *name, uint8_t *out, size_t count)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL && hex_decode(text, out, count);
}

static bool read_entry(const json_t *object, struct journal_entry *out)
{
    json_int_t generation = json_integer_value(json_object_get(object, "generation"));
    json_int_t shares = json_integer_value(json_object_get(object, "shares"));
    out->head.number = (uint64_t)json_integer_value(json_object_get(object, "head_number"));
    out->generation = (uint32_t)generation;
    out->share_count = (unsigned)shares;
    out->restored = json_is_true(json_object_get(object, "restored"));
    return generation >= 0 && generation <= UINT32_MAX && shares >= 0 &&
           shares <= SLIP39_SHARES_MAX &&
           get_hex(object, "system_id", out->system_id, SYSTEM_ID_BYTES) &&
           get_hex(object, "secret_id", out->secret_id, SECRET_ID_BYTES) &&
           get_hex(object, "audit_key", out->audit_key, AUDIT_KEY_ID_BYTES) &&
           get_text(object, "section", out->section, sizeof out->section) &&
           get_text(object, "backup", out->backup, sizeof out->backup) &&
           get_text(object, "shares_folder", out->shares_folder, sizeof out->shares_folder) &&
           get_text(object, "share_set", out->share_set, sizeof out->share_set) &&
           get_text(object, "database", out->database, sizeof out->database) &&
           get_hex(object, "head_hash", out->head.hash, AUDIT_HASH_BYTES);
}

enum sso_code journal_read(const struct config *config, struct journal_entry *out,
                           struct sso_error *err)
{
    char path[PATH_MAX], text[JOURNAL_BYTES_MAX];
    snprintf(path, sizeof path, "%s/" JOURNAL_FILE, config->system.state_directory);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return sso_fail(err, SSO_NOT_FOUND, "no ceremony was interrupted");
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text) : -1;
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (got < 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, why, "the ceremony's journal %s", path);
    if (got == 0)
        return sso_fail(err, SSO_NOT_FOUND, "no ceremony was interrupted");
    json_t *object = json_parse(text, (size_t)got, NULL);
    bool good = object != NULL && read_entry(object, out);
    json_decref(object);
    /* A journal that was cut is one that was being written: nothing of it was done yet. */
    return good ? SSO_OK : sso_fail(err, SSO_NOT_FOUND, "no ceremony was interrupted");
}
