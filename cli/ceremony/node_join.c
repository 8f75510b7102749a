/* A node's row with its certificate's public key. It gives nothing before an administrator has
 * approved it, and so needs neither HSM nor policy key. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ceremony/installation.h"
#include "common/clock.h"
#include "common/json.h"

/* SSO_ALREADY_EXISTS where a row of this name must not be replaced by one that is not approved. */
static enum sso_code find_place(struct store_tx *tx, struct node *node, bool *there,
                                struct sso_error *err)
{
    struct node *nodes = NULL;
    size_t count = 0;
    enum sso_code rc = store_node_list(tx, &nodes, &count, err);
    node->version = 1;
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        bool same_key = memcmp(nodes[i].key, node->key, sizeof node->key) == 0;
        bool same_name = strcmp(nodes[i].name, node->name) == 0;
        if (same_name && same_key)
            *there = true;
        else if (same_name && nodes[i].approved)
            rc = sso_fail(err, SSO_ALREADY_EXISTS,
                          "the node %s is approved with another key: sso-hsm node remove %s comes "
                          "first",
                          node->name, node->name);
        else if (same_key)
            rc = sso_fail(err, SSO_ALREADY_EXISTS,
                          "the node %s has this certificate's key already: each node has its own",
                          nodes[i].name);
        else if (same_name)
            node->version = nodes[i].version + 1;
        if (same_name && same_key)
            *node = nodes[i];
    }
    free(nodes);
    return rc;
}

static enum sso_code write_node(struct ceremony *ceremony, struct node *node, bool *there,
                                struct sso_error *err)
{
    struct audit_record record;
    char target[sizeof node->name + 8];
    STORE_TX_AUTO tx = NULL;
    snprintf(target, sizeof target, "node %s", node->name);
    enum sso_code rc = store_begin(ceremony->store, STORE_WRITE, &tx, err);
    if (rc != SSO_OK || (rc = find_place(tx, node, there, err)) != SSO_OK || *there)
        return rc;
    if ((rc = store_node_put(tx, node, err)) != SSO_OK ||
        (rc = console_record(ceremony, "node.join", target, &record, err)) != SSO_OK ||
        (rc = store_audit_append(tx, &record, 1, err)) != SSO_OK ||
        (rc = store_commit(&tx, err)) != SSO_OK)
        return rc;
    console_keep_head(ceremony, &record, false);
    return SSO_OK;
}

enum sso_code ceremony_join_node(struct ceremony *ceremony, json_t **result, struct sso_error *err)
{
    const struct config *config = ceremony->config;
    struct node node = {.joined_ms = wall_clock_ms()};
    bool there = false;
    if (config->tls.certificate[0] == '\0')
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "a node is known by its certificate: [tls] certificate names none");
    snprintf(node.name, sizeof node.name, "%s", config->cluster.node);
    snprintf(node.address, sizeof node.address, "%s", config->cluster.address);
    enum sso_code rc = node_key_of_file(config->tls.certificate, node.key, err);
    if (rc == SSO_OK)
        rc = ceremony_open_database(ceremony, err);
    if (rc == SSO_OK)
        rc = write_node(ceremony, &node, &there, err);
    if (rc != SSO_OK)
        return rc;
    *result =
        json_pack("{s:s,s:o,s:o,s:b,s:b}", "name", node.name, "address",
                  json_text_or_null(node.address), "fingerprint",
                  json_hex(node.key, sizeof node.key), "approved", node.approved, "joined", !there);
    return *result != NULL ? SSO_OK : sso_fail(err, SSO_NO_MEMORY, "no memory for the result");
}
