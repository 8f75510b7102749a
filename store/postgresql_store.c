#include <stdlib.h>
#include <string.h>

#include "store/postgresql.h"
#include "store/sql_copy.h"
#include "store/sql_ops.h"

static void close_store(struct store *base)
{
    struct postgresql_store *store = (struct postgresql_store *)base;
    for (struct postgresql_connection *reader; (reader = reader_pool_pop(&store->readers)) != NULL;)
        postgresql_disconnect(&reader);
    postgresql_disconnect(&store->writer);
    fair_lock_destroy(&store->write_turn);
    reader_pool_destroy(&store->readers);
    pthread_mutex_destroy(&store->retry_lock);
    free(store->url);
    free(store);
}

/* Connected; what is there is looked at. */
static enum sso_code new_store(const char *url, struct postgresql_store **out,
                               enum postgresql_content *content, struct sso_error *err)
{
    struct postgresql_store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the store");
    store->base.ops = &postgresql_store_ops;
    atomic_init(&store->lease_ms, LEASE_MS_DEFAULT);
    fair_lock_init(&store->write_turn);
    reader_pool_init(&store->readers);
    pthread_mutex_init(&store->retry_lock, NULL);
    enum sso_code rc = postgresql_parse_url(store, url, err);
    if (rc == SSO_OK)
        rc = postgresql_connect(store, STORE_WRITE, &store->writer, err);
    if (rc == SSO_OK)
        rc = postgresql_look(store->writer, content, err);
    if (rc != SSO_OK)
        close_store(&store->base);
    else
        *out = store;
    return rc;
}

static enum sso_code must_be_there(const struct postgresql_store *store,
                                   enum postgresql_content content, struct sso_error *err)
{
    if (content == POSTGRESQL_OURS)
        return SSO_OK;
    return sso_fail(err, SSO_DATABASE_UNAVAILABLE, "%s has no tables yet: run sso-hsm init",
                    store->name);
}

/* For the keys of locks. */
static enum sso_code read_system_id(struct postgresql_store *store, struct sso_error *err)
{
    struct system_row row;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(&store->base, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = sql_system_ops.get(tx, &row, err);
    store->has_system = rc == SSO_OK;
    if (store->has_system)
        memcpy(store->system_id, row.id, sizeof store->system_id);
    return rc == SSO_NOT_FOUND || rc == SSO_POLICY_TAMPERED ? SSO_OK : rc;
}

static enum sso_code finish_opening(struct postgresql_store *store, struct store **out,
                                    enum sso_code rc, struct sso_error *err)
{
    if (rc == SSO_OK)
        rc = postgresql_check_schema(store->writer, &store->schema, err);
    if (rc == SSO_OK)
        rc = read_system_id(store, err);
    if (rc == SSO_OK)
        *out = &store->base;
    else
        close_store(&store->base);
    return rc;
}

static enum sso_code open_store(const char *url, struct store **out, struct sso_error *err)
{
    struct postgresql_store *store = NULL;
    enum postgresql_content content = POSTGRESQL_NONE;
    enum sso_code rc = new_store(url, &store, &content, err);
    if (rc != SSO_OK)
        return rc;
    return finish_opening(store, out, must_be_there(store, content, err), err);
}

static enum sso_code create_store(const char *url, struct store **out, struct sso_error *err)
{
    struct postgresql_store *store = NULL;
    enum postgresql_content content = POSTGRESQL_NONE;
    enum sso_code rc = new_store(url, &store, &content, err);
    if (rc != SSO_OK)
        return rc;
    if (content == POSTGRESQL_NONE)
        rc = postgresql_migrate(store->writer, err);
    return finish_opening(store, out, rc, err);
}

static enum sso_code may_create(const char *url, bool *there, struct sso_error *err)
{
    static const char sql[] = "SELECT has_schema_privilege(current_schema(), 'CREATE')";
    const struct postgresql_query query = {.sql = sql};
    struct postgresql_store *store = NULL;
    enum postgresql_content content = POSTGRESQL_NONE;
    PGresult *result = NULL;
    enum sso_code rc = new_store(url, &store, &content, err);
    if (rc != SSO_OK)
        return rc;
    *there = content == POSTGRESQL_OURS;
    rc = postgresql_ask(store->writer, &query, &result, err);
    if (rc == SSO_OK && !*there && PQgetvalue(result, 0, 0)[0] == 0)
        rc = sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                      "%s: the role %s may not make tables there: run init as the role that is to "
                      "own them",
                      store->name, PQuser(store->writer->conn));
    PQclear(result);
    close_store(&store->base);
    return rc;
}

static enum sso_code upgrade_store(const char *url, struct sso_error *err)
{
    struct postgresql_store *store = NULL;
    enum postgresql_content content = POSTGRESQL_NONE;
    enum sso_code rc = new_store(url, &store, &content, err);
    if (rc != SSO_OK)
        return rc;
    rc = must_be_there(store, content, err);
    if (rc == SSO_OK)
        rc = postgresql_migrate(store->writer, err);
    close_store(&store->base);
    return rc;
}

static unsigned schema_of(const struct store *store)
{
    return ((const struct postgresql_store *)store)->schema;
}

static void use_lease(struct store *store, unsigned lease_ms)
{
    atomic_store(&((struct postgresql_store *)store)->lease_ms, lease_ms);
}

const struct store_ops postgresql_store_ops = {
    .scheme = POSTGRESQL_SCHEME,
    .sql = &postgresql_driver,
    .open = open_store,
    .create = create_store,
    .may_create = may_create,
    .upgrade = upgrade_store,
    .backup = sql_backup,
    .close = close_store,
    .schema = schema_of,
    .use_lease = use_lease,
    .begin = postgresql_begin,
    .commit = postgresql_commit,
    .rollback = postgresql_rollback,
    .savepoint = postgresql_savepoint,
    .savepoint_keep = postgresql_savepoint_keep,
    .savepoint_undo = postgresql_savepoint_undo,
    .check_structure = sql_check_structure,
    .system = &sql_system_ops,
    .generation = &sql_generation_ops,
    .share_set = &sql_share_set_ops,
    .sealed_key = &sql_sealed_key_ops,
    .application = &sql_application_ops,
    .mapping = &sql_mapping_ops,
    .ticket = &sql_ticket_ops,
    .credential = &sql_credential_ops,
    .scan = &postgresql_scan_ops,
    .rotation = &sql_rotation_ops,
    .quarantine = &sql_quarantine_ops,
    .exposed = &sql_exposed_ops,
    .audit = &sql_audit_ops,
    .audit_key = &sql_audit_key_ops,
    .audit_base = &sql_audit_base_ops,
    .destruction = &sql_destruction_ops,
    .node = &sql_node_ops,
    .refusal = &sql_refusal_ops,
    .master_lease = &sql_master_lease_ops,
};
