#include "common/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/config_file.h"
#include "common/config_keys.h"
#include "common/policy.h"

#define DEFAULT_FILE "/etc/sso-hsm/custodian.conf"
#define DEFAULT_STATE_DIRECTORY "/var/lib/sso-hsm"
#define SQLITE_SCHEME "sqlite:"

const char *config_path(const char *option)
{
    if (option != NULL)
        return option;
    const char *from_environment = getenv("SSO_HSM_CONFIG");
    return from_environment != NULL && from_environment[0] != '\0' ? from_environment
                                                                   : DEFAULT_FILE;
}

static void release_section_keys(bool of_hsm, void *base)
{
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        if ((strcmp(key->section, "hsm") == 0) == of_hsm && key->kind->release != NULL)
            key->kind->release((char *)base + key->offset);
    }
}

void config_free(struct config **config)
{
    struct config *old = *config;
    if (old == NULL)
        return;
    release_section_keys(false, old);
    for (size_t i = 0; i < old->hsm_count; i++) {
        release_section_keys(true, &old->hsm[i]);
        free(old->hsm[i].name);
    }
    free(old->file);
    free(old);
    *config = NULL;
}

static bool all_defaults(struct config *config)
{
    for (size_t i = 0; i < config_key_count; i++) {
        const char *section = config_keys[i].section;
        bool first = i == 0 || strcmp(section, config_keys[i - 1].section) != 0;
        if (first && strcmp(section, "hsm") != 0 && !config_set_defaults(section, config))
            return false;
    }
    return true;
}

static bool replace_text(char **text, char *with)
{
    if (with == NULL)
        return false;
    free(*text);
    *text = with;
    return true;
}

static char *folder_of_database(const char *url)
{
    if (strncmp(url, SQLITE_SCHEME, strlen(SQLITE_SCHEME)) != 0)
        return strdup(DEFAULT_STATE_DIRECTORY);
    const char *path = url + strlen(SQLITE_SCHEME);
    const char *slash = strrchr(path, '/');
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

static char *host_name(void)
{
    char name[65] = "";
    if (gethostname(name, sizeof name - 1) != 0 || name[0] == '\0')
        strcpy(name, "localhost");
    return strdup(name);
}

/* Defaults that depend on other keys or on the host. */
static bool derived_defaults(struct config *config)
{
    bool done = true;
    if (config->system.state_directory[0] == '\0')
        done &=
            replace_text(&config->system.state_directory, folder_of_database(config->database.url));
    if (config->cluster.node[0] == '\0')
        done &= replace_text(&config->cluster.node, host_name());
    if (config->cluster.address[0] == '\0')
        done &= replace_text(&config->cluster.address, host_name());
    for (size_t i = 0; i < config->hsm_count; i++)
        if (config->hsm[i].user[0] == '\0')
            done &= replace_text(&config->hsm[i].user, strdup(config->system.user));
    return done;
}

enum sso_code config_load_stream(FILE *stream, const char *file, struct config **out,
                                 struct sso_error *err)
{
    struct config *config = calloc(1, sizeof *config);
    enum sso_code rc = SSO_OK;
    if (config == NULL || (config->file = strdup(file)) == NULL || !all_defaults(config))
        rc = sso_fail(err, SSO_NO_MEMORY, "memory for the configuration has run out");
    if (rc == SSO_OK)
        rc = config_file_read(stream, file, config, err);
    if (rc == SSO_OK && !derived_defaults(config))
        rc = sso_fail(err, SSO_NO_MEMORY, "memory for the configuration has run out");
    if (rc == SSO_OK)
        *out = config;
    else
        config_free(&config);
    return rc;
}

/* The file names modules, which are code: who can write it can act as the token's user. */
static enum sso_code check_file(int fd, const char *path, struct sso_error *err)
{
    struct stat facts;
    if (fstat(fd, &facts) != 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "%s: cannot be examined", path);
    if (!S_ISREG(facts.st_mode))
        return sso_fail(err, SSO_CONFIG_ERROR, "%s: wanted a file", path);
    if ((facts.st_mode & S_IWOTH) != 0)
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "%s: everybody can write this file, which names code to load; chmod o-w "
                        "it, and see who did",
                        path);
    return SSO_OK;
}

/* What the file may say and this version does not do: refused, since whoever wrote it relies on it.
 */
static enum sso_code check_available(const struct config *config, struct sso_error *err)
{
    const struct {
        bool wanted;
        const char *what, *instead;
    } later[] = {
        {config->cache.prefetch.count > 0, "[cache] prefetch", "leave it empty"},
    };
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++)
        if (later[i].wanted)
            return sso_fail(err, SSO_CONFIG_ERROR, "%s: %s is not available in this version: %s",
                            config->file, later[i].what, later[i].instead);
    return SSO_OK;
}

enum sso_code config_load(const char *path, struct config **out, struct sso_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno,
                              "%s: the configuration cannot be read (--config FILE or "
                              "SSO_HSM_CONFIG names another)",
                              path);
    FILE *stream = NULL;
    enum sso_code rc = check_file(fd, path, err);
    if (rc == SSO_OK && (stream = fdopen(fd, "r")) == NULL)
        rc = sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "%s: cannot be read", path);
    if (rc == SSO_OK)
        rc = config_load_stream(stream, path, out, err);
    if (rc == SSO_OK && (rc = check_available(*out, err)) != SSO_OK)
        config_free(out);
    if (stream != NULL)
        fclose(stream);
    else
        close(fd);
    return rc;
}

static size_t add(struct config_setting *out, size_t at, const char *name, const char *value)
{
    snprintf(out[at].name, sizeof out[at].name, "%s", name);
    snprintf(out[at].value, sizeof out[at].value, "%s", value);
    return at + 1;
}

static size_t add_duration(struct config_setting *out, size_t at, const char *name, uint64_t ms)
{
    char text[24];
    format_duration(ms, text);
    return add(out, at, name, text);
}

size_t config_initial_settings(const struct config *config,
                               struct config_setting out[static CONFIG_SETTINGS_MAX])
{
    size_t n = 0;
    n = add(out, n, "cluster.failover",
            config->cluster.failover_automatic ? "automatic" : "manual");
    n = add_duration(out, n, "cluster.master_lease", config->cluster.master_lease_ms);
    n = add_duration(out, n, "cluster.poll_interval", config->cluster.poll_interval_ms);
    n = add_duration(out, n, "cluster.offline_grace", config->cluster.offline_grace_ms);
    n = add_duration(out, n, "cache.lease", config->cache.lease_ms);
    n = add(out, n, "audit.lookups", config->audit.lookups_required ? "required" : "relaxed");
    n = add(out, n, "audit.journal", config->audit.journal);
    n = add_duration(out, n, SETTING_AUDIT_KEEP, config->audit.keep_ms);
    n = add_duration(out, n, "keys.drill_interval", config->keys.drill_interval_ms);
    n = add_duration(out, n, "keys.retired_keep", config->keys.retired_keep_ms);
    n = add(out, n, "keys.dual_control", config->keys.dual_control ? "yes" : "no");
    return n;
}
