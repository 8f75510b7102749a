#include "store/store.h"

#include <stdlib.h>
#include <string.h>

#include "common/fault.h"
#include "store/backend.h"

static const struct store_ops *const back_ends[] = {
    &sqlite_store_ops,
    &postgresql_store_ops,
};
#define BACK_ENDS (sizeof back_ends / sizeof back_ends[0])

static bool has_scheme(const char *url, const char *scheme)
{
    size_t length = strlen(scheme);
    return strncmp(url, scheme, length) == 0 && url[length] == ':';
}

/* A URL may hold a password, so no text quotes it. */
static enum sso_code find_back_end(const char *url, const struct store_ops **out,
                                   struct sso_error *err)
{
    for (size_t i = 0; i < BACK_ENDS; i++) {
        if (has_scheme(url, back_ends[i]->scheme)) {
            *out = back_ends[i];
            return SSO_OK;
        }
    }
    return sso_fail(err, SSO_CONFIG_ERROR,
                    "[database] url: expected sqlite:/path or postgresql://HOST/DATABASE");
}

enum sso_code store_open(const char *url, struct store **out, struct sso_error *err)
{
    const struct store_ops *ops = NULL;
    enum sso_code rc = find_back_end(url, &ops, err);
    return rc != SSO_OK ? rc : ops->open(url, out, err);
}

enum sso_code store_create(const char *url, struct store **out, struct sso_error *err)
{
    const struct store_ops *ops = NULL;
    enum sso_code rc = find_back_end(url, &ops, err);
    return rc != SSO_OK ? rc : ops->create(url, out, err);
}

enum sso_code store_may_create(const char *url, bool *there, struct sso_error *err)
{
    const struct store_ops *ops = NULL;
    enum sso_code rc = find_back_end(url, &ops, err);
    return rc != SSO_OK ? rc : ops->may_create(url, there, err);
}

enum sso_code store_upgrade(const char *url, struct sso_error *err)
{
    const struct store_ops *ops = NULL;
    enum sso_code rc = find_back_end(url, &ops, err);
    return rc != SSO_OK ? rc : ops->upgrade(url, err);
}

void store_close(struct store **store)
{
    if (store == NULL || *store == NULL)
        return;
    (*store)->ops->close(*store);
    *store = NULL;
}

const char *store_kind(const struct store *store)
{
    return store->ops->scheme;
}

unsigned store_schema(const struct store *store)
{
    return store->ops->schema(store);
}

bool store_write_holder(struct store *store, int *pid)
{
    return store->ops->write_holder != NULL && store->ops->write_holder(store, pid);
}

void store_use_lease(struct store *store, unsigned lease_ms)
{
    if (store->ops->use_lease != NULL)
        store->ops->use_lease(store, lease_ms);
}

enum sso_code store_begin(struct store *store, enum store_access access, struct store_tx **out,
                          struct sso_error *err)
{
    *out = NULL;
    return store->ops->begin(store, access, out, err);
}

bool store_commit_unknown(const struct store *store)
{
    return store->commit_unknown;
}

enum sso_code store_commit(struct store_tx **tx, struct sso_error *err)
{
    const struct store_ops *ops = (*tx)->store->ops;
    bool wrote = (*tx)->access == STORE_WRITE;
    if (wrote && fault_point("store.commit")) {
        store_rollback(tx);
        return sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                        "the transaction failed at the point store.commit, as asked for");
    }
    enum sso_code rc = ops->commit(*tx, err);
    *tx = NULL;
    /* Only to stop or kill: what is committed cannot fail any more. */
    if (wrote && rc == SSO_OK)
        (void)fault_point("store.committed");
    return rc;
}

void store_rollback(struct store_tx **tx)
{
    if (tx == NULL || *tx == NULL)
        return;
    (*tx)->store->ops->rollback(*tx);
    *tx = NULL;
}

enum sso_code store_must_write(const struct store_tx *tx, const char *function,
                               struct sso_error *err)
{
    if (tx->access == STORE_WRITE)
        return SSO_OK;
    return sso_fail(err, SSO_INTERNAL, "%s was called in a read transaction", function);
}

enum sso_code store_savepoint(struct store_tx *tx, struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->savepoint(tx, err);
}

enum sso_code store_savepoint_keep(struct store_tx *tx, struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->savepoint_keep(tx, err);
}

enum sso_code store_savepoint_undo(struct store_tx *tx, struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->savepoint_undo(tx, err);
}

enum sso_code store_backup(struct store *store, const char *path, struct sso_error *err)
{
    return store->ops->backup(store, path, err);
}

enum sso_code store_check_structure(struct store_tx *tx, char ***lines, size_t *count,
                                    struct sso_error *err)
{
    return tx->store->ops->check_structure(tx, lines, count, err);
}

void store_lines_free(char ***lines, size_t count)
{
    for (size_t i = 0; *lines != NULL && i < count; i++)
        free((*lines)[i]);
    free(*lines);
    *lines = NULL;
}
