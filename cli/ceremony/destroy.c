/* `key destroy`: the first step, and the order of both. */
#include <stdio.h>
#include <string.h>

#include "cli/ceremony/destruction.h"
#include "cli/ceremony/statement.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/json.h"

/* --- the first step: destroying --- */

/* Looks without changing anything; asks the person where it is early. */
static enum sso_code look(struct destroying *self, bool *older_backups, struct sso_error *err)
{
    char keep[24], question[256];
    bool too_early = false;
    STORE_TX_AUTO tx = NULL;
    *older_backups = false;
    /* A write transaction, since the lock is exclusive; nothing is written in it. */
    enum sso_code rc = store_begin(self->ceremony->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = destruction_count(self, tx, err);
    if (rc == SSO_OK && self->generation.state == GENERATION_RETIRED)
        rc = destruction_conditions(self, tx, &too_early, keep, err);
    store_rollback(&tx);
    if (rc != SSO_OK || !too_early)
        return rc;
    snprintf(question, sizeof question,
             "generation %u was retired less than %s ago (keys.retired_keep): backups of the "
             "database from before can then no longer be opened",
             self->generation.number, keep);
    *older_backups = self->request->older_backups(question);
    return *older_backups
               ? SSO_OK
               : sso_fail(err, SSO_CONFIRMATION_NEEDED, "%s; nothing was changed", question);
}

/* Somebody's wish, before a second administrator has confirmed it or where none must. */
static void ask(struct destroying *self, bool older_backups)
{
    const struct person *person = &self->ceremony->person;
    self->row = (struct destruction){.number = self->request->number,
                                     .asked_uid = person->uid,
                                     .asked_ms = wall_clock_ms(),
                                     .grace_ms = self->request->grace_ms,
                                     .for_ever = self->request->for_ever,
                                     .older_backups = older_backups,
                                     .version = self->row.version};
    snprintf(self->row.asked_by, sizeof self->row.asked_by, "%s", person->name);
}

static enum sso_code put_row(struct destroying *self, struct store_tx *tx, struct sso_error *err)
{
    self->row.version++;
    policy_tag_destruction(&self->ceremony->policy, &self->row);
    return store_destruction_put(tx, &self->row, err);
}

static enum sso_code begin_grace(struct destroying *self, struct store_tx *tx,
                                 struct sso_error *err)
{
    self->row.destroying_ms = wall_clock_ms();
    self->generation.state = GENERATION_DESTROYING;
    self->generation.version++;
    policy_tag_generation(&self->ceremony->policy, &self->generation);
    enum sso_code rc = store_generation_update(tx, &self->generation, err);
    return rc == SSO_OK ? put_row(self, tx, err) : rc;
}

static enum sso_code write_first(struct destroying *self, bool older_backups, bool *confirmed,
                                 struct audit_record *record, struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    char keep[24];
    bool too_early = false;
    enum sso_code rc = store_begin(self->ceremony->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = destruction_count(self, tx, err);
    if (rc == SSO_OK && self->generation.state != GENERATION_RETIRED)
        rc = sso_fail(err, SSO_VERSION_CONFLICT, "somebody else changed generation %u meanwhile",
                      self->generation.number);
    if (rc == SSO_OK)
        rc = destruction_conditions(self, tx, &too_early, keep, err);
    if (rc == SSO_OK)
        rc = destruction_confirmed(self, tx, confirmed, err);
    if (rc != SSO_OK)
        return rc;
    /* What was confirmed counts as it was asked for; a wish that was not is replaced. */
    if (!*confirmed || self->row.confirmed_ms == 0 || self->row.destroying_ms != 0)
        ask(self, older_backups);
    rc = *confirmed ? begin_grace(self, tx, err) : put_row(self, tx, err);
    if (rc == SSO_OK)
        rc = console_record(self->ceremony,
                            *confirmed ? "generation.destroying" : "generation.destroy-asked",
                            self->statement, record, err);
    if (rc == SSO_OK)
        rc = store_audit_append(tx, record, 1, err);
    fault_point("destroy.first");
    return rc == SSO_OK ? store_commit(&tx, err) : rc;
}

static enum sso_code first_step(struct destroying *self, struct sso_error *err)
{
    struct audit_record record;
    bool older_backups = false, confirmed = false;
    enum sso_code rc = look(self, &older_backups, err);
    if (rc == SSO_OK)
        rc = write_first(self, older_backups, &confirmed, &record, err);
    if (rc != SSO_OK)
        return rc;
    fault_point("destroy.destroying");
    console_keep_head(self->ceremony, &record, false);
    if (confirmed)
        return SSO_OK;
    return sso_fail(err, SSO_CONFIRMATION_NEEDED,
                    "dual control is on: let another SSO administrator say sso-hsm key confirm %u "
                    "within ten minutes, then say this again",
                    self->request->number);
}

/* --- the statement --- */

static json_t *signed_statement(const struct destroying *self)
{
    const struct generation *generation = &self->generation;
    bool grace = generation->state == GENERATION_DESTROYING;
    const struct statement statement = {.generation = generation->number,
                                        .what = generation_state_name(generation->state),
                                        .text = self->statement,
                                        .keep = !self->was_destroyed};
    json_t *result =
        json_pack("{s:I, s:s, s:o}", "generation", (json_int_t)generation->number, "state",
                  generation_state_name(generation->state), "until",
                  grace ? json_time(self->row.destroying_ms + self->row.grace_ms) : json_null());
    if (result != NULL)
        statement_sign(self->ceremony, &self->signer, &statement, result);
    return result;
}

/* --- both --- */

static enum sso_code grace_is_over(const struct destroying *self, struct sso_error *err)
{
    if (self->row.number != self->generation.number || self->row.destroying_ms == 0)
        return sso_fail(err, SSO_POLICY_TAMPERED,
                        "nothing in the database says when the grace of generation %u began: "
                        "sso-hsm key retire %u takes it back",
                        self->generation.number, self->generation.number);
    int64_t left_ms = self->row.destroying_ms + self->row.grace_ms - wall_clock_ms();
    json_t *until = json_time(self->row.destroying_ms + self->row.grace_ms);
    enum sso_code rc =
        left_ms <= 0
            ? SSO_OK
            : sso_fail(err, SSO_IN_USE,
                       "generation %u may be destroyed from %s on; until then sso-hsm key "
                       "retire %u takes it back",
                       self->generation.number, json_string_value(until), self->generation.number);
    json_decref(until);
    return rc;
}

static enum sso_code read_state(struct destroying *self, struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(self->ceremony->store, STORE_WRITE, &tx, err);
    return rc == SSO_OK ? destruction_count(self, tx, err) : rc;
}

enum sso_code ceremony_destroy(struct ceremony *ceremony, const struct destroy_request *request,
                               json_t **result, struct sso_error *err)
{
    struct destroying self = {.ceremony = ceremony, .request = request};
    enum sso_code rc = installation_open_all(ceremony, err);
    if (rc == SSO_OK)
        rc = installation_check_marks(ceremony, err);
    if (rc == SSO_OK)
        rc = destruction_last_check(&self, err);
    if (rc == SSO_OK)
        rc = read_state(&self, err);
    if (rc == SSO_OK)
        rc = signer_find(ceremony, &self.signer, err);
    if (rc != SSO_OK)
        return rc;
    switch (self.generation.state) {
    case GENERATION_RETIRED:
        rc = first_step(&self, err);
        break;
    case GENERATION_DESTROYING:
        if ((rc = grace_is_over(&self, err)) == SSO_OK)
            rc = destruction_finish(&self, err);
        break;
    default:
        self.was_destroyed = true; /* what says how is kept already */
        snprintf(self.statement, sizeof self.statement, "generation %u is destroyed",
                 request->number);
        break;
    }
    if (rc == SSO_OK)
        *result = signed_statement(&self);
    if (rc == SSO_OK || rc == SSO_CONFIRMATION_NEEDED)
        signer_sign_heads(ceremony, &self.signer);
    return rc;
}
