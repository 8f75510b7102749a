#include "custodian/custodian.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/state_lock.h"
#include "common/log.h"
#include "custodian/events.h"
#include "custodian/master.h"
#include "custodian/metrics.h"
#include "custodian/rotation_manager.h"
#include "custodian/row_counts.h"
#include "custodian/server.h"
#include "custodian/supervision.h"
#include "custodian/ticket_keys.h"
#include "custodian/tls.h"

/* For so long nobody is let in while database and tokens are opened. */
#define FIRST_LOOK_MS 2000
/* Counting so many takes some 20 ms. */
#define ROWS_COUNTED_AT_ONCE 50000

static void set_up(struct custodian *custodian, const struct config *config,
                   struct spawner *spawner)
{
    custodian->config = config;
    custodian->spawner = spawner;
    custodian->started_ms = boot_clock_ms();
    custodian->state_lock = -1;
    custodian->poll_interval_ms = config->cluster.poll_interval_ms;
    snprintf(custodian->node, sizeof custodian->node, "%s", config->cluster.node);
    shared_refusals_init(&custodian->refusals, custodian->node);
    atomic_store(&custodian->lookups_required, true);
    sso_fail(&custodian->readiness, SSO_HSM_UNAVAILABLE,
             "the custodian is starting: database and tokens are being opened");
    pthread_rwlock_init(&custodian->lock, NULL);
    pthread_mutex_init(&custodian->refreshing, NULL);
}

static enum sso_code open_tls(struct custodian *custodian, struct sso_error *err)
{
    const struct config *config = custodian->config;
    return config->listen.tls[0] != '\0' ? tls_new(config, geteuid(), &custodian->tls, err)
                                         : SSO_OK;
}

enum sso_code custodian_new(const struct config *config, struct spawner *spawner,
                            struct custodian **out, struct sso_error *err)
{
    struct custodian *custodian = calloc(1, sizeof *custodian);
    if (custodian == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the custodian");
    set_up(custodian, config, spawner);
    enum sso_code rc;
    if ((rc = state_lock_take(custodian->config->system.state_directory, &custodian->state_lock,
                              err)) != SSO_OK ||
        (rc = master_new(custodian, &custodian->master, err)) != SSO_OK ||
        (rc = event_board_new(&custodian->events, err)) != SSO_OK ||
        (rc = metrics_new(&custodian->metrics, err)) != SSO_OK ||
        (rc = row_counts_new(ROWS_COUNTED_AT_ONCE, &custodian->counts, err)) != SSO_OK ||
        (rc = peer_directory_new(config, &custodian->peers, err)) != SSO_OK ||
        (rc = open_tls(custodian, err)) != SSO_OK ||
        (rc = server_new(custodian, &custodian->server, err)) != SSO_OK) {
        custodian_free(&custodian);
        return rc;
    }
    *out = custodian;
    return SSO_OK;
}

enum sso_code custodian_run(struct custodian *custodian, struct sso_error *err)
{
    enum sso_code rc = supervision_start(custodian, &custodian->supervision, err);
    if (rc == SSO_OK)
        rc = master_start(custodian->master, err);
    if (rc != SSO_OK)
        return rc;
    supervision_await(custodian->supervision, FIRST_LOOK_MS);
    log_line(LOG_LEVEL_INFO, "serving", "socket", custodian->config->listen.socket, "node",
             custodian->node, "version", SSO_HSM_VERSION, NULL);
    rc = server_run(custodian->server, err);
    log_line(LOG_LEVEL_INFO, "stopping", NULL);
    return rc;
}

size_t custodian_pools(struct custodian *custodian, struct hsm **out)
{
    pthread_rwlock_rdlock(&custodian->lock);
    size_t count = custodian->pool_count;
    memcpy(out, custodian->pool, count * sizeof *out);
    pthread_rwlock_unlock(&custodian->lock);
    return count;
}

struct committer *custodian_committer(struct custodian *custodian)
{
    pthread_rwlock_rdlock(&custodian->lock);
    struct committer *committer = custodian->committer;
    pthread_rwlock_unlock(&custodian->lock);
    return committer;
}

/* From the outside in: who asks, who supervises, who runs jobs, who writes, and what all of them
 * use. */
void custodian_free(struct custodian **custodian)
{
    struct custodian *self = *custodian;
    if (self == NULL)
        return;
    server_free(&self->server);
    master_stop(self->master);
    supervision_stop(&self->supervision);
    if (self->rotation != NULL)
        rotation_manager_free(&self->rotation);
    ticket_keys_free(&self->tickets);
    committer_free(&self->committer);
    master_free(&self->master);
    if (self->cache != NULL)
        row_key_cache_free(&self->cache);
    if (self->budget != NULL)
        wrap_budget_free(&self->budget);
    if (self->keyring != NULL)
        keyring_free(&self->keyring);
    for (size_t i = 0; i < self->pool_count; i++)
        hsm_close(&self->pool[i]);
    policy_free(&self->policy);
    row_counts_free(&self->counts);
    if (self->store != NULL)
        store_close(&self->store);
    tls_free(&self->tls);
    peer_directory_free(&self->peers);
    metrics_free(&self->metrics);
    event_board_free(&self->events);
    if (self->state_lock >= 0)
        close(self->state_lock);
    pthread_rwlock_destroy(&self->lock);
    pthread_mutex_destroy(&self->refreshing);
    free(self);
    *custodian = NULL;
}
