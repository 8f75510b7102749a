/* The connections of all listeners, and what evhttp does not bound by itself: how many there are,
 * in all and per peer, how fast a peer asks, and how long a request may take to arrive. Everything
 * here belongs to the event loop's thread. */
#ifndef SSO_CUSTODIAN_CONNECTION_H
#define SSO_CUSTODIAN_CONNECTION_H

#include <event2/event.h>
#include <event2/http.h>
#include <stdbool.h>

#include "common/config.h"
#include "common/error.h"
#include "custodian/exchange.h"
#include "custodian/identity.h"
#include "custodian/metrics.h"

struct connections;
struct connection;
struct tls;

/* Where a listener's connections come in. */
struct gate {
    struct connections *connections;
    struct tls *tls; /* NULL: the Unix socket */
};

/* `empty` is called whenever the last connection has gone. */
enum sso_code connections_new(struct event_base *base, const struct config *config,
                              struct metrics *metrics, void (*empty)(void *context), void *context,
                              struct connections **out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* After the evhttp that used them. */
void connections_free(struct connections **connections);

/* For evhttp_set_bevcb: called for each connection that is accepted. `gate` is a struct gate. */
struct bufferevent *connections_accept(struct event_base *base, void *gate);

size_t connections_count(const struct connections *connections);
/* No further requests: those that are idle are closed, the others after their reply. */
void connections_drain(struct connections *connections);
/* Closes whatever is left. */
void connections_abort(struct connections *connections);

/* NULL where it is not one of ours. */
struct connection *connection_find(struct connections *connections, struct evhttp_request *http);
const struct identity *connection_identity(const struct connection *connection);
/* SSO_SERVICE_UNAVAILABLE (too many in all), SSO_TOO_MANY_REQUESTS (too many of this peer, or too
 * fast) or SSO_FORBIDDEN (its certificate is not believed any more) where this request is to be
 * refused. */
enum sso_code connection_admit(struct connection *connection, struct sso_error *err)
    __attribute__((warn_unused_result));

/* A request has arrived whole, and is run as `exchange`. */
void connection_begin(struct connection *connection, struct exchange *exchange);
/* Its reply. */
void connection_reply(struct connection *connection, struct evhttp_request *http, int status,
                      struct evbuffer *body);
/* Is the connection to be closed after this reply? */
bool connection_is_last(const struct connection *connection);

#endif
