#include "custodian/listener.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

#define HEADER_BYTES_MAX 32768
#define BACKLOG 1024
#define REST_AFTER_ACCEPT_ERROR_MS 100

struct listener {
    struct event_base *base;
    struct evhttp *http;
    struct evhttp_bound_socket *bound;
    struct event *rest_timer;
    int fd; /* bound, until it listens */
    struct gate gate;
    struct listener *next;
};

/* Those that listen. libevent calls for errors with the argument that evhttp gave it for
 * connections, so this is the only way from there to here; for the loop's thread. */
static struct listener *listening;

/* Out of descriptors, say: without a rest the loop would spin on the listener. */
static void on_accept_error(struct evconnlistener *evlistener, void *of_evhttp)
{
    struct timeval rest = {.tv_usec = REST_AFTER_ACCEPT_ERROR_MS * 1000};
    (void)of_evhttp;
    log_line(LOG_LEVEL_ERROR, "a connection was not accepted", "reason", strerror(errno), NULL);
    evconnlistener_disable(evlistener);
    for (struct listener *at = listening; at != NULL; at = at->next) {
        if (evhttp_bound_socket_get_listener(at->bound) == evlistener)
            event_add(at->rest_timer, &rest);
    }
}

static void on_rested(evutil_socket_t fd, short what, void *argument)
{
    struct listener *listener = argument;
    (void)fd;
    (void)what;
    if (listener->bound != NULL)
        evconnlistener_enable(evhttp_bound_socket_get_listener(listener->bound));
}

static void set_limits(struct listener *listener, const struct config *config)
{
    struct timeval idle = {.tv_sec = config->limits.idle_timeout_ms / 1000,
                           .tv_usec = (suseconds_t)(config->limits.idle_timeout_ms % 1000) * 1000};
    /* All methods: what fits no operation is answered by the table, in JSON. */
    evhttp_set_allowed_methods(listener->http, UINT16_MAX);
    evhttp_set_max_headers_size(listener->http, HEADER_BYTES_MAX);
    evhttp_set_max_body_size(listener->http, (ev_ssize_t)config->limits.max_body_bytes);
    evhttp_set_timeout_tv(listener->http, &idle);
    /* So that a client that is still sending reads why it was refused. */
    evhttp_set_flags(listener->http, EVHTTP_SERVER_LINGERING_CLOSE);
    evhttp_set_default_content_type(listener->http, NULL);
    evhttp_set_bevcb(listener->http, connections_accept, &listener->gate);
}

enum sso_code listener_new(struct event_base *base, const struct config *config, int fd,
                           struct gate gate, struct listener **out, struct sso_error *err)
{
    struct listener *listener = calloc(1, sizeof *listener);
    if (listener != NULL) {
        *listener = (struct listener){.base = base, .fd = fd, .gate = gate};
        listener->http = evhttp_new(base);
        listener->rest_timer = evtimer_new(base, on_rested, listener);
    }
    if (listener == NULL || listener->http == NULL || listener->rest_timer == NULL) {
        if (listener == NULL)
            close(fd);
        listener_free(&listener);
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a listener");
    }
    set_limits(listener, config);
    *out = listener;
    return SSO_OK;
}

void listener_answer(struct listener *listener,
                     void (*answer)(struct evhttp_request *http, void *context), void *context)
{
    evhttp_set_gencb(listener->http, answer, context);
}

enum sso_code listener_start(struct listener *listener, struct sso_error *err)
{
    struct evconnlistener *evlistener = evconnlistener_new(
        listener->base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE, BACKLOG, listener->fd);
    if (evlistener == NULL)
        return sso_fail_errno(err, SSO_INTERNAL, errno, "[listen]: nobody can be let in");
    listener->fd = -1;
    listener->bound = evhttp_bind_listener(listener->http, evlistener);
    if (listener->bound == NULL) {
        evconnlistener_free(evlistener);
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a listener");
    }
    listener->next = listening;
    listening = listener;
    evconnlistener_set_error_cb(evlistener, on_accept_error);
    return SSO_OK;
}

void listener_stop(struct listener *listener)
{
    struct listener **at = &listening;
    while (*at != NULL && *at != listener)
        at = &(*at)->next;
    if (*at == listener)
        *at = listener->next;
    if (listener->bound != NULL)
        evhttp_del_accept_socket(listener->http, listener->bound);
    if (listener->fd >= 0)
        close(listener->fd);
    listener->bound = NULL;
    listener->fd = -1;
}

void listener_free(struct listener **listener)
{
    struct listener *self = *listener;
    if (self == NULL)
        return;
    if (self->http != NULL) {
        listener_stop(self);
        evhttp_free(self->http);
    } else if (self->fd >= 0) {
        close(self->fd);
    }
    if (self->rest_timer != NULL)
        event_free(self->rest_timer);
    free(self);
    *listener = NULL;
}
