#include "rewrap/engine.h"

#include <stdio.h>
#include <string.h>

#include "common/clock.h"

void engine_publish(struct engine *engine)
{
    struct rewrap_job *job = engine->job;
    atomic_store(&job->done, job->rotation.done);
    atomic_store(&job->skipped, job->rotation.skipped);
    atomic_store(&job->failed, job->rotation.failed);
    atomic_store(&job->total, job->rotation.total);
    atomic_store(&job->phase, (int)job->rotation.phase);
    atomic_store(&job->state, (int)job->rotation.state);
}

void engine_take_over(struct engine *engine, const struct rotation *row)
{
    struct rotation *rotation = &engine->job->rotation;
    rotation->state = row->state;
    rotation->phase = row->phase;
    rotation->total = row->total;
    rotation->done = row->done;
    rotation->skipped = row->skipped;
    rotation->failed = row->failed;
    rotation->rate = row->rate;
    rotation->finished_ms = row->finished_ms;
    memcpy(rotation->error, row->error, sizeof rotation->error);
    rotation->error_code = row->error_code;
    engine_publish(engine);
}

/* One engine_commit, as the transaction's thread sees it. */
struct part {
    struct engine *engine;
    engine_write write;
    void *context;
    struct rotation next;
};

static enum sso_code write_part(struct store_tx *tx, void *context, struct sso_error *err)
{
    struct part *part = context;
    struct rewrap_job *job = part->engine->job;
    part->next = job->rotation;
    part->next.rate = atomic_load(&job->rate);
    part->engine->record = (struct audit_record){0};
    enum sso_code rc = part->write(part->engine, tx, &part->next, part->context, err);
    if (rc == SSO_OK)
        rc = store_rotation_update(tx, &part->next, err);
    if (rc != SSO_OK)
        part->engine->record.operation[0] = '\0'; /* nothing of it took place */
    return rc;
}

enum sso_code engine_commit(struct engine *engine, engine_write write, void *context,
                            struct sso_error *err)
{
    struct patience patience = {.engine = engine, .until_stop = true};
    struct part part = {.engine = engine, .write = write, .context = context};
    struct sso_error trouble = {0};
    for (;;) {
        /* Where the write is refused before it runs, the record of an earlier one is not its own.
         */
        engine->record = (struct audit_record){0};
        enum sso_code rc =
            engine->job->write(engine->job->context, write_part, &part, &engine->record, &trouble);
        if (rc == SSO_OK) {
            engine_take_over(engine, &part.next);
            patience_over(&patience);
            return SSO_OK;
        }
        if (!failure_is_transient(rc) || !patience_wait(&patience, &trouble))
            return sso_fail(err, rc, "%s", trouble.detail);
    }
}

void engine_audit(struct engine *engine, const char *operation, const char *outcome)
{
    const struct rewrap_job *job = engine->job;
    struct audit_record *record = &engine->record;
    snprintf(record->actor, sizeof record->actor, "%s", "sso-hsm");
    snprintf(record->how, sizeof record->how, "%s", "self");
    if (job->audit_actor != NULL)
        job->audit_actor(job->context, record);
    snprintf(record->operation, sizeof record->operation, "%s", operation);
    snprintf(record->target, sizeof record->target, "generation %u", job->rotation.to);
    snprintf(record->outcome, sizeof record->outcome, "%s", outcome);
}
