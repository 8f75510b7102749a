/* `db accept-restore`: the order of its steps, and what it says of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ceremony/accepting.h"
#include "common/json.h"

/* Without marks nobody knows which numbers were used and destroyed since. */
#define NUMBERS_UNKNOWN 100

static enum sso_code read_marks(struct accepting *self, struct sso_error *err)
{
    const struct config *config = self->ceremony->config;
    struct sso_error problem = {0};
    enum sso_code rc = audit_head_read(config->system.state_directory, &self->kept, err);
    if (rc != SSO_OK)
        return rc;
    rc = high_water_read(config->system.state_directory, &self->marks, &problem);
    self->marks_known = rc == SSO_OK;
    if (rc == SSO_DATABASE_WENT_BACK)
        self->found = problem;
    else if (rc != SSO_OK && rc != SSO_NOT_FOUND)
        return sso_fail(err, rc, "%s", problem.detail);
    if (rc == SSO_NOT_FOUND)
        sso_fail(&self->found, rc,
                 "this node has no high-water marks: the operator says that the "
                 "database was put back");
    if (!self->marks_known)
        return SSO_OK;
    rc = installation_check_marks(self->ceremony, &self->found);
    return rc == SSO_OK || rc == SSO_DATABASE_WENT_BACK
               ? SSO_OK
               : sso_fail(err, rc, "%s", self->found.detail);
}

/* Every token has to be looked into: one that is not there may hold what the database lacks. */
static enum sso_code open_all(struct ceremony *ceremony, struct sso_error *err)
{
    enum sso_code rc = installation_open_all(ceremony, err);
    if (rc == SSO_OK && ceremony->pool_error.code != SSO_OK)
        rc = sso_fail(err, ceremony->pool_error.code,
                      "every configured token must be looked into, and one does not open: %s",
                      ceremony->pool_error.detail);
    return rc;
}

static enum sso_code read_numbers(struct accepting *self, struct sso_error *err)
{
    HIGH_WATER_AUTO now = {0};
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(self->ceremony->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_high_water_trusted(tx, &self->ceremony->policy, &now, err);
    if (rc != SSO_OK)
        return rc;
    const struct high_water *marks = &self->marks;
    self->highest = now.highest > marks->highest ? now.highest : marks->highest;
    self->revocation =
        (now.revocation > marks->revocation ? now.revocation : marks->revocation) + 1;
    return SSO_OK;
}

static enum sso_code accept(struct accepting *self, struct sso_error *err)
{
    struct ceremony *ceremony = self->ceremony;
    enum sso_code rc = open_all(ceremony, err);
    if (rc == SSO_OK)
        rc = journal_open(ceremony, &self->journal, err);
    if (rc == SSO_OK)
        rc = read_marks(self, err);
    if (rc != SSO_OK || self->found.code == SSO_OK)
        return rc;
    rc = read_numbers(self, err);
    if (rc == SSO_OK)
        rc = accepting_gather(self, err);
    if (rc == SSO_OK)
        rc = accepting_decide(self, err);
    if (rc == SSO_OK && !self->marks_known && self->highest < UINT32_MAX - NUMBERS_UNKNOWN)
        self->highest += NUMBERS_UNKNOWN;
    if (rc == SSO_OK)
        rc = signer_find(ceremony, &self->signer, err);
    if (rc != SSO_OK)
        return rc;
    console_hold_signals();
    rc = accepting_write(self, err);
    if (rc == SSO_OK)
        signer_sign_heads(ceremony, &self->signer);
    return rc;
}

static const char *how(const struct found_generation *found)
{
    switch (found->kind) {
    case FINDING_MARKED:
        return "taken up";
    case FINDING_STRANGE:
        return "taken up anew";
    default:
        return found->changed ? "changed" : "as it was";
    }
}

static json_t *generations_object(const struct accepting *self)
{
    json_t *list = json_array();
    for (size_t i = 0; i < self->count; i++) {
        const struct found_generation *found = &self->generation[i];
        json_array_append_new(list,
                              json_pack("{s:I, s:o, s:s, s:s, s:b, s:b, s:s, s:b}", "number",
                                        (json_int_t)found->row.number, "secret_id",
                                        json_hex(found->row.secret_id, SECRET_ID_BYTES), "suite",
                                        suite_name(found->row.suite), "state",
                                        generation_state_name(found->row.state), "closed",
                                        found->row.closed, "compromised", found->row.compromised,
                                        "how", how(found), "in_token", found->in_token));
    }
    return list;
}

static json_t *report(const struct accepting *self)
{
    if (self->found.code == SSO_OK)
        return json_pack("{s:b, s:n, s:n, s:n, s:[], s:[], s:n, s:n}", "accepted", 0, "reason",
                         "active", "numbers_used", "generations", "left_alone",
                         "rotation_cancelled", "audit");
    bool closed = false;
    for (size_t i = 0; i < self->count; i++)
        closed = closed ||
                 (self->generation[i].row.number == self->active && self->generation[i].row.closed);
    json_t *known = self->kept.number != 0
                        ? json_pack("{s:I, s:o}", "number", (json_int_t)self->kept.number, "hash",
                                    json_hex(self->kept.hash, AUDIT_HASH_BYTES))
                        : json_null();
    return json_pack(
        "{s:b, s:s, s:I, s:b, s:I, s:o, s:O, s:o, s:{s:s, s:I, s:o}}", "accepted", 1, "reason",
        self->found.detail, "active", (json_int_t)self->active, "active_closed", closed,
        "numbers_used", (json_int_t)self->highest, "generations", generations_object(self),
        "left_alone", self->left_alone, "rotation_cancelled",
        self->rotation_cancelled != 0 ? json_integer((json_int_t)self->rotation_cancelled)
                                      : json_null(),
        "audit", "node", self->record.node, "number", (json_int_t)self->record.number, "known",
        known);
}

enum sso_code ceremony_accept_restore(struct ceremony *ceremony, json_t **result,
                                      struct sso_error *err)
{
    struct accepting self = {
        .ceremony = ceremony, .journal = {.fd = -1}, .left_alone = json_array()};
    enum sso_code rc = accept(&self, err);
    if (rc == SSO_OK)
        *result = report(&self);
    accepting_free(&self);
    return rc;
}
