#include "cli/ceremony/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "cli/ceremony/backup_io.h"
#include "cli/ceremony/shares.h"
#include "common/audit_head.h"
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
    audit_head_read(config->system.state_directory, &head);
    json_t *object = json_pack(
        "{s:o, s:I, s:o, s:s, s:b, s:s, s:s, s:s, s:I, s:s, s:I, s:o}", "system_id",
        json_hex(entry->system_id, SYSTEM_ID_BYTES), "generation", (json_int_t)entry->generation,
        "secret_id", json_hex(entry->secret_id, SECRET_ID_BYTES), "section", entry->section,
        "restored", entry->restored, "backup", entry->backup, "shares_folder", entry->shares_folder,
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
    return good ? SSO_OK
                : sso_fail_errno(err, SSO_CONFIG_ERROR, why, "the ceremony's journal %s",
                                 journal->path);
}

void journal_clear(struct journal *journal)
{
    if (journal->fd >= 0 && (ftruncate(journal->fd, 0) != 0 || fsync(journal->fd) != 0))
        console_warn("the ceremony's journal %s cannot be emptied: the next ceremony will look "
                     "after what this one did, and find it done",
                     journal->path);
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
    return generation > 0 && generation <= UINT32_MAX && shares >= 0 &&
           shares <= SLIP39_SHARES_MAX &&
           get_hex(object, "system_id", out->system_id, SYSTEM_ID_BYTES) &&
           get_hex(object, "secret_id", out->secret_id, SECRET_ID_BYTES) &&
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

/* --- recovery --- */

static bool is_known(const struct ceremony *ceremony, const struct journal_entry *entry)
{
    for (size_t i = 0; i < ceremony->generation_count; i++) {
        const struct generation *generation = &ceremony->generation[i];
        if (memcmp(generation->secret_id, entry->secret_id, SECRET_ID_BYTES) != 0)
            continue;
        if (!entry->restored)
            return true;
        struct hsm *pool = installation_pool((struct ceremony *)ceremony, entry->section);
        struct hsm_status status;
        if (pool == NULL)
            return false;
        hsm_status(pool, &status);
        for (size_t j = 0; j < ceremony->token_count; j++) {
            const struct generation_token *token = &ceremony->token[j];
            if (token->number == entry->generation && token->destroyed_ms == 0 &&
                strcmp(token->token.token, status.token.token) == 0 &&
                strcmp(token->token.serial, status.token.serial) == 0)
                return true;
        }
    }
    return false;
}

/* That the database does not know the key says that the ceremony was not done, unless this is
 * another database, or one from before it: then the key may be what credentials are under. */
static enum sso_code check_database(const struct ceremony *ceremony, const struct journal *journal,
                                    const struct journal_entry *entry, struct sso_error *err)
{
    struct audit_head kept;
    bool holds = true;
    STORE_TX_AUTO tx = NULL;
    char label[GENERATION_LABEL_SIZE];
    const struct config *config = ceremony->config;
    bool same = strcmp(entry->database, config->database.url) == 0;
    audit_head_read(config->system.state_directory, &kept);
    snprintf(kept.node, sizeof kept.node, "%s", config->cluster.node);
    if (same && kept.number == entry->head.number &&
        memcmp(kept.hash, entry->head.hash, AUDIT_HASH_BYTES) == 0)
        return SSO_OK; /* nothing was written since */
    enum sso_code rc = store_begin(ceremony->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_audit_holds(tx, &kept, &holds, err);
    if (rc != SSO_OK || (same && holds))
        return rc;
    generation_label(entry->system_id, entry->generation, label);
    return sso_fail(err, SSO_DATABASE_WENT_BACK,
                    "a ceremony was interrupted, which wrote to %s, and the database is %s: its "
                    "key %s is not touched, since credentials may be under it. Where that "
                    "ceremony was done, or its key taken out of the token, remove %s",
                    entry->database, same ? "older than what this node wrote since" : "another",
                    label, journal->path);
}

static enum sso_code undo_key(struct ceremony *ceremony, const struct journal_entry *entry,
                              struct sso_error *err)
{
    struct generation_key key = {.number = entry->generation, .suite = SUITE_AES256_KW};
    struct sso_error problem = {0};
    char label[GENERATION_LABEL_SIZE];
    struct hsm *pool = installation_pool(ceremony, entry->section);
    memcpy(key.system_id, entry->system_id, SYSTEM_ID_BYTES);
    memcpy(key.secret_id, entry->secret_id, SECRET_ID_BYTES);
    generation_label(key.system_id, key.number, label);
    if (pool == NULL)
        return sso_fail(err, SSO_HSM_UNAVAILABLE,
                        "a ceremony was interrupted and may have left the key %s in the token of "
                        "[hsm %s], which is not open: see to that token first",
                        label, entry->section);
    enum sso_code rc = hsm_destroy_key(pool, &key, &problem);
    if (rc == SSO_OK)
        console_warn("a ceremony was interrupted: its key %s was taken out of the token again",
                     label);
    else if (rc == SSO_NOT_FOUND)
        console_warn("a ceremony was interrupted: it left no key in the token");
    else
        return sso_fail(err, rc,
                        "a ceremony was interrupted, and its key %s cannot be taken out of the "
                        "token: %s",
                        label, problem.detail);
    return SSO_OK;
}

/* Only what that ceremony wrote. */
static void undo_backup(const struct journal_entry *entry)
{
    BACKUP_TEXT_AUTO text = {0};
    char transcript[PATH_MAX + 24];
    if (entry->backup[0] == '\0')
        return;
    snprintf(transcript, sizeof transcript, "%s.part", entry->backup);
    unlink(transcript);
    if (backup_load(entry->backup, &text, NULL) != SSO_OK ||
        memcmp(text.file.secret_id, entry->secret_id, SECRET_ID_BYTES) != 0)
        return;
    snprintf(transcript, sizeof transcript, "%s.transcript", entry->backup);
    unlink(transcript);
    strcat(transcript, ".part");
    unlink(transcript);
    if (unlink(entry->backup) == 0)
        console_warn("its backup file %s was removed: it restores nothing", entry->backup);
}

static void undo_files(const struct journal_entry *entry)
{
    undo_backup(entry);
    for (unsigned i = 1; i <= entry->share_count; i++) {
        char path[PATH_MAX + 32];
        snprintf(path, sizeof path, "%s/share-%u-of-%u.txt", entry->shares_folder, i,
                 entry->share_count);
        if (share_file_remove(path, entry->share_set))
            console_warn("its share %s was removed: it belongs to nothing", path);
    }
}

enum sso_code journal_recover(struct ceremony *ceremony, struct journal *journal,
                              struct sso_error *err)
{
    struct journal_entry entry = {0};
    enum sso_code rc = journal_read(ceremony->config, &entry, err);
    if (rc == SSO_NOT_FOUND)
        return SSO_OK;
    if (rc != SSO_OK)
        return rc;
    if (is_known(ceremony, &entry)) {
        console_warn("a ceremony was interrupted after it was done: generation %u is as it "
                     "should be",
                     entry.generation);
    } else {
        rc = check_database(ceremony, journal, &entry, err);
        if (rc == SSO_OK)
            rc = undo_key(ceremony, &entry, err);
        if (rc != SSO_OK)
            return rc;
        undo_files(&entry);
    }
    journal_clear(journal);
    return SSO_OK;
}
