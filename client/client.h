/* Talks to a custodian: HTTP/1.1 + JSON over its Unix socket (libcurl), or TLS for a remote node.
 * One client is one connection that is kept open; it belongs to one thread. Buffers that carry
 * secrets wipe when freed (common/secret.h). */
#ifndef SSO_CLIENT_CLIENT_H
#define SSO_CLIENT_CLIENT_H

#include <jansson.h>

#include "common/config.h"
#include "common/error.h"

struct client;

/* [client] url where there is one, else [listen] socket. Connects at the first call. */
enum sso_code client_open(const struct config *config, struct client **out, struct sso_error *err)
    __attribute__((warn_unused_result));
void client_close(struct client **client);

struct client_call {
    const char *method;   /* "GET" … */
    const char *path;     /* "/v1/apps/billing": segments already escaped by client_escape */
    const json_t *body;   /* NULL: none */
    const char *if_match; /* a version, or NULL */
    unsigned timeout_ms;  /* 0: 30 s */
};

/* On success *reply is the parsed body (NULL for 204), to be json_decref'ed. On a problem reply the
 * code and detail of the server are in err; SSO_SERVICE_UNAVAILABLE: nobody at the socket. `reply`
 * may be NULL. */
enum sso_code client_request(struct client *client, const struct client_call *call, json_t **reply,
                             struct sso_error *err) __attribute__((warn_unused_result));
/* As client_request for a body that is not JSON (/metrics): text from wiping_malloc. */
enum sso_code client_request_text(struct client *client, const struct client_call *call,
                                  char **text, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Percent-encodes one path segment; from malloc. NULL: no memory. */
char *client_escape(const char *segment);

#endif
