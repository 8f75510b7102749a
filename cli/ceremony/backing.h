/*
 * The backup of a master secret in the making (DESIGN §8). The order in which it is used:
 *
 *     backing_begin        all that can be refused is refused; the backup secret and its shares
 *     backing_keys         for the number that the generation gets; then the key is made with
 *                          &backing->backup
 *     backing_seal         the text of the file; secret and keys are wiped
 *     backing_hand_out     to the officers, by screen or file; may be interrupted
 *     backing_write        file and transcript
 *     backing_store        in the ceremony's transaction
 *     backing_end
 *
 * backing_undo removes files that were written, where a later step failed. With `no_backup` none of
 * it does anything.
 */
#ifndef SSO_CLI_CEREMONY_BACKING_H
#define SSO_CLI_CEREMONY_BACKING_H

#include "cli/ceremony/installation.h"
#include "cli/ceremony/journal.h"
#include "cli/ceremony/signing.h"
#include "common/backup_file.h"

struct backing {
    const struct backing_options *options;
    struct share_set set;
    bool new_set;
    struct secret secret;     /* wiped by backing_seal */
    struct backup_keys *keys; /* the same */
    struct slip39_share
        *shares; /* wiped one by one as they are handed out; NULL for a set that is */
    struct hsm_backup backup;
    struct encoder text;       /* of the file */
    struct encoder transcript; /* and of the transcript */
    char transcript_path[PATH_MAX];
    char digest[65]; /* SHA-256 of the file, in hex */
    bool file_written, shares_written, transcript_written;
};

enum sso_code backing_begin(struct ceremony *ceremony, struct hsm *pool,
                            const struct backing_options *options, struct backing *out,
                            struct sso_error *err) __attribute__((warn_unused_result));
/* NULL in *backup where there shall be none. */
enum sso_code backing_keys(const struct ceremony *ceremony, struct backing *backing,
                           uint32_t number, struct hsm_backup **backup, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Also fills what the generation's row says of its backup. */
enum sso_code backing_seal(struct ceremony *ceremony, struct backing *backing,
                           struct generation *generation, const struct signer *signer,
                           struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code backing_hand_out(const struct ceremony *ceremony, struct backing *backing,
                               struct sso_error *err) __attribute__((warn_unused_result));
struct backing_witness {
    const char *ceremony; /* "init", "key generate" */
    struct hsm *pool;
    const struct generation *generation;
    const struct generation_token *token;
    const struct signer *signer;
};
enum sso_code backing_write(const struct ceremony *ceremony, struct backing *backing,
                            const struct backing_witness *witness, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code backing_store(const struct ceremony *ceremony, const struct backing *backing,
                            struct store_tx *tx, struct sso_error *err)
    __attribute__((warn_unused_result));
void backing_undo(struct backing *backing);
void backing_end(struct backing *backing);

/* For reshare, which has many files to one set: the new set, its secret and its shares; the audit
 * signing keys that the database knows, and this signer's. */
enum sso_code backing_new_set(const struct ceremony *ceremony, struct hsm *pool,
                              struct backing *backing, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code backing_audit_keys(const struct ceremony *ceremony, const struct signer *signer,
                                 struct backup_file *file, struct sso_error *err)
    __attribute__((warn_unused_result));

/* What the journal has to know; and only of the shares. */
void backing_journal_shares(const struct backing *backing, struct journal_entry *out);
void backing_journal(const struct backing *backing, struct journal_entry *out);
/* "backup" of the command's result. */
void backing_report(const struct backing *backing, json_t *result);

#endif
