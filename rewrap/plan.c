#include "rewrap/rewrap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

/* What every worker can have open, and some retired ones. */
#define LIVE_GENERATIONS_MAX (GENERATIONS_MAX - 32)

static enum sso_code check_target(const struct generation *target, struct sso_error *err)
{
    if (target->state != GENERATION_PENDING)
        return sso_fail(err, SSO_BAD_REQUEST,
                        "generation %u is %s: a rotation goes to a pending one; make one with "
                        "sso-hsm key generate",
                        target->number, generation_state_name(target->state));
    enum sso_code rc = generation_may_wrap(target, err);
    if (rc != SSO_OK)
        return rc;
    if (target->backed_up_ms == 0 && !target->no_backup)
        return sso_fail(err, SSO_BAD_REQUEST,
                        "generation %u has no backup: back it up, or make one with sso-hsm key "
                        "generate --no-backup",
                        target->number);
    return SSO_OK;
}

/* What the other generations must be for a rotation to `target`. One whose row was changed by
 * another hand has no state: it counts for nothing, and rows on it go to quarantine. */
static enum sso_code check_others(const struct generation *list, size_t count,
                                  const struct generation *target, struct sso_error *err)
{
    size_t active = 0, live = 0;
    for (size_t i = 0; i < count; i++) {
        const struct generation *other = &list[i];
        if (other->state == 0)
            continue;
        active += other->state == GENERATION_ACTIVE;
        live += other->state < GENERATION_RETIRED;
        if (other->state != GENERATION_PENDING && other->number > target->number)
            return sso_fail(err, SSO_BAD_REQUEST,
                            "generation %u is older than generation %u, which is %s: rows only "
                            "move to a later one; make one with sso-hsm key generate",
                            target->number, other->number, generation_state_name(other->state));
    }
    if (live > LIVE_GENERATIONS_MAX)
        return sso_fail(err, SSO_IN_USE,
                        "%zu generations are neither retired nor destroyed: take up the last "
                        "rotation with sso-hsm rotate resume, so that their rows reach the newest "
                        "one, before another begins",
                        live);
    if (active != 1)
        return sso_fail(err, SSO_NO_MASTER_SECRET,
                        "%zu generations are active, not one: see sso-hsm key list", active);
    return SSO_OK;
}

/* Moving a row key is no remedy for a disclosed master secret, whatever state that is in now: the
 * key may have been read from an old copy of the database. A mark counts even where the tag of its
 * row is wrong. */
static uint32_t born_to_be_renewed(const struct generation *list, size_t count,
                                   const struct rotation *rotation)
{
    uint32_t born = rotation->reencrypt ? rotation->to - 1 : 0;
    for (size_t i = 0; i < count; i++)
        if (list[i].compromised && list[i].number < rotation->to && list[i].number > born)
            born = list[i].number;
    return born;
}

static enum sso_code check_generations(struct store_tx *tx, const struct policy *policy,
                                       struct rotation *rotation, struct sso_error *err)
{
    const uint32_t to = rotation->to;
    struct generation *list = NULL;
    const struct generation *target = NULL;
    size_t count = 0;
    struct sso_error tampered = {0};
    enum sso_code rc = store_generation_list(tx, &list, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        enum sso_code checked = policy_check_generation(policy, &list[i], &tampered);
        if (list[i].number == to) {
            target = &list[i];
            rc = checked != SSO_OK ? sso_fail(err, checked, "%s", tampered.detail) : SSO_OK;
        }
        if (checked != SSO_OK)
            list[i].state = 0;
    }
    if (rc == SSO_OK && target == NULL)
        rc = sso_fail(err, SSO_NOT_FOUND, "generation %u does not exist: see sso-hsm key list", to);
    if (rc == SSO_OK)
        rc = check_target(target, err);
    if (rc == SSO_OK)
        rc = check_others(list, count, target, err);
    if (rc == SSO_OK)
        rotation->renew_born = born_to_be_renewed(list, count, rotation);
    if (rc == SSO_NO_MASTER_SECRET && tampered.code != SSO_OK)
        rc = sso_fail(err, tampered.code, "%s", tampered.detail);
    free(list);
    return rc;
}

/* `from` and `total`: what stands below the target now. */
static enum sso_code take_stock(struct store_tx *tx, struct rotation *rotation,
                                struct sso_error *err)
{
    struct generation_rows *rows = NULL;
    size_t count = 0, written = 0;
    enum sso_code rc = store_count_by_generation(tx, &rows, &count, err);
    rotation->from[0] = '\0';
    rotation->total = 0;
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        if (rows[i].generation >= rotation->to || rows[i].credentials + rows[i].sealed_keys == 0)
            continue;
        rotation->total += rows[i].credentials;
        char number[16];
        int length =
            snprintf(number, sizeof number, "%s%u", written == 0 ? "" : ",", rows[i].generation);
        if (written + (size_t)length >= sizeof rotation->from)
            continue; /* whole numbers or none */
        memcpy(rotation->from + written, number, (size_t)length + 1);
        written += (size_t)length;
    }
    free(rows);
    return rc;
}

static enum sso_code refuse_a_second(struct store_tx *tx, struct sso_error *err)
{
    struct rotation latest;
    struct sso_error why = {0}; /* that there never was one is no error to pass on */
    enum sso_code rc = store_rotation_latest(tx, &latest, &why);
    if (rc == SSO_NOT_FOUND)
        return SSO_OK;
    if (rc != SSO_OK)
        return sso_fail(err, rc, "%s", why.detail);
    if (latest.state != ROTATION_PREPARING && latest.state != ROTATION_RUNNING &&
        latest.state != ROTATION_PAUSED)
        return SSO_OK;
    return sso_fail(err, SSO_ROTATION_IN_PROGRESS,
                    "rotation %llu to generation %u is %s: wait for its end, or use sso-hsm rotate "
                    "cancel",
                    (unsigned long long)latest.id, latest.to, rotation_state_name(latest.state));
}

enum sso_code rewrap_plan(struct store_tx *tx, const struct policy *policy,
                          struct rotation *rotation, struct sso_error *err)
{
    enum sso_code rc = refuse_a_second(tx, err);
    if (rc != SSO_OK || (rc = check_generations(tx, policy, rotation, err)) != SSO_OK ||
        (rc = take_stock(tx, rotation, err)) != SSO_OK ||
        (!rotation->dry_run && (rc = store_quarantine_retry(tx, NULL, err)) != SSO_OK))
        return rc;
    rotation->state = ROTATION_PREPARING;
    rotation->phase = PHASE_PREPARE;
    if (rotation->verify != VERIFY_FULL)
        rotation->verify = VERIFY_SAMPLE;
    rotation->done = rotation->skipped = rotation->failed = 0;
    rotation->started_ms = wall_clock_ms();
    rotation->finished_ms = 0;
    rotation->error[0] = '\0';
    rotation->error_code = SSO_OK;
    return store_rotation_insert(tx, rotation, err);
}
