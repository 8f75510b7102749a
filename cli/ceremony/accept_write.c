/* The one transaction of `db accept-restore`. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ceremony/accepting.h"
#include "common/clock.h"
#include "common/encode.h"
#include "common/fault.h"

/* --- generations --- */

static enum sso_code update_known(struct accepting *self, struct store_tx *tx,
                                  struct found_generation *found, struct sso_error *err)
{
    struct generation now;
    uint64_t total;
    uint32_t number = found->row.number;
    enum sso_code rc = store_generation_hold(tx, number, STORE_EXCLUSIVE, &now, err);
    if (rc == SSO_OK && now.version != found->row.version)
        rc = sso_fail(err, SSO_VERSION_CONFLICT,
                      "generation %u was changed meanwhile: say this again", number);
    if (rc == SSO_OK && found->wraps_added > 0)
        rc = store_generation_add_wraps(tx, number, found->wraps_added, 0, &total, err);
    if (rc != SSO_OK || !found->changed)
        return rc;
    found->row.version++;
    policy_tag_generation(&self->ceremony->policy, &found->row);
    return store_generation_update(tx, &found->row, err);
}

static enum sso_code insert_found(struct accepting *self, struct store_tx *tx,
                                  struct found_generation *found, struct sso_error *err)
{
    /* Above the version that the node has seen: no tag is made twice for two contents. */
    found->row.version = found->mark != NULL ? found->mark->version + 1 : 1;
    policy_tag_generation(&self->ceremony->policy, &found->row);
    return store_generation_insert(tx, &found->row, err);
}

static enum sso_code write_generations(struct accepting *self, struct store_tx *tx,
                                       struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    for (size_t i = 0; rc == SSO_OK && i < self->count; i++) {
        struct found_generation *found = &self->generation[i];
        rc = found->kind == FINDING_KNOWN ? update_known(self, tx, found, err)
                                          : insert_found(self, tx, found, err);
        for (size_t t = 0; rc == SSO_OK && t < found->token_count; t++)
            rc = store_generation_token_put(tx, &found->token[t], err);
    }
    return rc;
}

/* --- settings and rotation --- */

static enum sso_code raise_setting(struct accepting *self, struct store_tx *tx, const char *name,
                                   uint64_t value, struct sso_error *err)
{
    const struct policy *policy = &self->ceremony->policy;
    struct setting *row = NULL, raised = {.version = 1};
    size_t count = 0;
    enum sso_code rc = store_setting_list(tx, &row, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        if (strcmp(row[i].name, name) != 0)
            continue;
        rc = policy_check_setting(policy, &row[i], err);
        raised.version = row[i].version + 1;
    }
    free(row);
    snprintf(raised.name, sizeof raised.name, "%s", name);
    snprintf(raised.value, sizeof raised.value, "%" PRIu64, value);
    policy_tag_setting(policy, &raised);
    return rc == SSO_OK ? store_setting_put(tx, &raised, err) : rc;
}

/* One that was going on then: what it moved to need not be what rows go to now. */
static enum sso_code end_rotation(struct accepting *self, struct store_tx *tx,
                                  struct sso_error *err)
{
    struct rotation latest;
    enum sso_code rc = store_rotation_latest(tx, &latest, err);
    if (rc == SSO_NOT_FOUND)
        return SSO_OK;
    if (rc != SSO_OK || (latest.state != ROTATION_PREPARING && latest.state != ROTATION_RUNNING &&
                         latest.state != ROTATION_PAUSED))
        return rc;
    latest.state = ROTATION_CANCELLED;
    latest.finished_ms = wall_clock_ms();
    self->rotation_cancelled = latest.id;
    return store_rotation_update(tx, &latest, err);
}

/* --- the record --- */

struct text {
    char *bytes;
    size_t size, used;
};

static void add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text->bytes + text->used, text->size - text->used, format, arguments);
    va_end(arguments);
    if (length > 0)
        text->used +=
            (size_t)length < text->size - text->used ? (size_t)length : text->size - text->used - 1;
}

static enum sso_code make_record(struct accepting *self, struct sso_error *err)
{
    char target[sizeof self->record.target], hash[2 * AUDIT_HASH_BYTES + 1];
    struct text text = {.bytes = target, .size = sizeof target};
    hex_encode(self->kept.hash, AUDIT_HASH_BYTES, hash);
    if (self->kept.number != 0)
        add(&text, "this node knew record %" PRIu64 " %s; ", self->kept.number, hash);
    else
        add(&text, "this node knew no record; ");
    add(&text, "active %u; numbers up to %u are used", self->active, self->highest);
    for (size_t i = 0; i < self->count; i++) {
        const struct found_generation *found = &self->generation[i];
        if (found->changed || found->kind != FINDING_KNOWN)
            add(&text, "; %u %s%s%s", found->row.number, generation_state_name(found->row.state),
                found->row.closed ? " closed" : "", found->kind == FINDING_STRANGE ? " anew" : "");
    }
    return console_record(self->ceremony, AUDIT_ACCEPT_OPERATION, target, &self->record, err);
}

static enum sso_code write_all(struct accepting *self, struct store_tx *tx, struct sso_error *err)
{
    enum sso_code rc = write_generations(self, tx, err);
    if (rc == SSO_OK)
        rc = raise_setting(self, tx, SETTING_GENERATION_FLOOR, self->highest, err);
    if (rc == SSO_OK)
        rc = raise_setting(self, tx, SETTING_REVOCATION, self->revocation, err);
    if (rc == SSO_OK)
        rc = store_master_lease_reset(tx, self->marks.epoch, err);
    if (rc == SSO_OK)
        rc = end_rotation(self, tx, err);
    if (rc == SSO_OK)
        rc = make_record(self, err);
    if (rc == SSO_OK)
        rc = store_audit_append(tx, &self->record, 1, err);
    return rc;
}

/* From here on this database is what the node has seen. A run that is ended before this is over is
 * said again, and comes to the same. */
static enum sso_code keep(struct accepting *self, struct sso_error *err)
{
    const char *folder = self->ceremony->config->system.state_directory;
    HIGH_WATER_AUTO now = {0};
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(self->ceremony->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_high_water_trusted(tx, &self->ceremony->policy, &now, err);
    store_rollback(&tx);
    if (rc == SSO_OK && !audit_head_write(folder, &self->record))
        rc = sso_fail(err, SSO_CONFIG_ERROR, "%s/" AUDIT_HEAD_FILE " is not written", folder);
    fault_point("accept.head");
    return rc == SSO_OK ? high_water_replace(folder, &now, err) : rc;
}

enum sso_code accepting_write(struct accepting *self, struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(self->ceremony->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = write_all(self, tx, err);
    fault_point("accept.written");
    if (rc == SSO_OK)
        rc = store_commit(&tx, err);
    if (rc != SSO_OK)
        return rc;
    fault_point("accept.committed");
    rc = keep(self, err);
    return rc == SSO_OK ? rc
                        : sso_error_context(err, "the database is accepted, but not noted here: "
                                                 "say this again");
}
