#include "cli/ceremony/opened_backup.h"

#include <stdlib.h>
#include <string.h>

#include "cli/ceremony/shares.h"
#include "common/row.h"

#define SAMPLES_MAX 64
#define ROWS_SCANNED_MAX 20000
#define SCAN_ROWS 500

static enum sso_code compare(const struct ceremony *ceremony, const char *path,
                             struct opened_backup *backup, struct sso_error *err)
{
    const struct backup_file *file = &backup->text.file;
    if (memcmp(file->system_id, ceremony->system.id, SYSTEM_ID_BYTES) != 0)
        return sso_fail(err, SSO_BACKUP_OF_OTHER_SYSTEM,
                        "%s is a backup of the system %s, the database holds another one, %s", path,
                        file->system_name, ceremony->system.name);
    const struct generation *generation = installation_generation(ceremony, file->generation);
    if (generation == NULL)
        return sso_fail(err, SSO_NOT_FOUND,
                        "%s is a backup of generation %u, which this database does not know: it "
                        "has no rows for it",
                        path, file->generation);
    if (memcmp(file->secret_id, generation->secret_id, SECRET_ID_BYTES) != 0 ||
        file->suite != generation->suite ||
        memcmp(&file->canary, &generation->canary, sizeof file->canary) != 0)
        return sso_fail(err, SSO_WRONG_MASTER_SECRET,
                        "%s is a backup of another key than that of generation %u in the database",
                        path, file->generation);
    backup->generation = generation;
    return SSO_OK;
}

enum sso_code opened_backup_read(struct ceremony *ceremony, const char *file,
                                 struct opened_backup *out, struct sso_error *err)
{
    *out = (struct opened_backup){0};
    enum sso_code rc = backup_load(file, &out->text, err);
    if (rc == SSO_OK)
        rc = compare(ceremony, file, out, err);
    if (rc != SSO_OK)
        return rc;
    generation_key_of(ceremony->system.id, out->generation, &out->key);
    out->backup.wrapped = out->text.file.wrapped;
    return SSO_OK;
}

void opened_backup_forget_keys(struct opened_backup *backup)
{
    secret_dealloc(backup->keys);
    backup->keys = NULL;
    backup->backup.wrapping_key = NULL;
}

void opened_backup_free(struct opened_backup *backup)
{
    backup_text_free(&backup->text);
    opened_backup_forget_keys(backup);
}

enum sso_code opened_backup_unlock_with(struct opened_backup *backup, const struct secret *secret,
                                        struct sso_error *err)
{
    const struct backup_file *file = &backup->text.file;
    backup->keys = secret_alloc(sizeof *backup->keys);
    if (backup->keys == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no locked memory for the keys of a backup");
    backup->backup.wrapping_key = backup->keys->wrapping;
    enum sso_code rc =
        backup_keys_derive(secret, file->system_id, file->generation, backup->keys, err);
    if (rc != SSO_OK)
        return rc;
    if (backup_file_fits(file, backup->keys))
        return backup_file_check(file, backup->text.bytes, backup->keys, err);
    /* Each share was known by its fingerprint, and SLIP-39's own digest held. */
    if (file->set.passphrase)
        return sso_fail(err, SSO_WRONG_PASSPHRASE,
                        "the shares are of this backup and do not open it: the passphrase is "
                        "another (or the file was changed)");
    return sso_fail(err, SSO_BACKUP_TAMPERED,
                    "the shares are of this backup and do not open it: the file was changed or "
                    "damaged after it was written; use another copy of it");
}

enum sso_code opened_backup_unlock(struct opened_backup *backup, const char *shares_dir,
                                   struct sso_error *err)
{
    SECRET_AUTO secret = {0};
    enum sso_code rc = shares_join(&backup->text.file.set, shares_dir, false, &secret, err);
    return rc == SSO_OK ? opened_backup_unlock_with(backup, &secret, err) : rc;
}

/* --- samples --- */

static void take_sealed_keys(const struct ceremony *ceremony, uint32_t number,
                             struct key_item *items, size_t *count)
{
    for (size_t i = 0; i < ceremony->sealed_count && *count < SAMPLES_MAX; i++) {
        const struct sealed_key *sealed = &ceremony->sealed[i];
        if (sealed->generation != number)
            continue;
        struct key_item *item = &items[(*count)++];
        *item = (struct key_item){.generation = number, .wrapped = sealed->wrapped};
        sealed_key_binding(ceremony->system.id, sealed, item->binding);
    }
}

static void take_rows(const struct ceremony *ceremony, uint32_t number, struct credential_row *rows,
                      size_t row_count, struct key_item *items, size_t *count)
{
    for (size_t i = 0; i < row_count; i++) {
        if (rows[i].generation == number && rows[i].format == ROW_FORMAT && *count < SAMPLES_MAX) {
            struct key_item *item = &items[(*count)++];
            *item = (struct key_item){.generation = number, .wrapped = rows[i].wrapped};
            row_binding_digest(ceremony->system.id, &rows[i], item->binding);
        }
        credential_row_free(&rows[i]);
    }
}

static enum sso_code sample(struct ceremony *ceremony, uint32_t number, struct key_item *items,
                            size_t *count, struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    struct scan_position position = {0};
    const struct scan_options options = {.limit = SCAN_ROWS};
    struct credential_row *rows = calloc(SCAN_ROWS, sizeof *rows);
    enum sso_code rc = rows != NULL ? store_begin(ceremony->store, STORE_READ, &tx, err)
                                    : sso_fail(err, SSO_NO_MEMORY, "no memory for rows");
    take_sealed_keys(ceremony, number, items, count);
    size_t got = SCAN_ROWS;
    for (size_t scanned = 0;
         rc == SSO_OK && got > 0 && *count < SAMPLES_MAX && scanned < ROWS_SCANNED_MAX;
         scanned += got) {
        rc = store_credential_scan(tx, &options, &position, rows, &got, err);
        if (rc == SSO_OK)
            take_rows(ceremony, number, rows, got, items, count);
    }
    free(rows);
    return rc;
}

enum sso_code opened_backup_try(struct ceremony *ceremony, struct hsm *pool,
                                const struct opened_backup *backup, struct sampled_rows *samples,
                                struct sso_error *err)
{
    struct key_item items[SAMPLES_MAX];
    struct hsm_samples sampled = {.item = items};
    enum sso_code rc = sample(ceremony, backup->key.number, items, &sampled.count, err);
    if (rc == SSO_OK)
        rc = hsm_try_backup(pool, &backup->key, &backup->backup, &sampled, err);
    *samples = (struct sampled_rows){sampled.count, sampled.opened};
    if (rc == SSO_OK && sampled.count > 0 && sampled.opened == 0)
        rc = sso_fail(err, SSO_WRONG_MASTER_SECRET,
                      "the key in the backup opens its canary and none of %zu rows sampled from "
                      "the database: this database belongs to another backup",
                      sampled.count);
    return rc;
}
