#include "custodian/master.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/encode.h"
#include "common/log.h"
#include "custodian/master_state.h"

/* How long a request waits for the end of a planned move, or for a renewal that is late. */
#define WAIT_MS 1000

/* --- time --- */

int64_t master_patience_ms(const struct master *master)
{
    return master->seen.lease_ms > master->lease_ms ? master->seen.lease_ms : master->lease_ms;
}

bool master_acts(const struct master *master)
{
    return master->holding && master->moving == MOVE_NONE &&
           boot_clock_ms() < master->acts_until_ms;
}

/* The monotonic clock only bounds the wait; what is decided by time asks the boot clock. */
void master_wait(struct master *master, int64_t until_ms)
{
    int64_t left_ms = until_ms - boot_clock_ms();
    if (left_ms <= 0)
        return;
    struct timespec until = monotonic_after((uint64_t)left_ms);
    pthread_cond_timedwait(&master->changed, &master->lock, &until);
}

void master_wake(struct master *master)
{
    pthread_mutex_lock(&master->lock);
    master->woken = true;
    pthread_cond_broadcast(&master->changed);
    pthread_mutex_unlock(&master->lock);
}

/* --- may this node act? --- */

/* With the lock held. */
static enum sso_code why_not(const struct master *master, struct sso_error *err)
{
    const struct master_lease *seen = &master->seen;
    long long still_ms = (long long)(boot_clock_ms() - master->unchanged_ms);
    if (master->moving != MOVE_NONE)
        return sso_fail(err, SSO_MASTER_UNAVAILABLE,
                        "the mastership is moving from this node to %s: try again",
                        seen->successor);
    if (master->holding || seen->epoch == 0) {
        if (master->trouble.code != SSO_OK)
            return sso_fail(err, master->trouble.code, "the master lease cannot be renewed: %s",
                            master->trouble.detail);
        return sso_fail(err, SSO_MASTER_UNAVAILABLE,
                        master->holding ? "this node could not renew its master lease in time: try "
                                          "again"
                                        : "no node is the master yet");
    }
    if (master_lease_is_free(seen))
        return sso_fail(err, SSO_MASTER_UNAVAILABLE,
                        "no node is the master: %s gave it back and none has taken it yet",
                        seen->node);
    if (still_ms < master_patience_ms(master))
        return sso_fail(err, SSO_MASTER_UNAVAILABLE,
                        "%s is the master%s%s, and this node does not write: ask that one",
                        seen->node, seen->address[0] != '\0' ? " at " : "", seen->address);
    return sso_fail(err, SSO_MASTER_UNAVAILABLE,
                    "the master %s has not renewed its lease for %lld s and no node has taken it "
                    "over: %s",
                    seen->node, still_ms / 1000,
                    master->automatic ? "none that lives can open all generations"
                                      : "fail-over is manual; run sso-hsm master promote");
}

enum sso_code master_may_act(struct master *master, uint64_t *epoch, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    pthread_mutex_lock(&master->lock);
    int64_t until_ms = boot_clock_ms() + WAIT_MS;
    while (!master_acts(master) && (master->moving != MOVE_NONE || master->holding) &&
           boot_clock_ms() < until_ms)
        master_wait(master, until_ms);
    if (!master_acts(master))
        rc = why_not(master, err);
    else if (epoch != NULL)
        *epoch = master->own.epoch;
    pthread_mutex_unlock(&master->lock);
    return rc;
}

bool master_is(struct master *master)
{
    pthread_mutex_lock(&master->lock);
    bool acts = master_acts(master);
    pthread_mutex_unlock(&master->lock);
    return acts;
}

bool master_is_elsewhere(struct master *master)
{
    pthread_mutex_lock(&master->lock);
    bool elsewhere = !master->holding && master->seen.epoch != 0;
    pthread_mutex_unlock(&master->lock);
    return elsewhere;
}

/* What began before a planned move may end until the lease is given back. */
bool master_still(struct master *master, uint64_t epoch)
{
    pthread_mutex_lock(&master->lock);
    bool still = master->holding && master->own.epoch == epoch && master->moving != MOVE_WAITING &&
                 boot_clock_ms() < master->acts_until_ms;
    pthread_mutex_unlock(&master->lock);
    return still;
}

/* The row is another's, and the thread does not know it yet. */
static void doubt(struct master *master)
{
    pthread_mutex_lock(&master->lock);
    master->doubted = master->woken = true;
    pthread_cond_broadcast(&master->changed);
    pthread_mutex_unlock(&master->lock);
}

enum sso_code master_hold(void *context, struct store_tx *tx, struct sso_error *err)
{
    struct master *master = context;
    enum sso_code rc = SSO_OK;
    pthread_mutex_lock(&master->lock);
    struct master_lease own = master->own;
    if (!master->holding || master->moving == MOVE_WAITING ||
        boot_clock_ms() >= master->acts_until_ms)
        rc = why_not(master, err);
    pthread_mutex_unlock(&master->lock);
    if (rc != SSO_OK)
        return rc;
    rc = store_master_lease_hold(tx, &own, err);
    if (rc == SSO_MASTER_UNAVAILABLE)
        doubt(master);
    return rc;
}

/* --- who is it? --- */

void master_view(struct master *master, struct master_view *out)
{
    pthread_mutex_lock(&master->lock);
    int64_t now_ms = boot_clock_ms();
    *out = (struct master_view){
        .lease = master->seen, .me = master_acts(master), .automatic = master->automatic};
    if (out->me)
        out->left_ms = master->acts_until_ms - now_ms;
    else
        out->alive = !master->holding && master->seen.epoch != 0 &&
                     !master_lease_is_free(&master->seen) &&
                     now_ms - master->unchanged_ms < master_patience_ms(master);
    pthread_mutex_unlock(&master->lock);
}

enum sso_code master_standbys(struct master *master, struct standby **out, size_t *count,
                              struct sso_error *err)
{
    struct standby *list = calloc(STANDBYS_WATCHED, sizeof *list);
    if (list == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the nodes");
    size_t found = 0;
    pthread_mutex_lock(&master->lock);
    int64_t now_ms = boot_clock_ms();
    for (size_t i = 0; i < master->standby_count; i++) {
        const struct watched_standby *standby = &master->standby[i];
        bool lives = standby->beats && now_ms - standby->changed_ms < 3 * (int64_t)master->lease_ms;
        if (lives)
            list[found++] = standby->row;
    }
    pthread_mutex_unlock(&master->lock);
    *out = list;
    *count = found;
    return SSO_OK;
}

uint64_t master_changes(struct master *master)
{
    pthread_mutex_lock(&master->lock);
    uint64_t changes = master->changes;
    pthread_mutex_unlock(&master->lock);
    return changes;
}

void master_use_settings(struct master *master, unsigned lease_ms, bool automatic)
{
    pthread_mutex_lock(&master->lock);
    bool news = master->lease_ms != lease_ms || master->automatic != automatic;
    master->lease_ms = lease_ms;
    master->automatic = automatic;
    master->woken = master->woken || news;
    if (news)
        pthread_cond_broadcast(&master->changed);
    pthread_mutex_unlock(&master->lock);
}

/* --- the thread --- */

void master_look(struct master *master)
{
    pthread_mutex_lock(&master->turn);
    (void)master_watch(master);
    pthread_mutex_unlock(&master->turn);
}

static void *master_thread(void *argument)
{
    struct master *master = argument;
    pthread_mutex_lock(&master->lock);
    while (!master->stopping) {
        master->woken = false;
        pthread_mutex_unlock(&master->lock);
        pthread_mutex_lock(&master->turn);
        int64_t until_ms = boot_clock_ms() + master_watch(master);
        pthread_mutex_unlock(&master->turn);
        pthread_mutex_lock(&master->lock);
        while (!master->stopping && !master->woken && boot_clock_ms() < until_ms)
            master_wait(master, until_ms);
    }
    pthread_mutex_unlock(&master->lock);
    return NULL;
}

enum sso_code master_start(struct master *master, struct sso_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int why = pthread_create(&master->thread, NULL, master_thread, master);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    master->has_thread = why == 0;
    return why == 0 ? SSO_OK
                    : sso_fail_errno(err, SSO_NO_MEMORY, why, "the master lease has no thread");
}

void master_stop(struct master *master)
{
    if (master == NULL || !master->has_thread)
        return;
    pthread_mutex_lock(&master->lock);
    master->stopping = true;
    pthread_cond_broadcast(&master->changed);
    pthread_mutex_unlock(&master->lock);
    pthread_join(master->thread, NULL);
    master->has_thread = false;
}

/* Made once, and then the state directory's for ever. What cannot be read is made anew: then this
 * node waits for a lease as any other does. */
static enum sso_code read_home(struct master *master, struct sso_error *err)
{
    char *path = NULL, text[2 * LEASE_INSTANCE_BYTES + 1] = "";
    if (asprintf(&path, "%s/node-id", master->custodian->config->system.state_directory) < 0)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a path");
    FILE *file = fopen(path, "re");
    bool known = file != NULL && fread(text, 1, sizeof text - 1, file) == sizeof text - 1 &&
                 hex_decode(text, master->home, sizeof master->home);
    if (file != NULL)
        fclose(file);
    enum sso_code rc = known ? SSO_OK : random_bytes(master->home, sizeof master->home, err);
    file = !known && rc == SSO_OK ? fopen(path, "we") : NULL;
    if (file != NULL) {
        hex_encode(master->home, sizeof master->home, text);
        fprintf(file, "%s\n", text);
        fclose(file);
    } else if (!known && rc == SSO_OK) {
        log_line(LOG_LEVEL_WARNING, "the node's id is not kept", "file", path, NULL);
    }
    free(path);
    return rc;
}

enum sso_code master_new(struct custodian *custodian, struct master **out, struct sso_error *err)
{
    struct master *master = calloc(1, sizeof *master);
    if (master == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the master lease");
    const struct config *config = custodian->config;
    master->custodian = custodian;
    master->lease_ms = config->cluster.master_lease_ms;
    master->automatic = config->cluster.failover_automatic;
    enum sso_code rc = read_home(master, err);
    if (rc == SSO_OK)
        rc = random_bytes(master->own.instance, sizeof master->own.instance, err);
    if (rc != SSO_OK) {
        free(master);
        return rc;
    }
    snprintf(master->own.node, sizeof master->own.node, "%s", custodian->node);
    snprintf(master->own.address, sizeof master->own.address, "%s", config->cluster.address);
    memcpy(master->own.home, master->home, sizeof master->home);
    monotonic_condition_init(&master->changed);
    pthread_mutex_init(&master->turn, NULL);
    pthread_mutex_init(&master->lock, NULL);
    *out = master;
    return SSO_OK;
}

void master_free(struct master **master)
{
    struct master *gone = *master;
    struct sso_error problem = {0};
    if (gone == NULL)
        return;
    *master = NULL;
    if (gone->holding && master_give_back(gone, MOVE_NONE, &problem) != SSO_OK)
        log_line(LOG_LEVEL_WARNING, "the master lease was not given back: others wait for its end",
                 "reason", problem.detail, NULL);
    pthread_mutex_destroy(&gone->turn);
    pthread_mutex_destroy(&gone->lock);
    pthread_cond_destroy(&gone->changed);
    free(gone);
}
