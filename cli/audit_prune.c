#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/api.h"
#include "cli/arguments.h"
#include "cli/line_reader.h"
#include "cli/output.h"
#include "common/audit_head.h"
#include "common/clock.h"
#include "common/encode.h"
#include "common/json.h"

#define LINE_BYTES_MAX 65536
#define PRUNE_TIMEOUT_MS 60000

static bool read_text(const json_t *record, const char *name, char *out, size_t size)
{
    const json_t *value = json_object_get(record, name);
    const char *text = json_is_null(value) ? "" : json_string_value(value);
    return text != NULL && (size_t)snprintf(out, size, "%s", text) < size;
}

/* The UUID of a row, or null. */
static bool read_row(const json_t *record, uint8_t out[static 16])
{
    char text[64], hex[33];
    size_t used = 0;
    if (!read_text(record, "row", text, sizeof text))
        return false;
    if (text[0] == '\0')
        return true;
    for (const char *next = text; *next != '\0' && used < sizeof hex - 1; next++)
        if (*next != '-')
            hex[used++] = *next;
    hex[used] = '\0';
    return used == sizeof hex - 1 && hex_decode(hex, out, 16);
}

static bool read_hex(const json_t *record, const char *name, uint8_t *out, size_t count)
{
    const char *text = json_string_value(json_object_get(record, name));
    return text != NULL && strlen(text) == 2 * count && hex_decode(text, out, count);
}

static bool read_record(const json_t *record, struct audit_record *out)
{
    const char *time = json_string_value(json_object_get(record, "time"));
    *out = (struct audit_record){
        .number = (uint64_t)json_integer_value(json_object_get(record, "number")),
        .row_version = (uint64_t)json_integer_value(json_object_get(record, "row_version"))};
    return time != NULL && rfc3339_parse(time, &out->time_ms) && out->number > 0 &&
           read_text(record, "node", out->node, sizeof out->node) &&
           read_text(record, "actor", out->actor, sizeof out->actor) &&
           read_text(record, "how", out->how, sizeof out->how) &&
           read_text(record, "operation", out->operation, sizeof out->operation) &&
           read_text(record, "target", out->target, sizeof out->target) &&
           read_text(record, "outcome", out->outcome, sizeof out->outcome) &&
           read_hex(record, "request_id", out->request_id, sizeof out->request_id) &&
           read_row(record, out->row_id) && read_hex(record, "hash", out->hash, sizeof out->hash);
}

/* Does it follow on the last one? The first of a file that does not begin with record 1 is taken as
 * it is: the service compares the last one with its own. */
static bool follows(const struct audit_head *last, const struct audit_record *record)
{
    uint8_t hash[AUDIT_HASH_BYTES];
    if (last->number == 0 && record->number != 1)
        return true;
    audit_record_hash(last->hash, record, hash);
    return memcmp(hash, record->hash, sizeof hash) == 0 && record->number == last->number + 1 &&
           (last->number == 0 || strcmp(record->node, last->node) == 0);
}

static enum sso_code take_line(const char *line, size_t length, struct audit_head *last,
                               struct sso_error *err)
{
    struct audit_record record;
    json_t *object = json_parse(line, length, err);
    if (object == NULL)
        return SSO_BAD_REQUEST;
    bool good = read_record(object, &record) && follows(last, &record);
    json_decref(object);
    if (!good)
        return sso_fail(err, SSO_BAD_REQUEST,
                        "it is no record that audit export wrote, or does not follow the one "
                        "before");
    memcpy(last->node, record.node, sizeof last->node);
    last->number = record.number;
    memcpy(last->hash, record.hash, sizeof last->hash);
    return SSO_OK;
}

static enum sso_code read_lines(int fd, const char *path, struct audit_head *last,
                                struct sso_error *err)
{
    struct line_reader reader;
    const char *line = NULL;
    size_t length = 0;
    bool too_long = false;
    line_reader_init(&reader, fd, LINE_BYTES_MAX);
    enum sso_code rc = line_reader_next(&reader, &line, &length, &too_long, err);
    while (rc == SSO_OK && line != NULL) {
        struct sso_error problem = {0};
        rc = too_long ? sso_fail(&problem, SSO_TOO_LARGE, "it is too long")
                      : take_line(line, length, last, &problem);
        if (rc != SSO_OK)
            sso_fail(err, rc, "%s, line %llu: %s", path, (unsigned long long)reader.line,
                     problem.detail);
        else
            rc = line_reader_next(&reader, &line, &length, &too_long, err);
    }
    line_reader_free(&reader);
    if (rc == SSO_OK && last->number == 0)
        rc = sso_fail(err, SSO_BAD_REQUEST, "%s has no record", path);
    return rc;
}

static enum sso_code read_export(const char *path, struct audit_head *last, struct sso_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return sso_fail_errno(err, SSO_USAGE, errno, "%s cannot be read", path);
    enum sso_code rc = read_lines(fd, path, last, err);
    close(fd);
    return rc;
}

/* Each request takes as many as fit its time. */
static enum sso_code prune(struct cli *cli, const struct audit_head *last, json_t **result,
                           struct sso_error *err)
{
    char hash[2 * AUDIT_HASH_BYTES + 1];
    hex_encode(last->hash, sizeof last->hash, hash);
    json_t *body = json_pack("{s:s,s:I,s:s}", "node", last->node, "through",
                             (json_int_t)last->number, "hash", hash);
    const struct api_request request = {
        .method = "POST", .body = body, .timeout_ms = PRUNE_TIMEOUT_MS};
    json_int_t pruned = 0;
    bool left = true;
    enum sso_code rc = SSO_OK;
    while (rc == SSO_OK && left) {
        json_decref(*result);
        *result = NULL;
        rc = api_call(cli, &request, result, err, "/v1/audit:prune");
        pruned += json_integer_value(json_object_get(*result, "pruned"));
        left = json_is_true(json_object_get(*result, "left"));
    }
    json_decref(body);
    if (rc == SSO_OK) {
        json_object_set_new(*result, "pruned", json_integer(pruned));
        json_object_del(*result, "left");
    }
    return rc;
}

COMMAND_FUNCTION(command_audit_prune)
{
    const struct option_row options[] = {{NULL, 0, NULL, NULL}};
    struct arguments arguments;
    struct audit_head last = {0};
    json_t *result = NULL;
    enum sso_code rc = arguments_parse(argc, argv, options, &arguments, err);
    if (rc == SSO_OK)
        rc = arguments_expect(&arguments, 1, 1, err);
    if (rc == SSO_OK)
        rc = read_export(arguments.value[0], &last, err);
    if (rc == SSO_OK)
        rc = prune(cli, &last, &result, err);
    if (rc == SSO_OK && cli->json)
        rc = output_json(result, err);
    else if (rc == SSO_OK)
        printf("%lld records pruned; the chain of %s begins after record %lld\n",
               (long long)member_number(result, "pruned"), last.node,
               (long long)member_number(result, "through"));
    json_decref(result);
    return rc;
}
