#include "cli/ceremony/backing.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/ceremony/backup_io.h"
#include "cli/ceremony/shares.h"
#include "cli/ceremony/terminal.h"
#include "cli/ceremony/transcript.h"
#include "common/clock.h"
#include "common/digest.h"
#include "common/fault.h"
#include "common/row.h"

/* 20,000 iterations of PBKDF2 in all: it guards a passphrase against M officers, no key. */
#define ITERATION_EXPONENT 1

/* --- the backup secret --- */

/* From the token's generator and from OpenSSL's: whoever knows one of them knows nothing. */
static enum sso_code mix_secret(struct hsm *pool, struct secret *out, struct sso_error *err)
{
    struct {
        char label[24];
        uint8_t token[32], host[32];
    } *both = secret_alloc(sizeof *both);
    uint8_t *mixed = secret_alloc(BACKUP_SECRET_BYTES);
    enum sso_code rc = both != NULL && mixed != NULL
                           ? hsm_random(pool, both->token, err)
                           : sso_fail(err, SSO_NO_MEMORY, "no locked memory for a backup secret");
    if (rc == SSO_OK)
        rc = random_bytes(both->host, sizeof both->host, err);
    if (rc == SSO_OK) {
        strcpy(both->label, "sso-hsm backup secret");
        digest_sha256(both, sizeof *both, mixed);
        rc = secret_append(out, mixed, BACKUP_SECRET_BYTES, err);
    }
    secret_dealloc(both);
    secret_dealloc(mixed);
    return rc;
}

static enum sso_code split(struct backing *backing, struct sso_error *err)
{
    SECRET_AUTO passphrase = {0};
    struct share_set *set = &backing->set;
    enum sso_code rc = SSO_OK;
    backing->shares = secret_alloc(SLIP39_SHARES_MAX * sizeof *backing->shares);
    if (backing->shares == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no locked memory for shares");
    if (set->passphrase)
        rc = passphrase_ask(true, &passphrase, err);
    if (rc == SSO_OK)
        rc = slip39_split(&set->scheme, &backing->secret, &passphrase, backing->shares, err);
    for (unsigned i = 0; rc == SSO_OK && i < set->scheme.count; i++)
        rc = share_fingerprint(&backing->shares[i], set->fingerprint[i], err);
    if (rc == SSO_OK)
        set->identifier = backing->shares[0].identifier;
    return rc;
}

enum sso_code backing_new_set(const struct ceremony *ceremony, struct hsm *pool,
                              struct backing *backing, struct sso_error *err)
{
    uint8_t id[16];
    struct share_set *set = &backing->set;
    set->scheme = backing->options->scheme;
    set->scheme.iteration_exponent = ITERATION_EXPONENT;
    set->passphrase = backing->options->passphrase;
    set->created_ms = wall_clock_ms();
    set->version = 1;
    backing->new_set = true;
    enum sso_code rc = uuid_v7(id, err);
    if (rc == SSO_OK) {
        uuid_text(id, set->id);
        rc = mix_secret(pool, &backing->secret, err);
    }
    if (rc == SSO_OK)
        rc = split(backing, err);
    if (rc == SSO_OK)
        rc = share_set_verifier(&backing->secret, ceremony->system.id, set->id, set->verifier, err);
    return rc;
}

static enum sso_code find_set(const struct ceremony *ceremony, const char *id,
                              struct share_set *out, struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    struct share_set *sets = NULL;
    size_t count = 0;
    enum sso_code rc = store_begin(ceremony->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_share_set_list(tx, &sets, &count, err);
    size_t i = 0;
    while (i < count && strcmp(sets[i].id, id) != 0)
        i++;
    if (rc == SSO_OK && i == count)
        rc = sso_fail(err, SSO_NOT_FOUND,
                      "there is no share set %s: `sso-hsm key list` shows the set of each "
                      "generation",
                      id);
    if (rc == SSO_OK)
        rc = policy_check_share_set(&ceremony->policy, &sets[i], err);
    if (rc == SSO_OK)
        *out = sets[i];
    free(sets);
    return rc;
}

/* M officers of a set that is. */
static enum sso_code join_set(const struct ceremony *ceremony, struct backing *backing,
                              struct sso_error *err)
{
    uint8_t verifier[SHARE_SET_VERIFIER_BYTES];
    const struct share_set *set = &backing->set;
    enum sso_code rc = find_set(ceremony, backing->options->share_set, &backing->set, err);
    if (rc == SSO_OK)
        rc = shares_join(set, backing->options->shares_dir, false, &backing->secret, err);
    if (rc == SSO_OK)
        rc = share_set_verifier(&backing->secret, ceremony->system.id, set->id, verifier, err);
    if (rc != SSO_OK || CRYPTO_memcmp(verifier, set->verifier, sizeof verifier) == 0)
        return rc;
    return sso_fail(err, set->passphrase ? SSO_WRONG_PASSPHRASE : SSO_WRONG_SHARES,
                    "the shares do not give the secret of the share set %s%s", set->id,
                    set->passphrase ? ": the passphrase is another" : "");
}

/* --- the steps --- */

static enum sso_code check_paths(struct backing *backing, struct sso_error *err)
{
    const struct backing_options *options = backing->options;
    enum sso_code rc = new_file_check(options->backup, err);
    snprintf(backing->transcript_path, sizeof backing->transcript_path, "%s.transcript",
             options->backup);
    if (rc == SSO_OK)
        rc = new_file_check(backing->transcript_path, err);
    if (rc != SSO_OK || options->share_set != NULL)
        return rc;
    return options->shares_dir != NULL
               ? shares_folder_check(options->shares_dir, err)
               : terminal_check("give --shares-dir, or run this at a terminal", err);
}

enum sso_code backing_begin(struct ceremony *ceremony, struct hsm *pool,
                            const struct backing_options *options, struct backing *out,
                            struct sso_error *err)
{
    *out = (struct backing){.options = options};
    if (options->no_backup)
        return SSO_OK;
    out->keys = secret_alloc(sizeof *out->keys);
    if (out->keys == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no locked memory for the keys of a backup");
    out->backup.wrapping_key = out->keys->wrapping;
    enum sso_code rc = check_paths(out, err);
    if (rc == SSO_OK)
        rc = options->share_set != NULL ? join_set(ceremony, out, err)
                                        : backing_new_set(ceremony, pool, out, err);
    return rc;
}

enum sso_code backing_keys(const struct ceremony *ceremony, struct backing *backing,
                           uint32_t number, struct hsm_backup **backup, struct sso_error *err)
{
    *backup = backing->options->no_backup ? NULL : &backing->backup;
    return backing->options->no_backup ? SSO_OK
                                       : backup_keys_derive(&backing->secret, ceremony->system.id,
                                                            number, backing->keys, err);
}

enum sso_code backing_audit_keys(const struct ceremony *ceremony, const struct signer *signer,
                                 struct backup_file *file, struct sso_error *err)
{
    struct audit_key *keys = NULL;
    size_t count = 0;
    enum sso_code rc =
        ceremony->generation_count > 0 ? signing_keys(ceremony, &keys, &count, err) : SSO_OK;
    for (size_t i = 0; rc == SSO_OK && i < count && i + 1 < BACKUP_AUDIT_KEYS_MAX; i++)
        transcript_audit_key(&keys[i], file->audit_key[file->audit_key_count++]);
    if (rc == SSO_OK && signer->present && signer->fresh)
        transcript_audit_key(&signer->key, file->audit_key[file->audit_key_count++]);
    free(keys);
    return rc;
}

enum sso_code backing_seal(struct ceremony *ceremony, struct backing *backing,
                           struct generation *generation, const struct signer *signer,
                           struct sso_error *err)
{
    uint8_t digest[DIGEST_BYTES];
    generation->no_backup = backing->options->no_backup;
    if (backing->options->no_backup)
        return SSO_OK;
    struct backup_file *file = calloc(1, sizeof *file);
    if (file == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a backup file");
    memcpy(file->system_id, ceremony->system.id, SYSTEM_ID_BYTES);
    snprintf(file->system_name, sizeof file->system_name, "%s", ceremony->system.name);
    file->generation = generation->number;
    memcpy(file->secret_id, generation->secret_id, SECRET_ID_BYTES);
    file->suite = generation->suite;
    file->created_ms = generation->created_ms;
    file->written_ms = wall_clock_ms();
    file->wrapped = backing->backup.wrapped;
    file->canary = generation->canary;
    file->set = backing->set;
    enum sso_code rc = backing_audit_keys(ceremony, signer, file, err);
    if (rc == SSO_OK)
        rc = backup_file_write(file, backing->keys, &backing->text, err);
    generation->backed_up_ms = file->written_ms;
    snprintf(generation->share_set, sizeof generation->share_set, "%s", backing->set.id);
    free(file);
    secret_free(&backing->secret);
    OPENSSL_cleanse(backing->keys, sizeof *backing->keys);
    digest_sha256(backing->text.data, backing->text.length_bytes, digest);
    hex_encode(digest, sizeof digest, backing->digest);
    return rc;
}

enum sso_code backing_hand_out(const struct ceremony *ceremony, struct backing *backing,
                               struct sso_error *err)
{
    const struct backing_options *options = backing->options;
    struct share_occasion occasion = {.system_name = ceremony->system.name, .set = &backing->set};
    if (!backing->new_set)
        return SSO_OK;
    enum sso_code rc = options->shares_dir == NULL
                           ? shares_show(&occasion, backing->shares, err)
                           : shares_write(options->shares_dir, &occasion, backing->shares, err);
    backing->shares_written = rc == SSO_OK && options->shares_dir != NULL;
    fault_point("ceremony.shares");
    return rc;
}

enum sso_code backing_write(const struct ceremony *ceremony, struct backing *backing,
                            const struct backing_witness *witness, struct sso_error *err)
{
    if (backing->options->no_backup)
        return SSO_OK;
    enum sso_code rc = transcript_compose(ceremony, backing, witness, &backing->transcript, err);
    if (rc == SSO_OK)
        rc = new_file_write(backing->options->backup, backing->text.data,
                            backing->text.length_bytes, 0644, err);
    backing->file_written = rc == SSO_OK;
    fault_point("ceremony.backup");
    if (rc == SSO_OK)
        rc = new_file_write(backing->transcript_path, backing->transcript.data,
                            backing->transcript.length_bytes, 0644, err);
    backing->transcript_written = rc == SSO_OK;
    fault_point("ceremony.transcript");
    return rc;
}

enum sso_code backing_store(const struct ceremony *ceremony, const struct backing *backing,
                            struct store_tx *tx, struct sso_error *err)
{
    struct audit_record record;
    if (backing->options->no_backup)
        return SSO_OK;
    struct share_set set = backing->set;
    policy_tag_share_set(&ceremony->policy, &set);
    enum sso_code rc = backing->new_set ? store_share_set_insert(tx, &set, err) : SSO_OK;
    if (rc == SSO_OK)
        rc = transcript_record(ceremony, &backing->transcript, &record, err);
    return rc == SSO_OK ? store_audit_append(tx, &record, 1, err) : rc;
}

void backing_undo(struct backing *backing)
{
    if (backing->file_written)
        unlink(backing->options->backup);
    if (backing->transcript_written)
        unlink(backing->transcript_path);
    if (backing->shares_written)
        shares_remove(backing->options->shares_dir, &backing->set);
}

void backing_end(struct backing *backing)
{
    secret_free(&backing->secret);
    secret_dealloc(backing->keys);
    secret_dealloc(backing->shares);
    encoder_free(&backing->text);
    encoder_free(&backing->transcript);
    backing->keys = NULL;
    backing->shares = NULL;
}

void backing_journal(const struct backing *backing, struct journal_entry *out)
{
    const struct backing_options *options = backing->options;
    if (options->no_backup)
        return;
    absolute_path(options->backup, out->backup);
    backing_journal_shares(backing, out);
}

void backing_journal_shares(const struct backing *backing, struct journal_entry *out)
{
    const struct backing_options *options = backing->options;
    if (!backing->new_set || options->shares_dir == NULL)
        return;
    absolute_path(options->shares_dir, out->shares_folder);
    snprintf(out->share_set, sizeof out->share_set, "%s", backing->set.id);
    out->share_count = backing->set.scheme.count;
}

void backing_report(const struct backing *backing, json_t *result)
{
    const struct share_set *set = &backing->set;
    char shares[16];
    if (backing->options->no_backup) {
        json_object_set_new(result, "backup", json_null());
        return;
    }
    snprintf(shares, sizeof shares, "%u/%u", set->scheme.threshold, set->scheme.count);
    json_object_set_new(result, "backup",
                        json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:o}", "file",
                                  backing->options->backup, "sha256", backing->digest, "share_set",
                                  set->id, "shares", shares, "passphrase", set->passphrase,
                                  "transcript", backing->transcript_path, "transcript_text",
                                  json_stringn((const char *)backing->transcript.data,
                                               backing->transcript.length_bytes)));
}
