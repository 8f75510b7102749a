/* What needs the HSM or the database at hand, with or without a custodian running: init, key
 * generate, key show, doctor, db check, pin reset. Results come as the JSON objects of INTERFACE
 * §3; the commands print them. */
#ifndef SSO_CLI_CEREMONY_CEREMONY_H
#define SSO_CLI_CEREMONY_CEREMONY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/config.h"
#include "common/error.h"
#include "common/slip39.h"
#include "store/store.h"

struct ceremony;

enum ceremony_needs {
    CEREMONY_TOKEN = 1 << 0,   /* workers will be started */
    CEREMONY_ADMIN = 1 << 1,   /* the person at the console must be an SSO admin */
    CEREMONY_AUDITOR = 1 << 2, /* the person at the console must be an auditor or an SSO admin */
};

/* The first thing a direct command does, before any thread: starts the spawner, notes the person at
 * the console, becomes the system's user, sets the memory for secrets up. SSO_FORBIDDEN: started as
 * a user who may not do this. `config` must outlive the ceremony. */
enum sso_code ceremony_begin(const struct config *config, unsigned needs, struct ceremony **out,
                             struct sso_error *err) __attribute__((warn_unused_result));
void ceremony_end(struct ceremony **ceremony);

/* Opens the database of an installed system. SSO_NO_MASTER_SECRET before init;
 * SSO_DATABASE_OF_OTHER_SYSTEM where its name is not the configuration's. */
enum sso_code ceremony_open_database(struct ceremony *ceremony, struct sso_error *err)
    __attribute__((warn_unused_result));
struct store *ceremony_store(struct ceremony *ceremony); /* NULL before it is open */

/* How a new master secret is to be backed up: not at all, for a new share set (`scheme`), or for
 * one that is (`share_set`). */
struct backing_options {
    bool no_backup;
    struct slip39_scheme scheme;
    const char *share_set;  /* its id, or NULL */
    const char *shares_dir; /* where shares are written, or lie; NULL: at the terminal */
    const char *backup;     /* the file */
    bool passphrase;
};

/* Makes the system (DESIGN §8): master secret, policy key, settings, one record.
 * *result: the object of `key show`, with "system":{"id","name"}. */
enum sso_code ceremony_init(struct ceremony *ceremony, const char *suite,
                            const struct backing_options *backing, json_t **result,
                            struct sso_error *err) __attribute__((warn_unused_result));

/* Makes the next generation, pending. `token` (a section's name) and `suite` may be NULL: as the
 * active generation has them. *result: the object of `key show`. Both commands add "backup":
 * {"file","sha256","share_set","shares","passphrase","transcript","transcript_text"} or null. */
struct generation_wish {
    const char *token, *suite;
    const struct backing_options *backing;
};
enum sso_code ceremony_generate(struct ceremony *ceremony, const struct generation_wish *wish,
                                json_t **result, struct sso_error *err)
    __attribute__((warn_unused_result));

/* What a backup file says, without any share. A file only: needs no ceremony. */
enum sso_code ceremony_backup_info(const char *file, json_t **result, struct sso_error *err)
    __attribute__((warn_unused_result));

/* A backup that is opened with shares: by `restore` into the token of section `token` (NULL:
 * [hsm]), by `drill` into session objects only. Checked before anything is changed: MAC, system id,
 * canary, rows sampled from the database. *result:
 * {"generation","secret_id","token","already_there", "samples","samples_opened",…}; a restored key
 * also has its evidence. */
struct restore_wish {
    const char *file;
    const char *shares_dir; /* NULL: at the terminal */
    const char *token;
    bool destroyed; /* restore: it is known that the generation was destroyed (DESIGN §8) */
};
enum sso_code ceremony_restore(struct ceremony *ceremony, const struct restore_wish *wish,
                               json_t **result, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code ceremony_drill(struct ceremony *ceremony, const struct restore_wish *wish,
                             json_t **result, struct sso_error *err)
    __attribute__((warn_unused_result));

/* New backups of all live generations that have one, under a new share set: from the files in
 * `backup_dir` and M shares of each set they are for. The new files go beside them. *result:
 * {"share_set","shares","files":[…],"without_backup":[number],"to_destroy":{"files":[…],
 * "share_sets":[…]},"transcript","transcript_text"}. */
struct reshare_wish {
    struct slip39_scheme scheme;
    const char *shares_dir, *new_shares_dir; /* NULL: at the terminal */
    const char *backup_dir;
    bool passphrase;
};
enum sso_code ceremony_reshare(struct ceremony *ceremony, const struct reshare_wish *wish,
                               json_t **result, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Evidence, taken anew. number 0: the active generation. *result: the object of `key show`. */
enum sso_code ceremony_show(struct ceremony *ceremony, uint32_t number, json_t **result,
                            struct sso_error *err) __attribute__((warn_unused_result));

/* The end of a generation's life, one step at a time (DESIGN §8): first it becomes `destroying`;
 * once the grace is over its keys are destroyed in every token that is known to hold it. */
struct destroy_request {
    uint32_t number;
    int64_t grace_ms; /* for the first step */
    bool for_ever;    /* without a backup that was drilled */
    bool token_lost;  /* second step: what is found in no token here is written off */
    /* Asked where keys.retired_keep has not passed; true: the person typed that older backups of
     * the database become unreadable. No lock is held meanwhile. */
    bool (*older_backups)(const char *question);
};
/* *result: {"generation","state","until","statement","signature","public_key"}. SSO_IN_USE,
 * SSO_ROTATION_IN_PROGRESS: what stands against it; SSO_CONFIRMATION_NEEDED: it was asked for, and
 * another SSO administrator must confirm. */
enum sso_code ceremony_destroy(struct ceremony *ceremony, const struct destroy_request *request,
                               json_t **result, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Writes the row of this node, [cluster] node, with the key of [tls] certificate: it gives nothing
 * before an administrator has approved it. *result: {"name","address","fingerprint","approved",
 * "joined"}; the last is false where it was there. SSO_ALREADY_EXISTS: approved with another key,
 * or the key is another node's. */
enum sso_code ceremony_join_node(struct ceremony *ceremony, json_t **result, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Tries the PIN once, refused before or not. SSO_PIN_REFUSED: the token refused it again, which the
 * guard goes on to know. */
enum sso_code ceremony_pin_reset(struct ceremony *ceremony, const char *token,
                                 struct sso_error *err) __attribute__((warn_unused_result));

/* Measures one token (NULL: that of [hsm]). *result: {"token","rows":[{"suite","workers",
 * "sessions","raw_releases","raw_rewraps","system_releases","system_rewraps","error"}]}: a second,
 * null where it was not measured. */
enum sso_code ceremony_bench(struct ceremony *ceremony, const char *token, json_t **result,
                             struct sso_error *err) __attribute__((warn_unused_result));

/* Adds doctor's checks of this kind to the array `checks`. `token` (a section's name) may be NULL:
 * all. */
void doctor_check_host(const struct config *config, json_t *checks);
void doctor_check_database(struct ceremony *ceremony, json_t *checks);
void doctor_check_tokens(struct ceremony *ceremony, const char *token, json_t *checks);

/* A consistent copy at `path` (absolute, not there yet), and PATH.info: which generations and share
 * sets it needs, signed. *info: {"system","node","made","sha256","generations","signature",
 * "public_key"}. */
enum sso_code ceremony_backup_database(struct ceremony *ceremony, const char *path, json_t **info,
                                       struct sso_error *err) __attribute__((warn_unused_result));
/* The same from the two files alone. SSO_BACKUP_INVALID, SSO_BACKUP_TAMPERED. Whether the public
 * key is one of the system's only its audit can tell. */
enum sso_code database_backup_info(const char *path, json_t **out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* The database was put back from a backup, and is to be gone on with (DESIGN §6). *result:
 * {"accepted","reason","active","active_closed","numbers_used","generations":[{"number","secret_id",
 * "suite","state","closed","compromised","how","in_token"}],"left_alone":[text],
 * "rotation_cancelled","audit":{"node","number","known":{"number","hash"}}}; accepted false: it is
 * not older than what this node has seen, and nothing was changed. */
enum sso_code ceremony_accept_restore(struct ceremony *ceremony, json_t **result,
                                      struct sso_error *err) __attribute__((warn_unused_result));

/* Everything into the empty database `url` (store_copy). SSO_IN_USE while a custodian runs on the
 * state directory. *result: {"from","to","schema","rows"}. */
enum sso_code ceremony_copy_database(struct ceremony *ceremony, const char *url, json_t **result,
                                     struct sso_error *err) __attribute__((warn_unused_result));

/* The object of `db check`: structure; with `open` also every tag, row and sealed key; with
 * `against_audit` every row against the records of its writes and deletes. */
struct check_wish {
    bool open, against_audit;
    bool show_progress; /* on a terminal: on standard error */
};
enum sso_code ceremony_check_database(struct ceremony *ceremony, const struct check_wish *wish,
                                      json_t **report, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
