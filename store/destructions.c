#include <stdlib.h>

#include "store/store.h"

static enum sso_code count_rows(struct store_tx *tx, uint32_t number, struct generation_usage *out,
                                struct sso_error *err)
{
    struct generation_rows *rows = NULL;
    size_t count = 0;
    enum sso_code rc = store_count_by_generation(tx, &rows, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        if (rows[i].generation != number)
            continue;
        out->credentials += rows[i].credentials;
        out->sealed_keys += rows[i].sealed_keys;
    }
    free(rows);
    return rc;
}

static enum sso_code count_quarantine(struct store_tx *tx, uint32_t number,
                                      struct generation_usage *out, struct sso_error *err)
{
    struct quarantine_entry *entries = NULL;
    size_t count = 0;
    enum sso_code rc = store_quarantine_list(tx, &entries, &count, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++)
        out->quarantined += entries[i].generation == number;
    free(entries);
    return rc;
}

enum sso_code store_generation_usage(struct store_tx *tx, uint32_t number,
                                     struct generation_usage *out, struct sso_error *err)
{
    struct rotation *rotation = calloc(1, sizeof *rotation);
    *out = (struct generation_usage){0};
    if (rotation == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory to count what needs a generation");
    enum sso_code rc = store_rotation_latest(tx, rotation, err);
    if (rc == SSO_NOT_FOUND)
        rc = SSO_OK;
    else if (rc == SSO_OK)
        out->rotation = rotation->state == ROTATION_PREPARING ||
                        rotation->state == ROTATION_RUNNING || rotation->state == ROTATION_PAUSED;
    free(rotation);
    if (rc == SSO_OK)
        rc = count_rows(tx, number, out, err);
    return rc == SSO_OK ? count_quarantine(tx, number, out, err) : rc;
}

enum sso_code generation_usage_check(const struct generation_usage *usage, uint32_t number,
                                     struct sso_error *err)
{
    if (usage->rotation)
        return sso_fail(err, SSO_ROTATION_IN_PROGRESS,
                        "a rotation is in progress: wait for its end, or sso-hsm rotate cancel");
    if (usage->credentials + usage->sealed_keys + usage->quarantined == 0)
        return SSO_OK;
    return sso_fail(err, SSO_IN_USE,
                    "generation %u is needed by %llu rows, %llu sealed keys and %llu rows in "
                    "quarantine: rotate to a newer one first",
                    number, (unsigned long long)usage->credentials,
                    (unsigned long long)usage->sealed_keys, (unsigned long long)usage->quarantined);
}
