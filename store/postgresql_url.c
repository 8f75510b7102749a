#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/postgresql.h"

/* Of each option the value, NULL where it is not there. */
static const char *option_value(const PQconninfoOption *options, const char *keyword)
{
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++)
        if (strcmp(option->keyword, keyword) == 0)
            return option->val;
    return NULL;
}

/* The URL stands in a file that many may read, and is shown by doctor. */
static enum sso_code refuse_secrets(const PQconninfoOption *options, struct sso_error *err)
{
    if (option_value(options, "password") == NULL && option_value(options, "sslpassword") == NULL)
        return SSO_OK;
    return sso_fail(err, SSO_CONFIG_ERROR,
                    "[database] url: a password may not stand in it: use passfile=/path, a "
                    "certificate (sslcert, sslkey) or peer authentication");
}

static void describe(struct postgresql_store *store, const PQconninfoOption *options)
{
    const char *database = option_value(options, "dbname"), *host = option_value(options, "host");
    const char *port = option_value(options, "port"), *service = option_value(options, "service");
    if (service != NULL)
        snprintf(store->name, sizeof store->name, "the PostgreSQL service %.100s", service);
    else
        snprintf(store->name, sizeof store->name, "the database %.64s at %.100s%s%.40s",
                 database != NULL ? database : "(default)", host != NULL ? host : "(default)",
                 port != NULL ? ":" : "", port != NULL ? port : "");
}

enum sso_code postgresql_parse_url(struct postgresql_store *store, const char *url,
                                   struct sso_error *err)
{
    if (strncmp(url, POSTGRESQL_SCHEME "://", strlen(POSTGRESQL_SCHEME "://")) != 0)
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "[database] url: expected postgresql://HOST/DATABASE");
    /* libpq's own text quotes the URL. */
    char *text = NULL;
    PQconninfoOption *options = PQconninfoParse(url, &text);
    PQfreemem(text);
    if (options == NULL)
        return sso_fail(
            err, SSO_CONFIG_ERROR,
            "[database] url: PostgreSQL's library does not understand it: expected "
            "postgresql://USER@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=/path");
    enum sso_code rc = refuse_secrets(options, err);
    if (rc == SSO_OK && getenv("PGPASSWORD") != NULL)
        rc =
            sso_fail(err, SSO_CONFIG_ERROR,
                     "PGPASSWORD is set: a password may not stand in the environment, use passfile "
                     "in [database] url");
    describe(store, options);
    PQconninfoFree(options);
    store->url = rc == SSO_OK ? strdup(url) : NULL;
    if (rc == SSO_OK && store->url == NULL)
        rc = sso_fail(err, SSO_NO_MEMORY, "no memory for the URL of the database");
    return rc;
}

/* What stands before the URL it may say otherwise, what stands behind it may not. A dead server or
 * network is noticed within seconds: a lookup must not hang. Over TCP the server shows a
 * certificate for its name unless the URL wants less; on a Unix socket libpq does not ask for one.
 */
void postgresql_parameters(const struct postgresql_store *store, unsigned lease_ms,
                           struct postgresql_parameters *out)
{
    unsigned third_ms = lease_ms / 3, third_s = third_ms / 1000;
    *out = (struct postgresql_parameters){0};
    snprintf(out->number[0], sizeof out->number[0], "%u", third_ms);
    snprintf(out->number[1], sizeof out->number[1], "%u", third_s > 3 ? third_s - 2 : 1);
    snprintf(out->number[2], sizeof out->number[2], "%u", third_s > 2 ? 2 : 1);
    const char *const before[][2] = {
        {"connect_timeout", "3"},
        {"tcp_user_timeout", out->number[0]},
        {"keepalives_idle", out->number[1]},
        {"keepalives_interval", "1"},
        {"keepalives_count", out->number[2]},
        {"target_session_attrs", "read-write"},
        {"sslmode", "verify-full"},
    };
    size_t used = 0;
    for (size_t i = 0; i < sizeof before / sizeof before[0]; i++, used++) {
        out->name[used] = before[i][0];
        out->value[used] = before[i][1];
    }
    out->name[used] = "dbname"; /* a whole URL there is taken apart (expand_dbname) */
    out->value[used++] = store->url;
    out->name[used] = "application_name";
    out->value[used++] = "sso-hsm";
    out->name[used] = "client_encoding";
    out->value[used++] = "UTF8";
}
