/* The dispatch table: what is not in it does not exist, every row against the golden matrix of
 * roles, and the promises of the dispatcher. The operations themselves are models. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/log.h"
#include "common/secret.h"
#include "custodian/custodian.h"
#include "custodian/metrics.h"
#include "custodian/rotation_manager.h"
#include "custodian/master.h"
#include "custodian/operations.h"
#include "custodian/supervision.h"

/* --- the parts that stand still --- */

static unsigned application_roles; /* of the caller, in the model's one application */
static bool own;                   /* the model's thing belongs to the caller */
static bool asks_for_role;         /* the model's operations call request_authorise */
static enum sso_code outcome;      /* of the model's operations */
static enum sso_code readiness, database, audit, submit, mastership;
static uint64_t epoch_now, opened_in; /* the lease; as the model's operations used the HSM */
static const char *body;              /* of the next request */
static size_t body_bytes;
static bool parsed; /* the last request's body was */
static unsigned ran, recorded, posted, observed;
static enum sso_code observed_code;
static struct audit_record last_record;
static bool has_committer;

unsigned peer_application_roles(struct peer_directory *directory, const struct peer *peer,
                                const struct application *application)
{
    (void)directory;
    (void)peer;
    (void)application;
    return application_roles;
}

enum sso_code custodian_ready(struct custodian *custodian, struct sso_error *err)
{
    (void)custodian;
    return readiness == SSO_OK ? SSO_OK : sso_fail(err, readiness, "/secret/path is down");
}

enum sso_code custodian_database(struct custodian *custodian, struct sso_error *err)
{
    (void)custodian;
    return database == SSO_OK ? SSO_OK : sso_fail(err, database, "/secret/path is down");
}

enum sso_code master_may_act(struct master *master, uint64_t *epoch, struct sso_error *err)
{
    (void)master;
    (void)epoch;
    return mastership == SSO_OK ? SSO_OK : sso_fail(err, mastership, "/secret/host is the master");
}

bool master_still(struct master *master, uint64_t epoch)
{
    (void)master;
    return epoch == epoch_now;
}

struct committer *custodian_committer(struct custodian *custodian)
{
    (void)custodian;
    return has_committer ? (struct committer *)&has_committer : NULL;
}

enum sso_code committer_submit(struct committer *committer, struct audit_record *record,
                               committer_done done, void *context, struct sso_error *err)
{
    struct sso_error ended = {0};
    (void)committer;
    last_record = *record;
    recorded++;
    if (submit != SSO_OK)
        return sso_fail(err, submit, "no memory");
    if (audit != SSO_OK)
        sso_fail(&ended, audit, "the disk is full");
    done(&ended, context);
    return SSO_OK;
}

void committer_post(struct committer *committer, const struct audit_record *record)
{
    (void)committer;
    (void)record;
    posted++;
}

int64_t metrics_now_microseconds(void)
{
    return 0;
}

void supervision_database_failed(struct supervision *supervision, const char *why)
{
    (void)supervision;
    (void)why;
}

void rotation_manager_answered(struct rotation_manager *manager, const struct request *request,
                               int64_t microseconds)
{
    (void)manager;
    (void)request;
    (void)microseconds;
}

void metrics_observe(struct metrics *metrics, const struct operation *operation, enum sso_code code,
                     int64_t microseconds)
{
    (void)metrics;
    (void)operation;
    (void)microseconds;
    observed++;
    observed_code = code;
}

static enum sso_code model(struct request *request, struct sso_error *err)
{
    static const struct application application = {.name = "billing"};
    ran++;
    if (asks_for_role) {
        enum sso_code rc = request_authorise(request, &application, own, err);
        if (rc != SSO_OK)
            return rc;
    }
    request->reply = json_pack("{s:b}", "done", 1);
    request->epoch = opened_in;
    return outcome == SSO_OK ? SSO_OK : sso_fail(err, outcome, "the model says so");
}

#define MODEL(name)                                                                                \
    enum sso_code name(struct request *request, struct sso_error *err)                             \
    {                                                                                              \
        return model(request, err);                                                                \
    }
MODEL(op_health)
MODEL(op_status)
MODEL(op_metrics)
MODEL(op_generation_list)
MODEL(op_app_list)
MODEL(op_app_create)
MODEL(op_app_show)
MODEL(op_app_update)
MODEL(op_app_delete)
MODEL(op_app_purge)
MODEL(op_credential_set)
MODEL(op_credential_show)
MODEL(op_credential_delete)
MODEL(op_credential_list)
MODEL(op_credential_batch)
MODEL(op_lookup)
MODEL(op_mapping_list)
MODEL(op_mapping_list_of)
MODEL(op_mapping_show)
MODEL(op_mapping_set)
MODEL(op_mapping_delete)
MODEL(op_config_get)
MODEL(op_config_set)
MODEL(op_config_update)
MODEL(op_config_delete)
MODEL(op_generation_change)
MODEL(op_generation_confirm)
MODEL(op_generation_exposed)
MODEL(op_ticket_issue)
MODEL(op_ticket_redeem)
MODEL(op_import)
MODEL(op_rotation_start)
MODEL(op_rotation_show)
MODEL(op_rotation_change)
MODEL(op_quarantine_list)
MODEL(op_settings_show)
MODEL(op_settings_change)
MODEL(op_settings_confirm)
MODEL(op_node_list)
MODEL(op_node_change)
MODEL(op_node_remove)
MODEL(op_audit_list)
MODEL(op_audit_prune)
MODEL(op_pin_reset)
MODEL(op_master_show)
MODEL(op_master_change)

static int set_up(void **state)
{
    (void)state;
    application_roles = ran = recorded = posted = observed = 0;
    own = false;
    body = NULL;
    body_bytes = 0;
    asks_for_role = has_committer = true;
    outcome = readiness = database = audit = submit = mastership = SSO_OK;
    epoch_now = opened_in = 0;
    last_record = (struct audit_record){0};
    return 0;
}

/* --- one request --- */

struct answer {
    int status;
    char code[48];
    char detail[512];
};

static struct custodian house = {.node = "node1"};

static void end(const struct sso_error *recorded_as, void *context)
{
    operations_end(context, recorded_as);
}

static struct answer ask(const char *method, const char *path, unsigned roles)
{
    struct answer answer = {0};
    struct request request = {.custodian = &house, .method = method};
    request.peer = (struct peer){.name = "alice", .principal = "alice", .how = "unix"};
    request.peer.roles = roles;
    request.raw = body;
    request.raw_bytes = body_bytes;
    parsed = false;
    assert_int_equal(request_parse_path(&request, path, &request.malformed), SSO_OK);
    operations_run(&request);
    struct sso_error recorded_as;
    if (!operations_record(&request, end, &request, &recorded_as))
        operations_end(&request, &recorded_as);
    answer.status = request.status != 0 ? request.status : 200;
    const char *code = json_string_value(json_object_get(request.reply, "code"));
    const char *detail = json_string_value(json_object_get(request.reply, "detail"));
    snprintf(answer.code, sizeof answer.code, "%s", code != NULL ? code : "");
    snprintf(answer.detail, sizeof answer.detail, "%s", detail != NULL ? detail : "");
    parsed = request.body != NULL;
    request_free(&request);
    return answer;
}

/* The row's path with its places filled. */
static void concrete(const char *path, char out[static 128])
{
    size_t used = 0;
    for (; *path != '\0'; path++) {
        if (*path == '{') {
            out[used++] = 'x';
            path = strchr(path, '}');
        } else {
            out[used++] = *path;
        }
    }
    out[used] = '\0';
}

/* --- tests --- */

static void what_is_not_in_the_table_does_not_exist(void **state)
{
    static const char *const paths[] = {
        "/v1",         "/v1/keys:wrap",      "/v1/apps/x/credentials:export",
        "/v2/health",  "/v1/health/x",       "/v1/apps/x/credentials/y/z",
        "/v1/lookups", "/v1/apps/x/configs", "/metrics/x",
        "/V1/health",  "/v1/{app}",          "/v1/node"};
    static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "", "get"};
    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
            struct answer answer = ask(methods[m], paths[i], ~0u);
            assert_int_equal(answer.status, 404);
            assert_string_equal(answer.code, "not_found");
        }
    }
    assert_int_equal(ask("POST", "/v1/health", ~0u).status, 404);
    assert_int_equal(ask("DELETE", "/v1/audit", ~0u).status, 404);
    assert_int_equal(ran, 0);
}

static void every_row_is_reached_and_named_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < operation_count; i++) {
        char path[128];
        struct request request = {.method = operations[i].method};
        concrete(operations[i].path, path);
        assert_int_equal(request_parse_path(&request, path, NULL), SSO_OK);
        assert_ptr_equal(operation_find(&request), &operations[i]);
        request_free(&request);
        assert_non_null(operations[i].run);
        assert_int_not_equal(operations[i].roles, 0);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(operations[i].name, operations[j].name);
    }
}

/* Who may, in the order of the columns: S SSO admin, A affiliate admin, a application admin, U user
 * asking for his own, u user asking for another's, r reader, O auditor, N node, - nobody in
 * particular. */
static const struct {
    const char *operation, *who;
} matrix[] = {
    {"health", "SAaUurON-"},      {"status", "SON"},           {"metrics", "SO"},
    {"master.show", "S"},         {"master.change", "S"},      {"generation.list", "S"},
    {"generation.change", "S"},   {"generation.confirm", "S"}, {"generation.exposed", "S"},
    {"app.list", "SAaUr"},        {"app.create", "SA"},        {"app.import", "SA"},
    {"app.show", "SAaUr"},        {"app.update", "SAa"},       {"app.delete", "SA"},
    {"app.purge", "SAa"},         {"credential.list", "SAar"}, {"credential.import", "SAa"},
    {"credential.show", "SAaUr"}, {"credential.set", "SAaU"},  {"credential.delete", "SAa"},
    {"credential.lookup", "Ur"},  {"mapping.list_of", "SAaU"}, {"mapping.list", "SAa"},
    {"mapping.show", "SAaU"},     {"mapping.set", "SAaU"},     {"mapping.delete", "SAa"},
    {"config.get", "SAaUur"},     {"config.set", "SAa"},       {"config.update", "SAa"},
    {"config.delete", "SAa"},     {"ticket.issue", "Uu"},      {"ticket.redeem", "SAa"},
    {"rotation.show", "S"},       {"rotation.start", "S"},     {"rotation.change", "S"},
    {"quarantine.list", "S"},     {"settings.show", "S"},      {"settings.change", "S"},
    {"settings.confirm", "S"},    {"node.list", "S"},          {"node.approve", "S"},
    {"node.remove", "S"},         {"audit.read", "SO"},        {"audit.prune", "S"},
    {"pin.reset", "S"},
};

static const struct {
    char letter;
    unsigned system, application;
    bool own;
} people[] = {
    {'S', ROLE_SSO_ADMIN, 0, false},
    {'A', ROLE_AFFILIATE_ADMIN, 0, false},
    {'a', 0, ROLE_APP_ADMIN, false},
    {'U', 0, ROLE_APP_USER, true},
    {'u', 0, ROLE_APP_USER, false},
    {'r', 0, ROLE_READER, false},
    {'O', ROLE_AUDITOR, 0, false},
    {'N', ROLE_NODE, 0, false},
    {'-', 0, 0, true},
};

static void every_operation_as_every_role(void **state)
{
    (void)state;
    assert_int_equal(operation_count, sizeof matrix / sizeof *matrix);
    for (size_t i = 0; i < operation_count; i++) {
        char path[128];
        concrete(operations[i].path, path);
        assert_string_equal(operations[i].name, matrix[i].operation);
        for (size_t p = 0; p < sizeof people / sizeof *people; p++) {
            application_roles = people[p].application;
            own = people[p].own;
            struct answer answer = ask(operations[i].method, path, people[p].system);
            bool allowed = strchr(matrix[i].who, people[p].letter) != NULL;
            if ((answer.status == 200) != allowed)
                fail_msg("%s as %c: %d", operations[i].name, people[p].letter, answer.status);
            if (!allowed) {
                assert_int_equal(answer.status, 403);
                assert_string_equal(answer.detail, "the caller has no role that allows this");
            }
        }
    }
}

static void anybody_with_a_role_may_look_up_his_own(void **state)
{
    (void)state;
    own = true;
    assert_int_equal(ask("POST", "/v1/lookup", ROLE_SSO_ADMIN).status, 200);
    assert_int_equal(ask("POST", "/v1/lookup", ROLE_AFFILIATE_ADMIN).status, 200);
    assert_int_equal(ask("POST", "/v1/lookup", ROLE_AUDITOR).status, 403);
    assert_int_equal(ask("POST", "/v1/lookup", ROLE_NODE).status, 403);
    application_roles = ROLE_APP_ADMIN;
    assert_int_equal(ask("POST", "/v1/lookup", 0).status, 200);
    own = false;
    assert_int_equal(ask("POST", "/v1/lookup", ROLE_SSO_ADMIN).status, 403);
}

static void success_without_authorisation_is_an_internal_error(void **state)
{
    (void)state;
    asks_for_role = false;
    struct answer answer = ask("GET", "/v1/apps/x", ROLE_SSO_ADMIN);
    assert_int_equal(answer.status, 500);
    assert_string_equal(answer.code, "internal");
    assert_int_equal(ran, 1);
}

static void outsiders_do_not_learn_what_exists(void **state)
{
    static const enum sso_code telling[] = {SSO_NOT_FOUND, SSO_APPLICATION_DISABLED,
                                            SSO_ALREADY_EXISTS, SSO_VERSION_CONFLICT};
    (void)state;
    asks_for_role = false;
    for (size_t i = 0; i < sizeof telling / sizeof *telling; i++) {
        outcome = telling[i];
        assert_string_equal(ask("GET", "/v1/apps/x", 0).code, "forbidden");
        assert_string_equal(ask("GET", "/v1/apps/x", ROLE_AUDITOR).code, "forbidden");
        assert_string_equal(ask("GET", "/v1/apps/x", ROLE_SSO_ADMIN).code,
                            sso_code_facts(telling[i])->name);
    }
    outcome = SSO_BAD_REQUEST;
    assert_string_equal(ask("GET", "/v1/apps/x", 0).code, "bad_request");
}

static void audited_whatever_the_outcome(void **state)
{
    (void)state;
    assert_int_equal(ask("POST", "/v1/apps", 0).status, 403);
    assert_int_equal(recorded, 1);
    assert_string_equal(last_record.operation, "app.create");
    assert_string_equal(last_record.outcome, "forbidden");
    assert_string_equal(last_record.actor, "alice");
    assert_string_equal(last_record.node, "node1");
    outcome = SSO_ALREADY_EXISTS;
    assert_int_equal(ask("POST", "/v1/apps", ROLE_SSO_ADMIN).status, 409);
    assert_string_equal(last_record.outcome, "already_exists");
    outcome = SSO_OK;
    assert_int_equal(ask("POST", "/v1/apps", ROLE_SSO_ADMIN).status, 200);
    assert_string_equal(last_record.outcome, "ok");
    assert_int_equal(recorded, 3);
    assert_int_equal(ask("GET", "/v1/health", 0).status, 200);
    assert_int_equal(recorded, 3);
}

static void no_reply_leaves_without_its_record(void **state)
{
    (void)state;
    audit = SSO_AUDIT_UNAVAILABLE;
    assert_string_equal(ask("POST", "/v1/apps", ROLE_SSO_ADMIN).code, "audit_unavailable");
    assert_string_equal(ask("POST", "/v1/apps", 0).code, "audit_unavailable");
    audit = SSO_OK;
    submit = SSO_AUDIT_UNAVAILABLE;
    assert_string_equal(ask("POST", "/v1/apps", ROLE_SSO_ADMIN).code, "audit_unavailable");
    has_committer = false;
    assert_string_equal(ask("POST", "/v1/apps", ROLE_SSO_ADMIN).code, "audit_unavailable");
    /* The log is enough while there is no database to write to. */
    assert_int_equal(ask("POST", "/v1/pin:reset", ROLE_SSO_ADMIN).status, 200);
    assert_int_equal(ask("POST", "/v1/pin:reset", 0).status, 403);
}

static void lookups_may_be_relaxed(void **state)
{
    (void)state;
    application_roles = ROLE_READER;
    atomic_store(&house.lookups_required, true);
    assert_int_equal(ask("POST", "/v1/lookup", 0).status, 200);
    assert_int_equal(recorded, 1);
    atomic_store(&house.lookups_required, false);
    assert_int_equal(ask("POST", "/v1/lookup", 0).status, 200);
    assert_int_equal(recorded, 1);
    assert_int_equal(posted, 1);
}

static void readiness_is_told_after_the_role(void **state)
{
    (void)state;
    readiness = SSO_PIN_REFUSED;
    assert_string_equal(ask("POST", "/v1/rotation", 0).code, "forbidden");
    struct answer answer = ask("POST", "/v1/rotation", ROLE_SSO_ADMIN);
    assert_int_equal(answer.status, 503);
    assert_string_equal(answer.code, "pin_refused");
    assert_non_null(strstr(answer.detail, "/secret/path"));
    answer = ask("POST", "/v1/lookup", 0);
    assert_string_equal(answer.code, "pin_refused");
    assert_null(strstr(answer.detail, "/secret/path"));
    assert_int_equal(ran, 0);
    assert_int_equal(ask("GET", "/v1/health", 0).status, 200);
    database = SSO_DATABASE_UNAVAILABLE;
    assert_string_equal(ask("GET", "/v1/apps", ROLE_SSO_ADMIN).code, "database_unavailable");
}

/* What reads goes on everywhere; what changes something is the master's. */
static void only_the_master_changes_something(void **state)
{
    (void)state;
    mastership = SSO_MASTER_UNAVAILABLE;
    for (size_t i = 0; i < operation_count; i++) {
        const struct operation *operation = &operations[i];
        char path[128];
        concrete(operation->path, path);
        bool refused =
            strcmp(ask(operation->method, path, operation->roles).code, "master_unavailable") == 0;
        assert_int_equal(refused, (operation->flags & OP_MASTER) != 0);
        if (strcmp(operation->method, "GET") == 0)
            assert_false(refused);
    }
    struct answer answer = ask("POST", "/v1/apps", ROLE_SSO_ADMIN);
    assert_int_equal(answer.status, 503);
    assert_non_null(strstr(answer.detail, "/secret/host"));
    assert_null(strstr(ask("POST", "/v1/apps", ROLE_AFFILIATE_ADMIN).detail, "/secret/host"));
    assert_string_equal(ask("POST", "/v1/apps", 0).code, "forbidden");
}

static void what_was_opened_in_an_epoch_that_ended_does_not_leave(void **state)
{
    (void)state;
    opened_in = epoch_now = 4;
    application_roles = ROLE_READER;
    assert_int_equal(ask("POST", "/v1/lookup", 0).status, 200);
    epoch_now = 5;
    struct answer answer = ask("POST", "/v1/lookup", 0);
    assert_int_equal(answer.status, 503);
    assert_string_equal(answer.code, "master_unavailable");
    assert_int_equal(observed_code, SSO_MASTER_UNAVAILABLE);
    opened_in = 0; /* from the cache */
    assert_int_equal(ask("POST", "/v1/lookup", 0).status, 200);
}

static void no_body_is_parsed_for_who_may_not_ask(void **state)
{
    (void)state;
    body = "{\"a\":1}";
    body_bytes = strlen(body);
    assert_int_equal(ask("POST", "/v1/apps", 0).status, 403);
    assert_false(parsed);
    assert_int_equal(ask("POST", "/v1/nothing", ~0u).status, 404);
    assert_false(parsed);
    assert_int_equal(ask("POST", "/v1/apps", ROLE_SSO_ADMIN).status, 200);
    assert_true(parsed);
    body = "nonsense";
    body_bytes = strlen(body);
    assert_string_equal(ask("POST", "/v1/rotation", 0).code, "forbidden");
    assert_string_equal(ask("POST", "/v1/rotation", ROLE_SSO_ADMIN).code, "bad_request");
}

static void each_operation_bounds_its_body(void **state)
{
    (void)state;
    body_bytes = (2u << 20) + 1;
    char *blank = malloc(body_bytes);
    assert_non_null(blank);
    memset(blank, ' ', body_bytes);
    memcpy(blank, "{}", 2);
    body = blank;
    for (size_t i = 0; i < operation_count; i++) {
        char path[128];
        concrete(operations[i].path, path);
        bool large = strcmp(operations[i].name, "credential.set") == 0 ||
                     strcmp(operations[i].name, "credential.import") == 0 ||
                     strcmp(operations[i].name, "app.import") == 0 ||
                     strcmp(operations[i].name, "config.set") == 0 ||
                     strcmp(operations[i].name, "config.update") == 0;
        application_roles = ROLE_READER;
        assert_int_equal(ask(operations[i].method, path, ~0u).status, large ? 200 : 413);
        assert_int_equal(parsed, large);
    }
    body_bytes--;
    assert_int_equal(ask("POST", "/v1/lookup", 0).status, 200);
    free(blank);
}

static void everything_is_counted(void **state)
{
    (void)state;
    ask("GET", "/v1/health", 0);
    assert_int_equal(observed, 1);
    assert_int_equal(observed_code, SSO_OK);
    ask("POST", "/v1/apps", 0);
    assert_int_equal(observed_code, SSO_FORBIDDEN);
    ask("GET", "/nothing", 0);
    assert_int_equal(observed, 3);
}

int main(void)
{
    wiping_allocator_install();
    log_init("test", LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup(name, set_up)
        TEST(what_is_not_in_the_table_does_not_exist),
        TEST(every_row_is_reached_and_named_once),
        TEST(every_operation_as_every_role),
        TEST(anybody_with_a_role_may_look_up_his_own),
        TEST(success_without_authorisation_is_an_internal_error),
        TEST(outsiders_do_not_learn_what_exists),
        TEST(audited_whatever_the_outcome),
        TEST(no_reply_leaves_without_its_record),
        TEST(lookups_may_be_relaxed),
        TEST(readiness_is_told_after_the_role),
        TEST(only_the_master_changes_something),
        TEST(what_was_opened_in_an_epoch_that_ended_does_not_leave),
        TEST(no_body_is_parsed_for_who_may_not_ask),
        TEST(each_operation_bounds_its_body),
        TEST(everything_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
