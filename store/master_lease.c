#include "store/backend.h"

bool master_lease_is_free(const struct master_lease *lease)
{
    for (size_t i = 0; i < sizeof lease->instance; i++) {
        if (lease->instance[i] != 0)
            return false;
    }
    return true;
}

enum sso_code store_master_lease_read(struct store_tx *tx, struct master_lease *out,
                                      struct sso_error *err)
{
    return tx->store->ops->master_lease->read(tx, out, err);
}

enum sso_code store_master_lease_take(struct store_tx *tx, const struct master_lease *seen,
                                      struct master_lease *wanted, struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->master_lease->take(tx, seen, wanted, err);
}

enum sso_code store_master_lease_renew(struct store_tx *tx, const struct master_lease *own,
                                       struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->master_lease->renew(tx, own, err);
}

enum sso_code store_master_lease_hold(struct store_tx *tx, const struct master_lease *own,
                                      struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->master_lease->hold(tx, own, err);
}

enum sso_code store_master_lease_promise(struct store_tx *tx, const struct master_lease *own,
                                         const char *successor, struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->master_lease->promise(tx, own, successor, err);
}

enum sso_code store_master_lease_give_back(struct store_tx *tx, const struct master_lease *own,
                                           struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->master_lease->give_back(tx, own, err);
}

enum sso_code store_master_lease_reset(struct store_tx *tx, uint64_t epoch, struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->master_lease->reset(tx, epoch, err);
}

enum sso_code store_standby_put(struct store_tx *tx, const struct standby *standby,
                                struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->master_lease->standby_put(tx, standby, err);
}

enum sso_code store_standby_remove(struct store_tx *tx, const char *node, struct sso_error *err)
{
    enum sso_code rc = store_must_write(tx, __func__, err);
    return rc != SSO_OK ? rc : tx->store->ops->master_lease->standby_remove(tx, node, err);
}

enum sso_code store_standby_list(struct store_tx *tx, struct standby **out, size_t *count,
                                 struct sso_error *err)
{
    return tx->store->ops->master_lease->standby_list(tx, out, count, err);
}
