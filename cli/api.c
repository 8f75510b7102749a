#include "cli/api.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/prepare.h"
#include "common/privileges.h"

/* Every %s of the format as one escaped segment; %llu for numbers of a query. From malloc. */
static char *make_path(const char *format, va_list arguments)
{
    char *path = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&path, &length);
    if (stream == NULL)
        return NULL;
    bool ok = true;
    for (const char *next = format; *next != '\0'; next++) {
        if (strncmp(next, "%s", 2) == 0) {
            char *segment = client_escape(va_arg(arguments, const char *));
            ok = ok && segment != NULL;
            fputs(segment != NULL ? segment : "", stream);
            free(segment);
            next++;
        } else if (strncmp(next, "%llu", 4) == 0) {
            fprintf(stream, "%llu", va_arg(arguments, unsigned long long));
            next += 3;
        } else {
            fputc(*next, stream);
        }
    }
    if (fclose(stream) != 0 || !ok) {
        free(path);
        return NULL;
    }
    return path;
}

/* The service tells strangers nothing; who is asking, and by which rules, is known here. */
static void explain_refusal(const struct cli *cli, struct sso_error *err)
{
    struct sso_error why = *err;
    struct person person;
    const char *url = cli->config->client.url;
    if (url != NULL && url[0] != '\0') {
        (void)sso_fail(err, why.code,
                       "%s; you are who the certificate %s says; roles come from [roles] of the "
                       "custodian at %s and from the groups of the application",
                       why.detail, cli->config->client.certificate, url);
        return;
    }
    if (person_by_uid(geteuid(), &person, NULL) != SSO_OK)
        return;
    (void)sso_fail(err, why.code,
                   "%s; you are %s; roles come from [roles] of %s and from the groups of the "
                   "application",
                   why.detail, person.name, cli->config->file);
}

static enum sso_code call(struct cli *cli, const struct api_request *request, json_t **reply,
                          struct sso_error *err, char *path)
{
    enum sso_code rc = SSO_OK;
    if (path == NULL)
        rc = sso_fail(err, SSO_NO_MEMORY, "no memory for a request");
    if (rc == SSO_OK)
        rc = prepare_api(cli, err);
    if (rc == SSO_OK && cli->client == NULL)
        rc = client_open(cli->config, &cli->client, err);
    if (rc == SSO_OK) {
        const struct client_call client_call = {
            .method = request->method,
            .path = path,
            .body = request->body,
            .timeout_ms = request->timeout_ms,
        };
        rc = client_request(cli->client, &client_call, reply, err);
        if (rc == SSO_FORBIDDEN && err != NULL && strstr(err->detail, "certificate") == NULL)
            explain_refusal(cli, err);
    }
    free(path);
    return rc;
}

enum sso_code api_call(struct cli *cli, const struct api_request *request, json_t **reply,
                       struct sso_error *err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *path = make_path(format, arguments);
    va_end(arguments);
    return call(cli, request, reply, err, path);
}

enum sso_code api_get(struct cli *cli, json_t **reply, struct sso_error *err, const char *format,
                      ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *path = make_path(format, arguments);
    va_end(arguments);
    return call(cli, &(struct api_request){.method = "GET"}, reply, err, path);
}

void body_set_text(json_t *body, const char *name, const char *value)
{
    if (value != NULL)
        json_object_set_new(body, name, json_string(value));
}

json_t *list_from_commas(const char *text)
{
    json_t *list = json_array();
    while (*text != '\0') {
        size_t length = strcspn(text, ",");
        const char *first = text;
        size_t used = length;
        while (used > 0 && *first == ' ')
            first++, used--;
        while (used > 0 && first[used - 1] == ' ')
            used--;
        if (used > 0)
            json_array_append_new(list, json_stringn(first, used));
        text += length + (text[length] == ',');
    }
    return list;
}
