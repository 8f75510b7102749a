#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/import_window.h"
#include "cli/line_reader.h"
#include "cli/output.h"
#include "cli/prepare.h"
#include "common/json.h"
#include "common/row.h"

#define LINE_BYTES_MAX ((size_t)4 << 20)
#define ERRORS_SHOWN 100

struct import {
    struct line_reader reader;
    struct import_lanes *lanes;
    struct import_window *window[2]; /* one is sent while the other is read */
    json_int_t read, created, updated, failed, errors_left_out;
    json_t *errors;
};

/* FNV-1a: spreads principals over the lanes, no more. */
static unsigned lane_of(const char *principal)
{
    uint32_t hash = 2166136261u;
    for (; *principal != '\0'; principal++)
        hash = (hash ^ (unsigned char)*principal) * 16777619u;
    return (hash >> 8) % IMPORT_CONNECTIONS;
}

static enum sso_code check_members(const json_t *object, struct sso_error *err)
{
    static const char *const members[] = {"app", "principal", "external_user", "fields", NULL};
    const char *text;
    enum sso_code rc = json_only_members(object, members, err);
    if (rc == SSO_OK)
        rc = json_get_text(object, "app", LINE_BYTES_MAX, &text, err);
    if (rc == SSO_OK)
        rc = json_get_text(object, "principal", PRINCIPAL_BYTES_MAX, &text, err);
    /* Left out it is what the mapping says, as everywhere. */
    const json_t *external = json_object_get(object, "external_user");
    if (rc == SSO_OK && external != NULL && !json_is_string(external) && !json_is_null(external))
        rc = sso_fail(err, SSO_BAD_REQUEST, "`external_user` is no text");
    if (rc == SSO_OK && !json_is_object(json_object_get(object, "fields")))
        rc = sso_fail(err, SSO_BAD_REQUEST, "the object `fields` is missing");
    return rc;
}

/* Fills item, app and lane, or the outcome. jansson's own error text quotes the input. */
static void parse_line(struct import_line *line, const char *text, size_t length)
{
    struct sso_error problem = {0};
    json_error_t fault;
    json_t *object = json_loadb(text, length, JSON_REJECT_DUPLICATES, &fault);
    if (object == NULL) {
        sso_fail(&problem, SSO_BAD_REQUEST,
                 json_error_code(&fault) == json_error_invalid_utf8
                     ? "not valid UTF-8 at byte %d"
                     : "not well-formed JSON at byte %d",
                 fault.position);
        import_line_fail(line, SSO_BAD_REQUEST, problem.detail);
        return;
    }
    if (check_members(object, &problem) != SSO_OK) {
        import_line_fail(line, SSO_BAD_REQUEST, problem.detail);
        json_decref(object);
        return;
    }
    line->app = strdup(json_string_value(json_object_get(object, "app")));
    json_object_del(object, "app");
    line->item = object;
    line->lane = lane_of(json_string_value(json_object_get(object, "principal")));
    if (line->app == NULL)
        import_line_fail(line, SSO_NO_MEMORY, "no memory for the line");
}

static bool is_blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r')
            return false;
    }
    return true;
}

static enum sso_code read_window(struct import *import, struct import_window *window,
                                 struct sso_error *err)
{
    import_window_clear(window);
    while (window->count < IMPORT_WINDOW_LINES && window->bytes < IMPORT_WINDOW_BYTES) {
        const char *text = NULL;
        size_t length = 0;
        bool too_long = false;
        enum sso_code rc = line_reader_next(&import->reader, &text, &length, &too_long, err);
        if (rc != SSO_OK || text == NULL)
            return rc;
        if (!too_long && is_blank(text, length))
            continue;
        struct import_line *line = &window->line[window->count++];
        line->number = import->reader.line;
        line->bytes = length;
        window->bytes += length;
        import->read++;
        if (too_long)
            import_line_fail(line, SSO_TOO_LARGE, "the line has more than 4 MiB");
        else
            parse_line(line, text, length);
    }
    return SSO_OK;
}

static void report_failure(struct import *import, const struct import_line *line)
{
    const char *code = sso_code_facts(line->code)->name;
    const char *detail = line->detail != NULL ? line->detail : "";
    fprintf(stderr, "line %llu: %s: %s\n", (unsigned long long)line->number, code, detail);
    import->failed++;
    if (json_array_size(import->errors) < ERRORS_SHOWN)
        json_array_append_new(import->errors,
                              json_pack("{s:I, s:s, s:s}", "line", (json_int_t)line->number, "code",
                                        code, "detail", detail));
    else
        import->errors_left_out++;
}

static void report_window(struct import *import, const struct import_window *window)
{
    for (size_t i = 0; i < window->count; i++) {
        const struct import_line *line = &window->line[i];
        import->created += line->outcome == IMPORT_CREATED;
        import->updated += line->outcome == IMPORT_UPDATED;
        if (line->outcome == IMPORT_FAILED)
            report_failure(import, line);
    }
}

/* Lines that were read and are not reported any more, since the import stopped before. */
static void forget_window(struct import *import, const struct import_window *window)
{
    import->read -= (json_int_t)window->count;
}

static enum sso_code import_all(struct import *import, struct sso_error *err)
{
    struct import_window *current = import->window[0], *next = import->window[1];
    enum sso_code rc = read_window(import, current, err);
    while (rc == SSO_OK && current->count > 0) {
        import_lanes_send(import->lanes, current);
        enum sso_code read_rc = read_window(import, next, err);
        rc = import_lanes_wait(import->lanes, read_rc == SSO_OK ? err : NULL);
        report_window(import, current);
        rc = read_rc != SSO_OK ? read_rc : rc;
        if (rc != SSO_OK)
            forget_window(import, next);
        struct import_window *done = current;
        current = next;
        next = done;
    }
    if (rc != SSO_OK)
        sso_error_context(err, "the import stopped after %lld lines, of which %lld are in",
                          (long long)import->read, (long long)(import->created + import->updated));
    return rc;
}

static enum sso_code output_summary(const struct cli *cli, const struct import *import,
                                    struct sso_error *err)
{
    if (!cli->json) {
        printf("%lld lines read: %lld created, %lld updated, %lld failed\n",
               (long long)import->read, (long long)import->created, (long long)import->updated,
               (long long)import->failed);
        return SSO_OK;
    }
    json_t *summary =
        json_pack("{s:I, s:I, s:I, s:I, s:O, s:I}", "read", import->read, "created",
                  import->created, "updated", import->updated, "failed", import->failed, "errors",
                  import->errors, "errors_left_out", import->errors_left_out);
    enum sso_code rc = output_json(summary, err);
    json_decref(summary);
    return rc;
}

static enum sso_code run_import(struct cli *cli, int fd, struct sso_error *err)
{
    struct import import = {.errors = json_array()};
    line_reader_init(&import.reader, fd, LINE_BYTES_MAX);
    import.window[0] = calloc(1, sizeof *import.window[0]);
    import.window[1] = calloc(1, sizeof *import.window[1]);
    enum sso_code rc = SSO_NO_MEMORY, output_rc;
    if (import.window[0] == NULL || import.window[1] == NULL || import.errors == NULL) {
        sso_fail(err, rc, "no memory for an import");
        goto out;
    }
    rc = import_lanes_open(cli->config, &import.lanes, err);
    if (rc != SSO_OK)
        goto out;
    rc = import_all(&import, err);
    output_rc = output_summary(cli, &import, rc == SSO_OK ? err : NULL);
    rc = rc != SSO_OK ? rc : output_rc;
    if (import.failed > 0)
        cli->exit_code = EXIT_DONE_WITH_ERRORS;
out:
    import_lanes_close(&import.lanes);
    for (size_t i = 0; i < 2; i++) {
        if (import.window[i] != NULL)
            import_window_clear(import.window[i]);
        free(import.window[i]);
    }
    line_reader_free(&import.reader);
    json_decref(import.errors);
    return rc;
}

COMMAND_FUNCTION(command_cred_import)
{
    struct arguments arguments;
    enum sso_code rc = arguments_parse(argc, argv, NULL, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc == SSO_OK)
        rc = prepare_api(cli, err);
    if (rc != SSO_OK)
        return rc;
    const char *file = arguments.value[0];
    if (strcmp(file, "-") == 0)
        return run_import(cli, STDIN_FILENO, err);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return sso_fail_errno(err, SSO_NOT_FOUND, errno, "%s cannot be read", file);
    rc = run_import(cli, fd, err);
    close(fd);
    return rc;
}
