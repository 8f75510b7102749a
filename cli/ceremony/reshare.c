/* New officers: every live backup anew under a new share set. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/ceremony/backing.h"
#include "cli/ceremony/opened_backup.h"
#include "cli/ceremony/shares.h"
#include "cli/ceremony/terminal.h"
#include "cli/ceremony/transcript.h"
#include "common/clock.h"
#include "common/digest.h"
#include "common/fault.h"
#include "common/json.h"

#define GENERATIONS_RESHARED_MAX 64

/* One generation on its way from the old set to the new. */
struct moved {
    char path[PATH_MAX]; /* the old file */
    struct opened_backup old;
    char new_path[PATH_MAX];
    struct encoder text;
    struct generation generation;
    bool unlocked, written;
};

struct resharing {
    const struct reshare_wish *wish;
    struct backing_options options;
    struct backing backing; /* of the new set */
    struct hsm *pool;
    struct journal journal;
    struct moved *moved;
    size_t count;
    struct encoder transcript;
    char transcript_path[PATH_MAX];
    bool transcript_written;
    struct signer signer;
};

static bool is_live(const struct generation *generation)
{
    return generation->state != GENERATION_DESTROYED && generation->state != GENERATION_DESTROYING;
}

/* The newest file of this generation and its present share set. */
static void consider(struct ceremony *ceremony, const char *path, struct moved *moved)
{
    struct opened_backup found;
    if (opened_backup_read(ceremony, path, &found, NULL) != SSO_OK ||
        found.key.number != moved->generation.number ||
        strcmp(found.text.file.set.id, moved->generation.share_set) != 0 ||
        (moved->path[0] != '\0' && found.text.file.written_ms <= moved->old.text.file.written_ms)) {
        opened_backup_free(&found);
        return;
    }
    opened_backup_free(&moved->old);
    moved->old = found;
    snprintf(moved->path, sizeof moved->path, "%s", path);
}

static enum sso_code find_file(struct ceremony *ceremony, const char *folder, struct moved *moved,
                               struct sso_error *err)
{
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "the folder of backups %s", folder);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[PATH_MAX];
        struct stat status;
        if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) < sizeof path &&
            stat(path, &status) == 0 && S_ISREG(status.st_mode))
            consider(ceremony, path, moved);
    }
    closedir(dir);
    if (moved->path[0] != '\0')
        return SSO_OK;
    return sso_fail(err, SSO_NOT_FOUND,
                    "%s holds no backup of generation %u for its share set %s: put the file there; "
                    "nothing was changed",
                    folder, moved->generation.number, moved->generation.share_set);
}

static enum sso_code find_files(struct ceremony *ceremony, struct resharing *resharing,
                                struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    resharing->moved = calloc(GENERATIONS_RESHARED_MAX, sizeof *resharing->moved);
    if (resharing->moved == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for backups");
    for (size_t i = 0; rc == SSO_OK && i < ceremony->generation_count; i++) {
        const struct generation *generation = &ceremony->generation[i];
        if (!is_live(generation) || generation->backed_up_ms == 0)
            continue;
        if (resharing->count == GENERATIONS_RESHARED_MAX)
            return sso_fail(err, SSO_TOO_LARGE,
                            "more than %d generations have a backup: destroy "
                            "those that nothing needs first",
                            GENERATIONS_RESHARED_MAX);
        struct moved *moved = &resharing->moved[resharing->count++];
        moved->generation = *generation;
        rc = find_file(ceremony, resharing->wish->backup_dir, moved, err);
        snprintf(moved->new_path, sizeof moved->new_path, "%.*s/generation-%u-%.8s.backup",
                 PATH_MAX - 64, resharing->wish->backup_dir, generation->number,
                 resharing->backing.set.id + 28);
    }
    if (rc == SSO_OK && resharing->count == 0)
        rc =
            sso_fail(err, SSO_NOT_FOUND, "no generation has a backup: there is nothing to reshare");
    return rc;
}

/* The officers of each old set, once. */
static enum sso_code unlock(struct resharing *resharing, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    for (size_t i = 0; rc == SSO_OK && i < resharing->count; i++) {
        SECRET_AUTO secret = {0};
        const struct share_set *set = &resharing->moved[i].old.text.file.set;
        if (resharing->moved[i].unlocked)
            continue;
        rc = shares_join(set, resharing->wish->shares_dir, true, &secret, err);
        for (size_t j = i; rc == SSO_OK && j < resharing->count; j++) {
            struct moved *moved = &resharing->moved[j];
            if (strcmp(moved->old.text.file.set.id, set->id) != 0)
                continue;
            rc = opened_backup_unlock_with(&moved->old, &secret, err);
            moved->unlocked = true;
            if (rc != SSO_OK && err != NULL)
                sso_error_context(err, "%s", moved->path);
        }
    }
    return rc;
}

static enum sso_code move_one(const struct ceremony *ceremony, struct resharing *resharing,
                              struct moved *moved, struct sso_error *err)
{
    struct backing *backing = &resharing->backing;
    struct hsm_backup *backup;
    struct backup_file *file = malloc(sizeof *file);
    if (file == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a backup");
    *file = moved->old.text.file;
    file->set = backing->set;
    file->written_ms = wall_clock_ms();
    file->audit_key_count = 0;
    enum sso_code rc = backing_keys(ceremony, backing, moved->generation.number, &backup, err);
    if (rc == SSO_OK)
        rc = hsm_rewrap_backup(resharing->pool, &moved->old.key, &moved->old.backup, backup, err);
    if (rc == SSO_OK)
        rc = backing_audit_keys(ceremony, &resharing->signer, file, err);
    if (rc == SSO_OK) {
        file->wrapped = backup->wrapped;
        rc = backup_file_write(file, backing->keys, &moved->text, err);
    }
    moved->generation.backed_up_ms = file->written_ms;
    free(file);
    return rc;
}

static void forget_secrets(struct resharing *resharing)
{
    secret_free(&resharing->backing.secret);
    secret_dealloc(resharing->backing.keys);
    resharing->backing.keys = NULL;
    for (size_t i = 0; i < resharing->count; i++)
        opened_backup_forget_keys(&resharing->moved[i].old);
}

static void say_moved(struct encoder *out, const struct moved *moved)
{
    uint8_t digest[DIGEST_BYTES];
    char hex[2 * DIGEST_BYTES + 1], id[2 * SECRET_ID_BYTES + 1];
    digest_sha256(moved->text.data, moved->text.length_bytes, digest);
    hex_encode(digest, sizeof digest, hex);
    hex_encode(moved->generation.secret_id, SECRET_ID_BYTES, id);
    transcript_say(out, "generation:   %u, secret id %s\n", moved->generation.number, id);
    transcript_say(out, "backup file:  %s\nits SHA-256:  %s\n", moved->new_path, hex);
    transcript_say(out, "to destroy:   %s, and all shares of the set %s\n", moved->path,
                   moved->old.text.file.set.id);
}

static enum sso_code compose(const struct ceremony *ceremony, struct resharing *resharing,
                             struct sso_error *err)
{
    struct encoder *out = &resharing->transcript;
    const struct share_set *set = &resharing->backing.set;
    transcript_head(ceremony, "key reshare", out);
    transcript_signer(&resharing->signer, out);
    transcript_share_set(set, true, out);
    for (size_t i = 0; i < resharing->count; i++)
        say_moved(out, &resharing->moved[i]);
    transcript_say(out, "proven:       each new backup was opened in the token, and gave the key "
                        "that opens the canary\n");
    return transcript_end(ceremony, &resharing->signer, set->scheme.count, out, err);
}

static enum sso_code write_files(struct resharing *resharing, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    for (size_t i = 0; rc == SSO_OK && i < resharing->count; i++) {
        struct moved *moved = &resharing->moved[i];
        rc = new_file_write(moved->new_path, moved->text.data, moved->text.length_bytes, 0644, err);
        moved->written = rc == SSO_OK;
        fault_point("ceremony.backup");
    }
    if (rc == SSO_OK)
        rc = new_file_write(resharing->transcript_path, resharing->transcript.data,
                            resharing->transcript.length_bytes, 0644, err);
    resharing->transcript_written = rc == SSO_OK;
    fault_point("ceremony.transcript");
    return rc;
}

static enum sso_code store_moved(const struct ceremony *ceremony, struct store_tx *tx,
                                 const struct resharing *resharing, const struct moved *moved,
                                 struct sso_error *err)
{
    struct generation now;
    enum sso_code rc = installation_reread(ceremony, tx, &moved->generation, &now, err);
    if (rc != SSO_OK)
        return rc;
    now.backed_up_ms = moved->generation.backed_up_ms;
    snprintf(now.share_set, sizeof now.share_set, "%s", resharing->backing.set.id);
    now.version++;
    policy_tag_generation(&ceremony->policy, &now);
    return store_generation_update(tx, &now, err);
}

static enum sso_code store_all(struct ceremony *ceremony, struct resharing *resharing,
                               struct sso_error *err)
{
    struct audit_record records[2];
    char target[128];
    STORE_TX_AUTO tx = NULL;
    struct share_set set = resharing->backing.set;
    policy_tag_share_set(&ceremony->policy, &set);
    snprintf(target, sizeof target, "share set %s, %zu generations", set.id, resharing->count);
    enum sso_code rc = console_record(ceremony, "backup.reshare", target, &records[0], err);
    if (rc == SSO_OK)
        rc = transcript_record(ceremony, &resharing->transcript, &records[1], err);
    if (rc == SSO_OK)
        rc = store_begin(ceremony->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = store_share_set_insert(tx, &set, err);
    for (size_t i = 0; rc == SSO_OK && i < resharing->count; i++)
        rc = store_moved(ceremony, tx, resharing, &resharing->moved[i], err);
    if (rc == SSO_OK)
        rc = store_audit_append(tx, records, 2, err);
    fault_point("ceremony.store");
    if (rc == SSO_OK)
        rc = store_commit(&tx, err);
    if (rc != SSO_OK)
        return rc;
    fault_point("ceremony.stored");
    console_keep_head(ceremony, &records[1], false);
    if (resharing->signer.present)
        signer_sign_heads(ceremony, &resharing->signer);
    return SSO_OK;
}

static void undo(struct resharing *resharing)
{
    for (size_t i = 0; i < resharing->count; i++)
        if (resharing->moved[i].written)
            unlink(resharing->moved[i].new_path);
    if (resharing->transcript_written)
        unlink(resharing->transcript_path);
    backing_undo(&resharing->backing);
}

static enum sso_code begin(struct ceremony *ceremony, struct resharing *resharing,
                           struct sso_error *err)
{
    const struct reshare_wish *wish = resharing->wish;
    struct backing *backing = &resharing->backing;
    enum sso_code rc = installation_open_all(ceremony, err);
    if (rc == SSO_OK)
        rc = installation_check_marks(ceremony, err);
    if (rc == SSO_OK)
        rc = journal_recover(ceremony, &resharing->journal, err);
    if (rc == SSO_OK && access(wish->backup_dir, W_OK | X_OK) != 0)
        rc = sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "the folder of backups %s",
                            wish->backup_dir);
    if (rc == SSO_OK)
        rc = wish->new_shares_dir != NULL
                 ? shares_folder_check(wish->new_shares_dir, err)
                 : terminal_check("give --new-shares-dir, or run this at a terminal", err);
    for (size_t i = 0; resharing->pool == NULL && i < CONFIG_HSM_MAX; i++)
        resharing->pool = ceremony->pool[i];
    backing->options = &resharing->options;
    backing->keys = secret_alloc(sizeof *backing->keys);
    if (rc == SSO_OK && backing->keys == NULL)
        rc = sso_fail(err, SSO_NO_MEMORY, "no locked memory for the keys of a backup");
    if (rc != SSO_OK)
        return rc;
    backing->backup.wrapping_key = backing->keys->wrapping;
    return signer_find(ceremony, &resharing->signer, err);
}

/* Before the first share leaves this program. */
static enum sso_code note(const struct ceremony *ceremony, struct resharing *resharing,
                          struct sso_error *err)
{
    struct journal_entry entry = {0};
    memcpy(entry.system_id, ceremony->system.id, SYSTEM_ID_BYTES);
    absolute_path(resharing->wish->backup_dir, entry.backup);
    snprintf(entry.share_set, sizeof entry.share_set, "%s", resharing->backing.set.id);
    backing_journal_shares(&resharing->backing, &entry);
    enum sso_code rc = journal_write(&resharing->journal, &entry, err);
    fault_point("ceremony.journal");
    return rc;
}

/* Everything before something is written. */
static enum sso_code prepare(struct ceremony *ceremony, struct resharing *resharing,
                             struct sso_error *err)
{
    enum sso_code rc = begin(ceremony, resharing, err);
    if (rc == SSO_OK)
        rc = backing_new_set(ceremony, resharing->pool, &resharing->backing, err);
    if (rc == SSO_OK)
        rc = find_files(ceremony, resharing, err);
    if (rc == SSO_OK)
        rc = unlock(resharing, err);
    for (size_t i = 0; rc == SSO_OK && i < resharing->count; i++)
        rc = move_one(ceremony, resharing, &resharing->moved[i], err);
    forget_secrets(resharing);
    snprintf(resharing->transcript_path, sizeof resharing->transcript_path,
             "%.*s/reshare-%.8s.transcript", PATH_MAX - 64, resharing->wish->backup_dir,
             resharing->backing.set.id + 28);
    return rc == SSO_OK ? compose(ceremony, resharing, err) : rc;
}

static enum sso_code reshare(struct ceremony *ceremony, struct resharing *resharing,
                             struct sso_error *err)
{
    enum sso_code rc = prepare(ceremony, resharing, err);
    if (rc == SSO_OK)
        rc = note(ceremony, resharing, err);
    if (rc != SSO_OK)
        return rc;
    rc = backing_hand_out(ceremony, &resharing->backing, err);
    console_hold_signals();
    if (rc == SSO_OK)
        rc = write_files(resharing, err);
    if (rc == SSO_OK)
        rc = store_all(ceremony, resharing, err);
    if (rc != SSO_OK && journal_is_open(ceremony))
        return rc;
    if (rc != SSO_OK)
        undo(resharing);
    journal_clear(&resharing->journal);
    return rc;
}

static json_t *result_object(const struct ceremony *ceremony, const struct resharing *resharing)
{
    json_t *files = json_array(), *old_files = json_array(), *sets = json_array(),
           *without = json_array();
    const struct share_set *set = &resharing->backing.set;
    char shares[16];
    for (size_t i = 0; i < resharing->count; i++) {
        const char *old_set = resharing->moved[i].old.text.file.set.id;
        bool named = false;
        for (size_t j = 0; j < i; j++)
            named |= strcmp(resharing->moved[j].old.text.file.set.id, old_set) == 0;
        json_array_append_new(files, json_string(resharing->moved[i].new_path));
        json_array_append_new(old_files, json_string(resharing->moved[i].path));
        if (!named)
            json_array_append_new(sets, json_string(old_set));
    }
    for (size_t i = 0; i < ceremony->generation_count; i++)
        if (is_live(&ceremony->generation[i]) && ceremony->generation[i].backed_up_ms == 0)
            json_array_append_new(without, json_integer(ceremony->generation[i].number));
    snprintf(shares, sizeof shares, "%u/%u", set->scheme.threshold, set->scheme.count);
    return json_pack(
        "{s:s, s:s, s:o, s:o, s:{s:o, s:o}, s:s, s:o}", "share_set", set->id, "shares", shares,
        "files", files, "without_backup", without, "to_destroy", "files", old_files, "share_sets",
        sets, "transcript", resharing->transcript_path, "transcript_text",
        json_stringn((const char *)resharing->transcript.data, resharing->transcript.length_bytes));
}

static void end(struct resharing *resharing)
{
    for (size_t i = 0; i < resharing->count; i++) {
        opened_backup_free(&resharing->moved[i].old);
        encoder_free(&resharing->moved[i].text);
    }
    free(resharing->moved);
    encoder_free(&resharing->transcript);
    backing_end(&resharing->backing);
}

enum sso_code ceremony_reshare(struct ceremony *ceremony, const struct reshare_wish *wish,
                               json_t **result, struct sso_error *err)
{
    struct resharing resharing = {.wish = wish, .journal = {.fd = -1}};
    resharing.options = (struct backing_options){
        .scheme = wish->scheme, .shares_dir = wish->new_shares_dir, .passphrase = wish->passphrase};
    enum sso_code rc = journal_open(ceremony, &resharing.journal, err);
    if (rc == SSO_OK)
        rc = reshare(ceremony, &resharing, err);
    if (rc == SSO_OK)
        *result = result_object(ceremony, &resharing);
    end(&resharing);
    journal_close(&resharing.journal);
    return rc;
}
