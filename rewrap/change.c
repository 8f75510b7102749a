/* Changes of a rotation that no engine runs at the moment. */
#include "rewrap/rewrap.h"

#include <stdlib.h>

#include "common/clock.h"

static enum sso_code latest(struct store_tx *tx, struct rotation *rotation, struct sso_error *err)
{
    return store_rotation_latest(tx, rotation, err);
}

static enum sso_code refuse(const struct rotation *rotation, const char *change,
                            struct sso_error *err)
{
    return sso_fail(err, SSO_BAD_REQUEST, "rotation %llu is %s: there is nothing to %s",
                    (unsigned long long)rotation->id, rotation_state_name(rotation->state), change);
}

enum sso_code rewrap_pause(struct store_tx *tx, struct rotation *rotation, struct sso_error *err)
{
    enum sso_code rc = latest(tx, rotation, err);
    if (rc != SSO_OK || rotation->state == ROTATION_PAUSED)
        return rc;
    if (rotation->state != ROTATION_PREPARING && rotation->state != ROTATION_RUNNING)
        return refuse(rotation, "pause", err);
    rotation->state = ROTATION_PAUSED;
    return store_rotation_update(tx, rotation, err);
}

enum sso_code rewrap_cancel(struct store_tx *tx, struct rotation *rotation, struct sso_error *err)
{
    enum sso_code rc = latest(tx, rotation, err);
    if (rc != SSO_OK || rotation->state == ROTATION_CANCELLED)
        return rc;
    if (rotation->state != ROTATION_PREPARING && rotation->state != ROTATION_RUNNING &&
        rotation->state != ROTATION_PAUSED)
        return refuse(rotation, "cancel", err);
    rotation->state = ROTATION_CANCELLED;
    rotation->finished_ms = wall_clock_ms();
    return store_rotation_update(tx, rotation, err);
}

/* Where it goes on is told by the target's state, not by what the row remembers. */
static enum sso_code set_going(struct store_tx *tx, const struct policy *policy,
                               struct rotation *rotation, struct sso_error *err)
{
    struct generation target;
    enum sso_code rc = store_generation_hold(tx, rotation->to, STORE_SHARED, &target, err);
    if (rc != SSO_OK || (rc = policy_check_generation(policy, &target, err)) != SSO_OK)
        return rc;
    if (target.state == GENERATION_PENDING) {
        rotation->state = ROTATION_PREPARING;
        rotation->phase = PHASE_PREPARE;
    } else if (target.state == GENERATION_ACTIVE) {
        rotation->state = ROTATION_RUNNING;
        rotation->phase = PHASE_STREAM;
    } else {
        return sso_fail(err, SSO_BAD_REQUEST,
                        "rotation %llu went to generation %u, which is %s now: start a new "
                        "rotation, it moves every row",
                        (unsigned long long)rotation->id, rotation->to,
                        generation_state_name(target.state));
    }
    rotation->finished_ms = 0;
    rotation->error[0] = '\0';
    rotation->error_code = SSO_OK;
    return store_rotation_update(tx, rotation, err);
}

enum sso_code rewrap_reopen(struct store_tx *tx, const struct policy *policy,
                            struct rotation *rotation, struct sso_error *err)
{
    enum sso_code rc = latest(tx, rotation, err);
    if (rc != SSO_OK)
        return rc;
    switch (rotation->state) {
    case ROTATION_PREPARING:
    case ROTATION_RUNNING:
        return SSO_OK;
    case ROTATION_PAUSED:
    case ROTATION_CANCELLED:
    case ROTATION_FAILED:
        return set_going(tx, policy, rotation, err);
    default:
        return refuse(rotation, "resume", err);
    }
}

enum sso_code rewrap_reopen_repaired(struct store_tx *tx, const struct policy *policy,
                                     const struct repaired *repaired, struct rotation *rotation,
                                     struct sso_error *err)
{
    enum sso_code rc = latest(tx, rotation, err);
    if (rc != SSO_OK || rotation->state != ROTATION_COMPLETED_WITH_ERRORS || rotation->dry_run)
        return rc;
    for (size_t i = 0; rc == SSO_OK && i < repaired->count; i++)
        rc = store_quarantine_retry(tx, repaired->row_id[i], err);
    return rc == SSO_OK ? set_going(tx, policy, rotation, err) : rc;
}

enum sso_code rewrap_retry_quarantined(struct store_tx *tx, const struct policy *policy,
                                       struct rotation *rotation, struct sso_error *err)
{
    struct quarantine_count quarantine = {0};
    enum sso_code rc = latest(tx, rotation, err);
    if (rc != SSO_OK || (rc = store_quarantine_count(tx, &quarantine, err)) != SSO_OK)
        return rc;
    /* Rows that left the quarantine by themselves, written anew or deleted, let the old generation
     * retire: finish must count again. */
    if (quarantine.rows == 0 &&
        (rotation->state != ROTATION_COMPLETED_WITH_ERRORS || rotation->dry_run))
        return SSO_OK;
    if (rotation->dry_run)
        return sso_fail(err, SSO_BAD_REQUEST,
                        "the latest rotation was a dry run: start a new rotation, it tries the "
                        "quarantined rows too");
    if ((rc = store_quarantine_retry(tx, NULL, err)) != SSO_OK)
        return rc;
    rotation->failed = 0;
    return set_going(tx, policy, rotation, err);
}
