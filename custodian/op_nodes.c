#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/encode.h"
#include "common/json.h"
#include "custodian/application_access.h"
#include "custodian/application_json.h"
#include "custodian/custodian.h"
#include "custodian/nodes.h"
#include "custodian/operations.h"
#include "custodian/supervision.h"

#define APPS_MAX 32
#define RELEASE_BURST_MAX 100000000

/* --- the list --- */

static json_t *apps_json(const struct node *node)
{
    json_t *list = json_array();
    for (const char *at = node->apps; *at != '\0';) {
        size_t span = strcspn(at, ",");
        json_array_append_new(list, json_stringn(at, span));
        at += span + (at[span] == ',');
    }
    return list;
}

/* What a node would have to say of itself is known of this one alone. */
static void add_state(struct custodian *custodian, const struct node *node, json_t *object)
{
    static const char *const unknown[] = {"version",   "role",        "up",
                                          "last_poll", "revocation",  "generations_opened",
                                          "leases",    "can_encrypt", "can_decrypt"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        json_object_set_new(object, unknown[i], json_null());
    if (strcmp(node->name, custodian->node) != 0)
        return;
    json_object_set_new(object, "version", json_string(SSO_HSM_VERSION));
    json_object_set_new(object, "role", json_string("master"));
    json_object_set_new(object, "up", json_true());
    json_object_set_new(object, "can_encrypt", json_boolean(custodian->can_encrypt));
    json_object_set_new(object, "can_decrypt", json_boolean(custodian->can_decrypt));
}

static json_t *node_json(struct custodian *custodian, const struct node *node, bool tampered)
{
    json_t *burst = node->release_burst != 0 ? json_integer(node->release_burst) : json_null();
    json_t *object = json_pack(
        "{s:s,s:o,s:o,s:b,s:b,s:o,s:o,s:o,s:o,s:o}", "name", node->name, "address",
        json_text_or_null(node->address), "fingerprint", json_hex(node->key, sizeof node->key),
        "approved", node->approved && !tampered, "damaged", tampered, "apps", apps_json(node),
        "release_burst", burst, "joined", json_time(node->joined_ms), "approved_by",
        json_text_or_null(node->approved_by), "approved_at", json_time(node->approved_ms));
    add_state(custodian, node, object);
    return object;
}

static json_t *listed(struct custodian *custodian, const struct node *node, uint64_t revocation)
{
    struct sso_error problem = {0};
    enum sso_code rc = SSO_OK;
    if (node->approved)
        rc = node_check(&custodian->policy, node, revocation, &problem);
    return node_json(custodian, node, policy_alarm(custodian, rc, &problem) != SSO_OK);
}

enum sso_code op_node_list(struct request *request, struct sso_error *err)
{
    struct custodian *custodian = request->custodian;
    struct node *nodes = NULL;
    size_t count = 0;
    uint64_t revocation = 0;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(custodian->store, STORE_READ, &tx, err);
    if (rc != SSO_OK ||
        (rc = nodes_revocation(tx, &custodian->policy, &revocation, err)) != SSO_OK ||
        (rc = store_node_list(tx, &nodes, &count, err)) != SSO_OK)
        return policy_alarm(custodian, rc, err);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, listed(custodian, &nodes[i], revocation));
    free(nodes);
    request->reply = json_pack("{s:o}", "nodes", list);
    return request->reply != NULL ? SSO_OK
                                  : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}

/* --- changes --- */

struct change {
    const struct policy *policy;
    const char *name, *by;
    uint8_t key[NODE_KEY_BYTES]; /* as the administrator compared it */
    char apps[NODE_APPS_BYTES_MAX + 1];
    uint32_t release_burst;
    struct node row; /* as written */
};

/* Whatever the row said before, an older approval or one of another hand: all of it is said anew by
 * somebody who names the key. */
static enum sso_code write_approved(struct store_tx *tx, void *context, struct sso_error *err)
{
    struct change *change = context;
    struct node node;
    enum sso_code rc = nodes_find(tx, change->name, &node, err);
    if (rc != SSO_OK)
        return rc;
    if (memcmp(node.key, change->key, sizeof node.key) != 0)
        return sso_fail(err, SSO_VERSION_CONFLICT,
                        "the node %s has joined with another key than this one: compare the "
                        "fingerprint of sso-hsm node list with what the node shows",
                        change->name);
    memcpy(node.apps, change->apps, sizeof node.apps);
    node.release_burst = change->release_burst;
    snprintf(node.approved_by, sizeof node.approved_by, "%s", change->by);
    node.approved_ms = wall_clock_ms();
    rc = nodes_approve(tx, change->policy, &node, err);
    change->row = node;
    return rc;
}

static enum sso_code write_removed(struct store_tx *tx, void *context, struct sso_error *err)
{
    const struct change *change = context;
    return nodes_remove(tx, change->policy, change->name, err);
}

static enum sso_code read_apps(const json_t *body, char out[static NODE_APPS_BYTES_MAX + 1],
                               struct sso_error *err)
{
    const json_t *apps = json_object_get(body, "apps");
    size_t used = 0;
    out[0] = '\0';
    if (apps == NULL || json_is_null(apps))
        return SSO_OK;
    if (!json_is_array(apps) || json_array_size(apps) > APPS_MAX)
        return sso_fail(err, SSO_BAD_REQUEST, "apps takes at most %d names of applications",
                        APPS_MAX);
    for (size_t i = 0; i < json_array_size(apps); i++) {
        const char *name = json_string_value(json_array_get(apps, i));
        if (name == NULL || !application_name_is_valid(name))
            return sso_fail(err, SSO_BAD_REQUEST, "apps: item %zu is no name of an application", i);
        used += (size_t)snprintf(out + used, NODE_APPS_BYTES_MAX + 1 - used, "%s%s",
                                 used > 0 ? "," : "", name);
    }
    return SSO_OK;
}

static enum sso_code read_body(struct request *request, struct change *change,
                               struct sso_error *err)
{
    static const char *const allowed[] = {"approved", "fingerprint", "apps", "release_burst", NULL};
    const json_t *body = request->body, *burst = json_object_get(body, "release_burst");
    const char *fingerprint = json_string_value(json_object_get(body, "fingerprint"));
    enum sso_code rc = SSO_OK;
    if (body == NULL || !json_is_true(json_object_get(body, "approved")) || fingerprint == NULL ||
        !hex_decode(fingerprint, change->key, sizeof change->key))
        return sso_fail(err, SSO_BAD_REQUEST,
                        "the body must be {\"approved\":true,\"fingerprint\":\"64 hex digits\"}, "
                        "with \"apps\" and \"release_burst\" where they are limited");
    if (burst != NULL && !json_is_null(burst) &&
        (!json_is_integer(burst) || json_integer_value(burst) < 1 ||
         json_integer_value(burst) > RELEASE_BURST_MAX))
        return sso_fail(err, SSO_BAD_REQUEST, "release_burst takes a number from 1 to %d",
                        RELEASE_BURST_MAX);
    change->release_burst = (uint32_t)json_integer_value(burst);
    if ((rc = json_only_members(body, allowed, err)) != SSO_OK)
        return rc;
    return read_apps(body, change->apps, err);
}

static void set_target(struct request *request, const char *name)
{
    snprintf(request->audit.target, sizeof request->audit.target, "node %.*s", NODE_NAME_BYTES_MAX,
             name);
}

enum sso_code op_node_change(struct request *request, struct sso_error *err)
{
    struct custodian *custodian = request->custodian;
    struct change change = {
        .policy = &custodian->policy, .name = request->segment[2], .by = request->peer.name};
    enum sso_code rc = request_authorise(request, NULL, false, err);
    if (rc != SSO_OK)
        return rc;
    set_target(request, change.name);
    if ((rc = read_body(request, &change, err)) != SSO_OK)
        return rc;
    request->audited = true;
    rc = committer_run(custodian->committer, write_approved, &change, &request->audit, 1, err);
    if (rc != SSO_OK)
        return policy_alarm(custodian, rc, err);
    request->reply = node_json(custodian, &change.row, false);
    return request->reply != NULL ? SSO_OK
                                  : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}

enum sso_code op_node_remove(struct request *request, struct sso_error *err)
{
    struct custodian *custodian = request->custodian;
    struct change change = {.policy = &custodian->policy, .name = request->segment[2]};
    enum sso_code rc = request_authorise(request, NULL, false, err);
    if (rc != SSO_OK)
        return rc;
    set_target(request, change.name);
    request->audited = true;
    rc = committer_run(custodian->committer, write_removed, &change, &request->audit, 1, err);
    if (rc != SSO_OK)
        return policy_alarm(custodian, rc, err);
    supervision_wake(custodian->supervision); /* so that the new number is soon on record */
    return SSO_OK;
}
