#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"

/* Keys without a row are passed over, so many at most. */
#define NUMBERS_LEFT 64

static bool is_trusted(const struct policy *policy, const struct setting *row)
{
    return policy == NULL || policy_check_setting(policy, row, NULL) == SSO_OK;
}

static enum sso_code read_settings(struct store_tx *tx, const struct policy *policy,
                                   struct high_water *out, struct sso_error *err)
{
    struct setting *row = NULL;
    size_t count = 0;
    enum sso_code rc = store_setting_list(tx, &row, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        unsigned long long value = strtoull(row[i].value, NULL, 10);
        if (strcmp(row[i].name, SETTING_REVOCATION) == 0 && is_trusted(policy, &row[i]))
            out->revocation = value;
        if (strcmp(row[i].name, SETTING_GENERATION_FLOOR) == 0 && value <= UINT32_MAX &&
            value > out->highest && is_trusted(policy, &row[i]))
            out->highest = (uint32_t)value;
    }
    free(row);
    return rc;
}

static enum sso_code read_generations(struct store_tx *tx, const struct policy *policy,
                                      struct high_water *out, struct sso_error *err)
{
    size_t count = 0;
    enum sso_code rc = store_generation_list(tx, &out->generation, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        const struct generation *row = &out->generation[i];
        if (policy != NULL && policy_check_generation(policy, row, NULL) != SSO_OK)
            continue;
        if (row->number > out->highest)
            out->highest = row->number;
        out->generation[out->generation_count++] = *row;
    }
    return rc;
}

/* Under no tag: who raises it makes a mark that stands in his own way. */
static enum sso_code read_epoch(struct store_tx *tx, struct high_water *out, struct sso_error *err)
{
    struct master_lease lease;
    enum sso_code rc = store_master_lease_read(tx, &lease, err);
    if (rc == SSO_OK)
        out->epoch = lease.epoch;
    return rc;
}

enum sso_code store_high_water_trusted(struct store_tx *tx, const struct policy *policy,
                                       struct high_water *out, struct sso_error *err)
{
    struct system_row system;
    *out = (struct high_water){0};
    enum sso_code rc = store_system_get(tx, &system, err);
    if (rc != SSO_OK)
        return rc;
    memcpy(out->system_id, system.id, SYSTEM_ID_BYTES);
    if ((rc = read_epoch(tx, out, err)) != SSO_OK ||
        (rc = read_settings(tx, policy, out, err)) != SSO_OK ||
        (rc = read_generations(tx, policy, out, err)) != SSO_OK ||
        (rc = store_audit_heads(tx, &out->head, &out->head_count, err)) != SSO_OK)
        high_water_free(out);
    /* Chains carry no tag: more of them than can be signed are somebody's game. */
    if (out->head_count > AUDIT_HEADS_MAX)
        out->head_count = AUDIT_HEADS_MAX;
    return rc;
}

enum sso_code store_high_water_read(struct store_tx *tx, struct high_water *out,
                                    struct sso_error *err)
{
    return store_high_water_trusted(tx, NULL, out, err);
}

enum sso_code store_high_water_marks(const char *state_directory, const char *node,
                                     struct high_water *out, struct sso_error *err)
{
    struct audit_head own;
    enum sso_code rc = high_water_read(state_directory, out, err);
    if (rc != SSO_OK && rc != SSO_NOT_FOUND)
        return rc;
    enum sso_code known = audit_head_read(state_directory, &own, err);
    if (known != SSO_OK || own.number == 0)
        return known != SSO_OK ? known : rc;
    snprintf(own.node, sizeof own.node, "%s", node);
    for (size_t i = 0; i < out->head_count; i++) {
        if (strcmp(out->head[i].node, node) != 0)
            continue;
        if (own.number > out->head[i].number)
            out->head[i] = own;
        return SSO_OK;
    }
    struct audit_head *grown = reallocarray(out->head, out->head_count + 1, sizeof *grown);
    if (grown == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the high-water marks");
    out->head = grown;
    grown[out->head_count++] = own;
    return SSO_OK;
}

/* Whom a check trusts. */
struct checker {
    const char *node;
    const struct policy *policy; /* NULL: the key is not known (yet) */
};

static bool is_base_trusted(const struct checker *checker, const struct audit_base *base)
{
    return checker->policy == NULL ||
           policy_check_audit_base(checker->policy, base, NULL) == SSO_OK;
}

/* What was the end of a chain that nobody has lengthened since may be pruned by now; of our own
 * chain only the very record. */
static enum sso_code was_pruned(struct store_tx *tx, const struct audit_head *head,
                                const struct checker *checker, bool *pruned, struct sso_error *err)
{
    struct audit_base *base = NULL;
    size_t count = 0;
    enum sso_code rc = store_audit_base_list(tx, &base, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        const struct audit_head *last = &base[i].last;
        if (strcmp(last->node, head->node) != 0 || !is_base_trusted(checker, &base[i]))
            continue;
        *pruned = (last->number > head->number && strcmp(head->node, checker->node) != 0) ||
                  (last->number == head->number &&
                   memcmp(last->hash, head->hash, sizeof last->hash) == 0);
    }
    free(base);
    return rc;
}

enum sso_code store_high_water_check(struct store_tx *tx, const struct high_water *marks,
                                     const char *node, const struct policy *policy,
                                     struct sso_error *err)
{
    const struct checker checker = {node, policy};
    HIGH_WATER_AUTO now = {0};
    static const uint8_t none[SYSTEM_ID_BYTES];
    enum sso_code rc = store_high_water_read(tx, &now, err);
    /* Without a file there is at most the end of our own chain. */
    if (rc == SSO_OK && memcmp(marks->system_id, none, sizeof none) != 0)
        rc = high_water_compare(marks, &now, err);
    for (size_t i = 0; rc == SSO_OK && i < marks->head_count; i++) {
        const struct audit_head *head = &marks->head[i];
        bool holds = false;
        rc = store_audit_holds(tx, head, &holds, err);
        if (rc == SSO_OK && !holds)
            rc = was_pruned(tx, head, &checker, &holds, err);
        if (rc == SSO_OK && !holds)
            rc = sso_fail(err, SSO_DATABASE_WENT_BACK,
                          "the database is older than what this node has seen: record %llu of the "
                          "audit of %s is gone from it or was changed; put the right one back, or "
                          "accept this one with sso-hsm db accept-restore",
                          (unsigned long long)head->number, head->node);
    }
    return rc;
}

enum sso_code store_generation_next(struct store_tx *tx, uint32_t *number, struct sso_error *err)
{
    HIGH_WATER_AUTO now = {0};
    enum sso_code rc = store_high_water_read(tx, &now, err);
    if (rc != SSO_OK)
        return rc;
    if (now.highest > UINT32_MAX - NUMBERS_LEFT)
        return sso_fail(err, SSO_INTERNAL,
                        "generation %u is the last that there can be: the database was changed "
                        "outside this program",
                        now.highest);
    *number = now.highest + 1;
    return SSO_OK;
}
