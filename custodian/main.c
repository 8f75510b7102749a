/* sso-custodian: the daemon. */
#include <errno.h>
#include <event2/event.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/config.h"
#include "common/log.h"
#include "common/privileges.h"
#include "common/secret.h"
#include "custodian/custodian.h"
#include "custodian/tls.h"
#include "custodian/unix_socket.h"

#define MEBIBYTE ((size_t)1024 * 1024)
/* Database, workers' sockets, libevent: what is open besides connections. */
#define OTHER_DESCRIPTORS 256

static const char usage_text[] =
    "usage: sso-custodian [--config FILE] [--check]\n"
    "\n"
    "The custodian: serves credentials on a Unix socket and over TLS, and wraps their keys in the\n"
    "HSM.\n"
    "\n"
    "  --config FILE  the configuration (default: $SSO_HSM_CONFIG, else\n"
    "                 /etc/sso-hsm/custodian.conf)\n"
    "  --check        read the configuration, say whether it is sound, and exit\n"
    "  --help         this text\n";

struct options {
    const char *config;
    bool check, help;
};

/* 0, or the exit code of wrong use. */
static int read_options(int argc, char **argv, struct options *out)
{
    static const struct option known[] = {{"config", required_argument, NULL, 'c'},
                                          {"check", no_argument, NULL, 'k'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (option) {
        case 'c':
            out->config = optarg;
            break;
        case 'k':
            out->check = true;
            break;
        case 'h':
            out->help = true;
            break;
        default:
            fputs(usage_text, stderr);
            return 2;
        }
    }
    if (optind == argc)
        return 0;
    fprintf(stderr, "sso-custodian: usage: unexpected argument %s\n", argv[optind]);
    return 2;
}

static int report(const struct sso_error *problem)
{
    fprintf(stderr, "sso-custodian: %s: %s\n", sso_code_facts(problem->code)->name,
            problem->detail);
    int exit_code = sso_code_facts(problem->code)->exit_code;
    return exit_code != 0 ? exit_code : 1;
}

/* Workers run as the tokens' users: only root may start them as somebody else. */
static enum sso_code check_users(const struct config *config, struct sso_error *err)
{
    struct person person;
    enum sso_code rc = person_by_name(config->system.user, &person, err);
    if (rc != SSO_OK)
        return rc;
    if (geteuid() != 0 && person.uid != geteuid())
        return sso_fail(err, SSO_FORBIDDEN,
                        "only root or %s ([system] user) may start the custodian",
                        config->system.user);
    for (size_t i = 0; i < config->hsm_count; i++) {
        const char *user = config->hsm[i].user;
        if ((rc = person_by_name(user, &person, err)) != SSO_OK)
            return rc;
        if (geteuid() != 0 && person.uid != geteuid())
            return sso_fail(err, SSO_FORBIDDEN,
                            "workers are to run as %s ([hsm] user): only root may start the "
                            "custodian",
                            user);
    }
    return SSO_OK;
}

/* As the service will, but for the user that reads them. */
static enum sso_code check(const struct config *config, struct sso_error *err)
{
    struct person person;
    struct tls *tls = NULL;
    enum sso_code rc = check_users(config, err);
    if (rc != SSO_OK || config->listen.tls[0] == '\0' ||
        (rc = person_by_name(config->system.user, &person, err)) != SSO_OK ||
        (rc = tls_new(config, person.uid, &tls, err)) != SSO_OK)
        return rc;
    tls_free(&tls);
    return SSO_OK;
}

/* While still root: the service may have no right to make these. */
static enum sso_code make_folders(const struct config *config, struct sso_error *err)
{
    struct person person;
    const char *state = config->system.state_directory;
    enum sso_code rc = person_by_name(config->system.user, &person, err);
    if (rc != SSO_OK ||
        (rc = unix_socket_folder(config->listen.socket, person.uid, person.gid, err)) != SSO_OK)
        return rc;
    if (mkdir(state, 0700) != 0)
        return errno == EEXIST
                   ? SSO_OK
                   : sso_fail_errno(err, SSO_CONFIG_ERROR, errno,
                                    "[system] state_directory: %s cannot be made", state);
    if (geteuid() == 0 && chown(state, person.uid, person.gid) != 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "%s cannot be given to %s", state,
                              config->system.user);
    return SSO_OK;
}

static void raise_descriptor_limit(const struct config *config)
{
    struct rlimit limit;
    rlim_t wanted = config->limits.max_connections + OTHER_DESCRIPTORS;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < wanted)
        log_line(LOG_LEVEL_WARNING,
                 "RLIMIT_NOFILE is too low for [limits] max_connections: raise LimitNOFILE", NULL);
}

/* As much locked memory as may be had; RLIMIT_MEMLOCK is 8 MiB on many systems, for everything: no
 * more than half of it goes to the heap, since large credentials are locked beside it. */
static enum sso_code lock_memory(struct sso_error *err)
{
    static const size_t sizes[] = {8 * MEBIBYTE, 4 * MEBIBYTE, 2 * MEBIBYTE};
    struct rlimit limit = {0};
    (void)getrlimit(RLIMIT_MEMLOCK, &limit);
    enum sso_code rc = SSO_OK;
    for (size_t i = limit.rlim_cur < 2 * sizes[0]; i < sizeof sizes / sizeof *sizes; i++) {
        if ((rc = secret_memory_init(sizes[i], err)) == SSO_OK)
            return SSO_OK;
    }
    return rc;
}

/* Every thread inherits this; the event loop alone takes the first three back. */
static void set_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a limit is an error of the file, not the end */
}

static enum sso_code serve(const struct config *config, struct sso_error *err)
{
    struct spawner *spawner = NULL;
    struct custodian *custodian = NULL;
    enum sso_code rc;
    if ((rc = check_users(config, err)) != SSO_OK ||
        (rc = spawner_start(NULL, config->hsm, config->hsm_count, &spawner, err)) != SSO_OK)
        return rc;
    set_signals();
    umask(077);
    raise_descriptor_limit(config);
    if ((rc = make_folders(config, err)) == SSO_OK &&
        (rc = become_user(config->system.user, err)) == SSO_OK &&
        (rc = lock_memory(err)) == SSO_OK &&
        (rc = custodian_new(config, spawner, &custodian, err)) == SSO_OK)
        rc = custodian_run(custodian, err);
    custodian_free(&custodian);
    spawner_stop(&spawner);
    return rc;
}

/* One of the words that the configuration takes. */
static enum log_level log_level_of(const char *name)
{
    static const char *const names[] = {[LOG_LEVEL_DEBUG] = "debug",
                                        [LOG_LEVEL_INFO] = "info",
                                        [LOG_LEVEL_WARNING] = "warning",
                                        [LOG_LEVEL_ERROR] = "error"};
    enum log_level level = LOG_LEVEL_DEBUG;
    while (level < LOG_LEVEL_ERROR && strcmp(names[level], name) != 0)
        level++;
    return level;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    struct config *config = NULL;
    struct sso_error problem = {0};
    wiping_allocator_install();
    event_set_mem_functions(wiping_malloc, wiping_realloc, wiping_free);
    int exit_code = read_options(argc, argv, &options);
    if (exit_code != 0)
        return exit_code;
    if (options.help) {
        fputs(usage_text, stdout);
        return 0;
    }
    log_init("sso-custodian", LOG_LEVEL_INFO);
    enum sso_code rc = config_load(config_path(options.config), &config, &problem);
    if (rc == SSO_OK)
        log_init("sso-custodian", log_level_of(config->system.log_level));
    if (rc == SSO_OK)
        rc = options.check ? check(config, &problem) : serve(config, &problem);
    if (rc != SSO_OK)
        exit_code = report(&problem);
    else if (options.check)
        printf("%s: the configuration is sound\n", config->file);
    config_free(&config);
    return exit_code;
}
