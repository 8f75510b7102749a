#include <string.h>

#include "store/sql_statement.h"

/* --- the lease --- */

static enum sso_code lock_lease(struct store_tx *tx, enum store_lock mode, struct sso_error *err)
{
    const struct sql_lock held = {.noun = "master lease", .id = "", .id_bytes = 0, .mode = mode};
    return sql_lock(tx, &held, err);
}

static void read_lease(struct sql_statement *s, struct master_lease *out)
{
    sql_read_text(s, out->node, sizeof out->node);
    sql_read_text(s, out->address, sizeof out->address);
    sql_read_bytes(s, out->home, sizeof out->home);
    sql_read_bytes(s, out->instance, sizeof out->instance);
    out->epoch = sql_read_u64(s);
    out->beat = sql_read_u64(s);
    out->lease_ms = sql_read_u32(s);
    sql_read_text(s, out->successor, sizeof out->successor);
}

static enum sso_code lease_read(struct store_tx *tx, struct master_lease *out,
                                struct sso_error *err)
{
    static const char sql[] =
        "SELECT node, address, home, instance, epoch, beat, lease_ms, successor FROM master_lease";
    SQL_STATEMENT_AUTO s = {0};
    bool found = false;
    struct master_lease lease = {0};
    enum sso_code rc = sql_prepare(tx, sql, &s, err);
    if (rc == SSO_OK)
        rc = sql_step(&s, &found, err);
    if (rc == SSO_OK && found) {
        read_lease(&s, &lease);
        rc = sql_check_row(&s, "the row of the master lease", err);
    }
    if (rc == SSO_OK)
        *out = lease;
    return rc;
}

/* Of a row that nobody has made yet. */
static enum sso_code lease_insert(struct store_tx *tx, const struct master_lease *lease,
                                  struct sso_error *err)
{
    static const char sql[] = "INSERT INTO master_lease (one, node, address, home, instance, epoch,"
                              " beat, lease_ms, successor) VALUES (1, ?, ?, ?, ?, ?, 1, ?, '')"
                              " ON CONFLICT DO NOTHING";
    SQL_STATEMENT_AUTO s = {0};
    enum sso_code rc = sql_prepare(tx, sql, &s, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_text(&s, lease->node);
    sql_bind_text(&s, lease->address);
    sql_bind_bytes(&s, lease->home, sizeof lease->home);
    sql_bind_bytes(&s, lease->instance, sizeof lease->instance);
    sql_bind_u64(&s, lease->epoch);
    sql_bind_u64(&s, lease->lease_ms);
    return sql_insert(&s, err);
}

/* The beat goes on where it was: who watches it must not take an old one for a new one. */
static enum sso_code lease_replace(struct store_tx *tx, const struct master_lease *seen,
                                   const struct master_lease *wanted, uint64_t *changed,
                                   struct sso_error *err)
{
    static const char sql[] =
        "UPDATE master_lease SET node = ?, address = ?, home = ?, instance = ?, epoch = ?,"
        " lease_ms = ?, beat = beat + 1, successor = ''"
        " WHERE instance = ? AND epoch = ? AND beat = ?";
    SQL_STATEMENT_AUTO s = {0};
    enum sso_code rc = sql_prepare(tx, sql, &s, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_text(&s, wanted->node);
    sql_bind_text(&s, wanted->address);
    sql_bind_bytes(&s, wanted->home, sizeof wanted->home);
    sql_bind_bytes(&s, wanted->instance, sizeof wanted->instance);
    sql_bind_u64(&s, wanted->epoch);
    sql_bind_u64(&s, wanted->lease_ms);
    sql_bind_bytes(&s, seen->instance, sizeof seen->instance);
    sql_bind_u64(&s, seen->epoch);
    sql_bind_u64(&s, seen->beat);
    return sql_run(&s, changed, err);
}

static enum sso_code lease_take(struct store_tx *tx, const struct master_lease *seen,
                                struct master_lease *wanted, struct sso_error *err)
{
    uint64_t changed = 1;
    enum sso_code rc = lock_lease(tx, STORE_EXCLUSIVE, err);
    if (rc != SSO_OK)
        return rc;
    wanted->epoch = seen->epoch + 1;
    if (seen->epoch != 0)
        rc = lease_replace(tx, seen, wanted, &changed, err);
    else
        rc = lease_insert(tx, wanted, err);
    if (rc == SSO_ALREADY_EXISTS || (rc == SSO_OK && changed != 1))
        rc = sso_fail(err, SSO_VERSION_CONFLICT,
                      "the master lease is no longer as it was when this node looked");
    return rc;
}

/* For statements whose WHERE ends with instance and epoch; what comes before them is bound. */
static enum sso_code run_as_holder(struct sql_statement *s, const struct master_lease *own,
                                   struct sso_error *err)
{
    uint64_t changed = 0;
    sql_bind_bytes(s, own->instance, sizeof own->instance);
    sql_bind_u64(s, own->epoch);
    enum sso_code rc = sql_run(s, &changed, err);
    if (rc == SSO_OK && changed != 1)
        rc = sso_fail(err, SSO_MASTER_UNAVAILABLE,
                      "this node is no longer the master: its lease of epoch %llu was taken over",
                      (unsigned long long)own->epoch);
    return rc;
}

static enum sso_code lease_renew(struct store_tx *tx, const struct master_lease *own,
                                 struct sso_error *err)
{
    static const char sql[] =
        "UPDATE master_lease SET lease_ms = ?, beat = beat + 1 WHERE instance = ? AND epoch = ?";
    SQL_STATEMENT_AUTO s = {0};
    enum sso_code rc = sql_prepare(tx, sql, &s, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_u64(&s, own->lease_ms);
    return run_as_holder(&s, own, err);
}

/* The row is read in a statement of its own, behind the lock, so that it is as the lock protects
 * it. */
static enum sso_code lease_hold(struct store_tx *tx, const struct master_lease *own,
                                struct sso_error *err)
{
    static const char sql[] = "SELECT 1 FROM master_lease WHERE instance = ? AND epoch = ?";
    SQL_STATEMENT_AUTO s = {0};
    bool found = false;
    enum sso_code rc = lock_lease(tx, STORE_SHARED, err);
    if (rc == SSO_OK)
        rc = sql_prepare(tx, sql, &s, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&s, own->instance, sizeof own->instance);
    sql_bind_u64(&s, own->epoch);
    rc = sql_step(&s, &found, err);
    if (rc == SSO_OK && !found)
        rc = sso_fail(err, SSO_MASTER_UNAVAILABLE,
                      "this node is no longer the master: its lease of epoch %llu was taken over",
                      (unsigned long long)own->epoch);
    return rc;
}

static enum sso_code lease_promise(struct store_tx *tx, const struct master_lease *own,
                                   const char *successor, struct sso_error *err)
{
    static const char sql[] =
        "UPDATE master_lease SET successor = ?, beat = beat + 1 WHERE instance = ? AND epoch = ?";
    SQL_STATEMENT_AUTO s = {0};
    enum sso_code rc = sql_prepare(tx, sql, &s, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_text(&s, successor);
    return run_as_holder(&s, own, err);
}

static enum sso_code lease_give_back(struct store_tx *tx, const struct master_lease *own,
                                     struct sso_error *err)
{
    static const char sql[] = "UPDATE master_lease SET instance = ?, beat = beat + 1"
                              " WHERE instance = ? AND epoch = ?";
    static const uint8_t nobody[LEASE_INSTANCE_BYTES];
    SQL_STATEMENT_AUTO s = {0};
    enum sso_code rc = lock_lease(tx, STORE_EXCLUSIVE, err);
    if (rc == SSO_OK)
        rc = sql_prepare(tx, sql, &s, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&s, nobody, sizeof nobody);
    return run_as_holder(&s, own, err);
}

static enum sso_code lease_reset(struct store_tx *tx, uint64_t epoch, struct sso_error *err)
{
    static const char sql[] =
        "UPDATE master_lease SET instance = ?2, home = ?2, beat = beat + 1, successor = '',"
        " epoch = ?1 WHERE epoch < ?1";
    const struct master_lease free_one = {.epoch = epoch};
    SQL_STATEMENT_AUTO s = {0};
    uint64_t changed = 0;
    enum sso_code rc = lock_lease(tx, STORE_EXCLUSIVE, err);
    if (rc == SSO_OK)
        rc = sql_prepare(tx, sql, &s, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_u64(&s, epoch);
    sql_bind_bytes(&s, free_one.instance, sizeof free_one.instance);
    rc = sql_run(&s, &changed, err);
    if (rc != SSO_OK || changed != 0 || epoch == 0)
        return rc;
    rc = lease_insert(tx, &free_one, err);
    return rc == SSO_ALREADY_EXISTS ? SSO_OK : rc;
}

/* --- those that could become the master --- */

static enum sso_code standby_put(struct store_tx *tx, const struct standby *standby,
                                 struct sso_error *err)
{
    static const char sql[] =
        "INSERT INTO standbys (node, address, beat, able, missing, ready_for)"
        " VALUES (?, ?, 1, ?, ?, ?) ON CONFLICT (node) DO UPDATE SET address = excluded.address,"
        " beat = standbys.beat + 1, able = excluded.able, missing = excluded.missing,"
        " ready_for = excluded.ready_for";
    SQL_STATEMENT_AUTO s = {0};
    enum sso_code rc = sql_prepare(tx, sql, &s, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_text(&s, standby->node);
    sql_bind_text(&s, standby->address);
    sql_bind_integer(&s, standby->able);
    sql_bind_text(&s, standby->missing);
    sql_bind_u64(&s, standby->ready_for);
    return sql_run(&s, NULL, err);
}

static enum sso_code standby_remove(struct store_tx *tx, const char *node, struct sso_error *err)
{
    static const char sql[] = "DELETE FROM standbys WHERE node = ?";
    SQL_STATEMENT_AUTO s = {0};
    enum sso_code rc = sql_prepare(tx, sql, &s, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_text(&s, node);
    return sql_run(&s, NULL, err);
}

static void read_standby(struct sql_statement *s, void *out)
{
    struct standby *standby = out;
    sql_read_name(s, standby->node, sizeof standby->node);
    sql_read_text(s, standby->address, sizeof standby->address);
    standby->beat = sql_read_u64(s);
    standby->able = sql_read_bool(s);
    sql_read_note(s, standby->missing, sizeof standby->missing);
    standby->ready_for = sql_read_u64(s);
}

static void distrust_standby(void *out)
{
    struct standby *standby = out;
    standby->able = false;
    standby->ready_for = 0;
}

static enum sso_code standby_list(struct store_tx *tx, struct standby **out, size_t *count,
                                  struct sso_error *err)
{
    static const char sql[] =
        "SELECT node, address, beat, able, missing, ready_for FROM standbys ORDER BY node";
    static const struct sql_list list = {"a standby", sizeof **out, read_standby, distrust_standby};
    SQL_STATEMENT_AUTO s = {0};
    enum sso_code rc = sql_prepare(tx, sql, &s, err);
    return rc == SSO_OK ? sql_collect(&s, &list, out, count, err) : rc;
}

const struct store_master_lease_ops sql_master_lease_ops = {
    .read = lease_read,
    .take = lease_take,
    .renew = lease_renew,
    .hold = lease_hold,
    .promise = lease_promise,
    .give_back = lease_give_back,
    .reset = lease_reset,
    .standby_put = standby_put,
    .standby_remove = standby_remove,
    .standby_list = standby_list,
};
