#include "tests/common/testing.h"

#include <sys/stat.h>
#include <unistd.h>

#include "common/config.h"
#include "common/config_file.h"
#include "common/config_keys.h"

static const char *sample_path;

static enum sso_code load_bytes(const char *text, size_t count, struct config **out,
                                struct sso_error *err)
{
    FILE *stream = count > 0 ? fmemopen((void *)(uintptr_t)text, count, "r") : tmpfile();
    assert_non_null(stream);
    enum sso_code rc = config_load_stream(stream, "x.conf", out, err);
    fclose(stream);
    return rc;
}

static struct config *load(const char *text)
{
    struct config *config = NULL;
    struct sso_error err = {0};
    if (load_bytes(text, strlen(text), &config, &err) != SSO_OK)
        fail_msg("%s", err.detail);
    return config;
}

/* Where, and what is said. */
static void check_refused(const char *text, const char *place, const char *part)
{
    struct config *config = NULL;
    struct sso_error err = {0};
    check_failure(load_bytes(text, strlen(text), &config, &err), SSO_CONFIG_ERROR, &err, part);
    assert_null(config);
    if (strncmp(err.detail, place, strlen(place)) != 0)
        fail_msg("\"%s\" does not begin with \"%s\"", err.detail, place);
}

static void check_defaults(const struct config *config)
{
    assert_string_equal(config->system.name, "corp-sso");
    assert_string_equal(config->system.user, "sso-hsm");
    assert_string_equal(config->system.state_directory, "/var/lib/sso-hsm");
    assert_string_equal(config->database.url, "sqlite:/var/lib/sso-hsm/credentials.db");
    assert_false(config->database.async_failover_accepted);
    assert_string_equal(config->listen.socket, "/run/sso-hsm/custodian.sock");
    assert_string_equal(config->listen.tls, "");
    assert_string_equal(config->tls.key, "");
    assert_string_equal(config->client.url, "");
    assert_int_equal(config->roles.sso_admins.count, 1);
    assert_string_equal(config->roles.sso_admins.item[0], "sso-admins");
    assert_int_equal(config->roles.nodes.count, 0);
    assert_true(strlen(config->cluster.node) > 0);
    assert_true(strlen(config->cluster.address) > 0);
    assert_true(config->cluster.failover_automatic);
    assert_int_equal(config->cluster.master_lease_ms, 10000);
    assert_int_equal(config->cluster.poll_interval_ms, 30000);
    assert_int_equal(config->cluster.offline_grace_ms, 8 * 3600 * 1000);
    assert_int_equal(config->cache.lease_ms, 3600 * 1000);
    assert_int_equal(config->cache.max_entries, 100000);
    assert_true(config->audit.lookups_required);
    assert_string_equal(config->audit.journal, "best-effort");
    assert_true(config->keys.drill_interval_ms == UINT64_C(365) * 86400000);
    assert_true(config->keys.retired_keep_ms == UINT64_C(400) * 86400000);
    assert_false(config->keys.dual_control);
    assert_int_equal(config->limits.max_connections, 1024);
    assert_int_equal(config->limits.max_connections_per_peer, 256);
    assert_int_equal(config->limits.max_body_bytes, 8 << 20);
    assert_int_equal(config->limits.request_timeout_ms, 10000);
    assert_int_equal(config->limits.idle_timeout_ms, 60000);
    assert_int_equal(config->limits.requests_per_second, 0);
    assert_int_equal(config->limits.release_burst, 1000);
}

static void an_empty_file_gives_the_defaults(void **state)
{
    (void)state;
    struct config *config = load("");
    check_defaults(config);
    assert_int_equal(config->hsm_count, 0);
    assert_string_equal(config->file, "x.conf");
    config_free(&config);
    assert_null(config);
    config_free(&config);
}

static void the_sample_is_the_defaults(void **state)
{
    (void)state;
    struct config *config = NULL;
    struct sso_error err = {0};
    if (config_load(sample_path, &config, &err) != SSO_OK)
        fail_msg("%s", err.detail);
    check_defaults(config);
    assert_int_equal(config->hsm_count, 1);
    const struct config_hsm *hsm = &config->hsm[0];
    assert_string_equal(hsm->name, "");
    assert_string_equal(hsm->module, "/usr/lib/softhsm/libsofthsm2.so");
    assert_string_equal(hsm->user, "sso-hsm");
    assert_string_equal(hsm->token, "pkcs11:token=sso-hsm?pin-source=file:/etc/sso-hsm/pin");
    assert_int_equal(hsm->workers, CONFIG_AUTO);
    assert_int_equal(hsm->sessions_per_worker, CONFIG_AUTO);
    assert_int_equal(hsm->worker_memory_limit_bytes, 256 << 20);
    assert_int_equal(hsm->deadline_ms, 10000);
    assert_false(hsm->weak_token_accepted);
    config_free(&config);
}

/* Its line says "KEY =" or, where there is no default to show, "; KEY =". */
static bool sample_has(const char *sample, const struct config_key *key)
{
    char heading[64], line[64], commented[80];
    snprintf(heading, sizeof heading, "\n[%s]\n", key->section);
    snprintf(line, sizeof line, "\n%s = ", key->name);
    snprintf(commented, sizeof commented, "\n; %s =", key->name);
    const char *from = strstr(sample, heading);
    if (from == NULL)
        return false;
    const char *end = strstr(from + 1, "\n[");
    const char *at = strstr(from, line);
    if (at == NULL || (end != NULL && at > end))
        at = strstr(from, commented);
    return at != NULL && (end == NULL || at < end);
}

static void the_sample_has_every_key(void **state)
{
    (void)state;
    static char sample[65536];
    FILE *stream = fopen(sample_path, "r");
    assert_non_null(stream);
    size_t length = fread(sample, 1, sizeof sample - 1, stream);
    fclose(stream);
    assert_true(length > 0 && length < sizeof sample - 1);
    for (size_t i = 0; i < config_key_count; i++)
        if (!sample_has(sample, &config_keys[i]))
            fail_msg("[%s] %s is missing", config_keys[i].section, config_keys[i].name);
}

static void values_are_taken(void **state)
{
    (void)state;
    struct config *config = load("; a comment\n"
                                 "# another\n"
                                 "\n"
                                 "[system]   ; with a comment\n"
                                 "name = Zo\xc3\xab's SSO   ; for people\n"
                                 "user=svc\n"
                                 "[hsm second]\n"
                                 "token = pkcs11:token=two;serial=12?pin-source=file:/p\n"
                                 "workers = 3\n"
                                 "user = other\n"
                                 "[hsm]\n"
                                 "token = pkcs11:token=one\n"
                                 "environment = SOFTHSM2_CONF=/a/b,DEBUG=\n"
                                 "weak_token = accept\n"
                                 "deadline = 250ms\n"
                                 "[database]\n"
                                 "url = sqlite:/data/db/sso.db\n"
                                 "[roles]\n"
                                 "sso_admins = wheel, san:DNS:*.x.example ,ops\n"
                                 "[system]\n"
                                 "[limits]\n"
                                 "max_body = 1M\n"
                                 "[keys]\n"
                                 "dual_control = yes");
    assert_string_equal(config->system.name, "Zo\xc3\xab's SSO");
    assert_string_equal(config->system.state_directory, "/data/db");
    assert_int_equal(config->hsm_count, 2);
    assert_string_equal(config->hsm[0].name, "");
    assert_string_equal(config->hsm[0].token, "pkcs11:token=one");
    assert_string_equal(config->hsm[0].user, "svc");
    assert_string_equal(config->hsm[0].environment, "SOFTHSM2_CONF=/a/b,DEBUG=");
    assert_true(config->hsm[0].weak_token_accepted);
    assert_int_equal(config->hsm[0].deadline_ms, 250);
    assert_string_equal(config->hsm[1].name, "second");
    assert_string_equal(config->hsm[1].token, "pkcs11:token=two;serial=12?pin-source=file:/p");
    assert_int_equal(config->hsm[1].workers, 3);
    assert_string_equal(config->hsm[1].user, "other");
    assert_int_equal(config->roles.sso_admins.count, 3);
    assert_string_equal(config->roles.sso_admins.item[1], "san:DNS:*.x.example");
    assert_string_equal(config->roles.sso_admins.item[2], "ops");
    assert_int_equal(config->limits.max_body_bytes, 1 << 20);
    assert_true(config->keys.dual_control);
    config_free(&config);
}

static void structure_is_refused_by_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *place, *part;
    } cases[] = {
        {"[system]\nname = x\nnmae = y\n", "x.conf:3:", "unknown key nmae in [system]"},
        {"[nosuch]\n", "x.conf:1:", "unknown section"},
        {"\n\n[nosuch]\nkey = x\n", "x.conf:3:", "unknown section"},
        {"[system]\nname = a\n; c\nname = b\n", "x.conf:4:", "[system] name is given twice"},
        {"[system]\nname = a\n[audit]\n[system]\nname = b\n", "x.conf:5:", "twice"},
        {"name = x\n", "x.conf:1:", "[SECTION] before"},
        {"[system]\nno value here\n", "x.conf:2:", "KEY = VALUE"},
        {"[system\nname = x\n", "x.conf:1:", "[SECTION]"},
        {"[]\n", "x.conf:1:", "[SECTION]"},
        {"[system] name = x\n", "x.conf:1:", "nothing but a comment"},
        {"[system]\nname = x\n  user = y\n", "x.conf:3:", "blanks before"},
        {"\xef\xbb\xbf[system]\n", "x.conf:1:", "byte order mark"},
        {"[hsm two words]\ntoken = pkcs11:\n", "x.conf:1:", "[hsm NAME]"},
        {"[system]\n[hsm b]\ntoken = pkcs11:token=b\n", "x.conf:2:", "beside [hsm b]"},
        {"\n[hsm]\nworkers = 2\n", "x.conf:2:", "names no token"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_refused(cases[i].text, cases[i].place, cases[i].part);
}

static void values_are_refused_by_line(void **state)
{
    (void)state;
    static const struct {
        const char *section, *line, *part;
    } cases[] = {
        {"system", "name =", "1 to 128 bytes"},
        {"system", "name = \xff", "UTF-8"},
        {"system", "state_directory = relative", "absolute path"},
        {"hsm", "module = libsofthsm2.so", "absolute path"},
        {"hsm", "workers = 0", "auto, or a number from 1 to 256"},
        {"hsm", "workers = many", "auto, or a number"},
        {"hsm", "workers = 2K", "auto, or a number"},
        {"hsm", "sessions_per_worker = -1", "number from 1 to 1024"},
        {"hsm", "worker_memory_limit = 1M", "a size"},
        {"hsm", "worker_memory_limit = 99999999999999999999M", "a size"},
        {"hsm", "deadline = 10", "a duration"},
        {"hsm", "deadline = 2h", "from 100ms to 1h"},
        {"hsm", "weak_token = yes", "accept|refuse"},
        {"hsm", "environment = NOVALUE", "NAME=VALUE"},
        {"hsm", "environment = A=1,,B=2", "NAME=VALUE"},
        {"hsm", "environment = 1A=1", "NAME=VALUE"},
        {"hsm", "token = sso-hsm", "a PKCS#11 URI"},
        {"hsm", "token = pkcs11:token=a?pin-value=1234", "pin-source"},
        {"hsm", "token = pkcs11:token=a?pin-source=file:/p&PIN-VALUE=1234", "pin-source"},
        {"hsm", "token = pkcs11:token=a?module-path=/m.so", "without module-path"},
        {"hsm", "token = pkcs11:token=a?module-name=m", "without module-name"},
        {"hsm", "token = pkcs11:slot-id=3", "without slot-id"},
        {"database", "url = mysql://h/db", "sqlite:/PATH"},
        {"database", "url = sqlite:relative.db", "sqlite:/PATH"},
        {"roles", "sso_admins = a,,b", "none empty"},
        {"roles", "sso_admins = a,", "none empty"},
        {"cluster", "node = two words", "a name of 1 to 64"},
        {"cluster", "failover = maybe", "automatic|manual"},
        {"cluster", "master_lease = 1000d", "a duration"},
        {"cache", "lease = 1w", "a duration"},
        {"cache", "max_entries = 1e6", "a number"},
        {"audit", "journal = on", "best-effort|required|off"},
        {"audit", "lookups =", "required|relaxed"},
        {"keys", "dual_control = true", "yes|no"},
        {"limits", "max_body = 1", "a size"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256], key[96];
        snprintf(text, sizeof text, "[%s]\n\n%s\n", cases[i].section, cases[i].line);
        snprintf(key, sizeof key, "[%s] %.*s: wanted", cases[i].section,
                 (int)strcspn(cases[i].line, " "), cases[i].line);
        check_refused(text, "x.conf:3:", key);
        check_refused(text, "x.conf:3:", cases[i].part);
    }
}

static void a_refused_pin_is_not_repeated(void **state)
{
    (void)state;
    static const char text[] = "[hsm]\ntoken = pkcs11:token=a?pin-value=48151623\n";
    struct config *config = NULL;
    struct sso_error err = {0};
    assert_int_equal(load_bytes(text, sizeof text - 1, &config, &err), SSO_CONFIG_ERROR);
    assert_null(strstr(err.detail, "48151623"));
}

static void long_lines_are_taken_or_refused_whole(void **state)
{
    (void)state;
    char text[4096];
    /* 1022 bytes and the newline are the longest. */
    snprintf(text, sizeof text,
             "[hsm]\ntoken = pkcs11:token=a\ninit_args = %01010d\n[audit]\nlookups = relaxed\n", 7);
    struct config *config = load(text);
    assert_int_equal(strlen(config->hsm[0].init_args), 1010);
    assert_false(config->audit.lookups_required);
    config_free(&config);
    snprintf(text, sizeof text,
             "[hsm]\ntoken = pkcs11:token=a\ninit_args = %01011d\n[audit]\nlookups = relaxed\n", 7);
    check_refused(text, "x.conf:3:", "at most 1022 bytes");
    snprintf(text, sizeof text, "[listen]\n; %03000d\n", 7);
    check_refused(text, "x.conf:2:", "at most 1022 bytes");

    struct sso_error err = {0};
    static const char with_nul[] = "[system]\nname = a\0b\n";
    config = NULL;
    check_failure(load_bytes(with_nul, sizeof with_nul - 1, &config, &err), SSO_CONFIG_ERROR, &err,
                  "x.conf:2: wanted text");
}

static void too_many_tokens_are_refused(void **state)
{
    (void)state;
    char text[1024] = "[hsm]\ntoken = pkcs11:\n";
    for (int i = 0; i < CONFIG_HSM_MAX; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text),
                 "[hsm t%d]\ntoken = pkcs11:token=t%d\n", i, i);
    check_refused(text, "x.conf:17:", "more than 8");
}

static void files_are_looked_at(void **state)
{
    (void)state;
    char folder[] = "/tmp/sso-test-XXXXXX", path[64];
    struct config *config = NULL;
    struct sso_error err = {0};
    assert_non_null(mkdtemp(folder));
    check_failure(config_load(folder, &config, &err), SSO_CONFIG_ERROR, &err, "wanted a file");
    snprintf(path, sizeof path, "%s/custodian.conf", folder);
    check_failure(config_load(path, &config, &err), SSO_CONFIG_ERROR, &err, path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("[cluster]\nnode = n7\n", file);
    fclose(file);
    assert_int_equal(chmod(path, 0666), 0);
    check_failure(config_load(path, &config, &err), SSO_CONFIG_ERROR, &err, "chmod o-w");
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(config_load(path, &config, &err), SSO_OK);
    assert_string_equal(config->cluster.node, "n7");
    assert_string_equal(config->file, path);
    config_free(&config);
    unlink(path);
    rmdir(folder);
}

static void the_path_comes_from_option_environment_default(void **state)
{
    (void)state;
    unsetenv("SSO_HSM_CONFIG");
    assert_string_equal(config_path(NULL), "/etc/sso-hsm/custodian.conf");
    setenv("SSO_HSM_CONFIG", "/from/environment", 1);
    assert_string_equal(config_path(NULL), "/from/environment");
    assert_string_equal(config_path("/from/option"), "/from/option");
    unsetenv("SSO_HSM_CONFIG");
}

static void durations_and_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } durations[] = {{"0s", 0},      {"250ms", 250},   {"10s", 10000},   {"90s", 90000},
                     {"5m", 300000}, {"8h", 28800000}, {"1500ms", 1500}, {"400d", 34560000000}};
    static const char *const shortest[] = {"0s", "250ms", "10s",    "90s",
                                           "5m", "8h",    "1500ms", "400d"};
    uint64_t value;
    char text[24];
    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
        assert_true(parse_duration_ms(durations[i].text, &value));
        assert_true(value == durations[i].ms);
        format_duration(value, text);
        assert_string_equal(text, shortest[i]);
    }
    format_duration(7200000, text);
    assert_string_equal(text, "2h");
    format_duration(UINT64_MAX, text);
    assert_true(parse_duration_ms(text, &value) && value == UINT64_MAX);
    static const char *const none[] = {"",
                                       "s",
                                       "10",
                                       "-1s",
                                       "+1s",
                                       " 1s",
                                       "1 s",
                                       "1w",
                                       "1sec",
                                       "1.5s",
                                       "0x1s",
                                       "1S",
                                       "99999999999999999999s",
                                       "18446744073709551615s"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_false(parse_duration_ms(none[i], &value));

    assert_true(parse_size_bytes("0", &value) && value == 0);
    assert_true(parse_size_bytes("17", &value) && value == 17);
    assert_true(parse_size_bytes("64K", &value) && value == 65536);
    assert_true(parse_size_bytes("256M", &value) && value == 256 << 20);
    assert_true(parse_size_bytes("2G", &value) && value == UINT64_C(2) << 30);
    assert_false(parse_size_bytes("2k", &value));
    assert_false(parse_size_bytes("K", &value));
    assert_false(parse_size_bytes("-2", &value));
    assert_false(parse_size_bytes("17179869184G", &value));
}

static void initial_settings_are_as_in_the_file(void **state)
{
    (void)state;
    static const char *const wanted[][2] = {
        {"cluster.failover", "manual"},   {"cluster.master_lease", "10s"},
        {"cluster.poll_interval", "30s"}, {"cluster.offline_grace", "8h"},
        {"cache.lease", "90m"},           {"audit.lookups", "relaxed"},
        {"audit.journal", "off"},         {"audit.keep", "3650d"},
        {"keys.drill_interval", "365d"},  {"keys.retired_keep", "400d"},
        {"keys.dual_control", "no"}};
    struct config_setting settings[CONFIG_SETTINGS_MAX];
    struct config *config = load("[cluster]\nfailover = manual\n[cache]\nlease = 5400s\n"
                                 "[audit]\nlookups = relaxed\njournal = off\n");
    size_t count = config_initial_settings(config, settings);
    assert_int_equal(count, sizeof wanted / sizeof wanted[0]);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(settings[i].name, wanted[i][0]);
        assert_string_equal(settings[i].value, wanted[i][1]);
    }
    config_free(&config);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    sample_path = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_file_gives_the_defaults),
        cmocka_unit_test(the_sample_is_the_defaults),
        cmocka_unit_test(the_sample_has_every_key),
        cmocka_unit_test(values_are_taken),
        cmocka_unit_test(structure_is_refused_by_line),
        cmocka_unit_test(values_are_refused_by_line),
        cmocka_unit_test(a_refused_pin_is_not_repeated),
        cmocka_unit_test(long_lines_are_taken_or_refused_whole),
        cmocka_unit_test(too_many_tokens_are_refused),
        cmocka_unit_test(files_are_looked_at),
        cmocka_unit_test(the_path_comes_from_option_environment_default),
        cmocka_unit_test(durations_and_sizes),
        cmocka_unit_test(initial_settings_are_as_in_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
