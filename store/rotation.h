/* Rotations and quarantine. A part of store/store.h. */
#ifndef SSO_STORE_ROTATION_H
#define SSO_STORE_ROTATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/policy.h"
#include "common/row.h"
#include "store/scan.h"

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

struct rotation {
    uint64_t id; /* 1, 2, 3 … */
    enum rotation_state state;
    enum rotation_phase phase;
    uint32_t to;
    char from[128]; /* "1,2": generations below `to` that held rows at the start */
    uint64_t total, done, skipped, failed;
    uint64_t rate; /* rows per second; 0: no cap */
    bool dry_run, reencrypt, full_speed;
    enum rotation_verify verify;
    struct scan_position position; /* only saves time: the rows' generation is the truth */
    char without[257];
    int64_t started_ms, finished_ms;
    char error[SSO_ERROR_DETAIL_BYTES];
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

struct quarantine_entry {
    uint8_t row_id[ROW_ID_BYTES];
    uint32_t generation;
    enum sso_code code;
    char reason[257];
    unsigned tries;
    int64_t since_ms;
    char application[APPLICATION_NAME_BYTES_MAX + 1]; /* out only; "" where unknown */
    char principal[PRINCIPAL_BYTES_MAX + 1];          /* out only */
};
/* Inserts with one try, or counts another. */
enum sso_code store_quarantine_put(struct store_tx *tx, const struct quarantine_entry *entry,
                                   struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code store_quarantine_list(struct store_tx *tx, struct quarantine_entry **out,
                                    size_t *count, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code store_quarantine_clear(struct store_tx *tx, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code store_quarantine_count(struct store_tx *tx, uint64_t *count, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
