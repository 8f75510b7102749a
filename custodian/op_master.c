#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/encode.h"
#include "common/json.h"
#include "custodian/custodian.h"
#include "custodian/master.h"
#include "custodian/operations.h"

/* How long before a request's deadline its answer is due. */
#define ANSWER_MARGIN_MS 500

static json_t *text_or_null(const char *text)
{
    return text[0] != '\0' ? json_string(text) : json_null();
}

static json_t *able_json(const struct master_view *view, const struct standby *standby,
                         size_t count)
{
    json_t *able = json_array();
    if (view->me || view->alive)
        json_array_append_new(able, json_string(view->lease.node));
    for (size_t i = 0; i < count; i++) {
        if (standby[i].able)
            json_array_append_new(able, json_string(standby[i].node));
    }
    return able;
}

static json_t *standbys_json(const struct standby *standby, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:s,s:o,s:b,s:o}", "node", standby[i].node,
                                              "address", text_or_null(standby[i].address), "able",
                                              (int)standby[i].able, "missing",
                                              text_or_null(standby[i].missing)));
    return list;
}

enum sso_code op_master_show(struct request *request, struct sso_error *err)
{
    struct master *master = request->custodian->master;
    struct master_view view;
    struct standby *standby = NULL;
    size_t count = 0;
    char instance[2 * LEASE_INSTANCE_BYTES + 1] = "";
    master_view(master, &view);
    enum sso_code rc = master_standbys(master, &standby, &count, err);
    if (rc != SSO_OK)
        return rc;
    bool lives = view.me || view.alive;
    if (lives)
        hex_encode(view.lease.instance, sizeof view.lease.instance, instance);
    request->reply = json_pack(
        "{s:o,s:o,s:o,s:I,s:s,s:b,s:o,s:o,s:o}", "node", text_or_null(lives ? view.lease.node : ""),
        "address", text_or_null(lives ? view.lease.address : ""), "instance",
        text_or_null(instance), "epoch", (json_int_t)view.lease.epoch, "failover",
        view.automatic ? "automatic" : "manual", "here", (int)view.me, "last",
        text_or_null(view.lease.node), "able", able_json(&view, standby, count), "standbys",
        standbys_json(standby, count));
    free(standby);
    return request->reply != NULL ? SSO_OK
                                  : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}

static enum sso_code promote(struct request *request, int64_t deadline_ms, struct sso_error *err)
{
    snprintf(request->audit.operation, sizeof request->audit.operation, "master.promote");
    snprintf(request->audit.target, sizeof request->audit.target, "node %s",
             request->custodian->node);
    return master_promote(request->custodian->master, deadline_ms, err);
}

static enum sso_code move(struct request *request, int64_t deadline_ms, struct sso_error *err)
{
    const char *node = NULL;
    snprintf(request->audit.operation, sizeof request->audit.operation, "master.move");
    enum sso_code rc = json_get_text(request->body, "node", LEASE_NODE_BYTES_MAX, &node, err);
    if (rc != SSO_OK)
        return rc;
    snprintf(request->audit.target, sizeof request->audit.target, "to node %s", node);
    return master_move(request->custodian->master, node, deadline_ms, err);
}

enum sso_code op_master_change(struct request *request, struct sso_error *err)
{
    static const char *const members[] = {"action", "node", NULL};
    const char *action = NULL;
    int64_t deadline_ms = request->deadline_ms - ANSWER_MARGIN_MS;
    enum sso_code rc;
    if (request->body == NULL)
        return sso_fail(err, SSO_BAD_REQUEST, "the request needs a JSON object as its body");
    if ((rc = json_only_members(request->body, members, err)) != SSO_OK ||
        (rc = json_get_text(request->body, "action", 16, &action, err)) != SSO_OK)
        return rc;
    bool promoted = strcmp(action, "promote") == 0, moved = strcmp(action, "move") == 0;
    if (!moved && json_object_get(request->body, "node") != NULL)
        return sso_fail(err, SSO_BAD_REQUEST, "node goes with the action move only");
    if (promoted)
        rc = promote(request, deadline_ms, err);
    else if (moved)
        rc = move(request, deadline_ms, err);
    else
        rc = sso_fail(err, SSO_BAD_REQUEST, "action must be promote or move");
    return rc == SSO_OK ? op_master_show(request, err) : rc;
}
