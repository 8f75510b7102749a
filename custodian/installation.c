#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "custodian/custodian.h"
#include "custodian/events.h"
#include "custodian/high_water_watch.h"
#include "custodian/master.h"
#include "custodian/rotation_manager.h"
#include "custodian/snapshot.h"
#include "custodian/ticket_keys.h"

#define RETIRED_OPEN_MAX 16
#define TAMPERING_SHOWN_MS (3600 * 1000)

/* What went wrong, as a request is told: some codes are for commands and have no meaning in HTTP.
 */
static enum sso_code code_for_requests(enum sso_code code)
{
    if (sso_code_facts(code)->http_status != 0)
        return code;
    switch (code) {
    case SSO_SCHEMA_NEWER:
    case SSO_SCHEMA_OLDER:
    case SSO_DATABASE_OF_OTHER_SYSTEM:
        return SSO_DATABASE_UNAVAILABLE;
    case SSO_KEY_NOT_ACCEPTABLE: /* a key of that name is no master secret */
        return SSO_NO_MASTER_SECRET;
    default:
        return SSO_HSM_UNAVAILABLE;
    }
}

static enum sso_code tell(const struct sso_error *what, struct sso_error *err)
{
    if (what->code == SSO_OK)
        return SSO_OK;
    return sso_fail(err, code_for_requests(what->code), "%s", what->detail);
}

enum sso_code custodian_ready(struct custodian *custodian, struct sso_error *err)
{
    pthread_rwlock_rdlock(&custodian->lock);
    enum sso_code rc = tell(&custodian->readiness, err);
    pthread_rwlock_unlock(&custodian->lock);
    return rc;
}

enum sso_code custodian_database(struct custodian *custodian, struct sso_error *err)
{
    pthread_rwlock_rdlock(&custodian->lock);
    enum sso_code rc = custodian->policy_known ? SSO_OK : tell(&custodian->readiness, err);
    pthread_rwlock_unlock(&custodian->lock);
    return rc;
}

enum sso_code installation_active(struct custodian *custodian, uint32_t *number,
                                  enum suite_id *suite, struct sso_error *err)
{
    pthread_rwlock_rdlock(&custodian->lock);
    enum sso_code rc = tell(&custodian->readiness, err);
    if (rc == SSO_OK && custodian->went_back.code != SSO_OK)
        rc = sso_fail(err, custodian->went_back.code, "%s", custodian->went_back.detail);
    if (rc == SSO_OK)
        rc = generation_may_wrap(&(struct generation){.number = custodian->active,
                                                      .compromised = custodian->active_compromised,
                                                      .closed = custodian->active_closed},
                                 err);
    *number = custodian->active;
    *suite = custodian->active_suite;
    pthread_rwlock_unlock(&custodian->lock);
    return rc;
}

enum sso_code installation_open_database(struct custodian *custodian, struct sso_error *err)
{
    if (custodian->store != NULL)
        return SSO_OK;
    struct store *store = NULL;
    enum sso_code rc = store_open(custodian->config->database.url, &store, err);
    if (rc != SSO_OK)
        return rc;
    pthread_rwlock_wrlock(&custodian->lock);
    custodian->store = store;
    shared_refusals_use(&custodian->refusals, store);
    pthread_rwlock_unlock(&custodian->lock);
    return SSO_OK;
}

/* What needs to know which system this is. */
static enum sso_code meet_system(struct custodian *custodian, const struct snapshot *now,
                                 struct sso_error *err)
{
    if (custodian->keyring != NULL) {
        if (memcmp(custodian->system.id, now->system.id, SYSTEM_ID_BYTES) == 0)
            return SSO_OK;
        return sso_fail(err, SSO_DATABASE_OF_OTHER_SYSTEM,
                        "the database became that of another system while the custodian ran: put "
                        "the right one back, or restart the custodian");
    }
    struct keyring *keyring = NULL;
    struct committer *committer = NULL;
    struct wrap_budget *budget = NULL;
    enum sso_code rc;
    if ((rc = wrap_budget_new(custodian->store, &budget, err)) != SSO_OK ||
        (rc = committer_new(custodian->store, custodian->node,
                            custodian->config->system.state_directory, &committer, err)) !=
            SSO_OK ||
        (rc = keyring_new(now->system.id, &keyring, err)) != SSO_OK) {
        committer_free(&committer);
        wrap_budget_free(&budget);
        return rc;
    }
    for (size_t i = 0; i < custodian->pool_count; i++)
        keyring_add_pool(keyring, custodian->pool[i]);
    wrap_budget_watch(budget, high_water_keep_wraps, custodian);
    wrap_budget_guard(budget, master_hold, custodian->master);
    committer_bar(committer, &custodian->went_back);
    committer_guard(committer, master_hold, custodian->master);
    pthread_rwlock_wrlock(&custodian->lock);
    custodian->system = now->system;
    memcpy(custodian->policy.system_id, now->system.id, SYSTEM_ID_BYTES);
    custodian->keyring = keyring;
    custodian->committer = committer;
    custodian->budget = budget;
    pthread_rwlock_unlock(&custodian->lock);
    return SSO_OK;
}

static enum sso_code open_generation(struct custodian *custodian, const struct snapshot *now,
                                     const struct generation *generation, struct sso_error *err)
{
    enum sso_code rc =
        keyring_open(custodian->keyring, generation, now->token, now->token_count, false, err);
    /* Made by another process while our workers ran: their module may not see it, a new one does.
     * Once for each generation, since it replaces all workers. */
    if (rc == SSO_NO_MASTER_SECRET && generation->number > custodian->newest)
        rc = keyring_open(custodian->keyring, generation, now->token, now->token_count, true, err);
    if (rc == SSO_NO_MASTER_SECRET && snapshot_token_damaged(now, generation->number))
        return sso_fail(err, SSO_POLICY_TAMPERED,
                        "a row that names a token of generation %u was changed by another hand: "
                        "restore it from a backup of the database",
                        generation->number);
    if (rc == SSO_OK || rc == SSO_NO_MASTER_SECRET)
        custodian->newest =
            generation->number > custodian->newest ? generation->number : custodian->newest;
    return rc;
}

/* No row is on a retired generation; the last few stay open all the same, for one that another hand
 * put back, but not without end. */
static bool is_long_retired(const struct snapshot *now, const struct generation *generation)
{
    size_t later = 0;
    if (generation->state != GENERATION_RETIRED && generation->state != GENERATION_DESTROYING)
        return false;
    for (size_t i = 0; i < now->generation_count; i++)
        later += now->generation[i].number > generation->number &&
                 now->generation[i].state >= GENERATION_RETIRED;
    return later >= RETIRED_OPEN_MAX;
}

/* Once for as long as it stays so, and not at every poll. */
static void tell_shut(struct custodian *custodian, const struct sso_error *shut)
{
    if (shut->code != SSO_OK && strcmp(shut->detail, custodian->told_shut) != 0)
        log_line(LOG_LEVEL_WARNING, "an older generation does not open", "reason", shut->detail,
                 NULL);
    snprintf(custodian->told_shut, sizeof custodian->told_shut, "%s", shut->detail);
}

/* One old generation that does not open takes only its own rows out of service. The outcome is that
 * of the newest one which the rows call active. */
static enum sso_code open_generations(struct custodian *custodian, const struct snapshot *now,
                                      struct sso_error *err)
{
    enum sso_code active = SSO_OK;
    struct sso_error shut = {0};
    for (size_t i = 0; i < now->generation_count; i++) {
        const struct generation *generation = &now->generation[i];
        struct sso_error problem = {0};
        if (generation->state == 0)
            continue; /* damaged: neither opened nor, where it is open, taken for another's */
        keyring_know(custodian->keyring, &generation->number, 1);
        if (generation->state == GENERATION_DESTROYED || generation->going_ms != 0) {
            keyring_end(custodian->keyring, generation->number);
            continue;
        }
        if (is_long_retired(now, generation)) {
            keyring_forget(custodian->keyring, generation->number);
            continue;
        }
        bool was_open = keyring_has(custodian->keyring, generation->number);
        enum sso_code rc = open_generation(custodian, now, generation, &problem);
        if (rc != SSO_OK && was_open)
            continue;
        if (generation->state == GENERATION_ACTIVE)
            active = rc == SSO_OK ? SSO_OK : sso_fail(err, rc, "%s", problem.detail);
        else if (rc != SSO_OK)
            shut = problem;
    }
    tell_shut(custodian, &shut);
    return active;
}

static enum sso_code open_policy(struct custodian *custodian, const struct snapshot *now,
                                 struct sso_error *err)
{
    const struct sealed_key *sealed = snapshot_sealed(now, PURPOSE_POLICY);
    if (sealed == NULL)
        return sso_fail(err, SSO_POLICY_TAMPERED,
                        "the sealed policy key is missing from the database");
    if (custodian->policy.key.length_bytes == 0) {
        enum sso_code rc = keyring_open_policy(custodian->keyring, sealed, &custodian->policy, err);
        if (rc != SSO_OK)
            return rc;
    }
    pthread_rwlock_wrlock(&custodian->lock);
    custodian->policy_sealed = *sealed;
    pthread_rwlock_unlock(&custodian->lock);
    return SSO_OK;
}

static uint64_t setting_ms(const struct snapshot *now, const char *name, uint64_t otherwise)
{
    const char *value = snapshot_setting(now, name);
    uint64_t ms;
    return value != NULL && parse_duration_ms(value, &ms) ? ms : otherwise;
}

/* Cache and rotation manager live under settings, so they come after these are proven; once, since
 * requests use them without a lock. */
static enum sso_code make_last_parts(struct custodian *custodian, const struct snapshot *now,
                                     struct sso_error *err)
{
    const struct config *config = custodian->config;
    struct row_key_cache *cache = NULL;
    struct rotation_manager *rotation = NULL;
    struct ticket_keys *tickets = NULL;
    if (custodian->rotation != NULL)
        return SSO_OK;
    enum sso_code rc =
        row_key_cache_new(config->cache.max_entries,
                          setting_ms(now, "cache.lease", config->cache.lease_ms), &cache, err);
    if (rc != SSO_OK)
        return rc;
    if ((rc = rotation_manager_new(custodian, &rotation, err)) != SSO_OK ||
        (rc = ticket_keys_new(custodian, &tickets, err)) != SSO_OK) {
        rotation_manager_free(&rotation);
        row_key_cache_free(&cache);
        return rc;
    }
    pthread_rwlock_wrlock(&custodian->lock);
    custodian->cache = cache;
    custodian->rotation = rotation;
    custodian->tickets = tickets;
    custodian->policy_known = true;
    pthread_rwlock_unlock(&custodian->lock);
    return SSO_OK;
}

static void take_up_settings(struct custodian *custodian, const struct snapshot *now)
{
    const char *lookups = snapshot_setting(now, "audit.lookups");
    const char *revocation = snapshot_setting(now, SETTING_REVOCATION);
    atomic_store(&custodian->lookups_required, lookups == NULL || strcmp(lookups, "relaxed") != 0);
    const char *journal = snapshot_setting(now, "audit.journal");
    journal_use(committer_journal(custodian->committer), custodian->config->audit.journal_socket,
                journal_mode_of(journal != NULL ? journal : "required"));
    const char *failover = snapshot_setting(now, "cluster.failover");
    unsigned lease_ms = (unsigned)setting_ms(now, "cluster.master_lease",
                                             custodian->config->cluster.master_lease_ms);
    master_use_settings(custodian->master, lease_ms,
                        failover == NULL || strcmp(failover, "automatic") == 0);
    store_use_lease(custodian->store, lease_ms);
    row_key_cache_set_lease(custodian->cache,
                            setting_ms(now, "cache.lease", custodian->config->cache.lease_ms));
    pthread_rwlock_wrlock(&custodian->lock);
    custodian->revocation = revocation != NULL ? strtoull(revocation, NULL, 10) : 0;
    custodian->poll_interval_ms =
        setting_ms(now, "cluster.poll_interval", custodian->config->cluster.poll_interval_ms);
    pthread_rwlock_unlock(&custodian->lock);
}

static void raise_or_clear(struct custodian *custodian, enum event event, bool raise,
                           const char *text, uint32_t number)
{
    if (!raise)
        event_clear(custodian->events, event);
    else
        event_raise(custodian->events, event, "generation %u %s", number, text);
}

static void tell_of_generation(struct custodian *custodian, const struct snapshot *now,
                               const struct generation *active)
{
    int64_t interval_ms =
        (int64_t)setting_ms(now, "keys.drill_interval", custodian->config->keys.drill_interval_ms);
    int64_t proven_ms =
        active->last_drill_ms > active->backed_up_ms ? active->last_drill_ms : active->backed_up_ms;
    uint32_t weak = 0;
    for (size_t i = 0; i < now->token_count; i++) {
        if (now->token[i].weak && now->token[i].destroyed_ms == 0)
            weak = now->token[i].number;
    }
    raise_or_clear(custodian, EVENT_BACKUP_MISSING, proven_ms == 0,
                   "is active and has no backup: if its token is lost, every credential is lost",
                   active->number);
    raise_or_clear(custodian, EVENT_DRILL_DUE,
                   proven_ms != 0 && wall_clock_ms() - proven_ms > interval_ms,
                   "is active and its backup was not proven for longer than keys.drill_interval",
                   active->number);
    raise_or_clear(custodian, EVENT_GENERATION_COMPROMISED, active->compromised,
                   "is active and marked compromised", active->number);
    raise_or_clear(custodian, EVENT_GENERATION_CLOSED, active->closed,
                   "is active and closed: its database was put back", active->number);
    raise_or_clear(custodian, EVENT_WEAK_TOKEN, weak != 0,
                   "is in a token that failed a required check and was accepted", weak);
    raise_or_clear(custodian, EVENT_WRAPS_HIGH,
                   active->suite == SUITE_AES256_GCM && active->wraps >= GCM_WRAPS_WARNED,
                   "nears the number of keys that it may wrap", active->number);
}

static void tell_of_settings(struct custodian *custodian, const struct snapshot *now)
{
    char names[400];
    snapshot_settings_differ(now, custodian->config, names, sizeof names);
    const char *enabled = snapshot_setting(now, SETTING_SYSTEM_ENABLED);
    if (enabled != NULL && strcmp(enabled, "yes") == 0)
        event_clear(custodian->events, EVENT_SYSTEM_DISABLED);
    else if (enabled != NULL)
        event_raise(custodian->events, EVENT_SYSTEM_DISABLED,
                    "the setting system.enabled is %s: credentials are neither looked up nor "
                    "written",
                    enabled);
    if (names[0] == '\0')
        event_clear(custodian->events, EVENT_SETTINGS_DIFFER);
    else
        event_raise(custodian->events, EVENT_SETTINGS_DIFFER,
                    "the settings in the database count; the configuration file differs in: %s",
                    names);
}

/* Request threads raise this event too, for rows that only they see: what they found stays on the
 * board for a while after it was last met. */
static void tell_of_tampering(struct custodian *custodian, const struct sso_error *found)
{
    int64_t age_ms = event_age_ms(custodian->events, EVENT_POLICY_TAMPERED);
    if (found->code == SSO_POLICY_TAMPERED)
        event_raise(custodian->events, EVENT_POLICY_TAMPERED, "%s", found->detail);
    else if (custodian->tampered || age_ms > TAMPERING_SHOWN_MS)
        event_clear(custodian->events, EVENT_POLICY_TAMPERED);
    custodian->tampered = found->code == SSO_POLICY_TAMPERED;
}

static void publish(struct custodian *custodian, const struct generation *active,
                    const struct sso_error *readiness)
{
    pthread_rwlock_wrlock(&custodian->lock);
    bool news = custodian->readiness.code != readiness->code;
    custodian->readiness = *readiness;
    if (active != NULL) {
        custodian->active = active->number;
        custodian->active_compromised = active->compromised;
        custodian->active_closed = active->closed;
        custodian->active_suite = active->suite;
    }
    pthread_rwlock_unlock(&custodian->lock);
    if (news)
        log_line(LOG_LEVEL_INFO, "readiness changed", "state",
                 readiness->code == SSO_OK ? "ready" : sso_code_facts(readiness->code)->name,
                 "reason", readiness->detail, NULL);
}

/* Everything that must be right before requests are served, in the order of DESIGN §3.5: the rows
 * are believed only once the key that they help to find has proven them. */
static enum sso_code prove(struct custodian *custodian, const struct snapshot *now,
                           const struct generation **active, struct sso_error *err)
{
    struct sso_error closed = {0};
    enum sso_code opened = open_generations(custodian, now, &closed);
    enum sso_code rc = open_policy(custodian, now, err);
    if (rc != SSO_OK && snapshot_sealed_damaged(now, PURPOSE_POLICY))
        return sso_fail(err, SSO_POLICY_TAMPERED,
                        "the row of the generation under which the policy key is sealed was "
                        "changed by another hand: restore it from a backup of the database");
    if (rc != SSO_OK)
        return opened == SSO_OK ? rc : sso_fail(err, opened, "%s", closed.detail);
    if ((rc = snapshot_check_settings(now, &custodian->policy, custodian->config, err)) != SSO_OK ||
        (rc = make_last_parts(custodian, now, err)) != SSO_OK)
        return rc;
    take_up_settings(custodian, now);
    if ((rc = snapshot_active(now, &custodian->policy, active, err)) != SSO_OK)
        return rc;
    if (opened != SSO_OK && !keyring_has(custodian->keyring, (*active)->number))
        return sso_fail(err, opened, "%s", closed.detail);
    return SSO_OK;
}

/* From the snapshot to a published state. A wrong tag of a generation that is not active is no
 * reason to stop: rows on it are refused when they are looked up. */
static enum sso_code take_up(struct custodian *custodian, const struct snapshot *now,
                             struct sso_error *err)
{
    const struct generation *active = NULL;
    struct sso_error problem = {0}, tampered = {0};
    enum sso_code rc = meet_system(custodian, now, &problem);
    if (rc == SSO_OK)
        rc = prove(custodian, now, &active, &problem);
    if (rc == SSO_POLICY_TAMPERED)
        tampered = problem;
    else if (custodian->policy.key.length_bytes > 0 &&
             snapshot_check_generations(now, &custodian->policy, &tampered) != SSO_OK)
        log_line(LOG_LEVEL_WARNING, "only what depends on this row is refused", "reason",
                 tampered.detail, NULL);
    tell_of_tampering(custodian, &tampered);
    tell_of_settings(custodian, now);
    if (active != NULL)
        tell_of_generation(custodian, now, active);
    publish(custodian, active, &problem);
    if (rc != SSO_OK && err != NULL)
        *err = problem;
    return rc;
}

/* The database is not there: what was known stays, so that requests find out for themselves when it
 * is back; only before the first time is it the reason for not being ready. */
static void database_lost(struct custodian *custodian, const struct sso_error *problem)
{
    pthread_rwlock_wrlock(&custodian->lock);
    if (!custodian->policy_known)
        custodian->readiness = *problem;
    pthread_rwlock_unlock(&custodian->lock);
}

enum sso_code installation_refresh(struct custodian *custodian, struct sso_error *err)
{
    struct snapshot now = {0};
    struct sso_error problem = {0};
    pthread_mutex_lock(&custodian->refreshing);
    bool knew = custodian->policy_known;
    enum sso_code rc = installation_open_database(custodian, &problem);
    if (rc == SSO_OK)
        rc = high_water_look(custodian, &problem);
    if (rc == SSO_OK)
        rc = snapshot_read(custodian->store, &now, &problem);
    if (rc == SSO_OK) {
        rc = take_up(custodian, &now, &problem);
        if (rc == SSO_OK && !knew) /* now it is seen what carries a tag */
            rc = high_water_look(custodian, &problem);
        high_water_keep(custodian);
    } else if (rc == SSO_NO_MASTER_SECRET || rc == SSO_POLICY_TAMPERED ||
               rc == SSO_DATABASE_OF_OTHER_SYSTEM)
        publish(custodian, NULL, &problem);
    else
        database_lost(custodian, &problem);
    snapshot_free(&now);
    pthread_mutex_unlock(&custodian->refreshing);
    if (rc != SSO_OK && err != NULL)
        *err = problem;
    return rc;
}
