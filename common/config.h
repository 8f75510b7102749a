/* The configuration file (INTERFACE §6). Every key has a default; an unknown section or key, an
 * overlong line or a bad value is SSO_CONFIG_ERROR naming file, line and what was expected. */
#ifndef SSO_COMMON_CONFIG_H
#define SSO_COMMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define CONFIG_HSM_MAX 8
#define CONFIG_AUTO 0 /* workers, sessions_per_worker */

struct config_hsm {
    char *name; /* "" for the section [hsm] */
    char *module;
    char *user; /* the token's user; the system's user where the file has none */
    char *init_args;
    char *environment; /* NAME=VALUE,NAME=VALUE */
    char *token;       /* a PKCS#11 URI (RFC 7512), perhaps with pin-source; never pin-value */
    unsigned workers;  /* CONFIG_AUTO or a number */
    unsigned sessions_per_worker; /* CONFIG_AUTO or a number */
    uint64_t worker_memory_limit_bytes;
    unsigned deadline_ms;
    bool weak_token_accepted;
};

struct config_list {
    char **item;
    size_t count;
};

struct config {
    char *file; /* the path it was read from */
    struct {
        char *name, *user, *state_directory;
        char *log_level; /* debug, info, warning, error */
    } system;
    struct config_hsm hsm[CONFIG_HSM_MAX]; /* hsm[0] is [hsm]; none where hsm_count is 0 */
    size_t hsm_count;
    struct {
        char *url;
        bool async_failover_accepted;
    } database;
    struct {
        char *socket, *tls;
    } listen;
    struct {
        char *certificate, *key, *ca, *crl;
    } tls;
    struct {
        char *url, *certificate, *key, *ca;
    } client;
    struct {
        struct config_list sso_admins, affiliate_admins, auditors, nodes;
        char *principal_map;
    } roles;
    struct {
        char *node, *address;
        bool failover_automatic;
        unsigned master_lease_ms, poll_interval_ms;
        uint64_t offline_grace_ms;
    } cluster;
    struct {
        uint64_t lease_ms;
        unsigned max_entries;
        struct config_list prefetch;
    } cache;
    struct {
        bool lookups_required;
        char *journal; /* best-effort, required, off */
        char *journal_socket;
        uint64_t keep_ms;
    } audit;
    struct {
        uint64_t drill_interval_ms, retired_keep_ms;
        bool dual_control;
    } keys;
    struct {
        unsigned max_connections, max_connections_per_peer;
        uint64_t max_body_bytes;
        unsigned request_timeout_ms, idle_timeout_ms;
        unsigned requests_per_second, release_burst;
    } limits;
};

/* Reads `path`. On success *out is to be freed with config_free. */
enum sso_code config_load(const char *path, struct config **out, struct sso_error *err)
    __attribute__((warn_unused_result, nonnull(1, 2)));
void config_free(struct config **config);

/* --config, else SSO_HSM_CONFIG, else /etc/sso-hsm/custodian.conf. */
const char *config_path(const char *option);

/* `10s 5m 8h 400d` (also `250ms`) to milliseconds; false where it is none. */
bool parse_duration_ms(const char *text, uint64_t *out);
bool parse_size_bytes(const char *text, uint64_t *out);
/* The way back, in the largest unit that is exact. */
void format_duration(uint64_t ms, char out[static 24]);

/* The initial settings of a new system: pairs of setting name ("cluster.failover", "cache.lease" …)
 * and value, in the order of INTERFACE §6. */
struct config_setting {
    char name[65];
    char value[65];
};
#define CONFIG_SETTINGS_MAX 16
size_t config_initial_settings(const struct config *config,
                               struct config_setting out[static CONFIG_SETTINGS_MAX]);

#endif
