/* The write and the read path over a real database and committer. The keyring is a model: it wraps
 * by exclusive or and checks the binding, so what these tests see is the custodian's own doing. */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/secret.h"
#include "custodian/credential_read.h"
#include "custodian/credential_write.h"
#include "custodian/custodian.h"
#include "custodian/events.h"
#include "custodian/master.h"
#include "custodian/operations.h"
#include "custodian/rotation_manager.h"

struct fixture {
    char folder[64];
    struct custodian custodian;
    struct config config;
    struct request request;
    struct operation operation;
    struct application application;
    /* What happens, once, while the model's HSM makes a row key: after the rows were read and
     * before they are stored. */
    void (*meanwhile)(struct fixture *fixture);
    bool refuse_first; /* the model makes no row key for the first item */
    bool hsm_away;
    uint64_t epoch;   /* of the lease; 0: another node is the master */
    bool loses_lease; /* while the HSM is asked */
    unsigned unwrapped;
};

static struct fixture *now;

/* --- the model and the other parts that stand still --- */

static void mask(const struct key_item *item, uint8_t out[static ROW_KEY_BYTES])
{
    for (size_t i = 0; i < ROW_KEY_BYTES; i++)
        out[i] = (uint8_t)(item->row_key[i] ^ item->binding[i] ^ item->generation);
}

enum sso_code keyring_make(struct keyring *keyring, enum hsm_priority priority,
                           struct key_item *items, size_t count, int64_t deadline_ms,
                           struct sso_error *err)
{
    (void)keyring;
    (void)priority;
    (void)deadline_ms;
    if (now->hsm_away)
        return sso_fail(err, SSO_HSM_UNAVAILABLE, "the token is away");
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(random_bytes(items[i].row_key, ROW_KEY_BYTES, NULL), SSO_OK);
        mask(&items[i], items[i].wrapped.bytes);
        memcpy(items[i].wrapped.bytes + ROW_KEY_BYTES, items[i].binding, 8);
        items[i].wrapped.length_bytes = ROW_KEY_BYTES + 8;
        items[i].code = i == 0 && now->refuse_first ? SSO_ROW_KILLS_WORKER : SSO_OK;
    }
    void (*meanwhile)(struct fixture *) = now->meanwhile;
    now->meanwhile = NULL;
    if (meanwhile != NULL)
        meanwhile(now);
    return SSO_OK;
}

enum sso_code keyring_unwrap(struct keyring *keyring, enum hsm_priority priority,
                             struct key_item *items, size_t count, int64_t deadline_ms,
                             struct sso_error *err)
{
    (void)keyring;
    (void)priority;
    (void)deadline_ms;
    if (now->hsm_away)
        return sso_fail(err, SSO_HSM_UNAVAILABLE, "the token is away");
    if (now->loses_lease)
        now->epoch = 0;
    for (size_t i = 0; i < count; i++) {
        const struct wrapped_key *wrapped = &items[i].wrapped;
        bool fits = memcmp(wrapped->bytes + ROW_KEY_BYTES, items[i].binding, 8) == 0;
        items[i].code = fits ? SSO_OK : SSO_ROW_CORRUPT;
        memcpy(items[i].row_key, wrapped->bytes, ROW_KEY_BYTES);
        mask(&items[i], items[i].row_key);
        now->unwrapped++;
    }
    return SSO_OK;
}

enum sso_code installation_active(struct custodian *custodian, uint32_t *number,
                                  enum suite_id *suite, struct sso_error *err)
{
    (void)err;
    *number = custodian->active;
    *suite = SUITE_AES256_KW;
    return SSO_OK;
}

enum sso_code master_may_act(struct master *master, uint64_t *epoch, struct sso_error *err)
{
    (void)master;
    if (now->epoch == 0)
        return sso_fail(err, SSO_MASTER_UNAVAILABLE, "node2 is the master");
    if (epoch != NULL)
        *epoch = now->epoch;
    return SSO_OK;
}

bool master_still(struct master *master, uint64_t epoch)
{
    (void)master;
    return epoch == now->epoch;
}

enum sso_code installation_refresh(struct custodian *custodian, struct sso_error *err)
{
    (void)err;
    custodian->active = 2;
    return SSO_OK;
}

unsigned peer_application_roles(struct peer_directory *directory, const struct peer *peer,
                                const struct application *application)
{
    (void)directory;
    if (strcmp(peer->name, "service") == 0 && strcmp(application->readers, "services") == 0)
        return ROLE_READER;
    return strcmp(peer->name, "alice") == 0 ? ROLE_APP_USER : 0;
}

const char *peer_first_group(struct peer_directory *directory, const struct peer *peer,
                             const struct application *application)
{
    (void)directory;
    (void)peer;
    return application->user_group_count != 0 ? application->users[0] : NULL;
}

/* --- the installation --- */

static void insert_setting(struct fixture *f, struct store_tx *tx, const char *name,
                           const char *value)
{
    struct setting setting = {.version = 1};
    snprintf(setting.name, sizeof setting.name, "%s", name);
    snprintf(setting.value, sizeof setting.value, "%s", value);
    policy_tag_setting(&f->custodian.policy, &setting);
    assert_int_equal(store_setting_put(tx, &setting, NULL), SSO_OK);
}

static void insert_generation(struct fixture *f, struct store_tx *tx, uint32_t number,
                              enum generation_state state)
{
    struct generation generation = {
        .number = number, .suite = SUITE_AES256_KW, .state = state, .created_ms = 1, .version = 1};
    memset(generation.secret_id, (int)number, sizeof generation.secret_id);
    generation.canary.wrapped.length_bytes = 40;
    policy_tag_generation(&f->custodian.policy, &generation);
    assert_int_equal(store_generation_insert(tx, &generation, NULL), SSO_OK);
}

static void insert_application(struct fixture *f, struct store_tx *tx)
{
    struct application *application = &f->application;
    *application = (struct application){.name = "billing",
                                        .type = APPLICATION_INDIVIDUAL,
                                        .enabled = true,
                                        .cached = true,
                                        .field = {{"user", false}, {"password", true}},
                                        .field_count = 2,
                                        .readers = "services",
                                        .created_ms = 1,
                                        .updated_ms = 1,
                                        .version = 1};
    memset(application->id, 7, sizeof application->id);
    policy_tag_application(&f->custodian.policy, application);
    assert_int_equal(store_application_insert(tx, application, NULL), SSO_OK);
}

static int set_up(void **state)
{
    struct fixture *f = now = calloc(1, sizeof *f);
    f->epoch = 1;
    struct custodian *custodian = &f->custodian;
    char url[128];
    snprintf(f->folder, sizeof f->folder, "/tmp/sso-credentials-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(url, sizeof url, "sqlite:%s/credentials.db", f->folder);
    struct sso_error err = {0};
    if (store_create(url, &custodian->store, &err) != SSO_OK)
        fail_msg("%s", err.detail);
    f->config.limits.max_body_bytes = 1 << 20;
    custodian->config = &f->config;
    memset(custodian->system.id, 3, sizeof custodian->system.id);
    memset(custodian->policy.system_id, 3, SYSTEM_ID_BYTES);
    uint8_t key[POLICY_KEY_BYTES] = {1, 2, 3};
    assert_int_equal(secret_append(&custodian->policy.key, key, sizeof key, NULL), SSO_OK);
    struct store_tx *tx = NULL;
    assert_int_equal(store_begin(custodian->store, STORE_WRITE, &tx, NULL), SSO_OK);
    insert_setting(f, tx, SETTING_SYSTEM_ENABLED, "yes");
    insert_setting(f, tx, SETTING_REVOCATION, "0");
    insert_generation(f, tx, 1, GENERATION_ACTIVE);
    insert_generation(f, tx, 2, GENERATION_PENDING);
    insert_application(f, tx);
    assert_int_equal(store_commit(&tx, NULL), SSO_OK);
    assert_int_equal(
        committer_new(custodian->store, "node1", f->folder, &custodian->committer, NULL), SSO_OK);
    assert_int_equal(wrap_budget_new(custodian->store, &custodian->budget, NULL), SSO_OK);
    assert_int_equal(row_key_cache_new(100, 60000, &custodian->cache, NULL), SSO_OK);
    assert_int_equal(event_board_new(&custodian->events, NULL), SSO_OK);
    custodian->active = 1;
    f->operation = (struct operation){.roles = ROLE_READER | ROLE_OWN};
    f->request = (struct request){
        .custodian = custodian, .operation = &f->operation, .deadline_ms = boot_clock_ms() + 60000};
    snprintf(f->request.peer.name, sizeof f->request.peer.name, "service");
    snprintf(f->request.peer.principal, sizeof f->request.peer.principal, "service");
    snprintf(f->request.audit.actor, sizeof f->request.audit.actor, "service");
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info;
    (void)kind;
    (void)walk;
    return remove(path);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    committer_free(&f->custodian.committer);
    wrap_budget_free(&f->custodian.budget);
    row_key_cache_free(&f->custodian.cache);
    event_board_free(&f->custodian.events);
    store_close(&f->custodian.store);
    policy_free(&f->custodian.policy);
    nftw(f->folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

/* --- doing --- */

static json_t *fields_of(const char *password)
{
    return json_pack("{s:s,s:s}", "user", "u", "password", password);
}

static struct credential_item item_of(const char *principal, const json_t *fields)
{
    return (struct credential_item){.principal = principal,
                                    .input = {.external_user = "ext", .fields = fields}};
}

static struct credential_item set(struct fixture *f, const char *principal, const char *password,
                                  uint64_t if_match)
{
    json_t *fields = fields_of(password);
    struct credential_item item = item_of(principal, fields);
    item.if_match = if_match;
    struct sso_error err = {0};
    enum sso_code rc = credential_write(&f->request, &f->application, &item, 1, &err);
    if (rc != SSO_OK)
        item.problem = err;
    json_decref(fields);
    return item;
}

static enum sso_code look_up(struct fixture *f, const char *principal, const char *password)
{
    struct credential_query query = {.application = "BILLING", .principal = principal};
    assert_int_equal(credential_read(&f->request, &query, 1, NULL), SSO_OK);
    if (query.problem.code == SSO_OK) {
        const json_t *fields = json_object_get(query.object, "fields");
        assert_string_equal(json_string_value(json_object_get(fields, "password")), password);
        assert_string_equal(json_string_value(json_object_get(query.object, "app")), "billing");
    } else {
        assert_null(query.object);
    }
    json_decref(query.object);
    return query.problem.code;
}

/* Records of credential.set with this outcome. */
static size_t records(struct fixture *f, const char *outcome)
{
    struct audit_record *list = NULL;
    size_t count = 0, found = 0;
    STORE_TX_AUTO tx = NULL;
    assert_int_equal(store_begin(f->custodian.store, STORE_READ, &tx, NULL), SSO_OK);
    assert_int_equal(store_audit_list(tx, "node1", 0, 1000, &list, &count, NULL), SSO_OK);
    for (size_t i = 0; i < count; i++)
        found += strcmp(list[i].operation, "credential.set") == 0 &&
                 strcmp(list[i].outcome, outcome) == 0;
    free(list);
    return found;
}

static void sets_and_looks_up(void **state)
{
    struct fixture *f = *state;
    struct credential_item item = set(f, "alice", "first", 0);
    assert_int_equal(item.problem.code, SSO_OK);
    assert_true(item.created);
    assert_int_equal(item.row.version, 1);
    assert_int_equal(look_up(f, "alice", "first"), SSO_OK);
    assert_int_equal(f->unwrapped, 0); /* the write left the row key in the cache */
    item = set(f, "alice", "second", 0);
    assert_false(item.created);
    assert_int_equal(item.row.version, 2);
    row_key_cache_clear(f->custodian.cache);
    assert_int_equal(look_up(f, "alice", "second"), SSO_OK);
    assert_int_equal(f->unwrapped, 1);
    assert_int_equal(look_up(f, "bob", ""), SSO_NOT_FOUND);
    assert_int_equal(records(f, "ok"), 2);
}

/* The same row a thousand times is a small question with a large answer. */
static void a_batch_gives_out_no_more_than_it_could_take_in(void **state)
{
    struct fixture *f = *state;
    struct credential_query query[40];
    char password[32768];
    struct sso_error err = {0};
    memset(password, 'x', sizeof password - 1);
    password[sizeof password - 1] = '\0';
    assert_int_equal(set(f, "alice", password, 0).problem.code, SSO_OK);
    for (size_t i = 0; i < 40; i++)
        query[i] = (struct credential_query){.application = "billing", .principal = "alice"};
    assert_int_equal(credential_read(&f->request, query, 40, &err), SSO_TOO_LARGE);
    for (size_t i = 0; i < 40; i++)
        assert_null(query[i].object);
    assert_int_equal(credential_read(&f->request, query, 20, &err), SSO_OK);
    for (size_t i = 0; i < 20; i++)
        json_decref(query[i].object);
    f->config.limits.max_body_bytes = 4096;
    assert_int_equal(look_up(f, "alice", password), SSO_OK);
}

static void if_match_guards(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(set(f, "alice", "first", 3).problem.code, SSO_VERSION_CONFLICT);
    assert_int_equal(set(f, "alice", "first", 0).problem.code, SSO_OK);
    assert_int_equal(set(f, "alice", "second", 1).problem.code, SSO_OK);
    assert_int_equal(set(f, "alice", "third", 1).problem.code, SSO_VERSION_CONFLICT);
    assert_int_equal(look_up(f, "alice", "second"), SSO_OK);
}

static void batch_does_its_items_in_order(void **state)
{
    struct fixture *f = *state;
    static const char *const principal[] = {"alice", "bob", "alice", "carol", "alice"};
    static const char *const password[] = {"a1", "b", "a2", "c", "a3"};
    static const uint64_t version[] = {1, 1, 2, 1, 3};
    struct credential_item items[6];
    json_t *fields[6];
    for (size_t i = 0; i < 5; i++) {
        fields[i] = fields_of(password[i]);
        items[i] = item_of(principal[i], fields[i]);
    }
    items[5] = (struct credential_item){.problem = {.code = SSO_BAD_REQUEST}};
    assert_int_equal(credential_write(&f->request, &f->application, items, 6, NULL), SSO_OK);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(items[i].problem.code, SSO_OK);
        assert_true(items[i].recorded);
        assert_int_equal(items[i].row.version, version[i]);
        json_decref(fields[i]);
    }
    assert_int_equal(items[5].problem.code, SSO_BAD_REQUEST);
    assert_false(items[5].recorded);
    assert_int_equal(look_up(f, "alice", "a3"), SSO_OK);
    assert_int_equal(look_up(f, "bob", "b"), SSO_OK);
    assert_int_equal(records(f, "ok"), 5);
}

static void one_bad_item_fails_alone(void **state)
{
    struct fixture *f = *state;
    json_t *fields = fields_of("x");
    struct credential_item items[] = {item_of("alice", fields), item_of("bob", fields)};
    f->refuse_first = true;
    assert_int_equal(credential_write(&f->request, &f->application, items, 2, NULL), SSO_OK);
    assert_int_equal(items[0].problem.code, SSO_ROW_KILLS_WORKER);
    assert_int_equal(items[1].problem.code, SSO_OK);
    assert_int_equal(look_up(f, "bob", "x"), SSO_OK);
    assert_int_equal(look_up(f, "alice", ""), SSO_NOT_FOUND);
    json_decref(fields);
}

static void put_state(struct fixture *f, struct store_tx *tx, uint32_t number,
                      enum generation_state state)
{
    struct generation generation;
    assert_int_equal(store_generation_hold(tx, number, STORE_EXCLUSIVE, &generation, NULL), SSO_OK);
    generation.state = state;
    generation.version++;
    policy_tag_generation(&f->custodian.policy, &generation);
    assert_int_equal(store_generation_update(tx, &generation, NULL), SSO_OK);
}

static void a_rotation_switches(struct fixture *f)
{
    struct store_tx *tx = NULL;
    assert_int_equal(store_begin(f->custodian.store, STORE_WRITE, &tx, NULL), SSO_OK);
    put_state(f, tx, 1, GENERATION_RETIRING);
    put_state(f, tx, 2, GENERATION_ACTIVE);
    assert_int_equal(store_commit(&tx, NULL), SSO_OK);
}

static void a_write_outrun_by_a_rotation_is_made_anew(void **state)
{
    struct fixture *f = *state;
    f->meanwhile = a_rotation_switches;
    struct credential_item item = set(f, "alice", "first", 0);
    assert_int_equal(item.problem.code, SSO_OK);
    assert_int_equal(item.row.generation, 2);
    assert_int_equal(item.row.born, 2);
    assert_int_equal(item.row.version, 1);
    assert_int_equal(look_up(f, "alice", "first"), SSO_OK);
    assert_int_equal(records(f, "ok"), 1);
    assert_int_equal(records(f, "rotation_in_progress"), 0);
}

static void somebody_else_writes(struct fixture *f)
{
    assert_int_equal(set(f, "alice", "theirs", 0).problem.code, SSO_OK);
}

static void the_last_of_two_writers_wins(void **state)
{
    struct fixture *f = *state;
    f->meanwhile = somebody_else_writes;
    struct credential_item item = set(f, "alice", "ours", 0);
    assert_int_equal(item.problem.code, SSO_OK);
    assert_int_equal(item.row.version, 2);
    assert_false(item.created);
    assert_int_equal(look_up(f, "alice", "ours"), SSO_OK);
    assert_int_equal(records(f, "ok"), 2);
    assert_int_equal(records(f, "version_conflict"), 0);
}

static void a_writer_that_named_a_version_is_told(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(set(f, "alice", "first", 0).problem.code, SSO_OK);
    f->meanwhile = somebody_else_writes;
    struct credential_item item = set(f, "alice", "ours", 1);
    assert_int_equal(item.problem.code, SSO_VERSION_CONFLICT);
    assert_true(item.recorded);
    assert_int_equal(look_up(f, "alice", "theirs"), SSO_OK);
    assert_int_equal(records(f, "version_conflict"), 1);
}

static void the_application_is_disabled(struct fixture *f)
{
    struct application application = f->application;
    struct store_tx *tx = NULL;
    application.enabled = false;
    application.version++;
    policy_tag_application(&f->custodian.policy, &application);
    assert_int_equal(store_begin(f->custodian.store, STORE_WRITE, &tx, NULL), SSO_OK);
    assert_int_equal(store_application_update(tx, &application, NULL), SSO_OK);
    assert_int_equal(store_commit(&tx, NULL), SSO_OK);
}

static void nothing_is_stored_for_a_disabled_application(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(set(f, "bob", "b", 0).problem.code, SSO_OK);
    f->meanwhile = the_application_is_disabled;
    assert_int_equal(set(f, "alice", "a", 0).problem.code, SSO_APPLICATION_DISABLED);
    assert_int_equal(look_up(f, "bob", ""), SSO_APPLICATION_DISABLED);
    STORE_TX_AUTO tx = NULL;
    struct credential_row row = {0};
    assert_int_equal(store_begin(f->custodian.store, STORE_READ, &tx, NULL), SSO_OK);
    assert_int_equal(store_credential_get(tx, f->application.id, "alice", &row, NULL),
                     SSO_NOT_FOUND);
}

static void put_mapping(struct fixture *f, enum mapping_state next, bool good_tag)
{
    struct mapping mapping;
    struct store_tx *tx = NULL;
    assert_int_equal(store_begin(f->custodian.store, STORE_WRITE, &tx, NULL), SSO_OK);
    assert_int_equal(store_mapping_get(tx, f->application.id, "alice", &mapping, NULL), SSO_OK);
    mapping.state = next;
    mapping.version++;
    policy_tag_mapping(&f->custodian.policy, &mapping);
    mapping.tag[0] ^= !good_tag;
    assert_int_equal(store_mapping_put(tx, &mapping, NULL), SSO_OK);
    assert_int_equal(store_commit(&tx, NULL), SSO_OK);
}

static void a_mapping_counts_whatever_the_cache_holds(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(set(f, "alice", "a", 0).problem.code, SSO_OK);
    put_mapping(f, MAPPING_DISABLED_BY_ADMIN, true);
    assert_int_equal(look_up(f, "alice", ""), SSO_MAPPING_DISABLED);
    assert_int_equal(set(f, "alice", "b", 0).problem.code, SSO_OK); /* enables nothing */
    assert_int_equal(look_up(f, "alice", ""), SSO_MAPPING_DISABLED);
    put_mapping(f, MAPPING_ENABLED, false);
    assert_int_equal(look_up(f, "alice", ""), SSO_POLICY_TAMPERED);
    assert_int_equal(set(f, "alice", "c", 0).problem.code, SSO_POLICY_TAMPERED);
    put_mapping(f, MAPPING_ENABLED, true);
    assert_int_equal(look_up(f, "alice", "b"), SSO_OK);
}

static void delete_mapping(struct fixture *f)
{
    struct store_tx *tx = NULL;
    assert_int_equal(store_begin(f->custodian.store, STORE_WRITE, &tx, NULL), SSO_OK);
    assert_int_equal(store_mapping_delete(tx, f->application.id, "alice", NULL), SSO_OK);
    assert_int_equal(store_commit(&tx, NULL), SSO_OK);
}

static void a_row_without_its_mapping_is_corrupt(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(set(f, "alice", "a", 0).problem.code, SSO_OK);
    delete_mapping(f);
    assert_int_equal(look_up(f, "alice", ""), SSO_ROW_CORRUPT);
}

static void only_a_new_credential_makes_a_mapping(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(set(f, "alice", "a", 0).problem.code, SSO_OK);
    put_mapping(f, MAPPING_DISABLED_BY_ADMIN, true);
    delete_mapping(f);
    struct credential_item item = set(f, "alice", "b", 0);
    assert_int_equal(item.problem.code, SSO_ROW_CORRUPT);
    assert_true(item.recorded);
    assert_int_equal(records(f, "row_corrupt"), 1);
    assert_int_equal(look_up(f, "alice", ""), SSO_ROW_CORRUPT);
    assert_int_equal(set(f, "bob", "b", 0).problem.code, SSO_OK);
}

static void an_older_row_put_back_is_refused(void **state)
{
    struct fixture *f = *state;
    struct credential_item item = set(f, "alice", "a", 0);
    uint8_t key[ROW_KEY_BYTES] = {0};
    item.row.version = 9;
    row_key_cache_put(f->custodian.cache, &item.row, key);
    assert_int_equal(look_up(f, "alice", ""), SSO_ROW_CORRUPT);
    row_key_cache_clear(f->custodian.cache);
    assert_int_equal(look_up(f, "alice", "a"), SSO_OK);
}

/* Changes the wrapped row key: to what a rewrap makes of it, or to rubbish. */
static void swap_wrapped(struct fixture *f, const struct credential_row *row, uint8_t flip_at)
{
    struct key_swap swap = {.old_generation = 1,
                            .new_generation = 1,
                            .old_wrapped = row->wrapped,
                            .new_wrapped = row->wrapped};
    struct store_tx *tx = NULL;
    memcpy(swap.row_id, row->row_id, ROW_ID_BYTES);
    swap.new_wrapped.bytes[flip_at] ^= 1;
    assert_int_equal(store_begin(f->custodian.store, STORE_WRITE, &tx, NULL), SSO_OK);
    assert_int_equal(store_credential_swap(tx, &swap, 1, NULL), SSO_OK);
    assert_true(swap.swapped);
    assert_int_equal(store_commit(&tx, NULL), SSO_OK);
}

static void the_cache_hides_no_damage(void **state)
{
    struct fixture *f = *state;
    struct credential_item item = set(f, "alice", "a", 0);
    swap_wrapped(f, &item.row, 39);
    assert_int_equal(look_up(f, "alice", ""), SSO_ROW_CORRUPT);
    item = set(f, "bob", "b", 0);
    swap_wrapped(f, &item.row, 0);
    assert_int_equal(look_up(f, "bob", ""), SSO_ROW_CORRUPT);
}

static void a_moved_row_opens_from_the_cache_while_the_hsm_is_away(void **state)
{
    struct fixture *f = *state;
    struct credential_item item = set(f, "alice", "a", 0);
    f->hsm_away = true;
    assert_int_equal(look_up(f, "alice", "a"), SSO_OK);
    swap_wrapped(f, &item.row, 39);
    assert_int_equal(look_up(f, "alice", "a"), SSO_OK);
    assert_int_equal(set(f, "alice", "b", 0).problem.code, SSO_HSM_UNAVAILABLE);
    row_key_cache_clear(f->custodian.cache);
    assert_int_equal(look_up(f, "alice", ""), SSO_HSM_UNAVAILABLE);
}

static void only_the_master_asks_its_hsm(void **state)
{
    struct fixture *f = *state;
    set(f, "alice", "a", 0);
    f->epoch = 0;
    assert_int_equal(look_up(f, "alice", "a"), SSO_OK); /* cached */
    row_key_cache_clear(f->custodian.cache);
    assert_int_equal(look_up(f, "alice", ""), SSO_MASTER_UNAVAILABLE);
    assert_int_equal(f->unwrapped, 0);
    f->epoch = 3;
    f->loses_lease = true;
    assert_int_equal(look_up(f, "alice", ""), SSO_MASTER_UNAVAILABLE);
    assert_int_equal(f->unwrapped, 1);
    f->loses_lease = false;
    f->epoch = 5;
    assert_int_equal(look_up(f, "alice", "a"), SSO_OK);
    assert_int_equal(f->request.epoch, 5);
}

static void become(struct fixture *f, const char *name)
{
    snprintf(f->request.peer.name, sizeof f->request.peer.name, "%s", name);
    snprintf(f->request.peer.principal, sizeof f->request.peer.principal, "%s", name);
}

static void only_readers_see_what_is_others(void **state)
{
    struct fixture *f = *state;
    set(f, "alice", "a", 0);
    set(f, "bob", "b", 0);
    become(f, "alice");
    assert_int_equal(look_up(f, "alice", "a"), SSO_OK);
    assert_int_equal(look_up(f, "bob", ""), SSO_FORBIDDEN);
    become(f, "mallory");
    assert_int_equal(look_up(f, "alice", ""), SSO_FORBIDDEN);
    assert_int_equal(look_up(f, "mallory", ""), SSO_FORBIDDEN);
    f->request.peer.roles = ROLE_SSO_ADMIN;
    assert_int_equal(look_up(f, "alice", ""), SSO_FORBIDDEN);
    assert_int_equal(look_up(f, "mallory", ""), SSO_NOT_FOUND);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sets_and_looks_up),
        TEST(a_batch_gives_out_no_more_than_it_could_take_in),
        TEST(if_match_guards),
        TEST(batch_does_its_items_in_order),
        TEST(one_bad_item_fails_alone),
        TEST(a_write_outrun_by_a_rotation_is_made_anew),
        TEST(the_last_of_two_writers_wins),
        TEST(a_writer_that_named_a_version_is_told),
        TEST(nothing_is_stored_for_a_disabled_application),
        TEST(a_mapping_counts_whatever_the_cache_holds),
        TEST(a_row_without_its_mapping_is_corrupt),
        TEST(only_a_new_credential_makes_a_mapping),
        TEST(an_older_row_put_back_is_refused),
        TEST(the_cache_hides_no_damage),
        TEST(a_moved_row_opens_from_the_cache_while_the_hsm_is_away),
        TEST(only_the_master_asks_its_hsm),
        TEST(only_readers_see_what_is_others),
    };
    wiping_allocator_install();
    if (secret_memory_init(1u << 20, NULL) != SSO_OK)
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
