/* Takes away the first records of an audit chain: only such as were exported, are older than the
 * setting audit.keep, and stand below a head that the HSM signed. That head is where the chain
 * begins from then on (common/audit_base.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/audit_base.h"
#include "common/clock.h"
#include "common/encode.h"
#include "common/json.h"
#include "common/settings.h"
#include "custodian/custodian.h"
#include "custodian/operations.h"

/* In one transaction: those that wait for theirs behind it wait for some tens of milliseconds. */
#define PRUNED_AT_A_TIME 5000
#define SIGNATURES_AT_A_TIME 2000
/* Signatures looked at for one base: a longer way is gone in several requests. */
#define SIGNATURES_LOOKED_AT 100000
/* So long before the deadline the rest is left to the next request. */
#define ANSWER_MARGIN_MS 5000

struct pruning {
    struct custodian *custodian;
    struct audit_head exported;
    struct audit_base base; /* of the chain; number 0: none yet */
    bool moved;             /* the base is a new one */
    uint64_t signatures;    /* no chain needs these and those before */
    struct audit_record *record;
    size_t records, records_max;
    uint64_t pruned;
    bool left;
};

static enum sso_code body_read(const struct request *request, struct audit_head *out,
                               struct sso_error *err)
{
    static const char *const members[] = {"node", "through", "hash", NULL};
    const char *node = request->custodian->node, *hash = NULL;
    if (request->body == NULL)
        return sso_fail(err, SSO_BAD_REQUEST, "the request needs a JSON object as its body");
    const json_t *through = json_object_get(request->body, "through");
    enum sso_code rc = json_only_members(request->body, members, err);
    if (rc == SSO_OK && json_object_get(request->body, "node") != NULL)
        rc = json_get_text(request->body, "node", sizeof out->node - 1, &node, err);
    if (rc == SSO_OK)
        rc = json_get_text(request->body, "hash", 2 * AUDIT_HASH_BYTES, &hash, err);
    if (rc != SSO_OK)
        return rc;
    if (!json_is_integer(through) || json_integer_value(through) < 1)
        return sso_fail(err, SSO_BAD_REQUEST, "through must be the number of a record");
    if (strlen(hash) != 2 * (size_t)AUDIT_HASH_BYTES ||
        !hex_decode(hash, out->hash, sizeof out->hash))
        return sso_fail(err, SSO_BAD_REQUEST, "hash must be the %d hex digits of that record",
                        2 * AUDIT_HASH_BYTES);
    snprintf(out->node, sizeof out->node, "%s", node);
    out->number = (uint64_t)json_integer_value(through);
    return SSO_OK;
}

static enum sso_code keep_read(struct custodian *custodian, struct store_tx *tx, uint64_t *keep_ms,
                               struct sso_error *err)
{
    struct setting *settings = NULL;
    size_t count = 0;
    bool found = false;
    enum sso_code rc = store_setting_list(tx, &settings, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count && !found; i++)
        found = strcmp(settings[i].name, SETTING_AUDIT_KEEP) == 0 &&
                policy_check_setting(&custodian->policy, &settings[i], NULL) == SSO_OK &&
                parse_duration_ms(settings[i].value, keep_ms);
    free(settings);
    if (rc == SSO_OK && !found)
        rc = sso_fail(err, SSO_POLICY_TAMPERED,
                      "the setting %s is missing from the database or "
                      "was changed in it",
                      SETTING_AUDIT_KEEP);
    return rc;
}

static const struct audit_head *head_of(const struct audit_signature *signature, const char *node)
{
    for (size_t i = 0; i < signature->head_count; i++)
        if (strcmp(signature->head[i].node, node) == 0)
            return &signature->head[i];
    return NULL;
}

/* The last signature of a head that may be the base; *found says whether there is one. */
static enum sso_code signature_find(struct pruning *self, struct store_tx *tx,
                                    struct audit_signature *found, struct sso_error *err)
{
    uint64_t keep_ms = 0, last = self->base.signature;
    struct audit_signature *next = calloc(1, sizeof *next);
    enum sso_code rc = next != NULL ? keep_read(self->custodian, tx, &keep_ms, err)
                                    : sso_fail(err, SSO_NO_MEMORY, "no memory for signatures");
    int64_t newest_ms = wall_clock_ms() - (int64_t)keep_ms;
    for (unsigned i = 0; rc == SSO_OK && i < SIGNATURES_LOOKED_AT; i++) {
        rc = store_audit_signature_next(tx, last, next, err);
        if (rc != SSO_OK || next->number <= last || next->time_ms > newest_ms)
            break;
        const struct audit_head *head = head_of(next, self->exported.node);
        if (head != NULL && head->number > self->exported.number)
            break;
        if (head != NULL && head->number > self->base.last.number)
            *found = *next;
        last = next->number;
    }
    free(next);
    return rc;
}

static enum sso_code signature_check(struct pruning *self, struct store_tx *tx,
                                     const struct audit_signature *signature, struct sso_error *err)
{
    struct custodian *custodian = self->custodian;
    struct audit_key *keys = NULL;
    size_t count = 0;
    bool good = false, holds = false;
    uint8_t digest[AUDIT_DIGEST_BYTES];
    enum sso_code rc = store_audit_key_list(tx, &keys, &count, err);
    audit_signature_digest(custodian->system.id, signature, digest);
    for (size_t i = 0; rc == SSO_OK && i < count && !good; i++)
        good = memcmp(keys[i].id, signature->key_id, sizeof keys[i].id) == 0 &&
               policy_check_audit_key(&custodian->policy, &keys[i], NULL) == SSO_OK &&
               audit_key_verifies(&keys[i], digest, signature->signature);
    free(keys);
    if (rc == SSO_OK)
        rc = store_audit_holds(tx, head_of(signature, self->exported.node), &holds, err);
    if (rc == SSO_OK && !(good && holds))
        rc = sso_fail(err, SSO_ROW_CORRUPT,
                      "signature %llu of the audit does not fit: nothing is pruned; sso-hsm audit "
                      "verify tells more",
                      (unsigned long long)signature->number);
    return rc;
}

/* One that another hand has put there must not be announced as ours, nor be pruned by. */
static enum sso_code bases_read(const struct pruning *self, struct store_tx *tx,
                                struct audit_base **out, size_t *count, struct sso_error *err)
{
    enum sso_code rc = store_audit_base_list(tx, out, count, err);
    for (size_t i = 0; rc == SSO_OK && i < *count; i++)
        rc = policy_check_audit_base(&self->custodian->policy, &(*out)[i], err);
    return rc;
}

static enum sso_code base_read(struct pruning *self, struct store_tx *tx, struct sso_error *err)
{
    struct audit_base *bases = NULL;
    size_t count = 0;
    enum sso_code rc = bases_read(self, tx, &bases, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++)
        if (strcmp(bases[i].last.node, self->exported.node) == 0)
            self->base = bases[i];
    free(bases);
    return rc;
}

/* Signatures that no chain's base is of any more, where every chain has one. */
static enum sso_code signatures_left(struct pruning *self, struct store_tx *tx,
                                     struct sso_error *err)
{
    struct audit_head *heads = NULL;
    struct audit_base *bases = NULL;
    size_t count = 0, base_count = 0, met = 0;
    uint64_t lowest = UINT64_MAX;
    enum sso_code rc = store_audit_heads(tx, &heads, &count, err);
    if (rc == SSO_OK)
        rc = bases_read(self, tx, &bases, &base_count, err);
    for (size_t i = 0; rc == SSO_OK && i < base_count; i++) {
        for (size_t h = 0; h < count; h++)
            met += strcmp(heads[h].node, bases[i].last.node) == 0;
        if (bases[i].signature < lowest)
            lowest = bases[i].signature;
    }
    self->signatures = met == count && count > 0 && lowest > 0 ? lowest - 1 : 0;
    free(heads);
    free(bases);
    return rc;
}

static enum sso_code plan(struct pruning *self, struct sso_error *err)
{
    struct audit_signature *found = calloc(1, sizeof *found);
    bool holds = false;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = found != NULL ? store_begin(self->custodian->store, STORE_READ, &tx, err)
                                     : sso_fail(err, SSO_NO_MEMORY, "no memory to prune");
    if (rc == SSO_OK && (rc = base_read(self, tx, err)) == SSO_OK &&
        self->exported.number > self->base.last.number)
        rc = store_audit_holds(tx, &self->exported, &holds, err);
    else
        holds = true;
    if (rc == SSO_OK && !holds)
        rc = sso_fail(err, SSO_NOT_FOUND,
                      "record %llu of %s is not in the audit with that hash: it was not exported "
                      "from here",
                      (unsigned long long)self->exported.number, self->exported.node);
    if (rc == SSO_OK)
        rc = signature_find(self, tx, found, err);
    if (rc == SSO_OK && found->number != 0 &&
        (rc = signature_check(self, tx, found, err)) == SSO_OK) {
        self->base = (struct audit_base){.last = *head_of(found, self->exported.node),
                                         .signature = found->number,
                                         .time_ms = found->time_ms};
        policy_tag_audit_base(&self->custodian->policy, &self->base);
        self->moved = true;
    } else if (rc == SSO_OK) {
        rc = signatures_left(self, tx, err); /* of a pruning that was not finished */
    }
    free(found);
    return rc;
}

/* --- writing --- */

static struct audit_record *record_add(struct pruning *self, const char *operation)
{
    struct audit_record *record = &self->record[self->records++];
    *record = self->record[0];
    snprintf(record->operation, sizeof record->operation, "%s", operation);
    snprintf(record->outcome, sizeof record->outcome, "ok");
    return record;
}

/* Records that announced a base or a key may be among the pruned: all of them are announced anew.
 */
static enum sso_code announce(struct pruning *self, struct store_tx *tx, struct sso_error *err)
{
    struct audit_base *bases = NULL;
    struct audit_key *keys = NULL;
    size_t base_count = 0, key_count = 0;
    enum sso_code rc = bases_read(self, tx, &bases, &base_count, err);
    if (rc == SSO_OK)
        rc = store_audit_key_list(tx, &keys, &key_count, err);
    if (rc == SSO_OK && base_count + key_count + 2 > self->records_max)
        rc = sso_fail(err, SSO_TOO_LARGE, "too many chains and keys to prune");
    self->records = 1;
    for (size_t i = 0; rc == SSO_OK && i < base_count; i++) {
        struct audit_record *record =
            i == 0 ? &self->record[0] : record_add(self, AUDIT_PRUNE_OPERATION);
        audit_base_target(&bases[i], record->target);
    }
    if (rc == SSO_OK && self->signatures > 0)
        audit_signatures_target(self->signatures, record_add(self, AUDIT_PRUNE_OPERATION)->target);
    for (size_t i = 0; rc == SSO_OK && i < key_count; i++) {
        if (policy_check_audit_key(&self->custodian->policy, &keys[i], NULL) != SSO_OK)
            continue;
        struct audit_record *record = record_add(self, AUDIT_KEY_OPERATION);
        snprintf(record->how, sizeof record->how, "%s", AUDIT_KEY_AGAIN);
        audit_key_target(&keys[i], record->target);
    }
    free(bases);
    free(keys);
    return rc;
}

static enum sso_code write_base(struct store_tx *tx, void *context, struct sso_error *err)
{
    struct pruning *self = context;
    enum sso_code rc = store_audit_base_put(tx, &self->base, err);
    if (rc == SSO_OK)
        rc = signatures_left(self, tx, err);
    return rc == SSO_OK ? announce(self, tx, err) : rc;
}

static enum sso_code base_move(struct pruning *self, struct request *request, struct sso_error *err)
{
    self->records_max = 2 + 2 * AUDIT_HEADS_MAX;
    self->record = calloc(self->records_max, sizeof *self->record);
    if (self->record == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for audit records");
    /* The write says how many there are: those without an operation are not written. */
    self->record[0] = request->audit;
    enum sso_code rc = committer_run(self->custodian->committer, write_base, self, self->record,
                                     self->records_max, err);
    request->audited = rc == SSO_OK;
    return rc;
}

static enum sso_code write_pruned(struct store_tx *tx, void *context, struct sso_error *err)
{
    struct pruning *self = context;
    uint64_t records = 0, signatures = 0;
    enum sso_code rc = store_audit_prune(tx, self->base.last.node, self->base.last.number,
                                         PRUNED_AT_A_TIME, &records, err);
    if (rc == SSO_OK && records == 0 && self->signatures > 0)
        rc = store_audit_prune_signatures(tx, self->signatures, SIGNATURES_AT_A_TIME, &signatures,
                                          err);
    self->pruned += records;
    self->left = records + signatures > 0;
    return rc;
}

static enum sso_code prune_all(struct pruning *self, const struct request *request,
                               struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    self->left = true;
    while (rc == SSO_OK && self->left && boot_clock_ms() + ANSWER_MARGIN_MS < request->deadline_ms)
        rc = committer_run(self->custodian->committer, write_pruned, self, NULL, 0, err);
    return rc;
}

enum sso_code op_audit_prune(struct request *request, struct sso_error *err)
{
    struct pruning self = {.custodian = request->custodian};
    enum sso_code rc = body_read(request, &self.exported, err);
    if (rc != SSO_OK)
        return rc;
    snprintf(request->audit.target, sizeof request->audit.target, "%s/%llu", self.exported.node,
             (unsigned long long)self.exported.number);
    if ((rc = plan(&self, err)) == SSO_OK && self.moved)
        rc = base_move(&self, request, err);
    if (rc == SSO_OK && self.base.last.number > 0)
        rc = prune_all(&self, request, err);
    free(self.record);
    if (rc != SSO_OK)
        return rc;
    request->reply = json_pack("{s:s,s:I,s:I,s:b}", "node", self.exported.node, "pruned",
                               (json_int_t)self.pruned, "through",
                               (json_int_t)self.base.last.number, "left", (int)self.left);
    return request->reply != NULL ? SSO_OK
                                  : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}
