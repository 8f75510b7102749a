/*
 * What a ceremony is about to leave in the token and on disk before its transaction is committed,
 * in the state directory. A ceremony that was killed is cleaned up by the next one from it, and by
 * nothing else: doctor names it.
 *
 * The file is locked while the ceremony runs, so that there is one at a time on a node.
 */
#ifndef SSO_CLI_CEREMONY_JOURNAL_H
#define SSO_CLI_CEREMONY_JOURNAL_H

#include <limits.h>

#include "cli/ceremony/installation.h"
#include "common/audit_key.h"
#include "common/share_set.h"

#define JOURNAL_FILE "ceremony.journal"

/* What is to be undone; texts may be "". */
struct journal_entry {
    uint8_t system_id[SYSTEM_ID_BYTES];
    uint32_t generation; /* whose key was made; 0: none was, all backups were made anew (reshare) */
    uint8_t secret_id[SECRET_ID_BYTES];
    uint8_t audit_key[AUDIT_KEY_ID_BYTES]; /* made beside it; zeros: none was */
    char section[65];                      /* of the token, "" for [hsm] */
    bool restored;                         /* the key belongs to a generation that exists */
    char backup[PATH_MAX];                 /* file; of a reshare the folder of the new ones */
    char shares_folder[PATH_MAX];
    char share_set[SHARE_SET_ID_SIZE]; /* of the shares there: others are left alone */
    unsigned share_count;
    /* journal_write() fills in what tells a database that is older than the ceremony: where it is,
     * and what this node knew of the audit. */
    char database[PATH_MAX];
    struct audit_head head;
};

struct journal {
    int fd; /* -1: not open */
    char path[PATH_MAX];
    const struct config *config;
    struct journal_entry entry; /* as it was written last */
};

/* Takes the lock. SSO_IN_USE: another ceremony runs on this node. */
enum sso_code journal_open(const struct ceremony *ceremony, struct journal *out,
                           struct sso_error *err) __attribute__((warn_unused_result));
/* Closes it; what was written stays. Safe twice. */
void journal_close(struct journal *journal);

/* Durable before anything of it is done. */
enum sso_code journal_write(struct journal *journal, const struct journal_entry *entry,
                            struct sso_error *err) __attribute__((warn_unused_result));
/* The same entry with an audit signing key that is about to be made. */
enum sso_code journal_note_audit_key(struct journal *journal,
                                     const uint8_t id[static AUDIT_KEY_ID_BYTES],
                                     struct sso_error *err) __attribute__((warn_unused_result));
/* Nothing is left to be undone. */
void journal_clear(struct journal *journal);
/* SSO_NOT_FOUND: nothing is noted. */
enum sso_code journal_read(const struct config *config, struct journal_entry *out,
                           struct sso_error *err) __attribute__((warn_unused_result));

/* Did the ceremony's commit get no answer, so that it may stand? Then nothing of it is undone: the
 * journal stays as it is, and the next ceremony asks the database. Warns of it. */
bool journal_is_open(const struct ceremony *ceremony) __attribute__((warn_unused_result));

/* Undoes what a ceremony before this one left, and says so on standard error. The pools are open,
 * the list of generations is read (it may be empty). */
enum sso_code journal_recover(struct ceremony *ceremony, struct journal *journal,
                              struct sso_error *err) __attribute__((warn_unused_result));

#endif
