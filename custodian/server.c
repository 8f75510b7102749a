#include "custodian/server.h"

#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/keyvalq_struct.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/encode.h"
#include "common/log.h"
#include "custodian/certificates.h"
#include "custodian/connection.h"
#include "custodian/custodian.h"
#include "custodian/exchange.h"
#include "custodian/listener.h"
#include "custodian/metrics.h"
#include "custodian/operations.h"
#include "custodian/tcp_socket.h"
#include "custodian/tls.h"
#include "custodian/unix_socket.h"

#define REQUEST_THREADS 16
#define QUICK_THREADS 2
/* Less than clients wait, so that they hear why. */
#define REQUEST_DEADLINE_MS 25000
#define DRAIN_SECONDS 30
#define LARGE_ALLOCATION_BYTES (1 << 20)

struct server {
    struct custodian *custodian;
    const struct config *config;
    struct event_base *base;
    struct listener *socket, *tls; /* tls: NULL where there is none */
    bool listens;
    struct event *term, *interrupt, *hangup, *answered_event, *drain_timer;
    struct connections *connections;
    struct request_threads *threads;
    struct request_threads
        *quick;      /* for what must be answered while a token or the database hangs */
    int answered_fd; /* eventfd: `answered` is not empty */
    pthread_mutex_t lock;
    struct exchange *answered; /* run, to be sent; newest first */
    bool draining;
};

/* --- replies --- */

static void set_headers(struct exchange *exchange, bool last)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(exchange->http);
    const struct request *request = &exchange->request;
    char id[2 * REQUEST_ID_BYTES + 1], etag[24];
    hex_encode(request->request_id, sizeof request->request_id, id);
    evhttp_add_header(headers, "X-Request-Id", id);
    evhttp_add_header(headers, "Cache-Control", "no-store");
    if (evbuffer_get_length(exchange->reply) > 0)
        evhttp_add_header(headers, "Content-Type", request->content_type);
    if (request->etag != 0) {
        snprintf(etag, sizeof etag, "\"%llu\"", (unsigned long long)request->etag);
        evhttp_add_header(headers, "ETag", etag);
    }
    if (request->status == 429 || request->status == 503)
        evhttp_add_header(headers, "Retry-After", "1");
    if (last)
        evhttp_add_header(headers, "Connection", "close");
}

static void send_exchange(struct exchange *exchange)
{
    struct connection *connection = exchange->connection;
    if (connection != NULL) {
        set_headers(exchange, connection_is_last(connection));
        connection_reply(connection, exchange->http, exchange->request.status, exchange->reply);
    }
    exchange_free(&exchange);
}

/* On a request thread or the committer's. */
static void exchange_answered(struct exchange *exchange, void *context)
{
    struct server *server = context;
    pthread_mutex_lock(&server->lock);
    bool first = server->answered == NULL;
    exchange->next = server->answered;
    server->answered = exchange;
    pthread_mutex_unlock(&server->lock);
    uint64_t one = 1;
    if (first && write(server->answered_fd, &one, sizeof one) != (ssize_t)sizeof one)
        log_line(LOG_LEVEL_ERROR, "the event loop was not woken", "reason", strerror(errno), NULL);
}

static struct exchange *take_answered(struct server *server)
{
    pthread_mutex_lock(&server->lock);
    struct exchange *answered = server->answered;
    server->answered = NULL;
    pthread_mutex_unlock(&server->lock);
    return answered;
}

static void on_answered(evutil_socket_t fd, short what, void *argument)
{
    uint64_t count;
    (void)what;
    if (read(fd, &count, sizeof count) < 0 && errno != EAGAIN)
        log_line(LOG_LEVEL_ERROR, "the loop's eventfd fails", "reason", strerror(errno), NULL);
    for (struct exchange *at = take_answered(argument), *next; at != NULL; at = next) {
        next = at->next;
        send_exchange(at);
    }
}

/* --- requests --- */

static const char *method_name(struct evhttp_request *http)
{
    switch (evhttp_request_get_command(http)) {
    case EVHTTP_REQ_GET:
        return "GET";
    case EVHTTP_REQ_POST:
        return "POST";
    case EVHTTP_REQ_PUT:
        return "PUT";
    case EVHTTP_REQ_PATCH:
        return "PATCH";
    case EVHTTP_REQ_DELETE:
        return "DELETE";
    default:
        return ""; /* fits no operation */
    }
}

static void parse(struct exchange *exchange)
{
    struct request *request = &exchange->request;
    struct evhttp_request *http = exchange->http;
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(http);
    const struct evkeyvalq *headers = evhttp_request_get_input_headers(http);
    const char *if_match = evhttp_find_header(headers, "If-Match");
    const char *accept = evhttp_find_header(headers, "Accept");
    request->openmetrics = accept != NULL && strstr(accept, "application/openmetrics-text") != NULL;
    request->method = method_name(http);
    request->deadline_ms = boot_clock_ms() + REQUEST_DEADLINE_MS;
    struct sso_error *malformed = &request->malformed;
    const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
    const char *query = uri != NULL ? evhttp_uri_get_query(uri) : NULL;
    if (request_parse_path(request, path, malformed) != SSO_OK ||
        request_parse_query(request, query, malformed) != SSO_OK)
        return;
    if (if_match != NULL && request_parse_if_match(request, if_match, malformed) != SSO_OK)
        return;
    evbuffer_add_buffer(exchange->body, evhttp_request_get_input_buffer(http));
}

static void refuse(struct server *server, struct exchange *exchange, const struct sso_error *why)
{
    struct request *request = &exchange->request;
    metrics_turned_away(server->custodian->metrics);
    if (random_bytes(request->request_id, sizeof request->request_id, NULL) != SSO_OK)
        memset(request->request_id, 0, sizeof request->request_id);
    request_problem(request, why->code, why->detail);
    if (why->code == SSO_SERVICE_UNAVAILABLE) {
        request->status = 503; /* a code that clients else give themselves */
        json_object_set_new(request->reply, "status", json_integer(503));
    }
    exchange_render(exchange);
    send_exchange(exchange);
}

static void on_request(struct evhttp_request *http, void *argument)
{
    struct server *server = argument;
    struct connection *connection = connection_find(server->connections, http);
    struct exchange *exchange = NULL;
    struct sso_error refusal = {0};
    if (connection == NULL || exchange_new(server->custodian, &exchange, NULL) != SSO_OK) {
        evhttp_send_error(http, HTTP_SERVUNAVAIL, NULL);
        return;
    }
    exchange->http = http;
    exchange->identity = *connection_identity(connection);
    connection_begin(connection, exchange);
    if (connection_admit(connection, &refusal) != SSO_OK) {
        refuse(server, exchange, &refusal);
        return;
    }
    parse(exchange);
    const struct operation *operation = operation_find(&exchange->request);
    bool quick = operation != NULL && (operation->flags & OP_QUICK);
    if (request_threads_submit(quick ? server->quick : server->threads, exchange, &refusal) !=
        SSO_OK)
        refuse(server, exchange, &refusal);
}

/* --- the end --- */

static void on_empty(void *argument)
{
    struct server *server = argument;
    if (server->draining)
        event_base_loopbreak(server->base);
}

static void on_drain_timeout(evutil_socket_t fd, short what, void *argument)
{
    struct server *server = argument;
    (void)fd;
    (void)what;
    log_line(LOG_LEVEL_WARNING, "connections were still open at the end of the drain", NULL);
    connections_abort(server->connections);
    event_base_loopbreak(server->base);
}

static void stop_listening(struct server *server)
{
    if (server->listens)
        unlink(server->config->listen.socket);
    server->listens = false;
    if (server->socket != NULL)
        listener_stop(server->socket);
    if (server->tls != NULL)
        listener_stop(server->tls);
}

static void on_terminate(evutil_socket_t number, short what, void *argument)
{
    struct server *server = argument;
    struct timeval after = {.tv_sec = DRAIN_SECONDS};
    (void)what;
    if (server->draining)
        return;
    log_line(LOG_LEVEL_INFO, "draining", "signal", strsignal(number), NULL);
    server->draining = true;
    stop_listening(server);
    event_add(server->drain_timer, &after);
    connections_drain(server->connections);
    if (connections_count(server->connections) == 0)
        event_base_loopbreak(server->base);
}

static void on_hangup(evutil_socket_t number, short what, void *argument)
{
    struct server *server = argument;
    (void)number;
    (void)what;
    certificates_read_again(server->custodian);
}

/* --- making --- */

static void log_libevent(int severity, const char *message)
{
    if (severity >= EVENT_LOG_WARN)
        log_line(LOG_LEVEL_WARNING, "libevent", "message", message, NULL);
}

static bool make_events(struct server *server)
{
    struct event_base *base = server->base;
    server->term = evsignal_new(base, SIGTERM, on_terminate, server);
    server->interrupt = evsignal_new(base, SIGINT, on_terminate, server);
    server->hangup = evsignal_new(base, SIGHUP, on_hangup, server);
    server->answered_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    server->answered_event =
        event_new(base, server->answered_fd, EV_READ | EV_PERSIST, on_answered, server);
    server->drain_timer = evtimer_new(base, on_drain_timeout, server);
    return server->answered_fd >= 0 && server->drain_timer != NULL && server->term != NULL &&
           event_add(server->term, NULL) == 0 && server->interrupt != NULL &&
           event_add(server->interrupt, NULL) == 0 && server->hangup != NULL &&
           event_add(server->hangup, NULL) == 0 && server->answered_event != NULL &&
           event_add(server->answered_event, NULL) == 0;
}

/* Else glibc raises both with the largest body it has seen, and each thread's arena keeps as much
 * at its end, where malloc_trim does not look. */
static void bound_allocator(void)
{
    mallopt(M_MMAP_THRESHOLD, LARGE_ALLOCATION_BYTES);
    mallopt(M_TRIM_THRESHOLD, LARGE_ALLOCATION_BYTES);
}

static enum sso_code make_listeners(struct server *server, struct sso_error *err)
{
    const struct config *config = server->config;
    struct gate gate = {.connections = server->connections};
    int fd = -1;
    enum sso_code rc = unix_socket_bind(config->listen.socket, &fd, err);
    server->listens = rc == SSO_OK;
    if (rc == SSO_OK)
        rc = listener_new(server->base, config, fd, gate, &server->socket, err);
    if (rc != SSO_OK)
        return rc;
    listener_answer(server->socket, on_request, server);
    gate.tls = server->custodian->tls;
    if (gate.tls == NULL)
        return SSO_OK;
    char name[TCP_ADDRESS_BYTES];
    if ((rc = tcp_socket_bind(config->listen.tls, &fd, err)) != SSO_OK)
        return rc;
    tcp_socket_name(fd, name);
    if ((rc = listener_new(server->base, config, fd, gate, &server->tls, err)) != SSO_OK)
        return rc;
    listener_answer(server->tls, on_request, server);
    log_line(LOG_LEVEL_INFO, "the TLS listener has its place", "address", name, NULL);
    return SSO_OK;
}

enum sso_code server_new(struct custodian *custodian, struct server **out, struct sso_error *err)
{
    struct server *server = calloc(1, sizeof *server);
    if (server == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the server");
    server->custodian = custodian;
    server->config = custodian->config;
    server->answered_fd = -1;
    pthread_mutex_init(&server->lock, NULL);
    event_set_log_callback(log_libevent);
    server->base = event_base_new();
    enum sso_code rc = SSO_NO_MEMORY;
    if (server->base == NULL || !make_events(server)) {
        sso_fail(err, rc, "the event loop cannot be made");
        goto failed;
    }
    rc = connections_new(server->base, server->config, custodian->metrics, on_empty, server,
                         &server->connections, err);
    if (rc != SSO_OK)
        goto failed;
    bound_allocator();
    if ((rc = make_listeners(server, err)) != SSO_OK)
        goto failed;
    *out = server;
    return SSO_OK;
failed:
    server_free(&server);
    return rc;
}

static void take_signals(int how)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(how, &set, NULL);
}

enum sso_code server_run(struct server *server, struct sso_error *err)
{
    enum sso_code rc =
        request_threads_start(REQUEST_THREADS, exchange_answered, server, &server->threads, err);
    if (rc == SSO_OK)
        rc = request_threads_start(QUICK_THREADS, exchange_answered, server, &server->quick, err);
    if (rc == SSO_OK)
        rc = listener_start(server->socket, err);
    if (rc == SSO_OK && server->tls != NULL)
        rc = listener_start(server->tls, err);
    if (rc != SSO_OK)
        return rc;
    take_signals(SIG_UNBLOCK); /* the threads above were made without them */
    int outcome = event_base_dispatch(server->base);
    take_signals(SIG_BLOCK);
    request_threads_stop(&server->threads);
    request_threads_stop(&server->quick);
    return outcome >= 0 ? SSO_OK : sso_fail(err, SSO_INTERNAL, "the event loop failed");
}

static void free_event(struct event **event)
{
    if (*event != NULL)
        event_free(*event);
    *event = NULL;
}

void server_free(struct server **server)
{
    struct server *self = *server;
    if (self == NULL)
        return;
    request_threads_stop(&self->threads);
    request_threads_stop(&self->quick);
    stop_listening(self);
    listener_free(&self->socket);
    listener_free(&self->tls);
    for (struct exchange *at = take_answered(self), *next; at != NULL; at = next) {
        next = at->next;
        exchange_free(&at);
    }
    connections_free(&self->connections);
    free_event(&self->term);
    free_event(&self->interrupt);
    free_event(&self->hangup);
    free_event(&self->answered_event);
    free_event(&self->drain_timer);
    if (self->base != NULL)
        event_base_free(self->base);
    if (self->answered_fd >= 0)
        close(self->answered_fd);
    pthread_mutex_destroy(&self->lock);
    free(self);
    *server = NULL;
}
