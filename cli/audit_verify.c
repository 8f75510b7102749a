#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/arguments.h"
#include "cli/audit_anchor.h"
#include "cli/audit_chain.h"
#include "cli/audit_signatures.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/prepare.h"
#include "common/audit_head.h"

struct report {
    const struct config *config;
    struct audit_head kept;     /* in the state directory: custodian and direct commands write it */
    struct audit_anchor *known; /* --anchor; empty where there is none */
    struct audit_anchor *found; /* heads and good keys, for --new-anchor */
    struct audit_base *base;    /* where chains begin that were pruned; believed afterwards */
    size_t base_count;
    json_t *through;
    struct chain_report chains;
};

static void add_anchor(struct chain_anchor *anchors, size_t *count, const struct audit_head *head,
                       const char *where)
{
    struct chain_anchor *anchor = &anchors[(*count)++];
    *anchor = (struct chain_anchor){.number = head->number, .where = where};
    memcpy(anchor->hash, head->hash, sizeof anchor->hash);
}

/* Zeros but for the name where nothing of the chain was pruned. */
static struct audit_head base_of(const struct report *report, const char *node)
{
    struct audit_head base = {0};
    for (size_t i = 0; i < report->base_count; i++)
        if (strcmp(report->base[i].last.node, node) == 0)
            return report->base[i].last;
    snprintf(base.node, sizeof base.node, "%s", node);
    return base;
}

static enum sso_code verify_node(struct store_tx *tx, struct report *report,
                                 const struct audit_head *head, struct sso_error *err)
{
    struct chain_anchor *anchors = calloc(ANCHOR_HEADS_MAX + 2, sizeof *anchors);
    size_t count = 0;
    if (anchors == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for anchors");
    add_anchor(anchors, &count, head, "the database's head");
    if (strcmp(head->node, report->config->cluster.node) == 0)
        add_anchor(anchors, &count, &report->kept, "the state directory");
    for (size_t i = 0; i < report->known->head_count; i++)
        if (strcmp(report->known->head[i].node, head->node) == 0)
            add_anchor(anchors, &count, &report->known->head[i], "the anchor");
    const struct audit_head base = base_of(report, head->node);
    enum sso_code rc = chain_verify(tx, &base, anchors, count, &report->chains, err);
    free(anchors);
    if (head->number > 0 && report->found->head_count < ANCHOR_HEADS_MAX)
        report->found->head[report->found->head_count++] = *head;
    return rc;
}

static bool is_among(const struct audit_head *heads, size_t count, const char *node)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(heads[i].node, node) == 0)
            return true;
    return false;
}

static enum sso_code verify_all(struct store_tx *tx, struct report *report, struct sso_error *err)
{
    struct audit_head *heads = NULL;
    size_t count = 0;
    const struct audit_anchor *known = report->known;
    enum sso_code rc = store_audit_base_list(tx, &report->base, &report->base_count, err);
    if (rc == SSO_OK)
        rc = store_audit_heads(tx, &heads, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++)
        rc = verify_node(tx, report, &heads[i], err);
    /* A chain that is gone altogether has no head in the database. */
    struct audit_head gone = {0};
    snprintf(gone.node, sizeof gone.node, "%s", report->config->cluster.node);
    if (rc == SSO_OK && !is_among(heads, count, gone.node))
        rc = verify_node(tx, report, &gone, err);
    for (size_t i = 0; rc == SSO_OK && i < known->head_count; i++) {
        if (is_among(heads, count, known->head[i].node) ||
            is_among(known->head, i, known->head[i].node) ||
            strcmp(known->head[i].node, report->config->cluster.node) == 0)
            continue;
        snprintf(gone.node, sizeof gone.node, "%s", known->head[i].node);
        rc = verify_node(tx, report, &gone, err);
    }
    free(heads);
    return rc == SSO_OK ? signatures_verify(tx, known, report->chains.findings, report->through,
                                            report->found, err)
                        : rc;
}

static enum sso_code output_report(struct cli *cli, const struct report *report,
                                   struct sso_error *err)
{
    bool ok = json_array_size(report->chains.findings) == 0;
    if (!ok)
        cli->exit_code = EXIT_DONE_WITH_ERRORS;
    if (cli->json) {
        json_t *result =
            json_pack("{s:b, s:I, s:O, s:O, s:O}", "ok", ok, "records",
                      (json_int_t)report->chains.records, "signed_through", report->through,
                      "accepted", report->chains.accepted, "findings", report->chains.findings);
        enum sso_code rc = output_json(result, err);
        json_decref(result);
        return rc;
    }
    size_t i;
    const char *node;
    json_t *value;
    json_array_foreach(report->chains.findings, i, value)
    {
        printf("%s/%lld %s: %s\n", json_string_value(json_object_get(value, "node")),
               (long long)member_number(value, "number"),
               json_string_value(json_object_get(value, "kind")),
               json_string_value(json_object_get(value, "detail")));
    }
    json_array_foreach(report->chains.accepted, i, value)
    {
        char room[MEMBER_ROOM];
        printf("%s/%lld: the database was put back, and %s accepted it: %s\n",
               json_string_value(json_object_get(value, "node")),
               (long long)member_number(value, "number"), member_text(value, "actor", room),
               json_string_value(json_object_get(value, "detail")));
    }
    json_object_foreach(report->through, node, value)
    {
        printf("%s is signed through record %lld\n", node, (long long)json_integer_value(value));
    }
    printf("%llu records, %zu findings\n", (unsigned long long)report->chains.records,
           json_array_size(report->chains.findings));
    return SSO_OK;
}

static enum sso_code verify(struct cli *cli, struct report *report, struct sso_error *err)
{
    struct ceremony *ceremony = NULL;
    struct store_tx *tx = NULL;
    enum sso_code rc = prepare_ceremony(cli, CEREMONY_AUDITOR, &ceremony, err);
    report->config = cli->config;
    if (rc == SSO_OK)
        rc = ceremony_open_database(ceremony, err);
    /* Before the snapshot: what a custodian writes meanwhile is in neither or in the database. */
    if (rc == SSO_OK)
        rc = audit_head_read(cli->config->system.state_directory, &report->kept, err);
    if (rc == SSO_OK)
        rc = store_begin(ceremony_store(ceremony), STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = verify_all(tx, report, err);
    store_rollback(&tx);
    ceremony_end(&ceremony);
    return rc;
}

/* The anchor is the caller's file: read before another user is become. */
static enum sso_code run(struct cli *cli, const char *anchor, const char *new_anchor,
                         struct report *report, struct sso_error *err)
{
    enum sso_code rc = prepare_config(cli, err);
    if (rc == SSO_OK && anchor != NULL)
        rc = audit_anchor_read(anchor, cli->config->cluster.node, report->known, err);
    if (rc == SSO_OK)
        rc = verify(cli, report, err);
    if (rc == SSO_OK && new_anchor != NULL && json_array_size(report->chains.findings) == 0)
        rc = audit_anchor_write(new_anchor, report->found, err);
    return rc == SSO_OK ? output_report(cli, report, err) : rc;
}

COMMAND_FUNCTION(command_audit_verify)
{
    const char *anchor = NULL, *new_anchor = NULL;
    const struct option_row options[] = {{"anchor", OPTION_TEXT, &anchor, NULL},
                                         {"new-anchor", OPTION_TEXT, &new_anchor, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc != SSO_OK)
        return rc;
    struct report report = {.known = calloc(1, sizeof *report.known),
                            .found = calloc(1, sizeof *report.found),
                            .chains = {.findings = json_array(), .accepted = json_array()},
                            .through = json_object()};
    rc = report.known != NULL && report.found != NULL
             ? run(cli, anchor, new_anchor, &report, err)
             : sso_fail(err, SSO_NO_MEMORY, "no memory to verify the audit");
    free(report.base);
    free(report.known);
    free(report.found);
    json_decref(report.chains.findings);
    json_decref(report.chains.accepted);
    json_decref(report.through);
    return rc;
}
