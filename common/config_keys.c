#include "common/config_keys.h"

#include <string.h>

#include "common/config.h"
#include "common/config_kinds.h"

#define SECOND_MS UINT64_C(1000)
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS (60 * MINUTE_MS)
#define DAY_MS (24 * HOUR_MS)
#define YEARS_MS (36500 * DAY_MS)
#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define KEY(section, member, kind, text, ...)                                                      \
    {                                                                                              \
#section, #member, &(kind), offsetof(struct config, section.member), text, __VA_ARGS__     \
    }
/* A member that is not named as its key. */
#define KEY_AS(section, name, member, kind, text, ...)                                             \
    {                                                                                              \
#section, name, &(kind), offsetof(struct config, section.member), text, __VA_ARGS__        \
    }
#define HSM_KEY(name, member, kind, text, ...)                                                     \
    {                                                                                              \
        "hsm", name, &(kind), offsetof(struct config_hsm, member), text, __VA_ARGS__               \
    }
#define WORDS(text) text, 0, 0
#define RANGE(from, to) NULL, from, to
#define BYTES(from, to) NULL, from, to
#define ANY NULL, 0, 4096

/* INTERFACE §6, in its order. */
/* clang-format off */
const struct config_key config_keys[] = {
    KEY(system, name, config_text, "corp-sso", BYTES(1, 128)),
    KEY(system, user, config_text, "sso-hsm", BYTES(1, 256)),
    KEY(system, log_level, config_word, "info", WORDS("debug|info|warning|error")),
    KEY(system, state_directory, config_file_path, "", ANY), /* default: see config.c */

    HSM_KEY("module", module, config_file_path, "/usr/lib/softhsm/libsofthsm2.so", BYTES(1, 4096)),
    HSM_KEY("user", user, config_text, "", BYTES(0, 256)), /* default: see config.c */
    HSM_KEY("init_args", init_args, config_text, "", ANY),
    HSM_KEY("environment", environment, config_environment, "", ANY),
    HSM_KEY("token", token, config_token, "", ANY),
    HSM_KEY("workers", workers, config_number_or_auto, "auto", RANGE(1, 256)),
    HSM_KEY("sessions_per_worker", sessions_per_worker, config_number_or_auto, "auto",
            RANGE(1, 1024)),
    HSM_KEY("worker_memory_limit", worker_memory_limit_bytes, config_size, "256M",
            RANGE(16 * MIB, 64 * GIB)),
    HSM_KEY("deadline", deadline_ms, config_duration32, "10s", RANGE(100, HOUR_MS)),
    HSM_KEY("weak_token", weak_token_accepted, config_bool, "refuse", WORDS("accept|refuse")),

    KEY(database, url, config_database_url, "sqlite:/var/lib/sso-hsm/credentials.db",
        BYTES(1, 4096)),
    KEY_AS(database, "async_failover", async_failover_accepted, config_bool, "refuse",
           WORDS("accept|refuse")),

    KEY(listen, socket, config_file_path, "/run/sso-hsm/custodian.sock",
        BYTES(1, 107)), /* sun_path of unix(7) has 108 */
    KEY(listen, tls, config_listener, "", ANY),

    KEY(tls, certificate, config_file_path, "", ANY),
    KEY(tls, key, config_file_path, "", ANY),
    KEY(tls, ca, config_file_path, "", ANY),
    KEY(tls, crl, config_file_path, "", ANY),

    KEY(client, url, config_https_url, "", ANY),
    KEY(client, certificate, config_file_path, "", ANY),
    KEY(client, key, config_file_path, "", ANY),
    KEY(client, ca, config_file_path, "", ANY),

    KEY(roles, sso_admins, config_groups, "sso-admins", ANY),
    KEY(roles, affiliate_admins, config_groups, "sso-affiliate-admins", ANY),
    KEY(roles, auditors, config_groups, "sso-auditors", ANY),
    KEY(roles, nodes, config_groups, "", ANY),
    KEY(roles, principal_map, config_file_path, "", ANY),

    KEY(cluster, node, config_node_name, "", BYTES(0, 64)), /* default: the host's name */
    KEY(cluster, address, config_text, "", BYTES(0, 256)),  /* default: the host's name */
    KEY_AS(cluster, "failover", failover_automatic, config_bool, "automatic",
           WORDS("automatic|manual")),
    KEY_AS(cluster, "master_lease", master_lease_ms, config_duration32, "10s",
           RANGE(SECOND_MS, HOUR_MS)),
    KEY_AS(cluster, "poll_interval", poll_interval_ms, config_duration32, "30s",
           RANGE(100, HOUR_MS)),
    KEY_AS(cluster, "offline_grace", offline_grace_ms, config_duration64, "8h",
           RANGE(0, YEARS_MS)),

    KEY_AS(cache, "lease", lease_ms, config_duration64, "60m", RANGE(0, YEARS_MS)),
    KEY(cache, max_entries, config_number, "100000", RANGE(0, 100000000)),
    KEY(cache, prefetch, config_texts, "", ANY),

    KEY_AS(audit, "lookups", lookups_required, config_bool, "required",
           WORDS("required|relaxed")),
    KEY(audit, journal_socket, config_file_path, "/run/systemd/journal/socket", BYTES(1, 107)),
    KEY_AS(audit, "keep", keep_ms, config_duration64, "3650d", RANGE(SECOND_MS, YEARS_MS)),
    KEY(audit, journal, config_word, "best-effort", WORDS("best-effort|required|off")),

    KEY_AS(keys, "drill_interval", drill_interval_ms, config_duration64, "365d",
           RANGE(SECOND_MS, YEARS_MS)),
    KEY_AS(keys, "retired_keep", retired_keep_ms, config_duration64, "400d", RANGE(0, YEARS_MS)),
    KEY(keys, dual_control, config_bool, "no", WORDS("yes|no")),

    KEY(limits, max_connections, config_number, "1024", RANGE(1, 65536)),
    KEY(limits, max_connections_per_peer, config_number, "256", RANGE(1, 65536)),
    KEY_AS(limits, "max_body", max_body_bytes, config_size, "8M", RANGE(4 * KIB, 256 * MIB)),
    KEY_AS(limits, "request_timeout", request_timeout_ms, config_duration32, "10s",
           RANGE(100, HOUR_MS)),
    KEY_AS(limits, "idle_timeout", idle_timeout_ms, config_duration32, "60s",
           RANGE(100, DAY_MS)),
    KEY(limits, requests_per_second, config_number, "0", RANGE(0, 100000000)),
    KEY(limits, release_burst, config_number, "1000", RANGE(1, 100000000)),
};
/* clang-format on */
const size_t config_key_count = sizeof config_keys / sizeof config_keys[0];

const struct config_key *config_key_find(const char *section, const char *name)
{
    for (size_t i = 0; i < config_key_count; i++)
        if (strcmp(config_keys[i].section, section) == 0 && strcmp(config_keys[i].name, name) == 0)
            return &config_keys[i];
    return NULL;
}

bool config_section_exists(const char *section)
{
    for (size_t i = 0; i < config_key_count; i++)
        if (strcmp(config_keys[i].section, section) == 0)
            return true;
    return false;
}
