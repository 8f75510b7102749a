/* What a ceremony that was killed left, undone from its journal. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/ceremony/backup_io.h"
#include "cli/ceremony/journal.h"
#include "cli/ceremony/shares.h"

static enum sso_code knows_set(struct store_tx *tx, const char *id, bool *known,
                               struct sso_error *err)
{
    struct share_set *sets = NULL;
    size_t count = 0;
    enum sso_code rc = store_share_set_list(tx, &sets, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++)
        *known |= strcmp(sets[i].id, id) == 0;
    free(sets);
    return rc;
}

static enum sso_code knows_key(struct store_tx *tx, const struct journal_entry *entry, bool *known,
                               struct sso_error *err)
{
    struct generation *generation = NULL;
    size_t count = 0;
    enum sso_code rc = store_generation_list(tx, &generation, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++)
        *known |= memcmp(generation[i].secret_id, entry->secret_id, SECRET_ID_BYTES) == 0;
    free(generation);
    return rc;
}

/* In the token of the entry's section? */
static enum sso_code knows_row(struct ceremony *ceremony, struct store_tx *tx,
                               const struct journal_entry *entry, bool *known,
                               struct sso_error *err)
{
    struct hsm *pool = installation_pool(ceremony, entry->section);
    struct generation_token *token = NULL;
    struct hsm_status status;
    size_t count = 0;
    if (pool == NULL)
        return SSO_OK;
    hsm_status(pool, &status);
    enum sso_code rc = store_generation_token_list(tx, &token, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++)
        *known |= token[i].number == entry->generation && token[i].destroyed_ms == 0 &&
                  strcmp(token[i].token.token, status.token.token) == 0 &&
                  strcmp(token[i].token.serial, status.token.serial) == 0;
    free(token);
    return rc;
}

/* Was the ceremony's transaction committed? It wrote to the audit: whoever has the lock of this
 * node's chain knows that it is over, and does not take one for undone that still waits for a
 * standby. Nothing is written. */
static enum sso_code is_known(struct ceremony *ceremony, const struct journal_entry *entry,
                              bool *known, struct sso_error *err)
{
    struct audit_record record;
    STORE_TX_AUTO tx = NULL;
    *known = false;
    enum sso_code rc = console_record(ceremony, "ceremony.recover", "", &record, err);
    if (rc == SSO_OK)
        rc = store_begin(ceremony->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = store_audit_append(tx, &record, 1, err);
    if (rc == SSO_OK && entry->generation == 0)
        return knows_set(tx, entry->share_set, known, err);
    if (rc == SSO_OK)
        rc = knows_key(tx, entry, known, err);
    if (rc != SSO_OK || !*known || !entry->restored)
        return rc;
    *known = false;
    return knows_row(ceremony, tx, entry, known, err);
}

static void what_it_made(const struct journal_entry *entry, char out[static PATH_MAX + 128])
{
    char label[GENERATION_LABEL_SIZE];
    generation_label(entry->system_id, entry->generation, label);
    if (entry->generation != 0)
        snprintf(out, PATH_MAX + 128, "the key %s", label);
    else
        snprintf(out, PATH_MAX + 128, "what stands in %s for share set %s", entry->backup,
                 entry->share_set);
}

/* That the database does not know of it says that the ceremony was not done, unless this is another
 * database, or one from before it: then the key may be what credentials are under, and the backups
 * the only ones. */
static enum sso_code check_database(const struct ceremony *ceremony, const struct journal *journal,
                                    const struct journal_entry *entry, struct sso_error *err)
{
    struct audit_head kept;
    bool holds = true;
    STORE_TX_AUTO tx = NULL;
    char what[PATH_MAX + 128];
    const struct config *config = ceremony->config;
    bool same = strcmp(entry->database, config->database.url) == 0;
    enum sso_code rc = audit_head_read(config->system.state_directory, &kept, err);
    if (rc != SSO_OK)
        return rc;
    snprintf(kept.node, sizeof kept.node, "%s", config->cluster.node);
    if (same && kept.number == entry->head.number &&
        memcmp(kept.hash, entry->head.hash, AUDIT_HASH_BYTES) == 0)
        return SSO_OK; /* nothing was written since */
    rc = store_begin(ceremony->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_audit_holds(tx, &kept, &holds, err);
    if (rc != SSO_OK || (same && holds))
        return rc;
    what_it_made(entry, what);
    return sso_fail(err, SSO_DATABASE_WENT_BACK,
                    "a ceremony was interrupted, which wrote to %s, and the database is %s: %s of "
                    "it is not touched, since it may be needed. Where that ceremony was done, or "
                    "this was removed by hand, remove %s",
                    entry->database, same ? "older than what this node wrote since" : "another",
                    what, journal->path);
}

static enum sso_code undo_audit_key(struct hsm *pool, const struct journal_entry *entry,
                                    struct sso_error *err)
{
    static const uint8_t none[AUDIT_KEY_ID_BYTES];
    struct audit_key key = {0};
    struct sso_error problem = {0};
    if (memcmp(entry->audit_key, none, sizeof none) == 0)
        return SSO_OK;
    memcpy(key.id, entry->audit_key, sizeof key.id);
    enum sso_code rc = hsm_audit_destroy(pool, &key, &problem);
    if (rc == SSO_OK)
        console_warn("its audit signing key was taken out of the token again");
    if (rc == SSO_OK || rc == SSO_NOT_FOUND)
        return SSO_OK;
    return sso_fail(err, rc,
                    "a ceremony was interrupted, and its audit signing key cannot be taken out of "
                    "the token: %s",
                    problem.detail);
}

static enum sso_code undo_keys(struct ceremony *ceremony, const struct journal_entry *entry,
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
    return undo_audit_key(pool, entry, err);
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

/* Is this a file that a reshare to this set writes? */
static bool is_of_reshare(const char *name, const char *set_id)
{
    char backup[32], transcript[48];
    const char *tail = strncmp(name, "generation-", 11) == 0 ? strchr(name + 11, '-') : NULL;
    snprintf(backup, sizeof backup, "-%.8s.backup", set_id + 28);
    snprintf(transcript, sizeof transcript, "reshare-%.8s.transcript", set_id + 28);
    return (tail != NULL && strncmp(tail, backup, strlen(backup)) == 0) ||
           strncmp(name, transcript, strlen(transcript)) == 0;
}

static void undo_reshare(const struct journal_entry *entry)
{
    unsigned removed = 0;
    DIR *dir = opendir(entry->backup);
    for (struct dirent *each; dir != NULL && (each = readdir(dir)) != NULL;) {
        char path[PATH_MAX];
        BACKUP_TEXT_AUTO text = {0};
        if (!is_of_reshare(each->d_name, entry->share_set) ||
            (size_t)snprintf(path, sizeof path, "%s/%s", entry->backup, each->d_name) >=
                sizeof path)
            continue;
        /* A backup of the same name that is of another set is not ours. */
        if (backup_load(path, &text, NULL) == SSO_OK &&
            strcmp(text.file.set.id, entry->share_set) != 0)
            continue;
        removed += unlink(path) == 0;
    }
    if (dir != NULL)
        closedir(dir);
    console_warn("a reshare to the share set %s was interrupted: the old backups and shares go on "
                 "being the right ones. %u new files in %s were removed; shares of that set that "
                 "were handed out belong to nothing: destroy them",
                 entry->share_set, removed, entry->backup);
}

static void undo_files(const struct journal_entry *entry)
{
    if (entry->generation == 0)
        undo_reshare(entry);
    else
        undo_backup(entry);
    for (unsigned i = 1; i <= entry->share_count; i++) {
        char path[PATH_MAX + 32];
        snprintf(path, sizeof path, "%s/share-%u-of-%u.txt", entry->shares_folder, i,
                 entry->share_count);
        if (share_file_remove(path, entry->share_set))
            console_warn("its share %s was removed: it belongs to nothing", path);
    }
}

static enum sso_code undo(struct ceremony *ceremony, const struct journal *journal,
                          const struct journal_entry *entry, struct sso_error *err)
{
    enum sso_code rc = check_database(ceremony, journal, entry, err);
    if (rc == SSO_OK && entry->generation != 0)
        rc = undo_keys(ceremony, entry, err);
    if (rc == SSO_OK)
        undo_files(entry);
    return rc;
}

enum sso_code journal_recover(struct ceremony *ceremony, struct journal *journal,
                              struct sso_error *err)
{
    bool known;
    struct journal_entry entry = {0};
    enum sso_code rc = journal_read(ceremony->config, &entry, err);
    if (rc == SSO_NOT_FOUND)
        return SSO_OK;
    if (rc == SSO_OK)
        rc = is_known(ceremony, &entry, &known, err);
    if (rc == SSO_OK && known && entry.generation == 0)
        console_warn("a reshare was interrupted after it was done: the backups of the share set "
                     "%s in %s are the right ones",
                     entry.share_set, entry.backup);
    else if (rc == SSO_OK && known)
        console_warn("a ceremony was interrupted after it was done: generation %u is as it "
                     "should be",
                     entry.generation);
    else if (rc == SSO_OK)
        rc = undo(ceremony, journal, &entry, err);
    if (rc == SSO_OK)
        journal_clear(journal);
    return rc;
}
