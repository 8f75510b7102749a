#include "cli/audit_signatures.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/audit_base.h"
#include "common/encode.h"

struct verification {
    struct store_tx *tx;
    const struct audit_anchor *anchor;
    json_t *findings, *through;
    struct system_row system;
    struct audit_key *key;
    bool *good;                  /* for each key */
    struct audit_record *record; /* for each key: that announces it, number 0 where none does */
    size_t key_count;
    struct audit_base *base;
    bool *signed_base; /* for each base: a good signature names it */
    size_t base_count;
    uint64_t pruned;                /* signatures up to this number may be gone */
    char told[AUDIT_HEADS_MAX][65]; /* nodes whose chain is not the signed one: told of once */
    size_t told_count;
};

__attribute__((format(printf, 4, 5))) static void
add_finding(struct verification *self, const char *node, uint64_t number, const char *format, ...)
{
    char detail[320];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    json_array_append_new(self->findings,
                          json_pack("{s:s, s:I, s:s, s:s}", "node", node, "number",
                                    (json_int_t)number, "kind", "signature", "detail", detail));
}

static void name_key(const struct audit_key *key, char out[static 2 * AUDIT_KEY_ID_BYTES + 1])
{
    hex_encode(key->id, sizeof key->id, out);
}

static bool in_anchor(const struct audit_anchor *anchor, const struct audit_key *key)
{
    uint8_t fingerprint[AUDIT_DIGEST_BYTES];
    audit_key_fingerprint(key, fingerprint);
    for (size_t i = 0; i < anchor->key_count; i++)
        if (memcmp(anchor->key[i], fingerprint, sizeof fingerprint) == 0)
            return true;
    return false;
}

/* Finds the records that announce the keys; what was found says which keys to begin with. */
static enum sso_code read_keys(struct verification *self, struct sso_error *err)
{
    struct audit_record *records = NULL;
    size_t count = 0;
    enum sso_code rc = store_audit_key_list(self->tx, &self->key, &self->key_count, err);
    if (rc == SSO_OK)
        rc = store_audit_of_operation(self->tx, AUDIT_KEY_OPERATION, &records, &count, err);
    if (rc == SSO_OK) {
        self->good = calloc(self->key_count + 1, sizeof *self->good);
        self->record = calloc(self->key_count + 1, sizeof *self->record);
        if (self->good == NULL || self->record == NULL)
            rc = sso_fail(err, SSO_NO_MEMORY, "no memory for audit keys");
    }
    for (size_t k = 0; rc == SSO_OK && k < self->key_count; k++) {
        char id[2 * AUDIT_KEY_ID_BYTES + 1], target[AUDIT_KEY_TARGET_SIZE];
        name_key(&self->key[k], id);
        audit_key_target(&self->key[k], target);
        for (size_t i = 0; i < count; i++)
            if (strcmp(records[i].target, target) == 0 && self->record[k].number == 0)
                self->record[k] = records[i];
        const char *how = self->record[k].how;
        bool again = self->base_count > 0 && strcmp(how, AUDIT_KEY_AGAIN) == 0;
        bool announced = self->record[k].number != 0 && (strcmp(how, "console") == 0 || again);
        self->good[k] =
            self->anchor->key_count > 0 ? in_anchor(self->anchor, &self->key[k]) : announced;
        if (self->record[k].number == 0)
            add_finding(self, self->key[k].node, 0, "no record announces the audit key %s", id);
    }
    free(records);
    return rc;
}

static const struct audit_head *head_of(const struct audit_signature *signature, const char *node)
{
    for (size_t i = 0; i < signature->head_count; i++)
        if (strcmp(signature->head[i].node, node) == 0)
            return &signature->head[i];
    return NULL;
}

/* A good key signed the chain in which these stand. */
static void believe_announced(struct verification *self, const struct audit_signature *signature)
{
    for (size_t k = 0; k < self->key_count; k++) {
        const struct audit_head *head = head_of(signature, self->record[k].node);
        if (self->record[k].number != 0 && head != NULL && head->number >= self->record[k].number)
            self->good[k] = true;
    }
}

static bool told_before(struct verification *self, const char *node)
{
    for (size_t i = 0; i < self->told_count; i++)
        if (strcmp(self->told[i], node) == 0)
            return true;
    if (self->told_count < AUDIT_HEADS_MAX)
        snprintf(self->told[self->told_count++], sizeof self->told[0], "%s", node);
    return false;
}

/* Was the record pruned, or is it the last that was? Then *holds says what can be said. */
static bool before_base(struct verification *self, const struct audit_signature *signature,
                        const struct audit_head *head, bool *holds)
{
    for (size_t i = 0; i < self->base_count; i++) {
        const struct audit_base *base = &self->base[i];
        if (strcmp(base->last.node, head->node) != 0 || head->number > base->last.number)
            continue;
        *holds = head->number < base->last.number ||
                 memcmp(head->hash, base->last.hash, sizeof head->hash) == 0;
        if (*holds && head->number == base->last.number && signature->number == base->signature)
            self->signed_base[i] = true;
        return true;
    }
    return false;
}

static enum sso_code check_heads(struct verification *self, const struct audit_signature *signature,
                                 struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    bool all = true;
    for (size_t i = 0; rc == SSO_OK && i < signature->head_count; i++) {
        const struct audit_head *head = &signature->head[i];
        bool holds = false;
        if (!before_base(self, signature, head, &holds))
            rc = store_audit_holds(self->tx, head, &holds, err);
        if (rc == SSO_OK && holds)
            json_object_set_new(self->through, head->node, json_integer((json_int_t)head->number));
        else if (rc == SSO_OK && !told_before(self, head->node))
            add_finding(self, head->node, head->number,
                        "signature %llu is of a record that is not there, or was another",
                        (unsigned long long)signature->number);
        all = all && holds;
    }
    if (rc == SSO_OK && all)
        believe_announced(self, signature);
    return rc;
}

static enum sso_code check_signature(struct verification *self,
                                     const struct audit_signature *signature, struct sso_error *err)
{
    unsigned long long number = signature->number;
    uint8_t digest[AUDIT_DIGEST_BYTES];
    size_t k = 0;
    while (k < self->key_count &&
           memcmp(self->key[k].id, signature->key_id, AUDIT_KEY_ID_BYTES) != 0)
        k++;
    if (k == self->key_count) {
        add_finding(self, "", number, "signature %llu is of a key that the database does not know",
                    number);
        return SSO_OK;
    }
    audit_signature_digest(self->system.id, signature, digest);
    if (!audit_key_verifies(&self->key[k], digest, signature->signature))
        add_finding(self, self->key[k].node, number, "signature %llu does not fit", number);
    else if (!self->good[k])
        add_finding(self, self->key[k].node, number,
                    "signature %llu is of a key that nothing vouches for", number);
    else
        return check_heads(self, signature, err);
    return SSO_OK;
}

static enum sso_code check_all(struct verification *self, struct sso_error *err)
{
    struct audit_signature *signature = calloc(1, sizeof *signature);
    enum sso_code rc =
        signature != NULL ? SSO_OK : sso_fail(err, SSO_NO_MEMORY, "no memory to verify");
    for (uint64_t last = 0; rc == SSO_OK;) {
        rc = store_audit_signature_next(self->tx, last, signature, err);
        if (rc != SSO_OK || signature->number <= last)
            break;
        uint64_t expected = (last > self->pruned ? last : self->pruned) + 1;
        if (signature->number > expected)
            add_finding(self, "", expected, "signatures %llu to %llu are missing",
                        (unsigned long long)expected, (unsigned long long)signature->number - 1);
        last = signature->number;
        rc = check_signature(self, signature, err);
    }
    free(signature);
    return rc;
}

/* A base is believed where a signature names it and a record announces it: else what stood before
 * it was taken away. */
static enum sso_code read_bases(struct verification *self, struct audit_record **records,
                                size_t *count, struct sso_error *err)
{
    enum sso_code rc = store_audit_base_list(self->tx, &self->base, &self->base_count, err);
    if (rc == SSO_OK)
        rc = store_audit_of_operation(self->tx, AUDIT_PRUNE_OPERATION, records, count, err);
    self->signed_base = calloc(self->base_count + 1, sizeof *self->signed_base);
    if (rc == SSO_OK && self->signed_base == NULL)
        rc = sso_fail(err, SSO_NO_MEMORY, "no memory to verify what was pruned");
    for (size_t i = 0; rc == SSO_OK && i < *count; i++) {
        uint64_t through = audit_signatures_through((*records)[i].target);
        if (through > self->pruned)
            self->pruned = through;
    }
    return rc;
}

static void check_bases(struct verification *self, const struct audit_record *records, size_t count)
{
    for (size_t b = 0; b < self->base_count; b++) {
        const struct audit_base *base = &self->base[b];
        char target[AUDIT_BASE_TARGET_SIZE];
        bool announced = false;
        audit_base_target(base, target);
        for (size_t i = 0; i < count; i++)
            announced = announced || (strcmp(records[i].target, target) == 0 &&
                                      strcmp(records[i].outcome, "ok") == 0);
        if (announced && self->signed_base[b])
            continue;
        json_array_append_new(
            self->findings,
            json_pack("{s:s, s:i, s:s, s:s}", "node", base->last.node, "number", 1, "kind",
                      "missing", "detail",
                      announced ? "the chain begins after a record that no signature names"
                                : "the chain begins after a record, and no record tells that those "
                                  "before it were pruned"));
    }
}

enum sso_code signatures_verify(struct store_tx *tx, const struct audit_anchor *anchor,
                                json_t *findings, json_t *through, struct audit_anchor *keys,
                                struct sso_error *err)
{
    struct verification *self = calloc(1, sizeof *self);
    if (self == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory to verify signatures");
    self->tx = tx;
    self->anchor = anchor;
    self->findings = findings;
    self->through = through;
    struct audit_record *pruned = NULL;
    size_t pruned_count = 0;
    enum sso_code rc = store_system_get(tx, &self->system, err);
    if (rc == SSO_OK)
        rc = read_bases(self, &pruned, &pruned_count, err);
    if (rc == SSO_OK)
        rc = read_keys(self, err);
    if (rc == SSO_OK)
        rc = check_all(self, err);
    if (rc == SSO_OK)
        check_bases(self, pruned, pruned_count);
    free(pruned);
    for (size_t k = 0; rc == SSO_OK && k < self->key_count; k++)
        if (self->good[k] && keys->key_count < ANCHOR_KEYS_MAX)
            audit_key_fingerprint(&self->key[k], keys->key[keys->key_count++]);
    free(self->key);
    free(self->good);
    free(self->base);
    free(self->signed_base);
    free(self->record);
    free(self);
    return rc;
}
