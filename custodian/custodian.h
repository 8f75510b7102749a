/* The parts of a running custodian, and what it knows of the installation. */
#ifndef SSO_CUSTODIAN_CUSTODIAN_H
#define SSO_CUSTODIAN_CUSTODIAN_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/config.h"
#include "common/policy.h"
#include "custodian/committer.h"
#include "custodian/peer.h"
#include "custodian/row_key_cache.h"
#include "pkcs11/keyring.h"
#include "store/shared_refusals.h"
#include "store/store.h"
#include "store/wrap_budget.h"

struct master;
struct rotation_manager;
struct metrics;
struct row_counts;
struct event_board;
struct supervision;
struct ticket_keys;
struct server;
struct tls;

struct custodian {
    const struct config *config;
    struct spawner *spawner;
    struct hsm *pool[CONFIG_HSM_MAX];
    size_t pool_count;
    /* Each is made once and then stays, so requests that passed custodian_ready or
     * custodian_database use them without a lock. */
    struct store *store; /* NULL until the database was reached once */
    struct shared_refusals refusals;
    struct keyring *keyring; /* NULL before the system is known */
    struct policy policy;    /* key empty before a worker opened it */
    struct committer *committer;
    struct row_key_cache *cache;
    struct wrap_budget *budget;
    struct peer_directory *peers;
    struct master *master; /* the lease; there from the start */
    struct rotation_manager *rotation;
    struct ticket_keys *tickets;
    struct metrics *metrics;
    struct row_counts *counts; /* of generations, for status */
    struct event_board *events;
    struct system_row system;
    int64_t started_ms; /* boot clock */
    struct supervision *supervision;
    struct tls *tls; /* NULL: no [listen] tls */
    struct server *server;
    int state_lock; /* descriptor that holds the exclusive flock; -1: none */
    char node[65];

    /* What the installation is now; changed by installation.c only. */
    pthread_rwlock_t lock;
    uint32_t active; /* number of the active generation; 0: none */
    bool active_compromised, active_closed;
    enum suite_id active_suite;
    struct sso_error readiness; /* SSO_OK: everything can be served; else why not (§5.3) */
    struct sso_error went_back; /* the database is older than what was seen; high_water_watch.c */
    bool policy_known;          /* database open, policy key there: what OP_DATABASE needs */
    uint64_t revocation;
    uint64_t poll_interval_ms;
    struct sealed_key policy_sealed; /* as last read, for the test of decryption */
    pthread_mutex_t refreshing;      /* one refresh at a time; it alone uses the next three */
    uint32_t newest;                 /* highest generation number that it has tried to open */
    bool tampered;                   /* the last one found a wrong tag */
    char told_shut[SSO_ERROR_DETAIL_BYTES]; /* the last word on old generations that do not open */
    atomic_bool lookups_required; /* setting audit.lookups: no reply before its record is durable */

    /* Abilities as last tested (§5.3, tested continuously). */
    atomic_bool can_encrypt, can_decrypt;
};

/* SSO_OK where requests for credentials can be served, else the reason of §5.3: no_master_secret,
 * wrong_master_secret, hsm_unavailable, pin_refused, database_unavailable, policy_tampered … */
enum sso_code custodian_ready(struct custodian *custodian, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Reads generations, opens them, unwraps the policy key, checks tags, takes up what is new; called
 * at start, by the supervision thread until it succeeds and at every poll, and after a rotation
 * changed states. installation.c. */
enum sso_code installation_refresh(struct custodian *custodian, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Opens the database where that is not done yet; a refresh does it by itself. */
enum sso_code installation_open_database(struct custodian *custodian, struct sso_error *err)
    __attribute__((warn_unused_result));

/* The active generation, for a write. SSO_GENERATION_COMPROMISED, SSO_WRAPS_EXHAUSTED (closed)
 * where nothing may be wrapped. */
enum sso_code installation_active(struct custodian *custodian, uint32_t *number,
                                  enum suite_id *suite, struct sso_error *err)
    __attribute__((warn_unused_result));

/* SSO_OK where the database and the policy key are there (OP_DATABASE), master secret or not. */
enum sso_code custodian_database(struct custodian *custodian, struct sso_error *err)
    __attribute__((warn_unused_result));

/* The pools that are open by now; out has room for CONFIG_HSM_MAX. They stay open until the end. */
size_t custodian_pools(struct custodian *custodian, struct hsm **out);
/* NULL until a database is known. */
struct committer *custodian_committer(struct custodian *custodian);

/* Makes the parts that need neither database nor HSM, takes the state directory's lock and the
 * place of the socket. `spawner` and `config` stay the caller's. */
enum sso_code custodian_new(const struct config *config, struct spawner *spawner,
                            struct custodian **out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Serves until SIGTERM or SIGINT, then drains. */
enum sso_code custodian_run(struct custodian *custodian, struct sso_error *err)
    __attribute__((warn_unused_result));
void custodian_free(struct custodian **custodian);

#endif
