#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/output.h"
#include "cli/rotation_output.h"
#include "common/clock.h"

/* With no_backup the key is made, and every worker started anew, before the answer comes. */
#define START_TIMEOUT_MS 180000
#define POLL_MS 500
/* A custodian that is started anew goes on with the job by itself: so does who watches. */
#define AWAY_MS_MAX 60000

static volatile sig_atomic_t detach_wanted;

static void on_interrupt(int number)
{
    (void)number;
    detach_wanted = 1;
}

struct rotate_options {
    uint64_t generation, rate;
    const char *verify, *token;
    struct option_values without;
    bool no_backup, full_speed, reencrypt, dry_run, detach;
};

static enum sso_code parse(int argc, char **argv, struct rotate_options *out, struct sso_error *err)
{
    const struct option_row options[] = {{"generation", OPTION_NUMBER, &out->generation, NULL},
                                         {"no-backup", OPTION_FLAG, &out->no_backup, NULL},
                                         {"rate", OPTION_NUMBER, &out->rate, NULL},
                                         {"full-speed", OPTION_FLAG, &out->full_speed, NULL},
                                         {"verify", OPTION_TEXT, &out->verify, NULL},
                                         {"dry-run", OPTION_FLAG, &out->dry_run, NULL},
                                         {"detach", OPTION_FLAG, &out->detach, NULL},
                                         {"token", OPTION_TEXT, &out->token, NULL},
                                         {"reencrypt", OPTION_FLAG, &out->reencrypt, NULL},
                                         {"without", OPTION_EACH, &out->without, NULL},
                                         {NULL, 0, NULL, NULL}};
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 0, 0, err);
    if (rc != SSO_OK)
        return rc;
    if (out->no_backup && out->generation != 0)
        return sso_fail(err, SSO_USAGE, "--generation and --no-backup exclude each other");
    if (out->verify != NULL && strcmp(out->verify, "sample") != 0 &&
        strcmp(out->verify, "full") != 0)
        return sso_fail(err, SSO_USAGE, "--verify wants sample or full");
    return SSO_OK;
}

static bool has_state(const json_t *generation, const char *wanted)
{
    const char *state = json_string_value(json_object_get(generation, "state"));
    return state != NULL && strcmp(state, wanted) == 0;
}

/* Whoever has an unfinished rotation most likely wants that one, and no further generation. */
static enum sso_code none_pending(struct cli *cli, struct sso_error *err)
{
    char room[MEMBER_ROOM];
    json_t *status = NULL;
    enum sso_code rc = SSO_OK;
    if (api_get(cli, &status, NULL, "/v1/rotation") == SSO_OK &&
        rotation_is_in_state(status, "paused"))
        rc = sso_fail(err, SSO_ROTATION_IN_PROGRESS,
                      "the rotation to generation %s is paused: it goes on with sso-hsm rotate "
                      "resume",
                      member_text(status, "to", room));
    else
        rc = sso_fail(err, SSO_USAGE,
                      "no generation above the active one is pending: make one with `sso-hsm key "
                      "generate --shares M/N --backup FILE` (or --share-set ID), or, with no "
                      "backup of the new one, rotate with --no-backup%s",
                      rotation_is_in_state(status, "cancelled")
                          ? "; the cancelled rotation goes on with sso-hsm rotate resume"
                          : "");
    json_decref(status);
    return rc;
}

/* A system that was backed up is one no longer: health says so afterwards, too late. */
static void warn_of_no_backup(struct cli *cli)
{
    json_t *reply = NULL;
    const json_t *generation;
    size_t i;
    if (api_get(cli, &reply, NULL, "/v1/generations") != SSO_OK)
        return;
    json_array_foreach(json_object_get(reply, "generations"), i, generation)
    {
        if (has_state(generation, "active") &&
            !json_is_null(json_object_get(generation, "backed_up")))
            fprintf(stderr, "sso-hsm: the active generation has a backup, the new one will have "
                            "none: who loses its token loses every row\n");
    }
    json_decref(reply);
}

/* Those that rotations have passed by do not count, since rows only move to a later one; nor those
 * that have no backup and were not made without one. */
static enum sso_code only_pending(struct cli *cli, uint64_t *number, struct sso_error *err)
{
    json_t *reply = NULL;
    enum sso_code rc = api_get(cli, &reply, err, "/v1/generations");
    const json_t *generation, *list = json_object_get(reply, "generations");
    json_int_t active = 0;
    size_t i, found = 0;
    json_array_foreach(list, i, generation)
    {
        if (has_state(generation, "active"))
            active = member_number(generation, "number");
    }
    json_array_foreach(list, i, generation)
    {
        if (!has_state(generation, "pending") || member_number(generation, "number") <= active ||
            json_is_true(json_object_get(generation, "closed")) ||
            (json_is_null(json_object_get(generation, "backed_up")) &&
             !json_is_true(json_object_get(generation, "no_backup"))))
            continue;
        *number = (uint64_t)member_number(generation, "number");
        found++;
    }
    json_decref(reply);
    if (rc == SSO_OK && found == 0)
        rc = none_pending(cli, err);
    else if (rc == SSO_OK && found > 1)
        rc = sso_fail(err, SSO_USAGE,
                      "%zu generations are pending: name one of them with --generation "
                      "(`sso-hsm key generate` made them, `sso-hsm key list` shows them)",
                      found);
    return rc;
}

/* A paused rotation does not end by itself, so waiting for its end is no advice. */
static void advise_on_paused(struct cli *cli, struct sso_error *err)
{
    struct sso_error why = *err;
    json_t *status = NULL;
    if (api_get(cli, &status, NULL, "/v1/rotation") == SSO_OK &&
        rotation_is_in_state(status, "paused") && strstr(why.detail, "resume") == NULL)
        (void)sso_fail(err, why.code, "%s; a paused one goes on with sso-hsm rotate resume",
                       why.detail);
    json_decref(status);
}

static json_t *body_of(const struct rotate_options *options)
{
    json_t *body = json_object();
    if (options->no_backup)
        json_object_set_new(body, "no_backup", json_true());
    else
        json_object_set_new(body, "generation", json_integer((json_int_t)options->generation));
    if (options->rate != 0)
        json_object_set_new(body, "rate", json_integer((json_int_t)options->rate));
    if (options->full_speed)
        json_object_set_new(body, "full_speed", json_true());
    if (options->dry_run)
        json_object_set_new(body, "dry_run", json_true());
    if (options->reencrypt)
        json_object_set_new(body, "reencrypt", json_true());
    body_set_text(body, "verify", options->verify);
    body_set_text(body, "token", options->token);
    json_t *without = json_array();
    for (size_t i = 0; i < options->without.count; i++)
        json_array_append_new(without, json_string(options->without.value[i]));
    json_object_set_new(body, "without", without);
    return body;
}

static void pause_ms(long milliseconds)
{
    const struct timespec span = {.tv_sec = milliseconds / 1000,
                                  .tv_nsec = milliseconds % 1000 * 1000000};
    nanosleep(&span, NULL); /* Ctrl-C ends it early, as it should */
}

/* The status as the custodian has it now; where nobody answers, tried again for AWAY_MS_MAX. */
static enum sso_code poll_status(struct cli *cli, json_t **status, struct sso_error *err)
{
    int64_t give_up_ms = boot_clock_ms() + AWAY_MS_MAX;
    for (;;) {
        enum sso_code rc = api_get(cli, status, err, "/v1/rotation");
        if (rc == SSO_OK || sso_code_facts(rc)->exit_code != 5 || detach_wanted ||
            boot_clock_ms() > give_up_ms)
            return rc;
        pause_ms(POLL_MS);
    }
}

/* By its name in "error_code"; internal where there is none. */
static enum sso_code failure_code(const json_t *status)
{
    const char *name = json_string_value(json_object_get(status, "error_code"));
    enum sso_code code = name != NULL ? sso_code_from_name(name) : SSO_OK;
    return code != SSO_OK ? code : SSO_INTERNAL;
}

/* What the command's own outcome is, once the rotation is over. */
static enum sso_code outcome_of(struct cli *cli, const json_t *status, struct sso_error *err)
{
    char room[MEMBER_ROOM];
    if (rotation_is_in_state(status, "completed"))
        return SSO_OK;
    if (rotation_is_in_state(status, "completed_with_errors")) {
        if (!cli->json)
            printf("rows are left behind: sso-hsm rotate status --quarantine names them\n");
        cli->exit_code = EXIT_DONE_WITH_ERRORS;
        return SSO_OK;
    }
    if (rotation_is_in_state(status, "failed"))
        return sso_fail(err, failure_code(status), "the rotation failed: %s",
                        member_text(status, "error", room));
    if (!cli->json)
        printf("`sso-hsm rotate resume` takes it up again\n");
    cli->exit_code = 1;
    return SSO_OK;
}

/* Shows `status`, which it owns, and what follows until the rotation is over. */
static enum sso_code stay_attached(struct cli *cli, json_t *status, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    json_int_t id = member_number(status, "id");
    while (rc == SSO_OK && !rotation_is_over(status) && !detach_wanted) {
        if (cli->json)
            rc = output_json(status, err);
        else
            progress_show(status);
        pause_ms(POLL_MS);
        json_t *next = NULL;
        if (rc == SSO_OK && !detach_wanted)
            rc = poll_status(cli, &next, err);
        if (rc == SSO_OK && next != NULL && member_number(next, "id") != id)
            rc = sso_fail(err, SSO_IN_USE, "rotation %lld was followed by another one",
                          (long long)id);
        if (next != NULL && rc == SSO_OK) {
            json_decref(status);
            status = next;
        } else {
            json_decref(next);
        }
    }
    if (!cli->json)
        progress_end();
    if (detach_wanted) {
        fprintf(stderr, "sso-hsm: detached, the rotation goes on: "
                        "sso-hsm rotate status shows it, sso-hsm rotate cancel ends it\n");
        rc = SSO_OK;
    } else if (rc == SSO_OK) {
        rc = rotation_output(cli, status, err);
        if (rc == SSO_OK)
            rc = outcome_of(cli, status, err);
    }
    json_decref(status);
    return rc;
}

COMMAND_FUNCTION(command_rotate_start)
{
    struct rotate_options options = {0};
    enum sso_code rc = parse(argc, argv, &options, err);
    if (rc == SSO_OK && options.generation == 0 && !options.no_backup)
        rc = only_pending(cli, &options.generation, err);
    if (rc != SSO_OK)
        return rc;
    if (options.no_backup && !options.dry_run)
        warn_of_no_backup(cli);
    const struct sigaction detach = {.sa_handler = on_interrupt};
    if (!options.detach)
        sigaction(SIGINT, &detach, NULL);
    json_t *status = NULL, *body = body_of(&options);
    const struct api_request request = {
        .method = "POST", .body = body, .timeout_ms = START_TIMEOUT_MS};
    rc = api_call(cli, &request, &status, err, "/v1/rotation");
    json_decref(body);
    if (rc == SSO_ROTATION_IN_PROGRESS)
        advise_on_paused(cli, err);
    if (rc != SSO_OK)
        return rc;
    if (options.detach) {
        rc = rotation_output(cli, status, err);
        json_decref(status);
        return rc;
    }
    return stay_attached(cli, status, err);
}
