#include "common/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config_keys.h"
#include "common/config_kinds.h"
#include "common/policy.h"

enum guard { GUARD_NONE, GUARD_LOWERING, GUARD_RAISING };

/* A setting takes what the key takes. Of words the first is the highest. */
struct setting_row {
    const char *name;
    const struct config_key *key; /* NULL: that of the configuration file with this name */
    enum guard guard;
};

static const struct config_key yes_or_no = {"", "", &config_bool, 0, "yes", "yes|no", 0, 0};

static const struct config_key no_or_yes = {"", "", &config_bool, 0, "no", "yes|no", 0, 0};
static const struct config_key ticket_lifetime = {"",   "",    &config_duration64,    0, "2m",
                                                  NULL, 60000, TICKET_LIFETIME_MS_MAX};

static const struct setting_row rows[] = {
    {"cluster.failover", NULL, GUARD_NONE},
    {"cluster.master_lease", NULL, GUARD_NONE},
    {"cluster.poll_interval", NULL, GUARD_NONE},
    {"cluster.offline_grace", NULL, GUARD_RAISING},
    {"cache.lease", NULL, GUARD_NONE},
    {"audit.lookups", NULL, GUARD_LOWERING},
    {"audit.journal", NULL, GUARD_NONE},
    {SETTING_AUDIT_KEEP, NULL, GUARD_LOWERING},
    {"keys.drill_interval", NULL, GUARD_NONE},
    {"keys.retired_keep", NULL, GUARD_LOWERING},
    {SETTING_DUAL_CONTROL, NULL, GUARD_LOWERING},
    {SETTING_SYSTEM_ENABLED, &yes_or_no, GUARD_NONE},
    {SETTING_TICKETS_ALLOWED, &no_or_yes, GUARD_NONE},
    {SETTING_TICKETS_VALIDATE, &yes_or_no, GUARD_NONE},
    {SETTING_TICKETS_LIFETIME, &ticket_lifetime, GUARD_NONE},
};
#define ROWS (sizeof rows / sizeof rows[0])
_Static_assert(ROWS < SETTINGS_MAX, "with system.revocation they fit");

static const struct setting_row *row_of(const char *name)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    }
    return NULL;
}

static const struct config_key *key_of(const struct setting_row *row)
{
    char section[SETTING_NAME_BYTES_MAX + 1];
    if (row->key != NULL)
        return row->key;
    size_t length = strcspn(row->name, ".");
    snprintf(section, sizeof section, "%.*s", (int)length, row->name);
    return config_key_find(section, row->name + length + 1);
}

static bool is_duration(const struct config_key *key)
{
    return key->kind == &config_duration32 || key->kind == &config_duration64;
}

size_t settings_initial(const struct config *config, struct config_setting out[static SETTINGS_MAX])
{
    size_t count = config_initial_settings(config, out);
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].key == NULL)
            continue;
        snprintf(out[count].name, sizeof out[count].name, "%s", rows[i].name);
        snprintf(out[count].value, sizeof out[count].value, "%s", rows[i].key->default_text);
        count++;
    }
    out[count++] = (struct config_setting){SETTING_REVOCATION, "0"};
    return count;
}

enum sso_code setting_check(const char *name, const char *text,
                            char out[static SETTING_VALUE_BYTES_MAX + 1], struct sso_error *err)
{
    char expected[CONFIG_EXPECTED_BYTES];
    const struct setting_row *row = row_of(name);
    if (row == NULL && strcmp(name, SETTING_REVOCATION) == 0)
        return sso_fail(err, SSO_BAD_REQUEST, "%s is raised by the service itself", name);
    if (row == NULL)
        return sso_fail(err, SSO_NOT_FOUND,
                        "there is no setting %.64s: sso-hsm settings show lists them", name);
    const struct config_key *key = key_of(row);
    union {
        bool yes;
        unsigned number;
        uint64_t large;
        char *word;
    } member = {0};
    bool good = key->kind->set(key, text, &member, expected);
    if (key->kind->release != NULL)
        key->kind->release(&member);
    if (!good)
        return sso_fail(err, SSO_BAD_REQUEST, "%s: expected %s", name, expected);
    uint64_t ms;
    if (is_duration(key) && parse_duration_ms(text, &ms))
        format_duration(ms, out);
    else
        snprintf(out, SETTING_VALUE_BYTES_MAX + 1, "%s", text);
    return SSO_OK;
}

/* How high a value is; what cannot be read is above all, so that every change of it is guarded. */
static uint64_t height(const struct config_key *key, const char *value)
{
    uint64_t ms;
    if (is_duration(key))
        return parse_duration_ms(value, &ms) ? ms : UINT64_MAX;
    uint64_t height = UINT64_MAX;
    for (const char *next = key->words; next != NULL; height--) {
        size_t span = strcspn(next, "|");
        if (strlen(value) == span && memcmp(value, next, span) == 0)
            return height;
        next = next[span] == '|' ? next + span + 1 : NULL;
    }
    return UINT64_MAX;
}

bool setting_needs_two(const char *name, const char *now, const char *wanted)
{
    const struct setting_row *row = row_of(name);
    if (row == NULL || row->guard == GUARD_NONE)
        return false;
    const struct config_key *key = key_of(row);
    uint64_t from = height(key, now), to = height(key, wanted);
    return row->guard == GUARD_RAISING ? to > from : to < from;
}
