/* The phases before the first row moves: prepare and switch. */
#include "rewrap/engine.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/fault.h"

static enum sso_code read_target(struct engine *engine, struct generation *target,
                                 struct sso_error *err)
{
    struct generation *list = NULL;
    size_t count = 0;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(engine->job->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_generation_list(tx, &list, &count, err);
    if (rc != SSO_OK)
        return rc;
    rc = SSO_NOT_FOUND;
    for (size_t i = 0; i < count; i++) {
        if (list[i].number != engine->job->rotation.to)
            continue;
        *target = list[i];
        rc = SSO_OK;
    }
    free(list);
    if (rc != SSO_OK)
        return sso_fail(err, SSO_INTERNAL, "generation %" PRIu32 " is gone from the database",
                        engine->job->rotation.to);
    return policy_check_generation(engine->job->policy, target, err);
}

enum sso_code phase_prepare(struct engine *engine, struct sso_error *err)
{
    struct rewrap_job *job = engine->job;
    struct generation target;
    enum sso_code rc = read_target(engine, &target, err);
    if (rc != SSO_OK)
        return rc;
    if (fault_point("rotation.prepare"))
        return sso_fail(err, SSO_HSM_UNAVAILABLE, "fault point rotation.prepare");
    if (job->open_target != NULL &&
        (rc = job->open_target(job->context, job->rotation.to, err)) != SSO_OK) {
        /* Elsewhere these may pass; before row 1 they are what this phase is there to find. */
        if (rc != SSO_HSM_UNAVAILABLE && rc != SSO_DATABASE_UNAVAILABLE && rc != SSO_NO_MEMORY)
            engine_fail(engine, err);
        return rc;
    }
    job->rotation.phase = job->rotation.dry_run ? PHASE_STREAM : PHASE_SWITCH;
    engine_publish(engine);
    return SSO_OK;
}

static enum sso_code hold_and_check(struct engine *engine, struct store_tx *tx,
                                    struct generation *generation, struct sso_error *err)
{
    enum sso_code rc =
        store_generation_hold(tx, generation->number, STORE_EXCLUSIVE, generation, err);
    return rc == SSO_OK ? policy_check_generation(engine->job->policy, generation, err) : rc;
}

static enum sso_code set_state(struct engine *engine, struct store_tx *tx,
                               struct generation *generation, enum generation_state state,
                               struct sso_error *err)
{
    generation->state = state;
    generation->version++;
    policy_tag_generation(engine->job->policy, generation);
    return store_generation_update(tx, generation, err);
}

/* The numbers of the active generation and of the target; the rows are read again under their
 * locks. */
static enum sso_code find_active(struct engine *engine, struct store_tx *tx, uint32_t *number,
                                 struct sso_error *err)
{
    struct generation *list = NULL;
    size_t count = 0, active = 0;
    enum sso_code rc = store_generation_list(tx, &list, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        if (list[i].state != GENERATION_ACTIVE ||
            policy_check_generation(engine->job->policy, &list[i], NULL) != SSO_OK)
            continue;
        *number = list[i].number;
        active++;
    }
    free(list);
    if (rc == SSO_OK && active != 1)
        rc = sso_fail(err, SSO_INTERNAL,
                      "%zu generations are active, not one: see sso-hsm key list", active);
    return rc;
}

static enum sso_code write_switch(struct engine *engine, struct store_tx *tx, struct rotation *next,
                                  void *context, struct sso_error *err)
{
    (void)context;
    struct generation old_active = {0}, target = {.number = next->to};
    next->state = ROTATION_RUNNING;
    next->phase = PHASE_STREAM;
    enum sso_code rc = find_active(engine, tx, &old_active.number, err);
    if (rc != SSO_OK || old_active.number == next->to)
        return rc; /* done before */
    /* Locks always by rising number, so that nobody waits in a circle. */
    if ((rc = hold_and_check(engine, tx, &old_active, err)) != SSO_OK ||
        (rc = hold_and_check(engine, tx, &target, err)) != SSO_OK)
        return rc;
    if (target.state != GENERATION_PENDING || old_active.state != GENERATION_ACTIVE ||
        old_active.number > target.number || (target.backed_up_ms == 0 && !target.no_backup))
        return sso_fail(err, SSO_IN_USE,
                        "generation %" PRIu32 " (%s) cannot follow generation %" PRIu32
                        " (%s): see sso-hsm key list",
                        target.number, generation_state_name(target.state), old_active.number,
                        generation_state_name(old_active.state));
    if ((rc = generation_may_wrap(&target, err)) != SSO_OK ||
        (rc = set_state(engine, tx, &old_active, GENERATION_RETIRING, err)) != SSO_OK ||
        (rc = set_state(engine, tx, &target, GENERATION_ACTIVE, err)) != SSO_OK)
        return rc;
    engine_audit(engine, "rotation.switch", "ok");
    return SSO_OK;
}

enum sso_code phase_switch(struct engine *engine, struct sso_error *err)
{
    if (fault_point("rotation.before-switch"))
        return sso_fail(err, SSO_DATABASE_UNAVAILABLE, "fault point rotation.before-switch");
    enum sso_code rc = engine_commit(engine, write_switch, NULL, err);
    if (rc != SSO_OK)
        return rc;
    (void)fault_point("rotation.after-switch");
    if (engine->job->states_changed != NULL)
        engine->job->states_changed(engine->job->context);
    return SSO_OK;
}
