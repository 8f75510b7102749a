#include "custodian/nodes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum sso_code nodes_find(struct store_tx *tx, const char *name, struct node *out,
                         struct sso_error *err)
{
    struct node *nodes = NULL;
    size_t count = 0;
    enum sso_code rc = store_node_list(tx, &nodes, &count, err);
    if (rc != SSO_OK)
        return rc;
    rc = sso_fail(err, SSO_NOT_FOUND, "no node %s has joined: see sso-hsm node list", name);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(nodes[i].name, name) != 0)
            continue;
        *out = nodes[i];
        rc = SSO_OK;
    }
    free(nodes);
    return rc;
}

static enum sso_code read_revocation(struct store_tx *tx, const struct policy *policy,
                                     struct setting *out, struct sso_error *err)
{
    struct setting *settings = NULL;
    size_t count = 0;
    enum sso_code rc = store_setting_list(tx, &settings, &count, err);
    if (rc != SSO_OK)
        return rc;
    rc = sso_fail(err, SSO_POLICY_TAMPERED,
                  "the setting " SETTING_REVOCATION " is missing from the database");
    for (size_t i = 0; i < count; i++) {
        if (strcmp(settings[i].name, SETTING_REVOCATION) != 0)
            continue;
        *out = settings[i];
        rc = policy_check_setting(policy, out, err);
    }
    free(settings);
    return rc;
}

enum sso_code nodes_revocation(struct store_tx *tx, const struct policy *policy, uint64_t *out,
                               struct sso_error *err)
{
    struct setting setting;
    enum sso_code rc = read_revocation(tx, policy, &setting, err);
    if (rc == SSO_OK)
        *out = strtoull(setting.value, NULL, 10);
    return rc;
}

enum sso_code node_check(const struct policy *policy, const struct node *node, uint64_t revocation,
                         struct sso_error *err)
{
    if (!node->approved)
        return sso_fail(err, SSO_FORBIDDEN, "the node %s is not approved", node->name);
    enum sso_code rc = policy_check_node(policy, node, err);
    if (rc != SSO_OK || node->revocation == revocation)
        return rc;
    return sso_fail(err, SSO_POLICY_TAMPERED,
                    "the approval of the node %s is of a time before others were taken out: an "
                    "older row was put back; approve it again if it is right",
                    node->name);
}

static enum sso_code put_approved(struct store_tx *tx, const struct policy *policy,
                                  struct node *node, uint64_t revocation, struct sso_error *err)
{
    node->approved = true;
    node->revocation = revocation;
    node->version++;
    policy_tag_node(policy, node);
    return store_node_put(tx, node, err);
}

enum sso_code nodes_approve(struct store_tx *tx, const struct policy *policy, struct node *node,
                            struct sso_error *err)
{
    uint64_t revocation = 0;
    enum sso_code rc = nodes_revocation(tx, policy, &revocation, err);
    return rc == SSO_OK ? put_approved(tx, policy, node, revocation, err) : rc;
}

static enum sso_code approve_again(struct store_tx *tx, const struct policy *policy, uint64_t from,
                                   struct sso_error *err)
{
    struct node *nodes = NULL;
    size_t count = 0;
    enum sso_code rc = store_node_list(tx, &nodes, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        if (node_check(policy, &nodes[i], from, NULL) == SSO_OK)
            rc = put_approved(tx, policy, &nodes[i], from + 1, err);
    }
    free(nodes);
    return rc;
}

enum sso_code nodes_remove(struct store_tx *tx, const struct policy *policy, const char *name,
                           struct sso_error *err)
{
    struct setting setting;
    enum sso_code rc = store_node_remove(tx, name, err);
    if (rc != SSO_OK || (rc = read_revocation(tx, policy, &setting, err)) != SSO_OK)
        return rc;
    uint64_t revocation = strtoull(setting.value, NULL, 10);
    snprintf(setting.value, sizeof setting.value, "%" PRIu64, revocation + 1);
    setting.version++;
    policy_tag_setting(policy, &setting);
    if ((rc = store_setting_put(tx, &setting, err)) != SSO_OK)
        return rc;
    return approve_again(tx, policy, revocation, err);
}
