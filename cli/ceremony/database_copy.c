/* `db copy`: the installation into another database, while its custodian is stopped. */
#include <unistd.h>

#include "cli/ceremony/installation.h"
#include "common/state_lock.h"

/* Before anything is written anywhere. */
static enum sso_code must_hold_none(struct store *target, struct sso_error *err)
{
    struct system_row system;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(target, STORE_READ, &tx, err);
    if (rc != SSO_OK)
        return rc;
    rc = store_system_get(tx, &system, err);
    if (rc == SSO_OK)
        return sso_fail(err, SSO_ALREADY_EXISTS,
                        "the other database holds the system %s already; nothing was changed",
                        system.name);
    return rc == SSO_NOT_FOUND ? SSO_OK : rc;
}

/* In the database that is left; it goes over with the rest. */
static enum sso_code record_copy(struct ceremony *ceremony, struct store *target,
                                 struct sso_error *err)
{
    struct audit_record record;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = console_record(ceremony, "database.copy", store_kind(target), &record, err);
    if (rc == SSO_OK)
        rc = store_begin(ceremony->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = store_audit_append(tx, &record, 1, err);
    if (rc == SSO_OK)
        rc = store_commit(&tx, err);
    if (rc == SSO_OK)
        console_keep_head(ceremony, &record, false);
    return rc;
}

static enum sso_code copy(struct ceremony *ceremony, const char *url, json_t **result,
                          struct sso_error *err)
{
    struct store *target = NULL;
    uint64_t rows = 0;
    enum sso_code rc = store_create(url, &target, err);
    if (rc == SSO_OK)
        rc = must_hold_none(target, err);
    if (rc == SSO_OK)
        rc = record_copy(ceremony, target, err);
    if (rc == SSO_OK)
        rc = store_copy(ceremony->store, target, &rows, err);
    if (rc == SSO_OK)
        *result = json_pack("{s:s, s:s, s:i, s:I}", "from", store_kind(ceremony->store), "to",
                            store_kind(target), "schema", (int)store_schema(target), "rows",
                            (json_int_t)rows);
    store_close(&target);
    return rc;
}

enum sso_code ceremony_copy_database(struct ceremony *ceremony, const char *url, json_t **result,
                                     struct sso_error *err)
{
    int lock = -1;
    enum sso_code rc = ceremony_open_database(ceremony, err);
    if (rc == SSO_OK)
        rc = state_lock_take(ceremony->config->system.state_directory, &lock, err);
    if (rc == SSO_IN_USE)
        return sso_fail(err, rc,
                        "a custodian is running on %s: stop it first, or what is written during "
                        "the copy is lost",
                        ceremony->config->system.state_directory);
    if (rc == SSO_OK)
        rc = copy(ceremony, url, result, err);
    if (lock >= 0)
        close(lock);
    return rc;
}
