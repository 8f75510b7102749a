#include "custodian/credential_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/secret.h"
#include "custodian/application_access.h"
#include "custodian/credential_json.h"
#include "custodian/custodian.h"
#include "custodian/master.h"

/* What the read path keeps of one query while it is under way. */
struct reading {
    struct credential_query *query;
    struct credential_row row;
    uint8_t *row_key;      /* locked: the key to open with */
    uint8_t *cached_key;   /* locked: for when the HSM cannot be asked */
    uint64_t version_seen; /* not 0: newer than what was read, which is to be read anew */
    uint8_t row_id_seen[ROW_ID_BYTES];
    struct key_item *unwrap; /* NULL: the cache had the key */
    bool cached_key_fits;
    bool cached; /* the application lets row keys be kept */
};

struct reader {
    struct request *request;
    struct custodian *custodian;
    struct reading *reading;
    struct key_item *unwrap;
    uint8_t *keys; /* locked: two for each reading */
    size_t count, unwraps;
    uint64_t row_bytes; /* of the rows that are held */
};

static bool failed(const struct reading *reading)
{
    return reading->query->problem.code != SSO_OK;
}

/* --- reading the rows --- */

/* What is disabled or not to be trusted is refused here, whatever the cache holds. */
static enum sso_code view_check(const struct policy *policy, const struct lookup_view *view,
                                const char *principal, struct sso_error *err)
{
    enum sso_code rc;
    if ((rc = system_enabled_check(policy, &view->system_enabled, err)) != SSO_OK ||
        (rc = policy_check_setting(policy, &view->revocation, err)) != SSO_OK)
        return rc;
    const struct application *application = &view->application;
    if (!application->enabled)
        return sso_fail(err, SSO_APPLICATION_DISABLED, "application %s is disabled",
                        application->name);
    if (view->has_mapping && (rc = policy_check_mapping(policy, &view->mapping, err)) != SSO_OK)
        return rc;
    if (!view->has_row)
        return sso_fail(err, SSO_NOT_FOUND, "%s has no credential for application %s", principal,
                        application->name);
    if (!view->has_mapping)
        return sso_fail(err, SSO_ROW_CORRUPT,
                        "the credential of %s for application %s stands without its mapping: it "
                        "was changed outside this program",
                        principal, application->name);
    if (view->mapping.state != MAPPING_ENABLED)
        return sso_fail(err, SSO_MAPPING_DISABLED,
                        "the mapping of %s to application %s is disabled", principal,
                        application->name);
    if (!view->has_generation)
        return sso_fail(err, SSO_ROW_CORRUPT,
                        "the credential of %s for application %s names generation %u, which does "
                        "not exist",
                        principal, application->name, view->row.generation);
    return policy_check_generation(policy, &view->generation, err);
}

/* In a group application credentials belong to groups, and the caller's own is that of the first
 * group in the application's order which holds the caller. The rows say whose is asked for, so they
 * are read anew where that is another than was asked for at first. */
static enum sso_code view_read(struct reader *reader, struct store_tx *tx,
                               struct credential_query *query, struct lookup_view *view,
                               struct sso_error *err)
{
    struct request *request = reader->request;
    const struct peer *who = query->on_behalf != NULL ? query->on_behalf : &request->peer;
    bool for_caller = query->principal == NULL;
    if (for_caller)
        query->principal = who->principal;
    enum sso_code found = store_lookup(tx, query->application, query->principal, view, err);
    bool of_group = found == SSO_OK && view->application.type == APPLICATION_GROUP;
    bool own = principal_is_own(request, query->principal);
    if (of_group) {
        const char *group = peer_first_group(reader->custodian->peers, who, &view->application);
        snprintf(query->group, sizeof query->group, "%s", group != NULL ? group : "");
        own = for_caller || strcmp(query->principal, query->group) == 0;
    }
    enum sso_code rc = application_authorise(request, found, &view->application, own, err);
    if (rc == SSO_OK && !query->configuration)
        rc = application_takes_credentials(&view->application, err);
    else if (rc == SSO_OK)
        rc = application_takes_configuration(&view->application, err);
    if (rc != SSO_OK || !of_group || !for_caller)
        return rc;
    if (query->group[0] == '\0')
        return sso_fail(err, SSO_NOT_FOUND, "no user group of application %s holds the caller",
                        view->application.name);
    query->principal = query->group;
    lookup_view_free(view);
    *view = (struct lookup_view){0};
    return store_lookup(tx, query->application, query->principal, view, err);
}

static void reading_load(struct reader *reader, struct store_tx *tx, struct reading *reading)
{
    struct credential_query *query = reading->query;
    struct sso_error *problem = &query->problem;
    struct lookup_view view = {0};
    enum sso_code rc = view_read(reader, tx, query, &view, problem);
    if (rc == SSO_OK) {
        snprintf(query->name, sizeof query->name, "%s", view.application.name);
        if (view.has_row) {
            memcpy(query->row_id, view.row.row_id, ROW_ID_BYTES);
            query->row_version = view.row.version;
        }
        rc = view_check(&reader->custodian->policy, &view, query->principal, problem);
        policy_alarm(reader->custodian, rc, problem);
    }
    if (rc == SSO_OK) {
        reading->row = view.row;
        reading->cached = view.application.cached;
        memset(&view.row, 0, sizeof view.row);
    }
    problem->code = rc;
    lookup_view_free(&view);
}

/* What is decoded and written as JSON lies in memory as a whole, and one row may be asked for again
 * and again: a batch gives out as much as it could take in. One row alone always fits. */
static enum sso_code check_size(const struct reader *reader, struct sso_error *err)
{
    uint64_t maximum = reader->custodian->config->limits.max_body_bytes;
    if (reader->count == 1 || reader->row_bytes <= maximum)
        return SSO_OK;
    return sso_fail(err, SSO_TOO_LARGE,
                    "the credentials of this batch have more than the %llu bytes of [limits] "
                    "max_body: ask for fewer at a time",
                    (unsigned long long)maximum);
}

/* All of them, or those that are to be read anew. */
static enum sso_code rows_load(struct reader *reader, bool anew, struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(reader->custodian->store, STORE_READ, &tx, err);
    if (rc != SSO_OK)
        return rc;
    for (size_t i = 0; rc == SSO_OK && i < reader->count; i++) {
        struct reading *reading = &reader->reading[i];
        if (failed(reading) || (anew && reading->version_seen == 0))
            continue;
        reader->row_bytes -= reading->row.ciphertext_bytes;
        credential_row_free(&reading->row);
        reading_load(reader, tx, reading);
        reader->row_bytes += reading->row.ciphertext_bytes;
        rc = check_size(reader, err);
    }
    return rc;
}

/* --- the cache --- */

static void unwrap_wanted(struct reader *reader, struct reading *reading)
{
    struct key_item *item = &reader->unwrap[reader->unwraps++];
    memset(item, 0, sizeof *item);
    item->generation = reading->row.generation;
    item->wrapped = reading->row.wrapped;
    item->row_key = reading->row_key;
    row_binding_digest(reader->custodian->system.id, &reading->row, item->binding);
    reading->unwrap = item;
}

/* True where the row looks older than what was seen, and has to be read anew to know: a write may
 * have committed after it was read. */
static bool cache_ask(struct reader *reader, struct reading *reading)
{
    struct row_key_cache *cache = reader->custodian->cache;
    const struct credential_row *row = &reading->row;
    uint64_t version = row_key_cache_version(cache, row->row_id);
    if (reading->version_seen == 0 && row->version < version) {
        reading->version_seen = version;
        memcpy(reading->row_id_seen, row->row_id, ROW_ID_BYTES);
        return true;
    }
    enum cache_answer answer = reading->query->refresh || !reading->cached
                                   ? CACHE_MISS
                                   : row_key_cache_get(cache, row, reading->cached_key);
    reading->cached_key_fits = answer == CACHE_REWRAPPED;
    if (answer == CACHE_HIT)
        memcpy(reading->row_key, reading->cached_key, ROW_KEY_BYTES);
    else
        unwrap_wanted(reader, reading);
    return false;
}

static bool went_back(const struct reading *reading)
{
    return reading->row.version < reading->version_seen &&
           memcmp(reading->row.row_id, reading->row_id_seen, ROW_ID_BYTES) == 0;
}

static enum sso_code cache_ask_all(struct reader *reader, struct sso_error *err)
{
    bool any_anew = false;
    for (size_t i = 0; i < reader->count; i++) {
        if (!failed(&reader->reading[i]))
            any_anew |= cache_ask(reader, &reader->reading[i]);
    }
    if (!any_anew)
        return SSO_OK;
    enum sso_code rc = rows_load(reader, true, err);
    for (size_t i = 0; rc == SSO_OK && i < reader->count; i++) {
        struct reading *reading = &reader->reading[i];
        if (failed(reading) || reading->version_seen == 0)
            continue;
        if (went_back(reading))
            sso_fail(&reading->query->problem, SSO_ROW_CORRUPT,
                     "the credential of %s for application %s is at version %llu and was seen here "
                     "at version %llu: an older row was put back",
                     reading->query->principal, reading->query->name,
                     (unsigned long long)reading->row.version,
                     (unsigned long long)reading->version_seen);
        else
            cache_ask(reader, reading);
    }
    return rc;
}

/* --- the HSM: the master's --- */

static bool hsm_out_of_reach(enum sso_code code)
{
    return code == SSO_HSM_UNAVAILABLE || code == SSO_PIN_REFUSED || code == SSO_MASTER_UNAVAILABLE;
}

static void unwrap_settle(struct reading *reading, const struct sso_error *batch)
{
    enum sso_code code = batch->code != SSO_OK ? batch->code : reading->unwrap->code;
    struct sso_error *problem = &reading->query->problem;
    if (code == SSO_OK)
        return;
    if (hsm_out_of_reach(code) && reading->cached_key_fits) {
        memcpy(reading->row_key, reading->cached_key, ROW_KEY_BYTES);
        reading->unwrap = NULL;
    } else if (batch->code != SSO_OK) {
        sso_fail(problem, code, "%s", batch->detail);
    } else if (code == SSO_ROW_CORRUPT) {
        sso_fail(problem, code,
                 "the row key of %s for application %s does not open under generation %u: the row "
                 "was damaged or changed outside this program",
                 reading->query->principal, reading->query->name, reading->row.generation);
    } else {
        sso_fail(problem, code, "the row key of %s for application %s could not be opened: %s",
                 reading->query->principal, reading->query->name, sso_code_facts(code)->title);
    }
}

/* On the master its own workers open them; the lease is looked at again after they did. */
static enum sso_code keys_ask(struct reader *reader, struct sso_error *err)
{
    struct custodian *custodian = reader->custodian;
    struct request *request = reader->request;
    enum sso_code rc = master_may_act(custodian->master, &request->epoch, err);
    if (rc == SSO_OK)
        rc = keyring_unwrap(custodian->keyring, HSM_LIVE, reader->unwrap, reader->unwraps,
                            request->deadline_ms, err);
    if (rc == SSO_OK && !master_still(custodian->master, request->epoch))
        rc = master_may_act(custodian->master, NULL, err) != SSO_OK
                 ? SSO_MASTER_UNAVAILABLE
                 : sso_fail(err, SSO_MASTER_UNAVAILABLE, "the mastership changed meanwhile");
    return rc;
}

static void keys_unwrap(struct reader *reader)
{
    if (reader->unwraps == 0)
        return;
    struct sso_error batch = {0};
    batch.code = keys_ask(reader, &batch);
    for (size_t i = 0; i < reader->count; i++) {
        struct reading *reading = &reader->reading[i];
        if (!failed(reading) && reading->unwrap != NULL)
            unwrap_settle(reading, &batch);
    }
}

/* --- opening --- */

static void row_show(struct reader *reader, struct reading *reading)
{
    struct credential_query *query = reading->query;
    struct credential_fields fields = {0};
    enum sso_code rc = row_open(reader->custodian->system.id, &reading->row, reading->row_key,
                                &fields, &query->problem);
    query->problem.code = rc;
    if (rc == SSO_OK) {
        if (reading->unwrap != NULL && reading->cached)
            row_key_cache_put(reader->custodian->cache, &reading->row, reading->row_key);
        query->object = credential_json(query->name, &reading->row, &fields);
        if (query->object == NULL)
            sso_fail(&query->problem, SSO_NO_MEMORY, "no memory for the reply");
    }
    credential_fields_free(&fields);
}

static enum sso_code reader_allocate(struct reader *reader, struct credential_query *queries,
                                     struct sso_error *err)
{
    reader->reading = calloc(reader->count, sizeof *reader->reading);
    reader->unwrap = calloc(reader->count, sizeof *reader->unwrap);
    reader->keys = secret_alloc(2 * reader->count * ROW_KEY_BYTES);
    if (reader->reading == NULL || reader->unwrap == NULL || reader->keys == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory to look up %zu credentials", reader->count);
    for (size_t i = 0; i < reader->count; i++) {
        reader->reading[i].query = &queries[i];
        reader->reading[i].row_key = reader->keys + 2 * i * ROW_KEY_BYTES;
        reader->reading[i].cached_key = reader->keys + (2 * i + 1) * ROW_KEY_BYTES;
    }
    return SSO_OK;
}

static void reader_free(struct reader *reader)
{
    for (size_t i = 0; reader->reading != NULL && i < reader->count; i++)
        credential_row_free(&reader->reading[i].row);
    secret_dealloc(reader->keys);
    free(reader->unwrap);
    free(reader->reading);
}

enum sso_code credential_read(struct request *request, struct credential_query *queries,
                              size_t count, struct sso_error *err)
{
    struct reader reader = {.request = request, .custodian = request->custodian, .count = count};
    enum sso_code rc;
    request->looked_up += count;
    if ((rc = reader_allocate(&reader, queries, err)) == SSO_OK &&
        (rc = rows_load(&reader, false, err)) == SSO_OK &&
        (rc = cache_ask_all(&reader, err)) == SSO_OK) {
        keys_unwrap(&reader);
        for (size_t i = 0; i < count; i++) {
            if (!failed(&reader.reading[i]))
                row_show(&reader, &reader.reading[i]);
        }
    }
    reader_free(&reader);
    return rc;
}
