/*
 * The client side of a token: a pool of sso-hsm-worker processes (DESIGN §4.1) that serve one
 * token. This process loads no PKCS#11 module.
 *
 * Calls are synchronous and thread-safe: they put a batch in the pool's queue and wait for its
 * outcome or the deadline. Small batches of several callers that wait together travel in one frame;
 * large ones are cut to the size that keeps a frame near 5 ms of work. A worker that dies or hangs
 * is replaced and its batch retried until the caller's deadline: in halves, and an item alone
 * in flight at two deaths, the second of a worker that came after the first, is refused
 * (SSO_ROW_KILLS_WORKER). One bad item never fails its batch: look at each
 * item's code.
 */
#ifndef SSO_PKCS11_HSM_H
#define SSO_PKCS11_HSM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/audit_key.h"
#include "common/config.h"
#include "common/error.h"
#include "common/generation.h"
#include "common/pin_board.h"
#include "common/secret.h"
#include "pkcs11/spawner.h"

struct hsm;

/* Open at once in a pool. Retired generations but the last few are closed. */
#define GENERATIONS_MAX 256

/* One row key on its way. `row_key` points to ROW_KEY_BYTES in locked memory owned by the caller:
 * filled by make and unwrap, read by wrap, unused (may be NULL) by rewrap. */
struct key_item {
    uint32_t
        generation; /* in: whose master secret wraps `wrapped` (for make and wrap: shall wrap) */
    uint8_t binding[BINDING_BYTES]; /* in: row_binding_digest or sealed_key_binding */
    struct wrapped_key
        wrapped; /* unwrap: in. make, wrap: out. rewrap: in, replaced on success only */
    uint8_t *row_key;
    enum sso_code
        code; /* out: SSO_OK, or why this item failed; SSO_ROW_CORRUPT: it does not open */
};

/* Live requests go before the bulk of a rotation. */
enum hsm_priority { HSM_LIVE, HSM_BULK };

/* A generation's key in a token, and how a worker proves that it is the right one. */
struct generation_key {
    uint8_t system_id[SYSTEM_ID_BYTES];
    uint32_t number;
    uint8_t secret_id[SECRET_ID_BYTES];
    enum suite_id suite;
    struct canary canary;
};

/* DESIGN §3.1. The CKR_ texts are what the token said to each attempt. */
struct evidence {
    bool accepted; /* every required check held, or the token is accepted as weak by the
                      configuration */
    bool sensitive, extractable;
    int modifiable, copyable, local, never_extractable,
        always_sensitive; /* 1, 0, -1: the token does not say */
    char read_value[48], wrap[48], copy[48], set_extractable[48];
    char usages[128]; /* "wrap,unwrap": as named and tried */
    char weak[128]; /* required checks that failed, by the names of INTERFACE §3: "wrap,copy"; empty
                       on a sound token */
    bool canary;
    char gcm_iv[12]; /* "caller", "parameter", "front", "appended": whose IV, and where the token
                        puts one of its own; "" where the suite has none */
};

enum hsm_state {
    HSM_STARTING,
    HSM_READY,        /* at least one worker serves */
    HSM_DOWN,         /* token or module does not answer; tried again with back-off */
    HSM_PIN_REFUSED,  /* no try until the PIN source changes or hsm_pin_reset */
    HSM_MISCONFIGURED /* module does not load, token missing or ambiguous, not suitable; tried again
                         with back-off */
};

/* What workers do to row keys, for metrics. */
enum hsm_work { HSM_WORK_MAKE, HSM_WORK_WRAP, HSM_WORK_UNWRAP, HSM_WORK_REWRAP, HSM_WORK_KINDS };
const char *hsm_work_name(enum hsm_work work);

struct hsm_status {
    enum hsm_state state;
    unsigned workers_wanted, workers_ready, sessions;
    unsigned workers_replaced;   /* for any reason: a new generation, growth, death */
    unsigned workers_lost;       /* of these: died or hung */
    bool sessions_short;         /* the token gives fewer sessions than were asked for */
    struct token_identity token; /* empty until a worker has seen it */
    char firmware[16];
    struct {
        uint64_t calls, microseconds; /* items done, and the workers' time for them */
    } work[HSM_WORK_KINDS];
    struct sso_error last_error; /* code SSO_OK where there is none */
};

/* Starts the pool: the first worker logs in alone, the others after it succeeded. Where
 * `keep_trying` (the daemon) it is returned at once and goes on trying; else (the CLI) this waits
 * until it is ready, or is known to fail and is closed again. The PIN guard
 * keeps its stamps in `state_directory`. `section` must outlive the pool. */
enum sso_code hsm_open(const struct config_hsm *section, const char *state_directory,
                       struct spawner *spawner, bool keep_trying, struct hsm **out,
                       struct sso_error *err) __attribute__((warn_unused_result));

/* The same, and more to choose. */
struct hsm_options {
    const char *state_directory;
    struct spawner *spawner;
    bool keep_trying;
    /* For sso-hsm pin reset where no daemon runs: the first login is tried even where the PIN was
     * refused before. The refusal is forgotten only once the PIN has worked. */
    bool after_reset;
    const struct pin_board *board; /* refusals of other nodes; NULL: there are none */
};
/* Everything that the options name must outlive the pool. */
enum sso_code hsm_open_with(const struct config_hsm *section, const struct hsm_options *options,
                            struct hsm **out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* With `keep_trying` the pool may still be starting: waits until it serves or is known to fail. */
void hsm_await_start(struct hsm *hsm);
void hsm_close(struct hsm **hsm);

const char *hsm_name(const struct hsm *hsm); /* the section's name, "" for [hsm] */
void hsm_status(struct hsm *hsm, struct hsm_status *out);
/* Forget a refused PIN and try again (sso-hsm pin reset). */
enum sso_code hsm_pin_reset(struct hsm *hsm, struct sso_error *err);

/* Every worker, now and after any replacement, finds this key and opens its canary before it
 * serves. Idempotent. `fresh` first replaces the workers one by one, for a key that another process
 * made. Returns when all workers that are up have opened it: SSO_NO_MASTER_SECRET: this token holds
 * no such key (or more than one: the text has the count); SSO_WRONG_MASTER_SECRET: the canary does
 * not open. */
enum sso_code hsm_open_generation(struct hsm *hsm, const struct generation_key *key, bool fresh,
                                  struct sso_error *err) __attribute__((warn_unused_result));
void hsm_forget_generation(struct hsm *hsm, uint32_t number);
/* The same, and other workers in the place of those that had it open. */
void hsm_end_generation(struct hsm *hsm, uint32_t number);

/* The batches. The outcome is that of the batch; where it is SSO_OK each item has its own code,
 * else none was done as far as the caller may rely. deadline_ms is on boot_clock_ms(). */
enum sso_code hsm_make(struct hsm *hsm, enum hsm_priority priority, struct key_item *items,
                       size_t count, int64_t deadline_ms, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code hsm_wrap(struct hsm *hsm, enum hsm_priority priority, struct key_item *items,
                       size_t count, int64_t deadline_ms, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code hsm_unwrap(struct hsm *hsm, enum hsm_priority priority, struct key_item *items,
                         size_t count, int64_t deadline_ms, struct sso_error *err)
    __attribute__((warn_unused_result));
/* From each item's generation to `to`, both in this token. On success item->wrapped is under `to`;
 * item->generation is left to the caller. */
enum sso_code hsm_rewrap(struct hsm *hsm, enum hsm_priority priority, uint32_t to,
                         struct key_item *items, size_t count, int64_t deadline_ms,
                         struct sso_error *err) __attribute__((warn_unused_result));

/* Ceremony. Makes the key with C_GenerateKey in the token, takes the evidence, makes the canary.
 * Refuses a label or id that exists. On error no key is left, or the text says what is left.
 * SSO_KEY_NOT_ACCEPTABLE: a required check failed (the text names it). */
enum sso_code hsm_generate(struct hsm *hsm, struct generation_key *key, struct evidence *evidence,
                           struct sso_error *err) __attribute__((warn_unused_result));

/* --- ceremonies with a backup (DESIGN §8); hsm_backup.c --- */

#define WRAPPING_KEY_BYTES 32

/* A master secret as a backup file has it: wrapped (RFC 3394) under a key that the shares give. The
 * wrapping key is the caller's, in locked memory. */
struct hsm_backup {
    const uint8_t *wrapping_key; /* WRAPPING_KEY_BYTES */
    struct wrapped_key wrapped;
};

/* WRAPPING_KEY_BYTES from the token's generator, into locked memory. */
enum sso_code hsm_random(struct hsm *hsm, uint8_t *out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* As hsm_generate, but the key is installed from its own backup, which comes out in
 * backup->wrapped; no object but it is left in the token. SSO_TOKEN_NOT_SUITABLE: the token can do
 * no backup; nothing was made. */
enum sso_code hsm_generate_backed(struct hsm *hsm, struct generation_key *key,
                                  struct hsm_backup *backup, struct evidence *evidence,
                                  struct sso_error *err) __attribute__((warn_unused_result));

/* Rows that must open under a restored key: generation, binding and wrapped of each are read. */
struct hsm_samples {
    const struct key_item *item;
    size_t count;
    size_t opened; /* out */
};

/* Opens the backup as a session object, its canary and the samples; nothing is left in the token.
 * SSO_BACKUP_TAMPERED: the wrapped key does not open. SSO_WRONG_MASTER_SECRET: the canary does not.
 */
enum sso_code hsm_try_backup(struct hsm *hsm, const struct generation_key *key,
                             const struct hsm_backup *backup, struct hsm_samples *samples,
                             struct sso_error *err) __attribute__((warn_unused_result));
/* The same, and then installs the key. SSO_ALREADY_EXISTS: the token has it, or one of its name. */
enum sso_code hsm_install_backup(struct hsm *hsm, const struct generation_key *key,
                                 const struct hsm_backup *backup, struct evidence *evidence,
                                 struct sso_error *err) __attribute__((warn_unused_result));
/* Wraps what `old` holds under new->wrapping_key, proven by its canary, into new->wrapped. */
enum sso_code hsm_rewrap_backup(struct hsm *hsm, const struct generation_key *key,
                                const struct hsm_backup *old_backup, struct hsm_backup *new_backup,
                                struct sso_error *err) __attribute__((warn_unused_result));

enum sso_code hsm_evidence(struct hsm *hsm, const struct generation_key *key,
                           struct evidence *evidence, struct sso_error *err)
    __attribute__((warn_unused_result));
/* The master secrets of a system that this token holds, whoever made them; malloc: free(3). */
#define TOKEN_KEYS_MAX 1024
struct token_key {
    uint32_t number;
    uint8_t secret_id[SECRET_ID_BYTES];
    enum suite_id suite; /* by what it may do; SUITE_NONE: it is no master secret */
};
enum sso_code hsm_list_keys(struct hsm *hsm, const uint8_t system_id[static SYSTEM_ID_BYTES],
                            struct token_key **out, size_t *count, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Makes the canary of a key that is in the token and takes its evidence: it is whatever key it is,
 * since a canary that is made now proves nothing of before. SSO_KEY_NOT_ACCEPTABLE. */
enum sso_code hsm_take_up_key(struct hsm *hsm, struct generation_key *key,
                              struct evidence *evidence, struct sso_error *err)
    __attribute__((warn_unused_result));

/* SSO_NOT_FOUND: this token holds no such key; several are SSO_NO_MASTER_SECRET. */
enum sso_code hsm_destroy_key(struct hsm *hsm, const struct generation_key *key,
                              struct sso_error *err) __attribute__((warn_unused_result));

/* The audit signing key of this token (common/audit_key.h). `make` sets token and public key, and a
 * random id where that is zeros; since and node are the caller's. SSO_TOKEN_NOT_SUITABLE: the token
 * can do no ECDSA on P-256. */
enum sso_code hsm_audit_make(struct hsm *hsm, const uint8_t system_id[static SYSTEM_ID_BYTES],
                             struct audit_key *key, struct sso_error *err)
    __attribute__((warn_unused_result));
/* SSO_NOT_FOUND: this token does not hold the key. The signature has been checked. */
enum sso_code hsm_audit_sign(struct hsm *hsm, const struct audit_key *key,
                             const uint8_t digest[static AUDIT_DIGEST_BYTES],
                             uint8_t signature[static AUDIT_SIGNATURE_BYTES], struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code hsm_audit_destroy(struct hsm *hsm, const struct audit_key *key, struct sso_error *err)
    __attribute__((warn_unused_result));

/* One line of doctor: id as in INTERFACE §3 ("mechanism.aes-key-wrap"). */
enum check_result { CHECK_PASS, CHECK_WARN, CHECK_FAIL, CHECK_SKIP };
struct check {
    char id[65];
    enum check_result result;
    char detail[257];
    char remedy[257];
};
const char *check_result_name(enum check_result result);

/* Probes what the token can do by doing it, with session objects only. Fills out[0 .. *count-1], at
 * most `maximum`. */
enum sso_code hsm_probe(struct hsm *hsm, struct check *out, size_t maximum, size_t *count,
                        struct sso_error *err) __attribute__((warn_unused_result));

/* What every worker does at the same time, each in so many sessions: a suite's calls on keys that
 * end with their sessions, for so long each. SSO_TOKEN_NOT_SUITABLE: the token has no such suite.
 */
struct hsm_bench {
    enum suite_id suite;
    unsigned sessions, milliseconds;
};
struct hsm_rates {
    double releases, rewraps; /* a second, over all workers */
};
enum sso_code hsm_bench(struct hsm *hsm, const struct hsm_bench *bench, struct hsm_rates *out,
                        struct sso_error *err) __attribute__((warn_unused_result));

/* evidence as the object of INTERFACE §3, in JSON text for generation_token.evidence. */
void evidence_json(const struct evidence *evidence, char *out, size_t size);

#endif
