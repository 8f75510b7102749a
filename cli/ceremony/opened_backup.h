/* A backup file that was opened with shares, and how it is held against the database. */
#ifndef SSO_CLI_CEREMONY_OPENED_BACKUP_H
#define SSO_CLI_CEREMONY_OPENED_BACKUP_H

#include "cli/ceremony/backup_io.h"
#include "cli/ceremony/installation.h"

struct opened_backup {
    struct backup_text text;
    struct backup_keys *keys; /* NULL until opened */
    struct generation_key key;
    struct hsm_backup backup;
    const struct generation *generation; /* of the database */
};

/* Reads the file and compares what it says with the database, without any share:
 * SSO_BACKUP_OF_OTHER_SYSTEM, SSO_NOT_FOUND (such a generation), SSO_WRONG_MASTER_SECRET (it is of
 * another key than the generation's). */
enum sso_code opened_backup_read(struct ceremony *ceremony, const char *file,
                                 struct opened_backup *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* With the shares: SSO_WRONG_PASSPHRASE, SSO_BACKUP_TAMPERED, and what shares_join gives. */
enum sso_code opened_backup_unlock(struct opened_backup *backup, const char *shares_dir,
                                   struct sso_error *err) __attribute__((warn_unused_result));
/* The same with a secret that is joined already. */
enum sso_code opened_backup_unlock_with(struct opened_backup *backup, const struct secret *secret,
                                        struct sso_error *err) __attribute__((warn_unused_result));
/* Once the token has what it needs: the keys that the shares gave are wiped. */
void opened_backup_forget_keys(struct opened_backup *backup);
void opened_backup_free(struct opened_backup *backup);
#define OPENED_BACKUP_AUTO __attribute__((cleanup(opened_backup_free))) struct opened_backup

/* Opens it in the pool's token as session objects: canary, and rows sampled from the database.
 * SSO_WRONG_MASTER_SECRET: none of the rows opens. */
struct sampled_rows {
    size_t count, opened;
};
enum sso_code opened_backup_try(struct ceremony *ceremony, struct hsm *pool,
                                const struct opened_backup *backup, struct sampled_rows *samples,
                                struct sso_error *err) __attribute__((warn_unused_result));

#endif
