#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/config.h"
#include "store/sql_ops.h"
#include "store/sqlite.h"

#define SCHEME "sqlite"
#define BUSY_TIMEOUT_MS 5000
#define BUSY_TIMEOUT_MS_MAX 3600000

/* --- the URL: sqlite:/path?busy_timeout=200ms&max_pages=N --- */

static bool parse_option(struct sqlite_store *store, const char *name, const char *value)
{
    if (strcmp(name, "busy_timeout") == 0) {
        uint64_t ms = 0;
        if (!parse_duration_ms(value, &ms) || ms > BUSY_TIMEOUT_MS_MAX)
            return false;
        store->busy_timeout_ms = (unsigned)ms;
        return true;
    }
    if (strcmp(name, "max_pages") == 0) {
        char *end = NULL;
        errno = 0;
        unsigned long pages = strtoul(value, &end, 10);
        if (*value < '0' || *value > '9' || *end != '\0' || errno != 0 || pages > UINT32_MAX - 1)
            return false;
        store->max_pages = (unsigned)pages;
        return true;
    }
    return false;
}

static enum sso_code parse_options(struct sqlite_store *store, char *options, struct sso_error *err)
{
    char *rest = options;
    for (char *option; (option = strsep(&rest, "&")) != NULL;) {
        char *value = option;
        const char *name = strsep(&value, "=");
        if (value == NULL || !parse_option(store, name, value))
            return sso_fail(err, SSO_CONFIG_ERROR,
                            "[database] url: after ? expected busy_timeout=DURATION or "
                            "max_pages=NUMBER, separated by &, and not \"%.64s\"",
                            name);
    }
    return SSO_OK;
}

static enum sso_code parse_url(struct sqlite_store *store, const char *url, struct sso_error *err)
{
    store->path = strdup(url + strlen(SCHEME ":"));
    store->busy_timeout_ms = BUSY_TIMEOUT_MS;
    if (store->path == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the path of the database");
    if (store->path[0] != '/')
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "[database] url: expected an absolute path after sqlite:, as in "
                        "sqlite:/var/lib/sso-hsm/credentials.db");
    char *options = strchr(store->path, '?');
    if (options == NULL)
        return SSO_OK;
    *options = '\0';
    return parse_options(store, options + 1, err);
}

/* --- making and freeing --- */

static void close_store(struct store *base)
{
    struct sqlite_store *store = (struct sqlite_store *)base;
    sqlite_checkpoint_destroy(&store->checkpoint);
    for (struct sqlite_connection *reader; (reader = reader_pool_pop(&store->readers)) != NULL;)
        sqlite_disconnect(&reader);
    sqlite_disconnect(&store->writer); /* the last to close folds the WAL into the file */
    fair_lock_destroy(&store->write_turn);
    reader_pool_destroy(&store->readers);
    free(store->path);
    free(store);
}

static enum sso_code new_store(const char *url, struct sqlite_store **out, struct sso_error *err)
{
    struct sqlite_store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the store");
    store->base.ops = &sqlite_store_ops;
    fair_lock_init(&store->write_turn);
    reader_pool_init(&store->readers);
    sqlite_checkpoint_init(&store->checkpoint);
    enum sso_code rc = parse_url(store, url, err);
    if (rc != SSO_OK)
        close_store(&store->base);
    else
        *out = store;
    return rc;
}

/* --- opening --- */

/* Says of a file that cannot be opened what stat(2) knows, since SQLite has one code for all. */
static enum sso_code look_at_file(struct sqlite_store *store, struct sso_error *err)
{
    struct stat found;
    if (stat(store->path, &found) != 0) {
        if (errno == ENOENT)
            return sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                            "there is no database %s: run sso-hsm init, or correct [database] url",
                            store->path);
        return sso_fail_errno(err, SSO_DATABASE_UNAVAILABLE, errno, "cannot reach %s", store->path);
    }
    if (!S_ISREG(found.st_mode))
        return sso_fail(err, SSO_DATABASE_UNAVAILABLE, "%s is not a file", store->path);
    store->device = found.st_dev;
    store->inode = found.st_ino;
    if (access(store->path, R_OK | W_OK) != 0)
        return sso_fail_errno(err, SSO_DATABASE_UNAVAILABLE, errno,
                              "%s must be readable and writable by the user who runs this",
                              store->path);
    return SSO_OK;
}

/* SQLite makes the -wal and -shm files beside the database. */
static enum sso_code look_at_folder(const struct sqlite_store *store, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    char *copy = strdup(store->path);
    if (copy == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a path");
    const char *folder = dirname(copy);
    if (access(folder, W_OK | X_OK) != 0)
        rc = sso_fail_errno(err, SSO_DATABASE_UNAVAILABLE, errno,
                            "the folder %s of the database must be writable by the user who runs "
                            "this",
                            folder);
    free(copy);
    return rc;
}

static enum sso_code connect_writer(struct sqlite_store *store, enum sqlite_content *content,
                                    struct sso_error *err)
{
    enum sso_code rc = look_at_file(store, err);
    if (rc == SSO_OK)
        rc = look_at_folder(store, err);
    if (rc == SSO_OK)
        rc = sqlite_connect(store, STORE_WRITE, &store->writer, err);
    return rc != SSO_OK ? rc : sqlite_look(store->writer, content, err);
}

/* The mode is kept in the file. Where it cannot be had SQLite keeps another one without an error.
 */
static enum sso_code use_wal(struct sqlite_connection *connection, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    sqlite3_stmt *statement = NULL;
    int result =
        sqlite3_prepare_v2(connection->db, "PRAGMA journal_mode = WAL", -1, &statement, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    const char *mode = result == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : "";
    if (result != SQLITE_ROW)
        rc = sqlite_failed(connection, result, err);
    else if (mode == NULL || strcmp(mode, "wal") != 0)
        rc = sso_fail(err, SSO_DATABASE_UNAVAILABLE,
                      "%s cannot have a write-ahead log: it must be on a local disk",
                      connection->store->path);
    sqlite3_finalize(statement);
    return rc;
}

static enum sso_code open_store(const char *url, struct store **out, struct sso_error *err)
{
    struct sqlite_store *store = NULL;
    enum sqlite_content content = CONTENT_NONE;
    enum sso_code rc = new_store(url, &store, err);
    if (rc != SSO_OK)
        return rc;
    rc = connect_writer(store, &content, err);
    if (rc == SSO_OK && content == CONTENT_NONE)
        rc = sso_fail(err, SSO_DATABASE_UNAVAILABLE, "the database %s is empty: run sso-hsm init",
                      store->path);
    if (rc == SSO_OK)
        rc = sqlite_check_schema(store->writer, &store->schema, err);
    if (rc == SSO_OK)
        rc = use_wal(store->writer, err);
    if (rc == SSO_OK)
        *out = &store->base;
    else
        close_store(&store->base);
    return rc;
}

/* EXCL: where the file is there it must not be opened and closed here, which would drop the locks
 * that SQLite holds on it in this process. */
static enum sso_code make_file(const struct sqlite_store *store, struct sso_error *err)
{
    int file = open(store->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file >= 0) {
        close(file);
        return SSO_OK;
    }
    if (errno == EEXIST)
        return SSO_OK;
    int reason = errno;
    enum sso_code rc = look_at_folder(store, err);
    return rc != SSO_OK ? rc
                        : sso_fail_errno(err, SSO_DATABASE_UNAVAILABLE, reason, "cannot make %s",
                                         store->path);
}

static enum sso_code create_store(const char *url, struct store **out, struct sso_error *err)
{
    struct sqlite_store *store = NULL;
    enum sqlite_content content = CONTENT_NONE;
    enum sso_code rc = new_store(url, &store, err);
    if (rc != SSO_OK)
        return rc;
    rc = make_file(store, err);
    if (rc == SSO_OK)
        rc = connect_writer(store, &content, err);
    if (rc == SSO_OK)
        rc = use_wal(store->writer, err);
    if (rc == SSO_OK && content == CONTENT_NONE)
        rc = sqlite_migrate(store->writer, err);
    if (rc == SSO_OK)
        rc = sqlite_check_schema(store->writer, &store->schema, err);
    if (rc == SSO_OK)
        *out = &store->base;
    else
        close_store(&store->base);
    return rc;
}

static enum sso_code may_create(const char *url, bool *there, struct sso_error *err)
{
    struct sqlite_store *store = NULL;
    enum sso_code rc = new_store(url, &store, err);
    if (rc != SSO_OK)
        return rc;
    *there = access(store->path, F_OK) == 0 || errno != ENOENT;
    if (!*there)
        rc = look_at_folder(store, err);
    close_store(&store->base);
    return rc;
}

static enum sso_code upgrade_store(const char *url, struct sso_error *err)
{
    struct sqlite_store *store = NULL;
    enum sqlite_content content = CONTENT_NONE;
    enum sso_code rc = new_store(url, &store, err);
    if (rc != SSO_OK)
        return rc;
    rc = connect_writer(store, &content, err);
    if (rc == SSO_OK && content == CONTENT_NONE)
        rc = sso_fail(err, SSO_DATABASE_UNAVAILABLE, "the database %s is empty: run sso-hsm init",
                      store->path);
    if (rc == SSO_OK)
        rc = use_wal(store->writer, err);
    if (rc == SSO_OK)
        rc = sqlite_migrate(store->writer, err);
    close_store(&store->base);
    return rc;
}

static unsigned schema_of(const struct store *store)
{
    return ((const struct sqlite_store *)store)->schema;
}

const struct store_ops sqlite_store_ops = {
    .scheme = SCHEME,
    .sql = &sqlite_driver,
    .open = open_store,
    .create = create_store,
    .may_create = may_create,
    .upgrade = upgrade_store,
    .backup = sqlite_backup,
    .close = close_store,
    .schema = schema_of,
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .savepoint = sqlite_savepoint,
    .savepoint_keep = sqlite_savepoint_keep,
    .savepoint_undo = sqlite_savepoint_undo,
    .check_structure = sql_check_structure,
    .system = &sql_system_ops,
    .generation = &sql_generation_ops,
    .share_set = &sql_share_set_ops,
    .sealed_key = &sql_sealed_key_ops,
    .application = &sql_application_ops,
    .mapping = &sql_mapping_ops,
    .ticket = &sql_ticket_ops,
    .credential = &sql_credential_ops,
    .scan = &sqlite_scan_ops,
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
    .write_holder = sqlite_write_holder,
};
