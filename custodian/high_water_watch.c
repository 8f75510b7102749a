#include "custodian/high_water_watch.h"

#include <string.h>

#include "common/high_water.h"
#include "common/log.h"
#include "custodian/custodian.h"
#include "custodian/events.h"

static const char *folder_of(const struct custodian *custodian)
{
    return custodian->config->system.state_directory;
}

/* The marks first: whoever raises them wrote the database before. */
static enum sso_code compare(struct custodian *custodian, struct sso_error *err)
{
    HIGH_WATER_AUTO marks = {0};
    struct sso_error problem = {0};
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc =
        store_high_water_marks(folder_of(custodian), custodian->node, &marks, &problem);
    if (rc == SSO_NOT_FOUND)
        return SSO_OK;
    if (rc != SSO_OK)
        return sso_fail(err, rc, "%s", problem.detail);
    const struct policy *policy =
        custodian->policy.key.length_bytes == POLICY_KEY_BYTES ? &custodian->policy : NULL;
    rc = store_begin(custodian->store, STORE_READ, &tx, err);
    return rc == SSO_OK ? store_high_water_check(tx, &marks, custodian->node, policy, err) : rc;
}

static void publish(struct custodian *custodian, const struct sso_error *verdict)
{
    pthread_rwlock_wrlock(&custodian->lock);
    bool news = custodian->went_back.code != verdict->code;
    custodian->went_back = *verdict;
    pthread_rwlock_unlock(&custodian->lock);
    if (custodian->committer != NULL)
        committer_bar(custodian->committer, verdict);
    if (verdict->code != SSO_OK)
        event_raise(custodian->events, EVENT_DATABASE_WENT_BACK, "%s", verdict->detail);
    else
        event_clear(custodian->events, EVENT_DATABASE_WENT_BACK);
    /* Row keys and versions of the database as it was are none of the one that is here now. */
    if (news && custodian->cache != NULL)
        row_key_cache_clear(custodian->cache);
}

/* Rows that nobody can read, put there by another hand, must not keep an older database from being
 * noticed. */
static bool hides_something(enum sso_code code)
{
    return code == SSO_POLICY_TAMPERED || code == SSO_ROW_CORRUPT || code == SSO_TOO_LARGE;
}

enum sso_code high_water_look(struct custodian *custodian, struct sso_error *err)
{
    struct sso_error verdict = {0};
    enum sso_code rc = compare(custodian, &verdict);
    if (rc == SSO_DATABASE_OF_OTHER_SYSTEM)
        return sso_fail(err, rc, "%s", verdict.detail);
    if (hides_something(rc)) {
        struct sso_error why = verdict;
        rc = sso_fail(&verdict, SSO_DATABASE_WENT_BACK,
                      "nobody can tell whether the database is older than what this node has seen: "
                      "%s",
                      why.detail);
    }
    /* Without a database, or before init, there is nothing to tell; others do. */
    if (rc == SSO_OK || rc == SSO_DATABASE_WENT_BACK)
        publish(custodian, &verdict);
    return SSO_OK;
}

void high_water_keep(struct custodian *custodian)
{
    HIGH_WATER_AUTO now = {0};
    struct sso_error problem = {0};
    STORE_TX_AUTO tx = NULL;
    if (custodian->policy.key.length_bytes == 0 || compare(custodian, &problem) != SSO_OK)
        return;
    enum sso_code rc = store_begin(custodian->store, STORE_READ, &tx, &problem);
    if (rc == SSO_OK)
        rc = store_high_water_trusted(tx, &custodian->policy, &now, &problem);
    store_rollback(&tx);
    if (rc == SSO_OK)
        rc = high_water_raise(folder_of(custodian), &now, &problem);
    if (rc != SSO_OK)
        log_line(LOG_LEVEL_WARNING, "the high-water marks were not raised", "reason",
                 problem.detail, NULL);
}

enum sso_code high_water_keep_wraps(void *context, uint32_t generation, uint64_t total,
                                    struct sso_error *err)
{
    struct custodian *custodian = context;
    struct generation seen = {.number = generation, .wraps = total};
    struct high_water marks = {.generation = &seen, .generation_count = 1};
    memcpy(marks.system_id, custodian->system.id, SYSTEM_ID_BYTES);
    return high_water_raise(folder_of(custodian), &marks, err);
}

enum sso_code custodian_went_back(struct custodian *custodian, struct sso_error *err)
{
    pthread_rwlock_rdlock(&custodian->lock);
    struct sso_error told = custodian->went_back;
    pthread_rwlock_unlock(&custodian->lock);
    return told.code == SSO_OK ? SSO_OK : sso_fail(err, told.code, "%s", told.detail);
}
