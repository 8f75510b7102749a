/* Rotations and quarantine. A part of store/store.h. */
#ifndef SSO_STORE_ROTATION_H
#define SSO_STORE_ROTATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/policy.h"
#include "common/row.h"

struct store_tx;

/* The numbers are stored: never renumber. */
enum rotation_state {
    ROTATION_NONE = 0,
    ROTATION_PREPARING,
    ROTATION_RUNNING,
    ROTATION_PAUSED,
    ROTATION_CANCELLED,
    ROTATION_COMPLETED,
    ROTATION_COMPLETED_WITH_ERRORS,
    ROTATION_FAILED
};
enum rotation_phase { PHASE_PREPARE = 1, PHASE_SWITCH, PHASE_STREAM, PHASE_FINISH, PHASE_VERIFY };
enum rotation_verify { VERIFY_SAMPLE = 1, VERIFY_FULL };
const char *rotation_state_name(enum rotation_state state);
const char *rotation_phase_name(enum rotation_phase phase);

/* Every generation that can be open, with a comma. */
#define ROTATION_FROM_BYTES 8192

struct rotation {
    uint64_t id; /* 1, 2, 3 … */
    enum rotation_state state;
    enum rotation_phase phase;
    uint32_t to;
    /* "1,2": generations below `to` that held rows at the start */
    char from[ROTATION_FROM_BYTES];
    uint64_t total, done, skipped, failed;
    uint64_t rate; /* rows per second; 0: no cap */
    bool dry_run, reencrypt, full_speed;
    enum rotation_verify verify;
    char without[257];
    /* Rows born up to this generation get a new row key, ciphertext and born; 0: none. */
    uint32_t renew_born;
    int64_t started_ms, finished_ms;
    char error[SSO_ERROR_DETAIL_BYTES];
    enum sso_code error_code; /* of a failed one; else SSO_OK */
};
/* Numbers above this are not ours. */
#define ROTATION_ID_MAX (((uint64_t)1 << 53) - 1)
/* The latest one; SSO_NOT_FOUND where there never was one, or where its row is damaged: history
 * that nobody can read must hold up nothing. out->id is 0 in the first case only. */
enum sso_code store_rotation_latest(struct store_tx *tx, struct rotation *out,
                                    struct sso_error *err) __attribute__((warn_unused_result));
/* SSO_ROTATION_IN_PROGRESS where one is preparing, running or paused. Sets rotation->id. */
enum sso_code store_rotation_insert(struct store_tx *tx, struct rotation *rotation,
                                    struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code store_rotation_update(struct store_tx *tx, const struct rotation *rotation,
                                    struct sso_error *err) __attribute__((warn_unused_result));

/* The highest renew_born of a rotation that was completed; 0: none. */
enum sso_code store_rotation_renewed(struct store_tx *tx, uint32_t *born, struct sso_error *err)
    __attribute__((warn_unused_result));

#define QUARANTINE_SEEN_BYTES 32
struct quarantine_entry {
    uint8_t row_id[ROW_ID_BYTES];
    uint32_t generation;
    enum sso_code code;
    char reason[257];
    unsigned tries; /* out only */
    int64_t since_ms;
    uint8_t seen[QUARANTINE_SEEN_BYTES]; /* digest of the row as it was then; the caller's */
    bool retry;                          /* out only: to be tried again */
    char application[APPLICATION_NAME_BYTES_MAX + 1]; /* out only; "" where unknown */
    char principal[PRINCIPAL_BYTES_MAX + 1];          /* out only */
};
/* Inserts with one try, or counts another; `since` stays that of the first. */
enum sso_code store_quarantine_put(struct store_tx *tx, const struct quarantine_entry *entry,
                                   struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code store_quarantine_list(struct store_tx *tx, struct quarantine_entry **out,
                                    size_t *count, struct sso_error *err)
    __attribute__((warn_unused_result));
/* The row of this id, or with NULL every row, is to be tried again: scans that leave out
 * quarantined rows give it. The entry stays, and with it the count of tries, until the row is dealt
 * with. */
enum sso_code store_quarantine_retry(struct store_tx *tx, const uint8_t *row_id,
                                     struct sso_error *err) __attribute__((warn_unused_result));
/* Entries go whose row is no longer below this generation, or no longer there. */
enum sso_code store_quarantine_prune(struct store_tx *tx, uint32_t below, struct sso_error *err)
    __attribute__((warn_unused_result));
struct quarantine_count {
    uint64_t rows, to_retry; /* to_retry: of these */
};
enum sso_code store_quarantine_count(struct store_tx *tx, struct quarantine_count *out,
                                     struct sso_error *err) __attribute__((warn_unused_result));

/* A row whose credential could be read with the keys of a generation that is marked compromised. It
 * is one as long as its credential has not been changed: by being born up to that generation, or,
 * renewed since, by an entry that a write or delete of the credential takes away. */
struct exposed_row {
    uint8_t row_id[ROW_ID_BYTES];
    uint32_t born;                                    /* before the renewal, where it was renewed */
    int64_t renewed_ms;                               /* 0: not yet */
    char application[APPLICATION_NAME_BYTES_MAX + 1]; /* out only; "" where unknown */
    char principal[PRINCIPAL_BYTES_MAX + 1];          /* out only */
};
/* Notes that a row was renewed; an earlier entry keeps the lower `born`. */
enum sso_code store_exposed_put(struct store_tx *tx, const struct exposed_row *row,
                                struct sso_error *err) __attribute__((warn_unused_result));
/* Rows exposed by generation `number`, by row id, after `after` (NULL: from the first), at most
 * `limit`. It reads every credential on its way. */
enum sso_code store_exposed_list(struct store_tx *tx, uint32_t number, const uint8_t *after,
                                 size_t limit, struct exposed_row **out, size_t *count,
                                 struct sso_error *err) __attribute__((warn_unused_result));
/* Entries of renewed rows: cheap. */
enum sso_code store_exposed_count(struct store_tx *tx, uint64_t *count, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
