/* The writer: what the movers did goes into the database, several batches in one transaction, with
 * the progress of the job. */
#include "rewrap/engine.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/fault.h"

/* A commit costs one fsync, and while it lasts live writers wait: so not for every batch, and not
 * for very many where the job is to give way. */
#define COMMIT_ROWS 1024
#define COMMIT_ROWS_FULL_SPEED 4096
/* Whoever writes or is recorded meanwhile waits for them. */
#define COMMIT_ROWS_BESIDE_LIVE 128
#define COMMIT_ROWS_BESIDE_LIVE_FULL_SPEED 256
#define COMMIT_BATCHES 16
#define COMMIT_WAIT_MS 100
#define IDLE_WAIT_MS 1000

/* What waits for the next commit. */
struct group {
    struct batch *batch[COMMIT_BATCHES];
    size_t batch_count, row_count;
    int64_t since_ms;
    struct key_swap swap[BATCH_ROWS]; /* of the batch being written */
};

/* rows_per_second as it was over the last seconds. */
struct speed {
    int64_t since_ms;
    uint64_t rows;
    double average;
    bool known;
};
#define SPEED_SAMPLE_MS 500
#define SPEED_MEMORY_MS 5000.0

static void speed_add(struct speed *speed, struct rewrap_job *job, uint64_t rows)
{
    speed->rows += rows;
    int64_t elapsed = boot_clock_ms() - speed->since_ms;
    if (elapsed < SPEED_SAMPLE_MS)
        return;
    double now = (double)speed->rows * 1000.0 / (double)elapsed;
    double weight = speed->known ? (double)elapsed / ((double)elapsed + SPEED_MEMORY_MS) : 1.0;
    speed->average += weight * (now - speed->average);
    speed->known = true;
    speed->rows = 0;
    speed->since_ms += elapsed;
    atomic_store(&job->rows_per_second, (uint64_t)(speed->average + 0.5));
}

static bool same_wrapped(const struct wrapped_key *a, const struct wrapped_key *b)
{
    return a->length_bytes == b->length_bytes && memcmp(a->bytes, b->bytes, a->length_bytes) == 0;
}

/* How a row stands now that is not as it was scanned. */
enum standing { STANDING_AS_SCANNED, STANDING_MOVED_BY_US, STANDING_SETTLED, STANDING_BELOW };

static enum sso_code look_again(struct store_tx *tx, const struct credential_row *scanned,
                                const struct key_swap *swap, enum standing *out,
                                struct sso_error *err)
{
    struct credential_row now = {0};
    enum sso_code rc = store_credential_get_by_id(tx, scanned->row_id, &now, err);
    if (rc == SSO_NOT_FOUND) {
        *out = STANDING_SETTLED; /* deleted */
        return SSO_OK;
    }
    if (rc == SSO_ROW_CORRUPT) {
        *out = STANDING_AS_SCANNED; /* it still cannot be read */
        return SSO_OK;
    }
    if (rc != SSO_OK)
        return rc;
    if (now.generation == scanned->generation && now.version == scanned->version &&
        same_wrapped(&now.wrapped, &scanned->wrapped))
        *out = STANDING_AS_SCANNED;
    else if (swap != NULL && now.generation == swap->new_generation &&
             same_wrapped(&now.wrapped, &swap->new_wrapped))
        *out = STANDING_MOVED_BY_US; /* a commit whose success was reported as a failure */
    else if (swap != NULL ? now.generation >= swap->new_generation
                          : now.generation > scanned->generation)
        *out = STANDING_SETTLED; /* written anew by its owner */
    else
        *out = STANDING_BELOW; /* somebody put another old row there: the next pass takes it */
    credential_row_free(&now);
    return SSO_OK;
}

static const struct row_renewal *renewal_of(const struct batch *batch, size_t i)
{
    return batch->renewal != NULL && batch->renewal[i].ciphertext != NULL ? &batch->renewal[i]
                                                                          : NULL;
}

/* Its new key and ciphertext hide from whoever has the disclosed key what is written from now on,
 * but not the credential as it is: that must be changed where it is used. */
static enum sso_code note_exposed(const struct engine *engine, struct store_tx *tx,
                                  const struct credential_row *old, const struct key_swap *swap,
                                  struct sso_error *err)
{
    struct exposed_row row = {.born = old->born, .renewed_ms = wall_clock_ms()};
    if (swap->renewal == NULL || old->born > engine->exposed_born)
        return SSO_OK;
    memcpy(row.row_id, old->row_id, sizeof row.row_id);
    return store_exposed_put(tx, &row, err);
}

static enum sso_code swap_moved(struct engine *engine, struct store_tx *tx, struct batch *batch,
                                struct key_swap *swap, struct rotation *next, struct sso_error *err)
{
    size_t index[BATCH_ROWS], count = 0;
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->outcome[i].fate != FATE_MOVED)
            continue;
        struct key_swap *s = &swap[count];
        index[count++] = i;
        memcpy(s->row_id, batch->row[i].row_id, sizeof s->row_id);
        s->place = batch->row[i].place;
        s->old_generation = batch->row[i].generation;
        s->new_generation = engine->target->number;
        s->old_wrapped = batch->row[i].wrapped;
        s->new_wrapped = batch->fresh[i];
        s->renewal = renewal_of(batch, i);
        s->swapped = false;
    }
    enum sso_code rc = count != 0 ? store_credential_swap(tx, swap, count, err) : SSO_OK;
    for (size_t k = 0; rc == SSO_OK && k < count; k++) {
        enum standing standing = STANDING_MOVED_BY_US;
        if (!swap[k].swapped)
            rc = look_again(tx, &batch->row[index[k]], &swap[k], &standing, err);
        if (rc == SSO_OK && standing == STANDING_MOVED_BY_US)
            rc = note_exposed(engine, tx, &batch->row[index[k]], &swap[k], err);
        next->done += rc == SSO_OK && standing == STANDING_MOVED_BY_US;
        next->skipped += rc == SSO_OK && standing == STANDING_SETTLED;
    }
    return rc;
}

static enum sso_code quarantine_row(struct store_tx *tx, struct batch *batch, size_t i,
                                    struct rotation *next, struct sso_error *err)
{
    const struct credential_row *row = &batch->row[i];
    struct quarantine_entry entry = {
        .generation = row->generation, .code = batch->outcome[i].code, .since_ms = wall_clock_ms()};
    enum standing standing;
    enum sso_code rc = look_again(tx, row, NULL, &standing, err);
    if (rc != SSO_OK || standing == STANDING_BELOW)
        return rc;
    if (standing == STANDING_SETTLED) {
        next->skipped++;
        return SSO_OK;
    }
    memcpy(entry.row_id, row->row_id, sizeof entry.row_id);
    snprintf(entry.reason, sizeof entry.reason, "%s", batch->outcome[i].reason);
    if ((rc = quarantine_see(tx, row->row_id, entry.seen, err)) == SSO_OK &&
        (rc = store_quarantine_put(tx, &entry, err)) == SSO_OK)
        next->failed++;
    return rc;
}

/* The first failure of a dry run is told in the rotation's row, since nothing goes to quarantine.
 */
static void count_dry_run(const struct batch *batch, struct rotation *next)
{
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->outcome[i].fate == FATE_MOVED) {
            next->done++;
            continue;
        }
        char id[UUID_TEXT_SIZE];
        uuid_text(batch->row[i].row_id, id);
        if (next->failed++ == 0)
            snprintf(next->error, sizeof next->error, "row %s: %s", id, batch->outcome[i].reason);
    }
}

static enum sso_code write_group(struct engine *engine, struct store_tx *tx, struct rotation *next,
                                 void *context, struct sso_error *err)
{
    struct group *group = context;
    enum sso_code rc = SSO_OK;
    if (!next->dry_run) {
        struct generation target;
        rc = store_generation_hold(tx, next->to, STORE_SHARED, &target, err);
        if (rc == SSO_OK && target.state != GENERATION_ACTIVE)
            rc = sso_fail(err, SSO_IN_USE,
                          "generation %" PRIu32 " is %s and no longer active: nothing is moved to "
                          "it; start a new rotation",
                          next->to, generation_state_name(target.state));
        else if (rc == SSO_OK)
            rc = generation_may_wrap(&target, err);
    }
    for (size_t b = 0; rc == SSO_OK && b < group->batch_count; b++) {
        struct batch *batch = group->batch[b];
        if (next->dry_run) {
            count_dry_run(batch, next);
            continue;
        }
        rc = swap_moved(engine, tx, batch, group->swap, next, err);
        for (size_t i = 0; rc == SSO_OK && i < batch->count; i++)
            if (batch->outcome[i].fate == FATE_BAD)
                rc = quarantine_row(tx, batch, i, next, err);
    }
    uint64_t counted = next->done + next->skipped + next->failed;
    if (counted > next->total)
        next->total = counted;
    if (rc == SSO_OK && fault_point("rotation.before-commit"))
        rc = sso_fail(err, SSO_DATABASE_UNAVAILABLE, "fault point rotation.before-commit");
    return rc;
}

static enum sso_code flush(struct engine *engine, struct group *group, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    if (group->batch_count != 0 && !atomic_load(&engine->failing)) {
        rc = engine_commit(engine, write_group, group, err);
        if (rc == SSO_OK)
            (void)fault_point("rotation.after-commit");
    }
    for (size_t b = 0; b < group->batch_count; b++) {
        batch_clear(group->batch[b]);
        queue_push_first(&engine->idle, group->batch[b]);
    }
    group->batch_count = group->row_count = 0;
    return rc;
}

static void group_add(struct engine *engine, struct group *group, struct batch *batch)
{
    if (batch->abandoned) {
        batch_clear(batch);
        queue_push_first(&engine->idle, batch);
        return;
    }
    if (group->batch_count == 0)
        group->since_ms = boot_clock_ms();
    group->batch[group->batch_count++] = batch;
    group->row_count += batch->count;
}

static size_t rows_per_commit(struct engine *engine)
{
    bool full_speed = engine->job->rotation.full_speed;
    if (atomic_load(&engine->beside_live))
        return full_speed ? COMMIT_ROWS_BESIDE_LIVE_FULL_SPEED : COMMIT_ROWS_BESIDE_LIVE;
    return full_speed ? COMMIT_ROWS_FULL_SPEED : COMMIT_ROWS;
}

static bool group_is_due(const struct group *group, size_t rows)
{
    return group->row_count >= rows || group->batch_count == COMMIT_BATCHES ||
           (group->batch_count != 0 && boot_clock_ms() - group->since_ms >= COMMIT_WAIT_MS);
}

void write_moved_batches(struct engine *engine)
{
    struct group group = {0};
    struct speed speed = {.since_ms = boot_clock_ms()};
    bool ended = false;
    while (!ended) {
        int wait = group.batch_count != 0 ? COMMIT_WAIT_MS : IDLE_WAIT_MS;
        struct batch *batch = queue_pop(&engine->moved, wait, &ended);
        if (batch != NULL)
            group_add(engine, &group, batch);
        uint64_t rows = 0;
        if (ended || group_is_due(&group, rows_per_commit(engine))) {
            struct sso_error trouble = {0};
            rows = group.row_count;
            if (flush(engine, &group, &trouble) != SSO_OK)
                engine_fail(engine, &trouble);
        }
        speed_add(&speed, engine->job, rows);
    }
}
