#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/arguments.h"
#include "cli/audit_chain.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/prepare.h"
#include "common/audit_head.h"

/* What this node keeps in its state directory (custodian and direct commands write it). */
static void read_kept_head(const struct config *config, struct chain_anchor *anchor)
{
    struct audit_head kept;
    audit_head_read(config->system.state_directory, &kept);
    *anchor = (struct chain_anchor){.number = kept.number, .where = "the state directory"};
    memcpy(anchor->hash, kept.hash, sizeof anchor->hash);
}

static enum sso_code verify_node(struct store_tx *tx, const struct config *config,
                                 const struct audit_head *head, json_t *findings, uint64_t *records,
                                 struct sso_error *err)
{
    struct chain_anchor anchors[2] = {{.number = head->number, .where = "the database's head"}};
    memcpy(anchors[0].hash, head->hash, sizeof head->hash);
    size_t count = 1;
    if (strcmp(head->node, config->cluster.node) == 0)
        read_kept_head(config, &anchors[count++]);
    return chain_verify(tx, head->node, anchors, count, findings, records, err);
}

static enum sso_code verify_all(struct store_tx *tx, const struct config *config, json_t *findings,
                                uint64_t *records, struct sso_error *err)
{
    struct audit_head *heads = NULL;
    size_t count = 0;
    bool own_seen = false;
    enum sso_code rc = store_audit_heads(tx, &heads, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        own_seen |= strcmp(heads[i].node, config->cluster.node) == 0;
        rc = verify_node(tx, config, &heads[i], findings, records, err);
    }
    free(heads);
    /* A chain that is gone altogether has no head in the database. */
    struct audit_head own = {0};
    snprintf(own.node, sizeof own.node, "%s", config->cluster.node);
    if (rc == SSO_OK && !own_seen)
        rc = verify_node(tx, config, &own, findings, records, err);
    return rc;
}

static enum sso_code output_findings(struct cli *cli, json_t *findings, uint64_t records,
                                     struct sso_error *err)
{
    bool ok = json_array_size(findings) == 0;
    if (!ok)
        cli->exit_code = EXIT_DONE_WITH_ERRORS;
    if (cli->json) {
        json_t *result = json_pack("{s:b, s:I, s:{}, s:O}", "ok", ok, "records",
                                   (json_int_t)records, "signed_through", "findings", findings);
        enum sso_code rc = output_json(result, err);
        json_decref(result);
        return rc;
    }
    size_t i;
    const json_t *finding;
    json_array_foreach(findings, i, finding)
    {
        printf("%s/%lld %s: %s\n", json_string_value(json_object_get(finding, "node")),
               (long long)member_number(finding, "number"),
               json_string_value(json_object_get(finding, "kind")),
               json_string_value(json_object_get(finding, "detail")));
    }
    printf("%llu records, %zu findings\n", (unsigned long long)records, json_array_size(findings));
    return SSO_OK;
}

COMMAND_FUNCTION(command_audit_verify)
{
    const char *anchor = NULL;
    const struct option_row options[] = {
        {"anchor", OPTION_LATER_VALUE, &anchor, "heads kept elsewhere come with signing"},
        {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc != SSO_OK)
        return rc;
    struct ceremony *ceremony = NULL;
    struct store_tx *tx = NULL;
    json_t *findings = json_array();
    uint64_t records = 0;
    rc = prepare_ceremony(cli, CEREMONY_AUDITOR, &ceremony, err);
    if (rc == SSO_OK)
        rc = ceremony_open_database(ceremony, err);
    if (rc == SSO_OK)
        rc = store_begin(ceremony_store(ceremony), STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = verify_all(tx, cli->config, findings, &records, err);
    store_rollback(&tx);
    ceremony_end(&ceremony);
    if (rc == SSO_OK)
        rc = output_findings(cli, findings, records, err);
    json_decref(findings);
    return rc;
}
