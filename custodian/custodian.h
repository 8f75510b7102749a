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
#include "store/store.h"
#include "store/wrap_budget.h"

struct rotation_manager;
struct metrics;
struct event_board;

struct custodian {
    const struct config *config;
    struct spawner *spawner;
    struct hsm *pool[CONFIG_HSM_MAX];
    size_t pool_count;
    struct store *store;     /* NULL while the database is not reachable (custodian_store) */
    struct keyring *keyring; /* NULL before the system is known */
    struct policy policy;    /* key empty before a worker opened it */
    struct committer *committer;
    struct row_key_cache *cache;
    struct wrap_budget *budget;
    struct peer_directory *peers;
    struct rotation_manager *rotation;
    struct metrics *metrics;
    struct event_board *events;
    struct system_row system;
    int64_t started_ms; /* boot clock */
    char node[65];

    /* What the installation is now; changed by installation.c only. */
    pthread_rwlock_t lock;
    uint32_t active; /* number of the active generation; 0: none */
    bool active_compromised;
    enum suite_id active_suite;
    struct sso_error readiness; /* SSO_OK: everything can be served; else why not (§5.3) */
    uint64_t revocation;

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

/* The active generation, for a write. SSO_GENERATION_COMPROMISED where nothing may be wrapped. */
enum sso_code installation_active(struct custodian *custodian, uint32_t *number,
                                  enum suite_id *suite, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
