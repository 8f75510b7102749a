#include "custodian/supervision.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "custodian/audit_signer.h"
#include "custodian/certificates.h"
#include "custodian/custodian.h"
#include "custodian/events.h"
#include "custodian/high_water_watch.h"
#include "custodian/master.h"
#include "custodian/rotation_manager.h"
#include "store/store.h"

#define BACKOFF_FIRST_MS 250
#define BACKOFF_LAST_MS 4000
#define ABILITY_INTERVAL_MS 5000
#define ABILITY_DEADLINE_MS 5000
/* While a token or an ability is gone, so that its return is soon seen. */
#define TROUBLE_INTERVAL_MS 250
/* What requests met stays told for so long after the last of them, though a look finds the database
 * well: a write may fail where a read does not. */
#define DATABASE_FAILED_MS 1000

struct supervision {
    struct custodian *custodian;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopping, woken, looked;
    unsigned lost[CONFIG_HSM_MAX]; /* workers_lost as last told */
    struct audit_signer *signer;
    uint64_t backoff_ms;
    int64_t next_poll_ms; /* boot clock */
};

/* The pools belong to the custodian, which closes them last. */
static void open_pools(struct supervision *self)
{
    struct custodian *custodian = self->custodian;
    const struct config *config = custodian->config;
    const struct hsm_options options = {.state_directory = config->system.state_directory,
                                        .spawner = custodian->spawner,
                                        .keep_trying = true,
                                        .board = &custodian->refusals.board};
    /* First, so that refusals of other nodes are known before a PIN is tried. */
    (void)!installation_open_database(custodian, NULL);
    for (size_t i = 0; i < config->hsm_count; i++) {
        struct hsm *pool = NULL;
        struct sso_error problem = {0};
        enum sso_code rc = hsm_open_with(&config->hsm[i], &options, &pool, &problem);
        if (rc != SSO_OK)
            log_line(LOG_LEVEL_ERROR, "a token does not serve", "section", config->hsm[i].name,
                     "reason", problem.detail, NULL);
        if (pool == NULL)
            continue;
        pthread_rwlock_wrlock(&custodian->lock);
        custodian->pool[custodian->pool_count++] = pool;
        pthread_rwlock_unlock(&custodian->lock);
    }
    for (size_t i = 0; i < custodian->pool_count; i++)
        hsm_await_start(custodian->pool[i]);
}

static void raise_while(struct custodian *custodian, enum event event, bool true_now,
                        const char *text)
{
    if (true_now)
        event_raise(custodian->events, event, "%s", text);
    else
        event_clear(custodian->events, event);
}

static bool is_down(const struct hsm_status *status)
{
    return status->state == HSM_DOWN || status->state == HSM_MISCONFIGURED;
}

static const char *pool_label(struct hsm *pool)
{
    return hsm_name(pool)[0] != '\0' ? hsm_name(pool) : "[hsm]";
}

static void watch_replacements(struct supervision *self, size_t i, struct hsm *pool,
                               const struct hsm_status *status)
{
    bool known = status->last_error.code != SSO_OK;
    if (status->workers_lost > self->lost[i])
        event_raise(self->custodian->events, EVENT_WORKER_REPLACED,
                    "token of %s: %u died or hung so far%s%s", pool_label(pool),
                    status->workers_lost, known ? "; the last trouble: " : "",
                    known ? status->last_error.detail : "");
    self->lost[i] = status->workers_lost;
}

/* A pool that serves but cannot open the active generation is no better than one that is down, so
 * the reason for not being ready counts too. */
static void watch_pools(struct supervision *self)
{
    struct custodian *custodian = self->custodian;
    struct sso_error down = {0}, refused = {0}, readiness = {0}, sessions = {0};
    struct hsm *pool[CONFIG_HSM_MAX];
    size_t count = custodian_pools(custodian, pool);
    for (size_t i = 0; i < count; i++) {
        struct hsm_status status;
        hsm_status(pool[i], &status);
        watch_replacements(self, i, pool[i], &status);
        if (status.sessions_short)
            sso_fail(&sessions, SSO_HSM_UNAVAILABLE,
                     "token of %s: %u of %u workers serve, in %u "
                     "sessions",
                     pool_label(pool[i]), status.workers_ready, status.workers_wanted,
                     status.sessions);
        if (is_down(&status))
            sso_fail(&down, SSO_HSM_UNAVAILABLE, "token of %s: %s", pool_label(pool[i]),
                     status.last_error.detail);
        if (status.state == HSM_PIN_REFUSED)
            sso_fail(&refused, SSO_PIN_REFUSED, "token of %s: %s", pool_label(pool[i]),
                     status.last_error.detail);
    }
    enum sso_code rc = custodian_ready(custodian, &readiness);
    if (rc == SSO_HSM_UNAVAILABLE && down.code == SSO_OK)
        down = readiness;
    if (rc == SSO_PIN_REFUSED && refused.code == SSO_OK)
        refused = readiness;
    raise_while(custodian, EVENT_SESSIONS_SHORT, sessions.code != SSO_OK, sessions.detail);
    raise_while(custodian, EVENT_HSM_UNAVAILABLE, down.code != SSO_OK, down.detail);
    raise_while(custodian, EVENT_PIN_REFUSED, refused.code != SSO_OK, refused.detail);
}

/* Then its database is missing, and not unborn. */
static bool remembers_a_system(const struct config *config)
{
    struct sso_error problem = {0};
    HIGH_WATER_AUTO marks = {0};
    return store_high_water_marks(config->system.state_directory, config->cluster.node, &marks,
                                  &problem) != SSO_NOT_FOUND;
}

/* What a refresh ended with. Without a database nobody knows of a master secret either: that is how
 * a new installation looks before sso-hsm init. */
static void tell_of_refresh(struct custodian *custodian, enum sso_code rc, const char *detail)
{
    bool unknown = rc == SSO_DATABASE_UNAVAILABLE && custodian_committer(custodian) == NULL &&
                   !remembers_a_system(custodian->config);
    if (rc == SSO_DATABASE_UNAVAILABLE ||
        event_age_ms(custodian->events, EVENT_DATABASE_UNAVAILABLE) >= DATABASE_FAILED_MS)
        raise_while(custodian, EVENT_DATABASE_UNAVAILABLE, rc == SSO_DATABASE_UNAVAILABLE, detail);
    raise_while(custodian, EVENT_WRONG_MASTER_SECRET, rc == SSO_WRONG_MASTER_SECRET, detail);
    raise_while(custodian, EVENT_NO_MASTER_SECRET, rc == SSO_NO_MASTER_SECRET || unknown,
                unknown ? "no master secret is known: there is no database yet; a new installation "
                          "begins with sso-hsm init"
                        : detail);
}

/* What the codes that no request sees mean for the board. */
static enum sso_code code_for_events(enum sso_code rc)
{
    bool of_database =
        rc == SSO_SCHEMA_NEWER || rc == SSO_SCHEMA_OLDER || rc == SSO_DATABASE_OF_OTHER_SYSTEM;
    if (of_database)
        return SSO_DATABASE_UNAVAILABLE;
    return rc == SSO_KEY_NOT_ACCEPTABLE ? SSO_NO_MASTER_SECRET : rc;
}

static void watch_audit(struct custodian *custodian)
{
    struct sso_error problem = {0};
    struct committer *committer = custodian_committer(custodian);
    bool failed = committer != NULL && committer_health(committer, &problem) != SSO_OK;
    raise_while(custodian, EVENT_AUDIT_UNAVAILABLE, failed, problem.detail);
    struct sso_error journal = {0};
    bool untold =
        committer != NULL && journal_state(committer_journal(committer), &journal) != SSO_OK;
    raise_while(custodian, EVENT_JOURNAL_UNAVAILABLE, untold, journal.detail);
    bool cut = committer != NULL && committer_chain(committer, &problem) != SSO_OK;
    raise_while(custodian, EVENT_AUDIT_TRUNCATED, cut, problem.detail);
}

/* Unwraps the sealed policy key, whose value is known: the decrypt path without the encrypt path.
 */
enum sso_code supervision_test_decrypt(struct custodian *custodian, struct sso_error *err)
{
    struct key_item item = {.row_key = secret_alloc(ROW_KEY_BYTES)};
    if (item.row_key == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no locked memory for the test of decryption");
    pthread_rwlock_rdlock(&custodian->lock);
    struct sealed_key sealed = custodian->policy_sealed;
    pthread_rwlock_unlock(&custodian->lock);
    item.generation = sealed.generation;
    item.wrapped = sealed.wrapped;
    sealed_key_binding(custodian->system.id, &sealed, item.binding);
    enum sso_code rc = keyring_unwrap(custodian->keyring, HSM_LIVE, &item, 1,
                                      boot_clock_ms() + ABILITY_DEADLINE_MS, err);
    if (rc == SSO_OK && item.code != SSO_OK)
        rc = sso_fail(err, item.code, "the sealed policy key does not open: %s",
                      sso_code_facts(item.code)->title);
    if (rc == SSO_OK && memcmp(item.row_key, custodian->policy.key.data, POLICY_KEY_BYTES) != 0)
        rc = sso_fail(err, SSO_WRONG_MASTER_SECRET, "the sealed policy key opens to another value");
    secret_dealloc(item.row_key);
    return rc;
}

/* A new row key under the active generation that must open again to itself. */
static enum sso_code test_encrypt(struct custodian *custodian, struct sso_error *err)
{
    struct key_item made = {.row_key = secret_alloc(ROW_KEY_BYTES)};
    struct key_item opened = {.row_key = secret_alloc(ROW_KEY_BYTES)};
    enum suite_id suite;
    enum sso_code rc = SSO_NO_MEMORY;
    int64_t deadline_ms = boot_clock_ms() + ABILITY_DEADLINE_MS;
    if (made.row_key == NULL || opened.row_key == NULL) {
        sso_fail(err, rc, "no locked memory for the test of encryption");
        goto out;
    }
    if ((rc = installation_active(custodian, &made.generation, &suite, err)) != SSO_OK ||
        (rc = wrap_budget_take(custodian->budget, made.generation, suite, 1, err)) != SSO_OK ||
        (rc = random_bytes(made.binding, sizeof made.binding, err)) != SSO_OK ||
        (rc = keyring_make(custodian->keyring, HSM_LIVE, &made, 1, deadline_ms, err)) != SSO_OK)
        goto out;
    if ((rc = made.code) != SSO_OK) {
        sso_fail(err, rc, "a new row key is not wrapped: %s", sso_code_facts(rc)->title);
        goto out;
    }
    opened.generation = made.generation;
    opened.wrapped = made.wrapped;
    memcpy(opened.binding, made.binding, sizeof opened.binding);
    if ((rc = keyring_unwrap(custodian->keyring, HSM_LIVE, &opened, 1, deadline_ms, err)) != SSO_OK)
        goto out;
    if (opened.code != SSO_OK || memcmp(made.row_key, opened.row_key, ROW_KEY_BYTES) != 0)
        rc = sso_fail(err, SSO_INTERNAL, "a new row key does not open again to itself");
out:
    secret_dealloc(made.row_key);
    secret_dealloc(opened.row_key);
    return rc;
}

static void test_ability(struct custodian *custodian,
                         enum sso_code (*test)(struct custodian *, struct sso_error *),
                         atomic_bool *able, enum event event)
{
    struct sso_error problem = {0};
    bool passed = test(custodian, &problem) == SSO_OK;
    atomic_store(able, passed);
    if (passed)
        event_clear(custodian->events, event);
    else
        event_raise(custodian->events, event, "%s", problem.detail);
}

/* Not able and not yet tested are the same to whoever asks; the reason of the former is an event of
 * its own. */
static void test_abilities(struct custodian *custodian, bool ready)
{
    /* On a database that went back nothing is wrapped, and its own event says so; on a standby
     * nothing is by design. */
    bool standby = master_is_elsewhere(custodian->master);
    bool wraps = ready && !standby && custodian_went_back(custodian, NULL) == SSO_OK;
    if (ready)
        test_ability(custodian, supervision_test_decrypt, &custodian->can_decrypt,
                     EVENT_DECRYPT_FAILED);
    if (wraps)
        test_ability(custodian, test_encrypt, &custodian->can_encrypt, EVENT_ENCRYPT_FAILED);
    if (!ready || standby)
        atomic_store(&custodian->can_decrypt, false);
    if (!ready)
        event_clear(custodian->events, EVENT_DECRYPT_FAILED);
    if (!wraps) {
        atomic_store(&custodian->can_encrypt, false);
        event_clear(custodian->events, EVENT_ENCRYPT_FAILED);
    }
}

/* Half fixed, half random, so that nodes that lost the same thing do not return in step. */
static uint64_t with_jitter(uint64_t ms)
{
    uint32_t dice = 0;
    if (random_bytes(&dice, sizeof dice, NULL) != SSO_OK)
        return ms;
    return ms / 2 + dice % (ms / 2 + 1);
}

static uint64_t interval_of(struct custodian *custodian)
{
    pthread_rwlock_rdlock(&custodian->lock);
    uint64_t interval_ms = custodian->poll_interval_ms;
    pthread_rwlock_unlock(&custodian->lock);
    return interval_ms;
}

static bool in_trouble(struct custodian *custodian)
{
    static const enum event signs[] = {EVENT_DATABASE_UNAVAILABLE, EVENT_HSM_UNAVAILABLE,
                                       EVENT_PIN_REFUSED,          EVENT_ENCRYPT_FAILED,
                                       EVENT_DECRYPT_FAILED,       EVENT_AUDIT_UNAVAILABLE,
                                       EVENT_DATABASE_WENT_BACK};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        if (event_age_ms(custodian->events, signs[i]) >= 0)
            return true;
    }
    return false;
}

/* A write met an audit that is not what it was, or it is not known whether an operator has accepted
 * that by now. */
static bool is_unsure(struct custodian *custodian)
{
    struct committer *committer = custodian_committer(custodian);
    return (committer != NULL && committer_chain(committer, NULL) != SSO_OK) ||
           custodian_went_back(custodian, NULL) != SSO_OK;
}

static bool is_poll_due(struct supervision *self, bool woken, int64_t now_ms)
{
    struct custodian *custodian = self->custodian;
    return woken || self->backoff_ms != 0 || now_ms >= self->next_poll_ms || is_unsure(custodian) ||
           event_age_ms(custodian->events, EVENT_DATABASE_UNAVAILABLE) >= 0;
}

/* One round; returns for how long to sleep. */
static uint64_t look(struct supervision *self, bool woken)
{
    struct custodian *custodian = self->custodian;
    struct sso_error problem = {0};
    int64_t now_ms = boot_clock_ms();
    if (is_poll_due(self, woken, now_ms)) {
        enum sso_code rc = installation_refresh(custodian, &problem);
        self->next_poll_ms = now_ms + (int64_t)interval_of(custodian);
        tell_of_refresh(custodian, code_for_events(rc), problem.detail);
        if (rc == SSO_OK)
            self->backoff_ms = 0;
        else if (self->backoff_ms == 0)
            self->backoff_ms = BACKOFF_FIRST_MS;
        else if (self->backoff_ms < BACKOFF_LAST_MS)
            self->backoff_ms *= 2;
    }
    master_look(custodian->master);
    watch_pools(self);
    bool ready = custodian_ready(custodian, NULL) == SSO_OK;
    test_abilities(custodian, ready);
    if (ready && master_is(custodian->master) && custodian_went_back(custodian, NULL) == SSO_OK) {
        rotation_manager_take_up(custodian->rotation);
        audit_signer_look(self->signer, custodian);
    }
    if (ready)
        row_key_cache_expire(custodian->cache);
    watch_audit(custodian);
    certificates_watch(custodian);
    if (self->backoff_ms != 0)
        return with_jitter(self->backoff_ms);
    if (in_trouble(custodian))
        return TROUBLE_INTERVAL_MS;
    int64_t left_ms = self->next_poll_ms - boot_clock_ms();
    return left_ms < ABILITY_INTERVAL_MS ? (uint64_t)(left_ms > 0 ? left_ms : 0)
                                         : ABILITY_INTERVAL_MS;
}

/* With the lock held. */
static void sleep_until_changed(struct supervision *self, uint64_t ms)
{
    struct timespec until = monotonic_after(ms);
    while (!self->stopping && !self->woken &&
           pthread_cond_timedwait(&self->changed, &self->lock, &until) == 0)
        ;
}

void supervision_await(struct supervision *supervision, unsigned ms)
{
    struct timespec until = monotonic_after(ms);
    pthread_mutex_lock(&supervision->lock);
    while (!supervision->looked &&
           pthread_cond_timedwait(&supervision->changed, &supervision->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&supervision->lock);
}

static void *supervision_thread(void *argument)
{
    struct supervision *self = argument;
    open_pools(self);
    pthread_mutex_lock(&self->lock);
    while (!self->stopping) {
        bool woken = self->woken;
        self->woken = false;
        pthread_mutex_unlock(&self->lock);
        uint64_t sleep_ms = look(self, woken);
        pthread_mutex_lock(&self->lock);
        self->looked = true;
        pthread_cond_broadcast(&self->changed);
        sleep_until_changed(self, sleep_ms);
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

enum sso_code supervision_start(struct custodian *custodian, struct supervision **out,
                                struct sso_error *err)
{
    struct supervision *self = calloc(1, sizeof *self);
    if (self == NULL || (self->signer = audit_signer_new()) == NULL) {
        free(self);
        return sso_fail(err, SSO_NO_MEMORY, "no memory for supervision");
    }
    self->custodian = custodian;
    monotonic_condition_init(&self->changed);
    pthread_mutex_init(&self->lock, NULL);
    int why = pthread_create(&self->thread, NULL, supervision_thread, self);
    if (why != 0) {
        audit_signer_free(self->signer);
        free(self);
        return sso_fail_errno(err, SSO_NO_MEMORY, why, "supervision does not start");
    }
    *out = self;
    return SSO_OK;
}

void supervision_wake(struct supervision *supervision)
{
    pthread_mutex_lock(&supervision->lock);
    supervision->woken = true;
    pthread_cond_broadcast(&supervision->changed);
    pthread_mutex_unlock(&supervision->lock);
}

void supervision_database_failed(struct supervision *supervision, const char *why)
{
    struct event_board *events = supervision->custodian->events;
    bool known = event_age_ms(events, EVENT_DATABASE_UNAVAILABLE) >= 0;
    event_raise(events, EVENT_DATABASE_UNAVAILABLE, "%s", why);
    if (!known)
        supervision_wake(supervision);
}

void supervision_stop(struct supervision **supervision)
{
    struct supervision *self = *supervision;
    if (self == NULL)
        return;
    pthread_mutex_lock(&self->lock);
    self->stopping = true;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
    pthread_join(self->thread, NULL);
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->changed);
    audit_signer_free(self->signer);
    free(self);
    *supervision = NULL;
}
