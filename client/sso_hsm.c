#include "client/sso-hsm.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/client.h"
#include "common/secret.h"

#define SOCKET_DEFAULT "/run/sso-hsm/custodian.sock"

struct sso_hsm {
    struct config config; /* the socket, or what [client] has, and nothing else */
    struct client *client;
};

struct sso_hsm_credential {
    json_t *object;
};

static pthread_once_t allocator_once = PTHREAD_ONCE_INIT;

/* The wiping allocator is over malloc(3), so what jansson made before can be freed by it. */
static void install_allocator(void)
{
    json_malloc_t allocate;
    json_free_t release;
    json_get_alloc_funcs(&allocate, &release);
    if (allocate == malloc && release == free)
        json_set_alloc_funcs(wiping_malloc, wiping_free);
}

static enum sso_hsm_result result_of(enum sso_code code)
{
    int status = sso_code_facts(code)->http_status;
    if (code == SSO_OK)
        return SSO_HSM_OK;
    if (code == SSO_VERSION_CONFLICT)
        return SSO_HSM_CONFLICT;
    if (sso_code_facts(code)->exit_code == 5)
        return SSO_HSM_TRY_AGAIN;
    return status >= 400 && status < 500 ? SSO_HSM_REFUSED : SSO_HSM_FAILED;
}

static enum sso_hsm_result tell(enum sso_code code, const struct sso_error *err,
                                struct sso_hsm_error *error)
{
    if (code != SSO_OK && error != NULL) {
        snprintf(error->code, sizeof error->code, "%s", sso_code_facts(code)->name);
        snprintf(error->detail, sizeof error->detail, "%s", err->detail);
    }
    return result_of(code);
}

/* A text that is not there stays so: the client says which is missing. */
static bool copy_text(const char *text, char **out)
{
    *out = text != NULL ? strdup(text) : NULL;
    return text == NULL || *out != NULL;
}

/* `hsm` is new, with its configuration filled; NULL: no memory. */
static enum sso_hsm_result open_client(struct sso_hsm *hsm, bool filled, struct sso_hsm **out,
                                       struct sso_hsm_error *error)
{
    struct sso_error err = {0};
    enum sso_code rc = hsm == NULL || !filled
                           ? sso_fail(&err, SSO_NO_MEMORY, "no memory for a connection")
                           : client_open(&hsm->config, &hsm->client, &err);
    if (rc == SSO_OK)
        *out = hsm;
    else
        sso_hsm_close(&hsm);
    return tell(rc, &err, error);
}

enum sso_hsm_result sso_hsm_open(const char *socket, struct sso_hsm **out,
                                 struct sso_hsm_error *error)
{
    pthread_once(&allocator_once, install_allocator);
    struct sso_hsm *hsm = calloc(1, sizeof *hsm);
    bool filled = hsm != NULL &&
                  copy_text(socket != NULL ? socket : SOCKET_DEFAULT, &hsm->config.listen.socket);
    return open_client(hsm, filled, out, error);
}

enum sso_hsm_result sso_hsm_open_tls(const struct sso_hsm_tls *tls, struct sso_hsm **out,
                                     struct sso_hsm_error *error)
{
    pthread_once(&allocator_once, install_allocator);
    struct sso_hsm *hsm = calloc(1, sizeof *hsm);
    /* Without a URL it would be the socket: what is missing is told like what is wrong. */
    const char *url = tls->url != NULL && tls->url[0] != '\0' ? tls->url : "nothing";
    bool filled = hsm != NULL && copy_text(url, &hsm->config.client.url) &&
                  copy_text(tls->certificate, &hsm->config.client.certificate) &&
                  copy_text(tls->key, &hsm->config.client.key) &&
                  copy_text(tls->ca, &hsm->config.client.ca);
    return open_client(hsm, filled, out, error);
}

void sso_hsm_close(struct sso_hsm **hsm)
{
    if (hsm == NULL || *hsm == NULL)
        return;
    struct config *config = &(*hsm)->config;
    client_close(&(*hsm)->client);
    free(config->listen.socket);
    free(config->client.url);
    free(config->client.certificate);
    free(config->client.key);
    free(config->client.ca);
    free(*hsm);
    *hsm = NULL;
}

static enum sso_code take_credential(json_t *object, struct sso_hsm_credential **out,
                                     struct sso_error *err)
{
    if (!json_is_object(json_object_get(object, "fields")))
        return sso_fail(err, SSO_INTERNAL, "the answer of the custodian is no credential");
    struct sso_hsm_credential *credential = calloc(1, sizeof *credential);
    if (credential == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a credential");
    credential->object = json_incref(object);
    *out = credential;
    return SSO_OK;
}

enum sso_hsm_result sso_hsm_lookup(struct sso_hsm *hsm, const char *application,
                                   const char *principal, unsigned flags,
                                   struct sso_hsm_credential **out, struct sso_hsm_error *error)
{
    struct sso_error err = {0};
    json_t *reply = NULL;
    json_t *body = json_pack("{s:s,s:s?,s:b}", "app", application, "principal", principal,
                             "refresh", (flags & SSO_HSM_REFRESH) != 0);
    struct client_call call = {.method = "POST", .path = "/v1/lookup", .body = body};
    enum sso_code rc = body == NULL ? sso_fail(&err, SSO_BAD_REQUEST, "the names are not UTF-8")
                                    : client_request(hsm->client, &call, &reply, &err);
    if (rc == SSO_OK)
        rc = take_credential(reply, out, &err);
    json_decref(reply);
    json_decref(body);
    return tell(rc, &err, error);
}

void sso_hsm_credential_free(struct sso_hsm_credential **credential)
{
    if (credential == NULL || *credential == NULL)
        return;
    json_decref((*credential)->object);
    free(*credential);
    *credential = NULL;
}

const char *sso_hsm_credential_field(const struct sso_hsm_credential *credential, const char *label,
                                     size_t *length)
{
    const json_t *value = json_object_get(json_object_get(credential->object, "fields"), label);
    if (length != NULL)
        *length = json_string_length(value);
    return json_string_value(value);
}

const char *sso_hsm_credential_principal(const struct sso_hsm_credential *credential)
{
    return json_string_value(json_object_get(credential->object, "principal"));
}

const char *sso_hsm_credential_external_user(const struct sso_hsm_credential *credential)
{
    return json_string_value(json_object_get(credential->object, "external_user"));
}

uint64_t sso_hsm_credential_version(const struct sso_hsm_credential *credential)
{
    return (uint64_t)json_integer_value(json_object_get(credential->object, "version"));
}

static enum sso_code make_body(const char *external_user, const struct sso_hsm_field *fields,
                               size_t field_count, json_t **out, struct sso_error *err)
{
    json_t *values = json_object();
    json_t *body = json_pack("{s:o}", "fields", values);
    enum sso_code rc = body != NULL ? SSO_OK : SSO_NO_MEMORY;
    for (size_t i = 0; rc == SSO_OK && i < field_count; i++) {
        json_t *value = json_stringn(fields[i].value, fields[i].length);
        if (json_object_set_new(values, fields[i].label, value) != 0)
            rc = sso_fail(err, SSO_BAD_REQUEST, "label or value of field %zu is not UTF-8", i);
    }
    if (rc == SSO_OK && external_user != NULL &&
        json_object_set_new(body, "external_user", json_string(external_user)) != 0)
        rc = sso_fail(err, SSO_BAD_REQUEST, "external_user is not UTF-8");
    if (rc == SSO_OK)
        *out = body;
    else
        json_decref(body);
    return rc;
}

static char *credential_path(const char *application, const char *principal)
{
    char *path = NULL, *app = client_escape(application), *who = client_escape(principal);
    if (app == NULL || who == NULL || asprintf(&path, "/v1/apps/%s/credentials/%s", app, who) < 0)
        path = NULL;
    free(app);
    free(who);
    return path;
}

enum sso_hsm_result sso_hsm_set(struct sso_hsm *hsm, const char *application, const char *principal,
                                const char *external_user, const struct sso_hsm_field *fields,
                                size_t field_count, uint64_t if_version, uint64_t *version,
                                struct sso_hsm_error *error)
{
    struct sso_error err = {0};
    json_t *body = NULL, *reply = NULL;
    char if_match[24];
    snprintf(if_match, sizeof if_match, "%llu", (unsigned long long)if_version);
    char *path = credential_path(application, principal);
    enum sso_code rc = path == NULL ? sso_fail(&err, SSO_NO_MEMORY, "no memory for a request")
                                    : make_body(external_user, fields, field_count, &body, &err);
    if (rc == SSO_OK) {
        struct client_call call = {.method = "PUT",
                                   .path = path,
                                   .body = body,
                                   .if_match = if_version != 0 ? if_match : NULL};
        rc = client_request(hsm->client, &call, &reply, &err);
    }
    if (rc == SSO_OK && version != NULL)
        *version = (uint64_t)json_integer_value(json_object_get(reply, "version"));
    json_decref(reply);
    json_decref(body);
    free(path);
    return tell(rc, &err, error);
}

void sso_hsm_wipe(void *bytes, size_t count)
{
    explicit_bzero(bytes, count);
}
