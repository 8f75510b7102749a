/* sso-hsm: finds the command, runs it, turns its outcome into text and an
 * exit code. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/output.h"
#include "common/log.h"
#include "common/secret.h"

struct invocation {
    const struct command *command;
    int argc; /* argv[0] is the last word of the command */
    char **argv;
    bool help, version;
};

static void print_usage(FILE *to, const struct command *command)
{
    fprintf(to, "usage: sso-hsm [--config FILE] [--json] %s%s%s\n", command->words,
            command->arguments[0] != '\0' ? " " : "", command->arguments);
}

/* The first sentence, which may go over several lines; a dot within a name is no end. */
static void print_sentence(FILE *to, const char *help)
{
    size_t end = strcspn(help, ".;:(");
    while (help[end] == '.' && help[end + 1] != ' ' && help[end + 1] != '\n')
        end += 1 + strcspn(help + end + 1, ".;:(");
    while (end > 0 && (help[end - 1] == ' ' || help[end - 1] == '\n'))
        end--;
    for (size_t i = 0; i < end; i++)
        fputc(help[i] == '\n' ? ' ' : help[i], to);
}

/* The verbs of one noun, or everything. */
static void print_overview(FILE *to, const char *noun)
{
    size_t length = noun != NULL ? strlen(noun) : 0;
    fprintf(to, "usage: sso-hsm [--config FILE] [--json] COMMAND …\n"
                "       sso-hsm COMMAND --help | --version\n\ncommands:\n");
    for (size_t i = 0; i < command_count; i++) {
        const char *words = command_table[i].words;
        bool wanted = noun == NULL || (strncmp(words, noun, length) == 0 &&
                                       (words[length] == ' ' || words[length] == '\0'));
        if (wanted) {
            const char *help = command_table[i].help;
            fprintf(to, "  %-24s  ", words);
            print_sentence(to, help);
            fputc('\n', to);
        }
    }
    fprintf(to, "\nexit codes: 0 done, 1 failed, 2 wrong use, 3 done with errors, 4 not allowed,\n"
                "            5 not available now, try again\n");
}

static void print_help(const struct command *command, const char *noun)
{
    if (command == NULL) {
        print_overview(stdout, noun);
        return;
    }
    print_usage(stdout, command);
    printf("\n%s", command->help);
}

/* --config, --json and --help may stand anywhere before a "--": taken out, the rest moves up. */
static enum sso_code take_global_options(struct cli *cli, struct invocation *invocation,
                                         struct sso_error *err)
{
    int kept = 1, i = 1;
    char **argv = invocation->argv;
    for (; i < invocation->argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            cli->json = true;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            invocation->help = true;
        } else if (strcmp(argv[i], "--version") == 0) {
            invocation->version = true;
        } else if (strncmp(argv[i], "--config=", 9) == 0) {
            cli->config_option = argv[i] + 9;
        } else if (strcmp(argv[i], "--config") == 0) {
            if (++i == invocation->argc)
                return sso_fail(err, SSO_USAGE, "--config wants a file");
            cli->config_option = argv[i];
        } else {
            argv[kept++] = argv[i];
        }
    }
    while (i < invocation->argc)
        argv[kept++] = argv[i++];
    argv[kept] = NULL;
    invocation->argc = kept;
    return SSO_OK;
}

/* How many words of the command stand at the beginning of argv[1…]; 0 where it is another one. */
static int words_that_fit(const struct command *command, int argc, char **argv)
{
    int word = 0;
    for (const char *rest = command->words; *rest != '\0';) {
        size_t length = strcspn(rest, " ");
        if (word + 1 >= argc || strlen(argv[word + 1]) != length ||
            strncmp(argv[word + 1], rest, length) != 0)
            return 0;
        word++;
        rest += length + (rest[length] == ' ');
    }
    return word;
}

static bool is_noun(const char *word)
{
    size_t length = strlen(word);
    for (size_t i = 0; i < command_count; i++) {
        if (strncmp(command_table[i].words, word, length) == 0 &&
            command_table[i].words[length] == ' ')
            return true;
    }
    return false;
}

static enum sso_code find_command(struct invocation *invocation, struct sso_error *err)
{
    int best = 0;
    for (size_t i = 0; i < command_count; i++) {
        int words = words_that_fit(&command_table[i], invocation->argc, invocation->argv);
        if (words > best) {
            best = words;
            invocation->command = &command_table[i];
        }
    }
    if (best > 0) {
        invocation->argc -= best;
        invocation->argv += best;
        return SSO_OK;
    }
    if (invocation->argc < 2)
        return invocation->help ? SSO_OK : sso_fail(err, SSO_USAGE, "which command?");
    if (!is_noun(invocation->argv[1]))
        return sso_fail(err, SSO_USAGE, "there is no command %s", invocation->argv[1]);
    if (invocation->argc == 2 && invocation->help)
        return SSO_OK;
    return sso_fail(err, SSO_USAGE, "there is no command %s%s%s", invocation->argv[1],
                    invocation->argc > 2 ? " " : "",
                    invocation->argc > 2 ? invocation->argv[2] : " without a verb");
}

/* What the person typed goes into JSON and into names: refused here once for all commands. */
static enum sso_code check_encoding(const struct invocation *invocation, struct sso_error *err)
{
    for (int i = 1; i < invocation->argc; i++) {
        json_t *text = json_string(invocation->argv[i]);
        if (text == NULL)
            return sso_fail(err, SSO_BAD_REQUEST, "argument %d is not valid UTF-8", i);
        json_decref(text);
    }
    return SSO_OK;
}

static enum sso_code run(struct cli *cli, struct invocation *invocation, struct sso_error *err)
{
    const struct command *command = invocation->command;
    enum sso_code rc = check_encoding(invocation, err);
    cli->kind = command->kind;
    if (rc == SSO_OK)
        rc = command->run(cli, invocation->argc, invocation->argv, err);
    return rc == SSO_OK ? output_finish(err) : rc;
}

int main(int argc, char **argv)
{
    wiping_allocator_install();
    /* The parts' log is the daemon's: what they have to say here comes back as an error. */
    log_init("sso-hsm", (enum log_level)(LOG_LEVEL_ERROR + 1));
    struct cli cli = {0};
    struct invocation invocation = {.argc = argc, .argv = argv};
    struct sso_error error = {0};

    enum sso_code rc = take_global_options(&cli, &invocation, &error);
    if (rc == SSO_OK && invocation.version) {
        printf("sso-hsm " SSO_HSM_VERSION "\n");
        return output_finish(NULL) == SSO_OK ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    if (rc == SSO_OK)
        rc = find_command(&invocation, &error);
    if (rc == SSO_OK && invocation.help) {
        print_help(invocation.command, invocation.argc > 1 ? invocation.argv[1] : NULL);
        return output_finish(NULL) == SSO_OK ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    if (rc == SSO_OK)
        rc = run(&cli, &invocation, &error);
    client_close(&cli.client);
    config_free(&cli.config);
    if (rc == SSO_OK)
        return cli.exit_code;

    error.code = rc;
    output_error(&error, cli.json);
    if (rc == SSO_USAGE && !cli.json && invocation.command != NULL)
        print_usage(stderr, invocation.command);
    else if (rc == SSO_USAGE && !cli.json)
        fprintf(stderr, "`sso-hsm --help` lists the commands\n");
    return sso_code_facts(rc)->exit_code;
}
