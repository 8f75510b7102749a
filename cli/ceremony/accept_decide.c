/* What becomes of each generation of a database that was put back. */
#include <stdlib.h>

#include "cli/ceremony/accepting.h"
#include "common/clock.h"

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static enum sso_code find_active(struct accepting *self, struct found_generation **out,
                                 struct sso_error *err)
{
    *out = NULL;
    for (size_t i = 0; i < self->count; i++) {
        if (self->generation[i].state != GENERATION_ACTIVE)
            continue;
        if (*out != NULL)
            return sso_fail(err, SSO_POLICY_TAMPERED, "two generations of the database are active");
        *out = &self->generation[i];
    }
    return *out != NULL
               ? SSO_OK
               : sso_fail(err, SSO_NO_MASTER_SECRET, "no generation of the database is active");
}

/* What a mark says of a generation holds whatever state the database had it in. */
static void take_facts(struct found_generation *found)
{
    const struct generation *mark = found->mark;
    struct generation *row = &found->row;
    if (row->suite == SUITE_AES256_GCM || found->kind == FINDING_STRANGE)
        row->closed = true; /* nobody knows how often it wrapped, or who knows the key */
    if (mark == NULL || found->kind != FINDING_KNOWN)
        return;
    row->compromised = row->compromised || mark->compromised;
    row->closed = row->closed || mark->closed;
    row->last_drill_ms = later(row->last_drill_ms, mark->last_drill_ms);
    row->retired_ms = later(row->retired_ms, mark->retired_ms);
    if (mark->wraps > row->wraps)
        found->wraps_added = mark->wraps - row->wraps;
}

/* No row of this database is on one that it does not know. One whose key is gone stays in the list,
 * so that its number and id are never used again. */
static void settle_unknown(struct found_generation *found)
{
    struct generation *row = &found->row;
    bool unused = found->mark != NULL && found->mark->state == GENERATION_PENDING && found->proven;
    bool gone = found->mark != NULL && found->mark->state == GENERATION_DESTROYED;
    row->state = unused                     ? GENERATION_PENDING
                 : gone && !found->in_token ? GENERATION_DESTROYED
                                            : GENERATION_RETIRED;
    if (row->state == GENERATION_RETIRED) {
        row->going_ms = 0;
        row->retired_ms = row->retired_ms != 0 ? row->retired_ms : wall_clock_ms();
    }
}

/* The database's word for one that marks show as later; rows may be on any but a pending one. */
static void settle_known(struct found_generation *found)
{
    const struct generation *mark = found->mark;
    struct generation *row = &found->row;
    if (mark == NULL || mark->state <= found->state)
        return;
    if (found->state == GENERATION_PENDING) {
        row->state = GENERATION_RETIRED;
        row->retired_ms = row->retired_ms != 0 ? row->retired_ms : wall_clock_ms();
    }
    if (mark->state == GENERATION_DESTROYED && found->state >= GENERATION_RETIRED &&
        !found->in_token) {
        row->state = GENERATION_DESTROYED;
        row->going_ms = mark->going_ms;
    }
}

/* Was `active` followed by another one since? Without marks every later key in a token says so. */
static bool was_followed(const struct accepting *self, const struct found_generation *active)
{
    if (active->mark != NULL && active->mark->state > GENERATION_ACTIVE)
        return true;
    for (size_t i = 0; i < self->count; i++) {
        const struct found_generation *other = &self->generation[i];
        if (other->row.number <= active->row.number || other->state != 0)
            continue;
        if (other->mark != NULL ? other->mark->state > GENERATION_PENDING : other->in_token)
            return true;
    }
    return false;
}

/* It was the active one when the node last looked, a token holds it, and its canary proves it. */
static struct found_generation *successor(struct accepting *self,
                                          const struct found_generation *active)
{
    for (size_t i = 0; i < self->count; i++) {
        struct found_generation *found = &self->generation[i];
        if (found->row.number > active->row.number && found->mark != NULL && found->proven &&
            found->mark->state == GENERATION_ACTIVE && !found->row.closed &&
            !found->row.compromised)
            return found;
    }
    return NULL;
}

static bool is_changed(const struct accepting *self, const struct found_generation *found)
{
    const struct generation *was = installation_generation(self->ceremony, found->row.number),
                            *is = &found->row;
    return was == NULL || was->state != is->state || was->compromised != is->compromised ||
           was->closed != is->closed || was->last_drill_ms != is->last_drill_ms ||
           was->retired_ms != is->retired_ms || was->going_ms != is->going_ms;
}

enum sso_code accepting_decide(struct accepting *self, struct sso_error *err)
{
    struct found_generation *active = NULL;
    enum sso_code rc = find_active(self, &active, err);
    if (rc != SSO_OK)
        return rc;
    for (size_t i = 0; i < self->count; i++) {
        struct found_generation *found = &self->generation[i];
        take_facts(found);
        if (found == active)
            continue;
        if (found->kind == FINDING_KNOWN)
            settle_known(found);
        else
            settle_unknown(found);
    }
    struct found_generation *next = NULL;
    if (was_followed(self, active)) {
        next = successor(self, active);
        active->row.closed = active->row.closed || next == NULL;
    }
    if (next != NULL) {
        next->row.state = GENERATION_ACTIVE;
        next->row.retired_ms = 0;
        active->row.state = GENERATION_RETIRING;
        active->row.retired_ms = 0;
    } else if (active->row.state == GENERATION_ACTIVE) {
        active->row.retired_ms = 0;
    }
    self->active = next != NULL ? next->row.number : active->row.number;
    for (size_t i = 0; i < self->count; i++) {
        struct found_generation *found = &self->generation[i];
        found->changed = is_changed(self, found);
        if (found->row.number > self->highest)
            self->highest = found->row.number;
    }
    return SSO_OK;
}
