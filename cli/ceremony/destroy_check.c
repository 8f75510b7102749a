/* What a generation's destruction is held to: counted, checked, confirmed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ceremony/destruction.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/settings.h"

#define SETTING_RETIRED_KEEP "keys.retired_keep"

static void time_or_never(int64_t time_ms, char *out, size_t size)
{
    json_t *time = json_time(time_ms);
    snprintf(out, size, "%s", json_is_string(time) ? json_string_value(time) : "never");
    json_decref(time);
}

enum sso_code destruction_last_check(struct destroying *self, struct sso_error *err)
{
    struct audit_record *records = NULL;
    size_t count = 0;
    STORE_TX_AUTO tx = NULL;
    self->check_ms = 0;
    enum sso_code rc = store_begin(self->ceremony->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_audit_of_operation(tx, "database.check", &records, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++)
        if (strcmp(records[i].outcome, "ok") == 0 && records[i].time_ms > self->check_ms)
            self->check_ms = records[i].time_ms;
    free(records);
    return rc;
}

static enum sso_code state_allows(const struct generation *generation, struct sso_error *err)
{
    switch (generation->state) {
    case GENERATION_RETIRED:
    case GENERATION_DESTROYING:
    case GENERATION_DESTROYED:
        return SSO_OK;
    default:
        return sso_fail(err, SSO_IN_USE,
                        "generation %u is %s: only a retired one can be destroyed (sso-hsm rotate, "
                        "sso-hsm key retire)",
                        generation->number, generation_state_name(generation->state));
    }
}

static void make_statement(struct destroying *self, const struct generation_usage *usage)
{
    const struct generation *generation = &self->generation;
    char retired[40], check[40], drill[40];
    time_or_never(generation->retired_ms, retired, sizeof retired);
    time_or_never(self->check_ms, check, sizeof check);
    time_or_never(generation->last_drill_ms, drill, sizeof drill);
    snprintf(self->statement, sizeof self->statement,
             "generation %u: counted under its lock: %llu rows, %llu sealed keys, %llu rows in "
             "quarantine, %u rotations in progress; retired %s; every row opened by db check %s; "
             "backup drilled %s%s%s",
             generation->number, (unsigned long long)usage->credentials,
             (unsigned long long)usage->sealed_keys, (unsigned long long)usage->quarantined,
             usage->rotation, retired, check, drill, self->row.for_ever ? "; for ever" : "",
             self->row.older_backups ? "; older database backups become unreadable" : "");
}

enum sso_code destruction_count(struct destroying *self, struct store_tx *tx, struct sso_error *err)
{
    uint32_t number = self->request->number;
    const struct policy *policy = &self->ceremony->policy;
    struct generation_usage usage;
    enum sso_code rc = store_generation_hold(tx, number, STORE_EXCLUSIVE, &self->generation, err);
    if (rc == SSO_OK)
        rc = policy_check_generation(policy, &self->generation, err);
    if (rc == SSO_OK)
        rc = store_destruction_get(tx, number, &self->row, err);
    if (rc == SSO_OK && self->row.number != 0)
        rc = policy_check_destruction(policy, &self->row, err);
    if (rc == SSO_OK)
        rc = state_allows(&self->generation, err);
    if (rc != SSO_OK || self->generation.state == GENERATION_DESTROYED)
        return rc;
    if ((rc = store_generation_usage(tx, number, &usage, err)) != SSO_OK ||
        (rc = generation_usage_check(&usage, number, err)) != SSO_OK)
        return rc;
    if (self->check_ms <= self->generation.retired_ms)
        return sso_fail(err, SSO_IN_USE,
                        "no full check has found the database sound since generation %u was "
                        "retired: sso-hsm db check --open",
                        number);
    make_statement(self, &usage);
    return SSO_OK;
}

static enum sso_code read_setting(struct destroying *self, struct store_tx *tx, const char *name,
                                  char out[static SETTING_VALUE_BYTES_MAX + 1],
                                  struct sso_error *err)
{
    struct setting *settings = NULL;
    size_t count = 0;
    enum sso_code rc = store_setting_list(tx, &settings, &count, err);
    if (rc == SSO_OK)
        rc =
            sso_fail(err, SSO_POLICY_TAMPERED, "the setting %s is missing from the database", name);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(settings[i].name, name) != 0)
            continue;
        rc = policy_check_setting(&self->ceremony->policy, &settings[i], err);
        memcpy(out, settings[i].value, sizeof settings[i].value);
    }
    free(settings);
    return rc;
}

enum sso_code destruction_conditions(struct destroying *self, struct store_tx *tx, bool *too_early,
                                     char keep[static 24], struct sso_error *err)
{
    const struct generation *generation = &self->generation;
    char value[SETTING_VALUE_BYTES_MAX + 1];
    uint64_t keep_ms = 0;
    enum sso_code rc = read_setting(self, tx, SETTING_RETIRED_KEEP, value, err);
    if (rc != SSO_OK)
        return rc;
    if (!parse_duration_ms(value, &keep_ms))
        return sso_fail(err, SSO_POLICY_TAMPERED,
                        "the setting " SETTING_RETIRED_KEEP " is no duration");
    if (generation->last_drill_ms == 0 && !self->request->for_ever)
        return sso_fail(err, SSO_IN_USE,
                        "no backup of generation %u was ever drilled, so nobody knows whether it "
                        "could be restored: sso-hsm key drill, or say --for-ever",
                        generation->number);
    format_duration(keep_ms, keep);
    int64_t age_ms = wall_clock_ms() - generation->retired_ms;
    *too_early = age_ms < 0 || (uint64_t)age_ms < keep_ms;
    return SSO_OK;
}

enum sso_code destruction_confirmed(struct destroying *self, struct store_tx *tx, bool *confirmed,
                                    struct sso_error *err)
{
    const struct destruction *row = &self->row;
    char dual[SETTING_VALUE_BYTES_MAX + 1];
    enum sso_code rc = read_setting(self, tx, SETTING_DUAL_CONTROL, dual, err);
    if (rc != SSO_OK)
        return rc;
    int64_t now_ms = wall_clock_ms();
    *confirmed = strcmp(dual, "yes") != 0 ||
                 (row->confirmed_ms != 0 && row->destroying_ms == 0 && now_ms >= row->asked_ms &&
                  now_ms - row->asked_ms <= DESTRUCTION_CONFIRM_MS);
    return SSO_OK;
}
