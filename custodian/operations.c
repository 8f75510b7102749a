#include "custodian/operations.h"

#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/encode.h"
#include "common/log.h"
#include "custodian/custodian.h"
#include "custodian/master.h"
#include "custodian/metrics.h"
#include "custodian/rotation_manager.h"
#include "custodian/supervision.h"

#define ADMINS (ROLE_SSO_ADMIN | ROLE_AFFILIATE_ADMIN)
#define APP_ADMINS (ADMINS | ROLE_APP_ADMIN)
#define APP_SELF (APP_ADMINS | ROLE_APP_USER_OWN)
#define APP_PEOPLE (APP_SELF | ROLE_READER)
#define WATCHERS (ROLE_SSO_ADMIN | ROLE_AUDITOR)

#define OPENS (OP_READY | OP_DATABASE)
#define AUDITED (OP_AUDIT | OP_DATABASE)
#define WRITES (AUDITED | OP_MASTER)

#define APP "/v1/apps/{app}"
#define CREDENTIAL APP "/credentials/{principal}"
#define MAPPING APP "/mappings/{principal}"

/* What bodies take where rights are of one application, so that the body is read before it is known
 * who may: a thousand lookups with every letter escaped; credentials as large as [limits] max_body
 * lets them be. */
#define BODY_SMALL (64u << 10)
#define BODY_LOOKUP (2u << 20)
#define BODY_LARGE UINT64_MAX

const struct operation operations[] = {
    {"GET", "/v1/health", "health", ROLE_ANY, OP_QUICK, BODY_SMALL, op_health},
    {"GET", "/v1/status", "status", WATCHERS | ROLE_NODE, OP_QUICK, BODY_SMALL, op_status},
    {"GET", "/metrics", "metrics", WATCHERS, OP_QUICK, BODY_SMALL, op_metrics},

    {"GET", "/v1/master", "master.show", ROLE_SSO_ADMIN, OP_DATABASE | OP_QUICK, BODY_SMALL,
     op_master_show},
    {"POST", "/v1/master", "master.change", ROLE_SSO_ADMIN, AUDITED, BODY_SMALL, op_master_change},

    {"GET", "/v1/generations", "generation.list", ROLE_SSO_ADMIN, OP_DATABASE, BODY_SMALL,
     op_generation_list},
    {"PATCH", "/v1/generations/{n}", "generation.change", ROLE_SSO_ADMIN, WRITES, BODY_SMALL,
     op_generation_change},
    {"POST", "/v1/generations/{n}:confirm", "generation.confirm", ROLE_SSO_ADMIN, WRITES,
     BODY_SMALL, op_generation_confirm},
    {"GET", "/v1/generations/{n}/exposed", "generation.exposed", ROLE_SSO_ADMIN, OP_DATABASE,
     BODY_SMALL, op_generation_exposed},

    {"GET", "/v1/apps", "app.list", APP_PEOPLE, OP_DATABASE, BODY_SMALL, op_app_list},
    {"POST", "/v1/apps", "app.create", ADMINS, WRITES, BODY_SMALL, op_app_create},
    {"POST", "/v1/apps:import", "app.import", ADMINS, WRITES, BODY_LARGE, op_import},
    {"GET", APP, "app.show", APP_PEOPLE, OP_DATABASE, BODY_SMALL, op_app_show},
    {"PATCH", APP, "app.update", APP_ADMINS, WRITES, BODY_SMALL, op_app_update},
    {"DELETE", APP, "app.delete", ADMINS, WRITES, BODY_SMALL, op_app_delete},
    {"POST", APP "/purge", "app.purge", APP_ADMINS, WRITES, BODY_SMALL, op_app_purge},

    {"GET", APP "/credentials", "credential.list", APP_ADMINS | ROLE_READER, OP_DATABASE,
     BODY_SMALL, op_credential_list},
    {"POST", APP "/credentials:batch", "credential.import", APP_ADMINS, WRITES | OP_READY,
     BODY_LARGE, op_credential_batch},
    {"GET", CREDENTIAL, "credential.show", APP_PEOPLE, OP_DATABASE, BODY_SMALL, op_credential_show},
    {"PUT", CREDENTIAL, "credential.set", APP_SELF, WRITES | OP_READY, BODY_LARGE,
     op_credential_set},
    {"DELETE", CREDENTIAL, "credential.delete", APP_ADMINS, WRITES, BODY_SMALL,
     op_credential_delete},

    {"POST", "/v1/lookup", "credential.lookup", ROLE_READER | ROLE_OWN,
     OPENS | OP_AUDIT | OP_RELAXED, BODY_LOOKUP, op_lookup},

    {"GET", "/v1/mappings", "mapping.list_of", APP_SELF, OP_DATABASE, BODY_SMALL,
     op_mapping_list_of},
    {"GET", APP "/mappings", "mapping.list", APP_ADMINS, OP_DATABASE, BODY_SMALL, op_mapping_list},
    {"GET", MAPPING, "mapping.show", APP_SELF, OP_DATABASE, BODY_SMALL, op_mapping_show},
    {"PUT", MAPPING, "mapping.set", APP_SELF, WRITES, BODY_SMALL, op_mapping_set},
    {"DELETE", MAPPING, "mapping.delete", APP_ADMINS, WRITES, BODY_SMALL, op_mapping_delete},

    {"GET", APP "/config", "config.get", APP_ADMINS | ROLE_APP_USER | ROLE_READER,
     OPENS | OP_AUDIT | OP_RELAXED, BODY_SMALL, op_config_get},
    {"PUT", APP "/config", "config.set", APP_ADMINS, WRITES | OP_READY, BODY_LARGE, op_config_set},
    {"PATCH", APP "/config", "config.update", APP_ADMINS, WRITES | OP_READY, BODY_LARGE,
     op_config_update},
    {"DELETE", APP "/config", "config.delete", APP_ADMINS, WRITES, BODY_SMALL, op_config_delete},

    {"POST", "/v1/tickets", "ticket.issue", ROLE_APP_USER, WRITES | OP_READY, BODY_SMALL,
     op_ticket_issue},
    {"POST", "/v1/tickets:redeem", "ticket.redeem", APP_ADMINS, WRITES | OP_READY, BODY_SMALL,
     op_ticket_redeem},

    {"GET", "/v1/rotation", "rotation.show", ROLE_SSO_ADMIN, OP_DATABASE | OP_QUICK, BODY_SMALL,
     op_rotation_show},
    {"POST", "/v1/rotation", "rotation.start", ROLE_SSO_ADMIN, WRITES | OP_READY, BODY_SMALL,
     op_rotation_start},
    {"PATCH", "/v1/rotation", "rotation.change", ROLE_SSO_ADMIN, WRITES, BODY_SMALL,
     op_rotation_change},
    {"GET", "/v1/rotation/quarantine", "quarantine.list", ROLE_SSO_ADMIN, OP_DATABASE, BODY_SMALL,
     op_quarantine_list},

    {"GET", "/v1/settings", "settings.show", ROLE_SSO_ADMIN, OP_DATABASE, BODY_SMALL,
     op_settings_show},
    {"PATCH", "/v1/settings", "settings.change", ROLE_SSO_ADMIN, WRITES, BODY_SMALL,
     op_settings_change},
    {"POST", "/v1/settings:confirm", "settings.confirm", ROLE_SSO_ADMIN, WRITES, BODY_SMALL,
     op_settings_confirm},

    {"GET", "/v1/nodes", "node.list", ROLE_SSO_ADMIN, OP_DATABASE, BODY_SMALL, op_node_list},
    {"PATCH", "/v1/nodes/{name}", "node.approve", ROLE_SSO_ADMIN, WRITES, BODY_SMALL,
     op_node_change},
    {"DELETE", "/v1/nodes/{name}", "node.remove", ROLE_SSO_ADMIN, WRITES, BODY_SMALL,
     op_node_remove},

    {"GET", "/v1/audit", "audit.read", WATCHERS, AUDITED, BODY_SMALL, op_audit_list},
    {"POST", "/v1/audit:prune", "audit.prune", ROLE_SSO_ADMIN, WRITES, BODY_SMALL, op_audit_prune},
    {"POST", "/v1/pin:reset", "pin.reset", ROLE_SSO_ADMIN, OP_AUDIT | OP_LOGGED, BODY_SMALL,
     op_pin_reset},
};
const size_t operation_count = sizeof operations / sizeof *operations;

/* Roles that depend on the application or the principal in question: only the operation knows
 * which. */
#define RELATIVE_ROLES (ROLE_APP_ADMIN | ROLE_APP_USER | ROLE_APP_USER_OWN | ROLE_READER | ROLE_OWN)

/* One text for all refusals: it must not tell what exists. */
#define FORBIDDEN_TEXT "the caller has no role that allows this"

/* A segment in braces takes any value, with a verb behind them only values that end with it. */
static bool segment_fits(const char *pattern, size_t count, const char *segment)
{
    size_t length = strlen(segment);
    if (pattern[0] != '{')
        return length == count && memcmp(pattern, segment, count) == 0;
    const char *verb = memchr(pattern, '}', count);
    size_t verb_bytes = verb != NULL ? count - (size_t)(verb + 1 - pattern) : 0;
    return verb_bytes == 0 || (length > verb_bytes &&
                               memcmp(segment + length - verb_bytes, verb + 1, verb_bytes) == 0);
}

static bool path_fits(const char *path, const struct request *request)
{
    for (size_t i = 0; i < request->segment_count; i++) {
        if (*path++ != '/')
            return false;
        size_t count = strcspn(path, "/");
        if (!segment_fits(path, count, request->segment[i]))
            return false;
        path += count;
    }
    return *path == '\0' && request->segment_count > 0;
}

const struct operation *operation_find(const struct request *request)
{
    for (size_t i = 0; i < operation_count; i++) {
        if (strcmp(operations[i].method, request->method) == 0 &&
            path_fits(operations[i].path, request))
            return &operations[i];
    }
    return NULL;
}

static void prepare_record(struct request *request)
{
    struct audit_record *record = &request->audit;
    snprintf(record->node, sizeof record->node, "%s", request->custodian->node);
    snprintf(record->actor, sizeof record->actor, "%s", request->peer.name);
    snprintf(record->how, sizeof record->how, "%s", request->peer.how);
    snprintf(record->operation, sizeof record->operation, "%s", request->operation->name);
    memcpy(record->request_id, request->request_id, sizeof record->request_id);
}

static enum sso_code check_readiness(struct request *request, struct sso_error *err)
{
    unsigned flags = request->operation->flags;
    enum sso_code rc = SSO_OK;
    if (flags & OP_READY)
        rc = custodian_ready(request->custodian, err);
    if (rc == SSO_OK && (flags & OP_DATABASE))
        rc = custodian_database(request->custodian, err);
    if (rc == SSO_OK && (flags & OP_MASTER))
        rc = master_may_act(request->custodian->master, NULL, err);
    return rc;
}

/* Codes that say nothing about what exists: the caller's own mistake in form, or the state of the
 * service. */
static bool tells_nothing(enum sso_code code)
{
    int status = sso_code_facts(code)->http_status;
    return code == SSO_FORBIDDEN || code == SSO_BAD_REQUEST || code == SSO_TOO_LARGE ||
           code == SSO_TOO_MANY_REQUESTS || status == 0 || status >= 500;
}

/* After all that can be said without it: parsed, a body takes many times its bytes. */
static enum sso_code read_body(struct request *request, struct sso_error *err)
{
    if (request->malformed.code != SSO_OK)
        return sso_fail(err, request->malformed.code, "%s", request->malformed.detail);
    if (request->raw_bytes > request->operation->body_bytes_max)
        return sso_fail(err, SSO_TOO_LARGE, "the body has %zu bytes; here at most %llu are taken",
                        request->raw_bytes, (unsigned long long)request->operation->body_bytes_max);
    return request_parse_body(request, request->raw, request->raw_bytes, err);
}

static enum sso_code run_operation(struct request *request, struct sso_error *err)
{
    const struct operation *operation = request->operation;
    enum sso_code rc;
    if (!(operation->roles & RELATIVE_ROLES) &&
        (rc = request_authorise(request, NULL, false, err)) != SSO_OK)
        return rc;
    if ((rc = check_readiness(request, err)) != SSO_OK)
        return rc;
    if ((rc = read_body(request, err)) != SSO_OK)
        return rc;
    rc = operation->run(request, err);
    if (rc == SSO_OK && !request->authorised) {
        log_line(LOG_LEVEL_ERROR, "an operation answered without having authorised the caller",
                 "operation", operation->name, NULL);
        return sso_fail(err, SSO_INTERNAL, "the operation did not ask for the caller's role");
    }
    if (rc != SSO_OK && !request->authorised && !tells_nothing(rc) &&
        !(request->peer.roles & ADMINS))
        return sso_fail(err, SSO_FORBIDDEN, FORBIDDEN_TEXT);
    return rc;
}

static void log_record(const struct request *request)
{
    char id[2 * REQUEST_ID_BYTES + 1];
    hex_encode(request->request_id, sizeof request->request_id, id);
    log_line(LOG_LEVEL_WARNING, "audited here, since the database cannot be written", "operation",
             request->audit.operation, "actor", request->audit.actor, "target",
             request->audit.target, "outcome", request->audit.outcome, "request", id, NULL);
}

/* Nobody is to wait: to the log, to the queue of relaxed records, or not at all. */
static bool record_at_once(struct request *request, struct sso_error *outcome)
{
    struct custodian *custodian = request->custodian;
    unsigned flags = request->operation->flags;
    enum sso_code rc = request->problem.code;
    if (!(flags & OP_AUDIT) || request->audited)
        return true;
    snprintf(request->audit.outcome, sizeof request->audit.outcome, "%s",
             rc == SSO_OK ? "ok" : sso_code_facts(rc)->name);
    struct committer *committer = custodian_committer(custodian);
    /* What the database just refused it would refuse again, after as long a wait. */
    bool refused = rc == SSO_DATABASE_UNAVAILABLE || rc == SSO_AUDIT_UNAVAILABLE;
    if (refused || (committer == NULL && (flags & OP_LOGGED))) {
        log_record(request);
        return true;
    }
    if (committer == NULL) {
        (void)sso_fail(outcome, SSO_AUDIT_UNAVAILABLE,
                       "there is no database to write the audit record to");
        return true;
    }
    bool relaxed = (flags & OP_RELAXED) && !atomic_load(&custodian->lookups_required);
    if (relaxed)
        committer_post(committer, &request->audit);
    return relaxed;
}

bool operations_record(struct request *request, committer_done done, void *context,
                       struct sso_error *outcome)
{
    *outcome = (struct sso_error){0};
    if (request->operation == NULL || record_at_once(request, outcome))
        return false;
    struct committer *committer = custodian_committer(request->custodian);
    return committer_submit(committer, &request->audit, done, context, outcome) == SSO_OK;
}

/* Why the service cannot do something names files, tokens and hosts: that is for those who run it.
 * What is wrong with a row is for whoever may read it. */
static bool detail_is_for_operators(enum sso_code code)
{
    int status = sso_code_facts(code)->http_status;
    return (status == 0 || status >= 500) && code != SSO_ROW_CORRUPT &&
           code != SSO_ROW_KILLS_WORKER && code != SSO_POLICY_TAMPERED;
}

static void answer_problem(struct request *request, const struct sso_error *problem)
{
    enum sso_code code = problem->code;
    const char *name = request->operation != NULL ? request->operation->name : "";
    const char *detail = problem->detail[0] != '\0' ? problem->detail : sso_code_facts(code)->title;
    char id[2 * REQUEST_ID_BYTES + 1];
    hex_encode(request->request_id, sizeof request->request_id, id);
    if (detail_is_for_operators(code)) {
        log_line(LOG_LEVEL_ERROR, "a request failed", "operation", name, "code",
                 sso_code_facts(code)->name, "detail", detail, "request", id, NULL);
        if (!(request->peer.roles & (ROLE_SSO_ADMIN | ROLE_AUDITOR)))
            detail = "the service cannot do this now; its log tells why, under this request id";
    }
    if (code == SSO_DATABASE_UNAVAILABLE && request->custodian->supervision != NULL)
        supervision_database_failed(request->custodian->supervision, problem->detail);
    request_problem(request, code, code == SSO_FORBIDDEN ? FORBIDDEN_TEXT : detail);
}

void operations_run(struct request *request)
{
    struct sso_error *problem = &request->problem;
    request->operation = operation_find(request);
    if (request->operation == NULL) {
        *problem = request->malformed;
        if (problem->code == SSO_OK)
            sso_fail(problem, SSO_NOT_FOUND, "there is no such operation");
    } else {
        prepare_record(request);
        enum sso_code rc = run_operation(request, problem);
        if (rc == SSO_OK) /* what failed on the way there, and was dealt with */
            *problem = (struct sso_error){0};
        else if (problem->code != rc)
            sso_fail(problem, rc, "%s", sso_code_facts(rc)->title);
    }
    if (problem->code != SSO_OK)
        answer_problem(request, problem);
}

static void log_request(const struct request *request, int64_t microseconds)
{
    char id[2 * REQUEST_ID_BYTES + 1], took[24];
    if (!log_wants(LOG_LEVEL_DEBUG))
        return;
    enum sso_code rc = request->problem.code;
    hex_encode(request->request_id, sizeof request->request_id, id);
    snprintf(took, sizeof took, "%lld", (long long)microseconds);
    log_line(LOG_LEVEL_DEBUG, "request", "request", id, "operation",
             request->operation != NULL ? request->operation->name : "unknown", "actor",
             request->peer.name, "outcome", rc == SSO_OK ? "ok" : sso_code_facts(rc)->name,
             "microseconds", took, NULL);
}

/* What the HSM opened for a master that is one no more does not leave. */
static bool epoch_ended(const struct request *request, struct sso_error *problem)
{
    if (problem->code != SSO_OK || request->epoch == 0 ||
        master_still(request->custodian->master, request->epoch))
        return false;
    (void)sso_fail(problem, SSO_MASTER_UNAVAILABLE,
                   "this node was the master when this was asked for, and is not any more: try "
                   "again");
    return true;
}

bool operations_end(struct request *request, const struct sso_error *recorded)
{
    struct sso_error *problem = &request->problem;
    /* A refusal that names the same trouble, or another of the service's, stands as it is. */
    bool replaced = recorded->code != SSO_OK &&
                    (problem->code == SSO_OK || sso_code_facts(problem->code)->http_status < 500);
    if (replaced)
        *problem = *recorded;
    else
        replaced = epoch_ended(request, problem);
    if (replaced)
        answer_problem(request, problem);
    int64_t microseconds = metrics_now_microseconds() - request->begun_us;
    metrics_observe(request->custodian->metrics, request->operation, problem->code, microseconds);
    log_request(request, microseconds);
    if (problem->code == SSO_OK)
        rotation_manager_answered(request->custodian->rotation, request, microseconds);
    return replaced;
}
