#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "custodian/custodian.h"
#include "custodian/operations.h"
#include "custodian/rotation_manager.h"
#include "custodian/rotation_status.h"

#define RATE_MAX 1000000000

/* Absent: *out stays as it is. */
static enum sso_code flag_member(const json_t *body, const char *name, bool *out,
                                 struct sso_error *err)
{
    const json_t *value = json_object_get(body, name);
    if (value == NULL || json_is_null(value))
        return SSO_OK;
    if (!json_is_boolean(value))
        return sso_fail(err, SSO_BAD_REQUEST, "%s must be true or false", name);
    *out = json_is_true(value);
    return SSO_OK;
}

/* Null is the same as 0 for a rate: no cap. */
static enum sso_code number_member(const json_t *body, const char *name, uint64_t maximum,
                                   uint64_t *out, struct sso_error *err)
{
    const json_t *value = json_object_get(body, name);
    if (value == NULL || json_is_null(value))
        return SSO_OK;
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0 || (uint64_t)number > maximum)
        return sso_fail(err, SSO_BAD_REQUEST, "%s must be a number from 0 to %llu", name,
                        (unsigned long long)maximum);
    *out = (uint64_t)number;
    return SSO_OK;
}

static enum sso_code verify_member(const json_t *body, enum rotation_verify *out,
                                   struct sso_error *err)
{
    const json_t *value = json_object_get(body, "verify");
    const char *text = json_string_value(value);
    *out = VERIFY_SAMPLE;
    if (value == NULL || json_is_null(value) || (text != NULL && strcmp(text, "sample") == 0))
        return SSO_OK;
    if (text == NULL || strcmp(text, "full") != 0)
        return sso_fail(err, SSO_BAD_REQUEST, "verify must be sample or full");
    *out = VERIFY_FULL;
    return SSO_OK;
}

/* Nodes are known by what they have written to the audit. */
static enum sso_code node_check(struct request *request, const char *name, struct sso_error *err)
{
    struct audit_head *heads = NULL;
    size_t count = 0;
    bool known = false;
    STORE_TX_AUTO tx = NULL;
    if (strcmp(name, request->custodian->node) == 0)
        return sso_fail(err, SSO_BAD_REQUEST,
                        "%s runs the rotation itself and cannot be left out of it", name);
    enum sso_code rc = store_begin(request->custodian->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_audit_heads(tx, &heads, &count, err);
    for (size_t i = 0; i < count; i++)
        known = known || strcmp(heads[i].node, name) == 0;
    free(heads);
    if (rc == SSO_OK && !known)
        rc = sso_fail(err, SSO_NOT_FOUND, "there is no node of this name to be left out");
    return rc;
}

/* A list of names; in the rotation's row with commas between them. */
static enum sso_code without_member(struct request *request, struct rotation *out,
                                    struct sso_error *err)
{
    const json_t *name, *list = json_object_get(request->body, "without");
    size_t i, used = 0;
    enum sso_code rc = SSO_OK;
    if (list != NULL && !json_is_null(list) && !json_is_array(list))
        return sso_fail(err, SSO_BAD_REQUEST, "without must be a list of nodes");
    json_array_foreach(list, i, name)
    {
        const char *text = json_string_value(name);
        if (text == NULL || text[0] == '\0' || strchr(text, ',') != NULL)
            return sso_fail(err, SSO_BAD_REQUEST, "without must be a list of nodes");
        if ((rc = node_check(request, text, err)) != SSO_OK)
            return rc;
        size_t length = strlen(text);
        if (used + length + 2 > sizeof out->without)
            return sso_fail(err, SSO_TOO_LARGE, "the names in without are too many");
        used += (size_t)sprintf(out->without + used, "%s%s", used != 0 ? "," : "", text);
    }
    return rc;
}

static enum sso_code token_member(const json_t *body, const char **out, struct sso_error *err)
{
    const json_t *value = json_object_get(body, "token");
    *out = json_string_value(value);
    if (value != NULL && !json_is_null(value) && *out == NULL)
        return sso_fail(err, SSO_BAD_REQUEST, "token must be the name of a section [hsm NAME]");
    return SSO_OK;
}

/* rotation->to is 0 for "no_backup": the generation is made at the start. */
static enum sso_code target_read(const json_t *body, struct rotation *out, struct sso_error *err)
{
    bool no_backup = false;
    uint64_t generation = 0;
    enum sso_code rc;
    if ((rc = flag_member(body, "no_backup", &no_backup, err)) != SSO_OK ||
        (rc = number_member(body, "generation", UINT32_MAX, &generation, err)) != SSO_OK)
        return rc;
    if (no_backup == (generation != 0))
        return sso_fail(err, SSO_BAD_REQUEST,
                        "give either \"generation\", the number of a pending one made by sso-hsm "
                        "key generate, or \"no_backup\":true to have one made now");
    if (no_backup && out->dry_run)
        return sso_fail(err, SSO_BAD_REQUEST, "a dry run makes no generation: name a pending one");
    out->to = (uint32_t)generation;
    return SSO_OK;
}

static enum sso_code start_read(struct request *request, struct rotation_wish *wish,
                                struct sso_error *err)
{
    const json_t *body = request->body;
    struct rotation *out = &wish->rotation;
    static const char *const allowed[] = {"generation", "no_backup", "rate",    "full_speed",
                                          "reencrypt",  "verify",    "without", "token",
                                          "dry_run",    NULL};
    enum sso_code rc;
    if ((rc = json_only_members(body, allowed, err)) != SSO_OK ||
        (rc = number_member(body, "rate", RATE_MAX, &out->rate, err)) != SSO_OK ||
        (rc = flag_member(body, "full_speed", &out->full_speed, err)) != SSO_OK ||
        (rc = flag_member(body, "dry_run", &out->dry_run, err)) != SSO_OK ||
        (rc = flag_member(body, "reencrypt", &out->reencrypt, err)) != SSO_OK ||
        (rc = token_member(body, &wish->token, err)) != SSO_OK ||
        (rc = without_member(request, out, err)) != SSO_OK ||
        (rc = verify_member(body, &out->verify, err)) != SSO_OK)
        return rc;
    return target_read(body, out, err);
}

enum sso_code op_rotation_start(struct request *request, struct sso_error *err)
{
    struct rotation_wish wish = {0};
    struct rotation_manager *manager = request->custodian->rotation;
    enum sso_code rc = request_authorise(request, NULL, false, err);
    if (rc != SSO_OK)
        return rc;
    if (request->body == NULL)
        return sso_fail(err, SSO_BAD_REQUEST, "the request needs a JSON object as its body");
    if ((rc = start_read(request, &wish, err)) != SSO_OK ||
        (rc = rotation_manager_start(manager, request, &wish, err)) != SSO_OK)
        return rc;
    request->status = 202;
    return rotation_manager_status(manager, &request->reply, err);
}

enum sso_code op_rotation_show(struct request *request, struct sso_error *err)
{
    enum sso_code rc = request_authorise(request, NULL, false, err);
    return rc == SSO_OK
               ? rotation_manager_status(request->custodian->rotation, &request->reply, err)
               : rc;
}

enum sso_code op_rotation_change(struct request *request, struct sso_error *err)
{
    static const char *const allowed[] = {"action", "rate", NULL};
    struct rotation_manager *manager = request->custodian->rotation;
    uint64_t rate = 0;
    enum sso_code rc = request_authorise(request, NULL, false, err);
    if (rc != SSO_OK)
        return rc;
    const json_t *action = json_object_get(request->body, "action");
    bool has_rate = json_object_get(request->body, "rate") != NULL;
    if (request->body == NULL || (action == NULL && !has_rate))
        return sso_fail(err, SSO_BAD_REQUEST,
                        "the body must have an \"action\" (pause, resume, cancel, "
                        "retry-quarantined), a \"rate\" in rows per second, or both");
    if ((rc = json_only_members(request->body, allowed, err)) != SSO_OK ||
        (rc = number_member(request->body, "rate", RATE_MAX, &rate, err)) != SSO_OK)
        return rc;
    if (action != NULL && !json_is_string(action))
        return sso_fail(err, SSO_BAD_REQUEST, "action must be text");
    snprintf(request->audit.target, sizeof request->audit.target, "rotation");
    /* The rate first, so that a rotation that is resumed begins with it. */
    if (has_rate && (rc = rotation_manager_rate(manager, request, rate, err)) != SSO_OK)
        return rc;
    if (action != NULL &&
        (rc = rotation_manager_change(manager, request, json_string_value(action), err)) != SSO_OK)
        return rc;
    return rotation_manager_status(manager, &request->reply, err);
}

enum sso_code op_quarantine_list(struct request *request, struct sso_error *err)
{
    struct quarantine_entry *entries = NULL;
    size_t count = 0;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc;
    if ((rc = request_authorise(request, NULL, false, err)) != SSO_OK ||
        (rc = store_begin(request->custodian->store, STORE_READ, &tx, err)) != SSO_OK ||
        (rc = store_quarantine_list(tx, &entries, &count, err)) != SSO_OK)
        return rc;
    request->reply = json_pack("{s:o}", "quarantine", quarantine_json(entries, count));
    free(entries);
    return request->reply != NULL ? SSO_OK
                                  : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}
