/* One place where clients connect: the Unix socket, or TLS. What evhttp is told is the same for
 * both, and so is what answers. */
#ifndef SSO_CUSTODIAN_LISTENER_H
#define SSO_CUSTODIAN_LISTENER_H

#include <event2/http.h>

#include "common/config.h"
#include "common/error.h"
#include "custodian/connection.h"

struct listener;

/* `fd` is bound and not listening yet; it becomes the listener's. `gate` says whose connections are
 * let in there, and how. `answer` gets each request that has arrived whole. */
enum sso_code listener_new(struct event_base *base, const struct config *config, int fd,
                           struct gate gate, struct listener **out, struct sso_error *err)
    __attribute__((warn_unused_result));
void listener_answer(struct listener *listener,
                     void (*answer)(struct evhttp_request *http, void *context), void *context);
/* From here on clients wait in the queue instead of being turned away. */
enum sso_code listener_start(struct listener *listener, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Nobody else is let in. */
void listener_stop(struct listener *listener);
/* Connections are closed. */
void listener_free(struct listener **listener);

#endif
