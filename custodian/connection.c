#include "custodian/connection.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/log.h"
#include "custodian/error_page.h"
#include "custodian/peer_load.h"
#include "custodian/tcp_socket.h"
#include "custodian/tls.h"

/* Above max_connections so many more are let in to be told so; beyond that they are just closed. */
#define TOLD_CONNECTIONS 64
/* Of max_connections, for those whose TLS handshake goes on; and what there is room for always. */
#define GREETING_SHARE 4
#define GREETINGS_LEAST 16
/* Of the largest size, for each peer at a time. */
#define BODIES_PER_PEER 16

struct connection {
    struct connections *all;
    struct bufferevent *stream;
    struct evhttp_connection *http;
    struct tls *tls; /* NULL on the Unix socket */
    struct tls_peer over_tls;
    struct identity identity; /* of the peer, once it is known */
    bool unknown;             /* accepted over TLS, and no certificate has said who it is */
    bool greets;              /* its TLS handshake goes on */
    struct evbuffer_cb_entry *input_watch, *output_watch;
    struct event *greeting; /* runs once the descriptor is known */
    struct event *deadline; /* absolute, for a request to arrive whole */
    int fd;
    size_t ordinal; /* how many of known peers there were with it when it was known */
    struct peer_load *peer;
    size_t arriving_bytes; /* its part of the peer's */
    enum sso_code refused;
    bool given_up; /* its handshake had to make room */
    bool replying; /* what is written now is ours, not evhttp's own page */
    struct exchange *exchange;
    struct connection *previous, *next;
};

struct connections {
    struct event_base *base;
    const struct config *config;
    struct metrics *metrics;
    void (*empty)(void *context);
    void *context;
    struct connection *first;
    size_t count, greeting, unknown; /* of them in their TLS handshake, and until its end */
    struct connection **by_fd;
    size_t by_fd_size;
    struct peer_load *peers;
    bool draining;
};

enum sso_code connections_new(struct event_base *base, const struct config *config,
                              struct metrics *metrics, void (*empty)(void *context), void *context,
                              struct connections **out, struct sso_error *err)
{
    struct connections *all = calloc(1, sizeof *all);
    if (all == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for connections");
    *all = (struct connections){
        .base = base, .config = config, .metrics = metrics, .empty = empty, .context = context};
    *out = all;
    return SSO_OK;
}

void connections_free(struct connections **connections)
{
    struct connections *all = *connections;
    if (all == NULL)
        return;
    peer_load_free_all(&all->peers);
    free(all->by_fd);
    free(all);
    *connections = NULL;
}

size_t connections_count(const struct connections *connections)
{
    return connections->count;
}

const struct identity *connection_identity(const struct connection *connection)
{
    return &connection->identity;
}

static bool remember_fd(struct connections *all, struct connection *connection)
{
    size_t fd = (size_t)connection->fd;
    if (fd >= all->by_fd_size) {
        size_t size = (fd + 1) * 2;
        struct connection **by_fd = realloc(all->by_fd, size * sizeof *by_fd);
        if (by_fd == NULL)
            return false;
        for (size_t i = all->by_fd_size; i < size; i++)
            by_fd[i] = NULL;
        all->by_fd = by_fd;
        all->by_fd_size = size;
    }
    all->by_fd[fd] = connection;
    return true;
}

/* With everything it may hold by now; the stream is evhttp's. */
static void connection_free(struct connection *connection)
{
    struct connections *all = connection->all;
    if (connection->exchange != NULL)
        connection->exchange->connection = NULL;
    if (connection->fd >= 0 && (size_t)connection->fd < all->by_fd_size &&
        all->by_fd[connection->fd] == connection)
        all->by_fd[connection->fd] = NULL;
    if (connection->peer != NULL) {
        connection->peer->connections--;
        connection->peer->arriving_bytes -= connection->arriving_bytes;
    }
    all->greeting -= connection->greets;
    all->unknown -= connection->unknown;
    if (connection->greeting != NULL)
        event_free(connection->greeting);
    if (connection->deadline != NULL)
        event_free(connection->deadline);
    if (connection->previous != NULL)
        connection->previous->next = connection->next;
    else
        all->first = connection->next;
    if (connection->next != NULL)
        connection->next->previous = connection->previous;
    all->count--;
    metrics_connection(all->metrics, -1);
    free(connection);
    if (all->count == 0)
        all->empty(all->context);
}

static void end_tls(struct connection *connection)
{
    SSL *session = bufferevent_openssl_get_ssl(connection->stream);
    if (connection->greets) {
        metrics_handshake_failed(connection->all->metrics);
        tls_tell_of_failure(connection->tls, &connection->over_tls, connection->fd,
                            bufferevent_get_openssl_error(connection->stream));
    } else {
        (void)SSL_shutdown(session); /* one try to say so; nobody waits for the other's */
    }
    tls_session_forget(session);
    ERR_clear_error();
}

/* evhttp closes the connection; its buffers live a little longer. */
static void on_close(struct evhttp_connection *http, void *argument)
{
    struct connection *connection = argument;
    (void)http;
    if (connection->tls != NULL)
        end_tls(connection);
    evbuffer_remove_cb_entry(bufferevent_get_input(connection->stream), connection->input_watch);
    evbuffer_remove_cb_entry(bufferevent_get_output(connection->stream), connection->output_watch);
    connection_free(connection);
}

/* evhttp sees the end of the stream and cleans up. */
static void hang_up(struct connection *connection)
{
    shutdown(connection->fd, SHUT_RDWR);
}

static void on_deadline(evutil_socket_t fd, short what, void *argument)
{
    struct connection *connection = argument;
    (void)fd;
    (void)what;
    log_line(LOG_LEVEL_INFO,
             connection->greets ? "a TLS handshake did not end in time"
                                : "a request did not arrive in time",
             NULL);
    hang_up(connection);
}

static void arm_deadline(struct connection *connection)
{
    unsigned ms = connection->all->config->limits.request_timeout_ms;
    struct timeval after = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    event_add(connection->deadline, &after);
}

/* A request is taken up when it has arrived whole, so what arrives is bounded for each peer before
 * anything is known of it. A body that is refused for that gets no answer: libevent has no way to
 * give one here. */
static void count_arriving(struct connection *connection, size_t bytes)
{
    struct peer_load *peer = connection->peer;
    if (peer == NULL)
        return;
    connection->arriving_bytes += bytes;
    peer->arriving_bytes += bytes;
    if (peer->arriving_bytes <= BODIES_PER_PEER * connection->all->config->limits.max_body_bytes)
        return;
    log_line(LOG_LEVEL_WARNING, "a peer sends more at a time than is taken: a connection is closed",
             NULL);
    hang_up(connection);
}

/* The time for a request runs from its first byte. */
static void on_input(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *argument)
{
    struct connection *connection = argument;
    (void)buffer;
    if (info->n_added > 0 && connection->exchange == NULL &&
        !event_pending(connection->deadline, EV_TIMEOUT, NULL))
        arm_deadline(connection);
    if (info->n_added > 0)
        count_arriving(connection, info->n_added);
}

/* evhttp would meet the end of the stream while it writes the answer, and cut that short. */
static bool request_waits(int fd)
{
    char first;
    return recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* A connection between two requests has nothing more to do in a drain. What has arrived is still
 * read and answered: shutdown(2) for reading ends a Unix stream after what is queued. */
static void end_if_idle(struct connection *connection)
{
    if (connection->greets)
        hang_up(connection);
    else if (connection->fd >= 0 && connection->exchange == NULL &&
             !event_pending(connection->deadline, EV_TIMEOUT, NULL) &&
             evbuffer_get_length(bufferevent_get_output(connection->stream)) == 0 &&
             !request_waits(connection->fd))
        shutdown(connection->fd, SHUT_RD);
}

static void on_output(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *argument)
{
    struct connection *connection = argument;
    if (connection->all->draining && info->n_deleted > 0)
        end_if_idle(connection);
    if (info->n_added == 0 || connection->replying)
        return;
    connection->replying = true;
    error_page_replace(buffer);
    connection->replying = false;
}

static enum sso_code check_load(const struct connection *connection)
{
    const struct config *config = connection->all->config;
    if (connection->ordinal > config->limits.max_connections)
        return SSO_SERVICE_UNAVAILABLE;
    if (connection->peer->connections > config->limits.max_connections_per_peer)
        return SSO_TOO_MANY_REQUESTS;
    return SSO_OK;
}

/* Now that it is known who it is. */
static bool count_peer(struct connection *connection)
{
    struct connections *all = connection->all;
    connection->peer =
        peer_load_find(&all->peers, &connection->identity, all->config->limits.requests_per_second);
    if (connection->peer == NULL)
        return false;
    connection->peer->connections++;
    connection->refused = check_load(connection);
    if (connection->refused != SSO_OK)
        metrics_connection_refused(all->metrics);
    return true;
}

static bool meet_peer(struct connection *connection)
{
    struct ucred credentials;
    socklen_t size = sizeof credentials;
    if (getsockopt(connection->fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
        return false;
    connection->identity.uid = credentials.uid;
    return count_peer(connection);
}

/* --- TLS: whoever connects is nobody until the handshake has shown who it is --- */

static void on_ready(void *argument)
{
    struct connection *connection = argument;
    connection->greets = connection->unknown = false;
    connection->all->greeting--;
    connection->ordinal = connection->all->count - --connection->all->unknown;
    event_del(connection->deadline);
    if (count_peer(connection))
        return;
    connection->refused = SSO_SERVICE_UNAVAILABLE; /* no memory; a request may be here already */
    hang_up(connection);
}

/* Strangers take no more than a part of all connections, and where that is full it is the oldest
 * that has to go: whoever means it is done in milliseconds. */
static void make_room(struct connections *all)
{
    unsigned share = all->config->limits.max_connections / GREETING_SHARE;
    struct connection *oldest = NULL;
    if (all->greeting <= (share > GREETINGS_LEAST ? share : GREETINGS_LEAST))
        return;
    for (struct connection *at = all->first; at != NULL; at = at->next)
        oldest = at->greets && !at->given_up ? at : oldest;
    if (oldest == NULL)
        return;
    oldest->given_up = true;
    hang_up(oldest);
    metrics_connection_refused(all->metrics);
}

static void greet(struct connection *connection)
{
    tcp_socket_set_up(connection->fd);
    connection->greets = true;
    connection->all->greeting++;
    arm_deadline(connection);
    make_room(connection->all);
}

/* evhttp sets the descriptor and its callbacks after the stream was made for it, so this runs from
 * the loop, before anything can have been read. The argument of its callbacks is the connection:
 * the only way to it before there is a request (libevent 2.1). */
static void on_greeting(evutil_socket_t unused, short what, void *argument)
{
    struct connection *connection = argument;
    struct connections *all = connection->all;
    bufferevent_data_cb read_callback = NULL;
    void *http = NULL;
    (void)unused;
    (void)what;
    bufferevent_getcb(connection->stream, &read_callback, NULL, NULL, &http);
    if (read_callback == NULL || http == NULL) { /* evhttp gave it up meanwhile */
        bufferevent_decref(connection->stream);
        connection_free(connection);
        return;
    }
    connection->fd = bufferevent_getfd(connection->stream);
    connection->http = http;
    evhttp_connection_set_closecb(http, on_close, connection);
    connection->input_watch =
        evbuffer_add_cb(bufferevent_get_input(connection->stream), on_input, connection);
    connection->output_watch =
        evbuffer_add_cb(bufferevent_get_output(connection->stream), on_output, connection);
    bufferevent_decref(connection->stream);
    bool over =
        connection->ordinal > all->config->limits.max_connections + (size_t)TOLD_CONNECTIONS;
    if (connection->tls != NULL)
        greet(connection);
    if (!remember_fd(all, connection) || over ||
        (connection->tls == NULL && !meet_peer(connection)))
        hang_up(connection);
    else if (all->draining)
        end_if_idle(connection);
}

static struct bufferevent *new_stream(struct event_base *base, struct connection *connection)
{
    if (connection->tls == NULL)
        return bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
    connection->over_tls = (struct tls_peer){
        .identity = &connection->identity, .ready = on_ready, .context = connection};
    SSL *session = tls_session_new(connection->tls, &connection->over_tls);
    if (session == NULL)
        return NULL;
    return bufferevent_openssl_socket_new(base, -1, session, BUFFEREVENT_SSL_ACCEPTING,
                                          BEV_OPT_CLOSE_ON_FREE);
}

struct bufferevent *connections_accept(struct event_base *base, void *argument)
{
    const struct gate *gate = argument;
    struct connections *all = gate->connections;
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection != NULL)
        connection->tls = gate->tls;
    struct bufferevent *stream = connection != NULL ? new_stream(base, connection) : NULL;
    if (stream == NULL) {
        free(connection);
        return NULL; /* evhttp makes one itself: nobody counts it, and nothing is answered there */
    }
    connection->all = all;
    connection->identity.uid = NO_UID;
    connection->stream = stream;
    connection->fd = -1;
    connection->greeting = event_new(base, -1, 0, on_greeting, connection);
    connection->deadline = event_new(base, -1, 0, on_deadline, connection);
    connection->next = all->first;
    if (all->first != NULL)
        all->first->previous = connection;
    all->first = connection;
    connection->unknown = gate->tls != NULL;
    all->unknown += connection->unknown;
    connection->ordinal = ++all->count - all->unknown;
    metrics_connection(all->metrics, 1);
    bufferevent_incref(stream); /* until the greeting */
    event_active(connection->greeting, EV_TIMEOUT, 0);
    return stream;
}

struct connection *connection_find(struct connections *connections, struct evhttp_request *http)
{
    struct evhttp_connection *of = evhttp_request_get_connection(http);
    int fd = bufferevent_getfd(evhttp_connection_get_bufferevent(of));
    if (fd < 0 || (size_t)fd >= connections->by_fd_size)
        return NULL;
    return connections->by_fd[fd];
}

enum sso_code connection_admit(struct connection *connection, struct sso_error *err)
{
    unsigned rate = connection->all->config->limits.requests_per_second;
    if (connection->tls != NULL && connection->refused == SSO_OK &&
        !tls_session_is_trusted(connection->tls, bufferevent_openssl_get_ssl(connection->stream),
                                &connection->over_tls))
        connection->refused = SSO_FORBIDDEN;
    if (connection->refused == SSO_FORBIDDEN)
        return sso_fail(err, connection->refused,
                        "the certificate of this connection has expired, was revoked, or is of an "
                        "authority that is not believed any more");
    if (connection->refused == SSO_SERVICE_UNAVAILABLE)
        return sso_fail(err, connection->refused, "too many connections: try again");
    if (connection->refused != SSO_OK)
        return sso_fail(err, connection->refused, "too many connections of this peer");
    if (!peer_load_takes(connection->peer, rate))
        return sso_fail(err, SSO_TOO_MANY_REQUESTS, "more than %u requests per second", rate);
    return SSO_OK;
}

void connection_begin(struct connection *connection, struct exchange *exchange)
{
    event_del(connection->deadline);
    connection->exchange = exchange;
    exchange->connection = connection;
}

bool connection_is_last(const struct connection *connection)
{
    return connection->all->draining || connection->refused != SSO_OK;
}

void connection_reply(struct connection *connection, struct evhttp_request *http, int status,
                      struct evbuffer *body)
{
    event_del(connection->deadline);
    connection->exchange = NULL;
    if (connection->peer != NULL)
        connection->peer->arriving_bytes -= connection->arriving_bytes;
    connection->arriving_bytes = 0;
    if (evbuffer_get_length(bufferevent_get_input(connection->stream)) > 0)
        arm_deadline(connection); /* the next request has begun to arrive */
    connection->replying = true;
    /* The one status of ours that libevent has no words for. */
    evhttp_send_reply(http, status, status == 429 ? "Too Many Requests" : NULL, body);
    connection->replying = false;
}

void connections_drain(struct connections *connections)
{
    connections->draining = true;
    for (struct connection *at = connections->first; at != NULL; at = at->next)
        end_if_idle(at);
}

void connections_abort(struct connections *connections)
{
    for (struct connection *at = connections->first; at != NULL; at = at->next) {
        if (at->fd >= 0)
            hang_up(at);
    }
}
