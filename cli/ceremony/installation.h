/* The system as a ceremony has it open: database, token pools, keys. */
#ifndef SSO_CLI_CEREMONY_INSTALLATION_H
#define SSO_CLI_CEREMONY_INSTALLATION_H

#include "cli/ceremony/ceremony.h"
#include "common/audit_record.h"
#include "common/policy.h"
#include "common/privileges.h"
#include "pkcs11/hsm.h"
#include "pkcs11/keyring.h"
#include "pkcs11/spawner.h"
#include "store/shared_refusals.h"

struct ceremony {
    const struct config *config;
    struct spawner *spawner; /* NULL without CEREMONY_TOKEN */
    struct person person;    /* at the console, before root was given up */
    bool started_as_root;

    struct store *store;
    struct shared_refusals refusals;
    struct system_row system;
    struct generation *generation; /* by number */
    size_t generation_count;
    struct generation_token *token;
    size_t token_count;
    struct sealed_key *sealed;
    size_t sealed_count;

    struct config_hsm section[CONFIG_HSM_MAX]; /* as configured, but for the number of workers */
    struct hsm *pool[CONFIG_HSM_MAX];          /* NULL: not opened */
    struct sso_error pool_error;               /* why one was not; code SSO_OK: all are */
    struct keyring *keyring;
    struct policy policy; /* key empty until installation_open_policy */
};

/* Pools of the section named `only` (NULL: of all). One that does not open is an error where it is
 * the only one, else it is noted in pool_error. `single_worker`: where little is to be done. */
enum sso_code installation_open_pools(struct ceremony *ceremony, const char *only,
                                      bool single_worker, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Makes the keyring of the system's id over the pools that are open. */
enum sso_code installation_open_keyring(struct ceremony *ceremony, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Opens one generation in the keyring; where no pool has it, what kept a pool shut tells why. */
enum sso_code installation_open_generation(struct ceremony *ceremony,
                                           const struct generation *generation,
                                           struct sso_error *err)
    __attribute__((warn_unused_result));
/* Unwraps the policy key; opens the generation that wraps it first. */
enum sso_code installation_open_policy(struct ceremony *ceremony, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Tags of generations and their tokens. */
enum sso_code installation_check_tags(const struct ceremony *ceremony, struct sso_error *err)
    __attribute__((warn_unused_result));

/* The row of a generation as it is now, held to the end of `tx`: much may have happened since the
 * list was read. SSO_VERSION_CONFLICT: it was destroyed, or is another key's. */
enum sso_code installation_reread(const struct ceremony *ceremony, struct store_tx *tx,
                                  const struct generation *before, struct generation *out,
                                  struct sso_error *err) __attribute__((warn_unused_result));

/* All of the above: everything about generations that is to be trusted. */
enum sso_code installation_open_all(struct ceremony *ceremony, struct sso_error *err)
    __attribute__((warn_unused_result));

const struct generation *installation_generation(const struct ceremony *ceremony, uint32_t number);
const struct generation *installation_active(const struct ceremony *ceremony);
/* The pool of the section named `name`, NULL: of [hsm]; NULL where it is not open. */
struct hsm *installation_pool(struct ceremony *ceremony, const char *name);

/* May `target` take this generation up beside the tokens that are open? `evidence`: as the target
 * has it, NULL before it has the key. SSO_TOKEN_NOT_SUITABLE: a token makes the IVs of this
 * generation, and another that holds it is within reach. */
enum sso_code single_token_check(const struct ceremony *ceremony, const struct hsm *target,
                                 const struct generation_key *key, const struct evidence *evidence,
                                 struct sso_error *err) __attribute__((warn_unused_result));

/* A record of the person at the console, to be appended in the transaction that it tells of. */
enum sso_code console_record(const struct ceremony *ceremony, const char *operation,
                             const char *target, struct audit_record *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* After the commit: keeps number and hash of the last record in the state directory. `first`: the
 * chain of a new system replaces whatever is there; else a head is never lowered, since a lower one
 * would hide that the chain was cut. */
void console_keep_head(const struct ceremony *ceremony, const struct audit_record *last,
                       bool first);

/* The marks of this node (common/high_water.h) against the database: SSO_DATABASE_WENT_BACK. For
 * every command that changes what the system is, before it makes anything. */
enum sso_code installation_check_marks(const struct ceremony *ceremony, struct sso_error *err)
    __attribute__((warn_unused_result));
/* After a commit: raises them; `first`: those of a new system replace whatever is there. */
void console_keep_marks(const struct ceremony *ceremony, bool first);

/* On standard error: what did not work out, but does not undo what was done. */
void console_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* From here to the end of the process Ctrl-C and the like are ignored: between the making of a key
 * and the commit of its row an interruption would leave a key that nobody knows. */
void console_hold_signals(void);

/* After a failure that `err` tells of: takes a key that no row describes out of the token again,
 * and says in `err` whether it is gone. Returns err's code. */
enum sso_code console_undo_key(const struct ceremony *ceremony, struct hsm *pool,
                               const struct generation *generation, bool *gone,
                               struct sso_error *err);

/* The object of `key show`. */
json_t *key_show_object(const struct ceremony *ceremony, const struct generation *generation,
                        const struct evidence *evidence, int64_t rows);

/* One line of doctor. `remedy` may be "". */
void doctor_add(json_t *checks, const char *id, enum check_result result, const char *remedy,
                const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
