/* One request and its reply on their way between the event loop and the request threads. It belongs
 * to one of them at a time: the loop makes it, a thread runs it, the committer has it while its
 * audit record is written, the loop sends and frees it. */
#ifndef SSO_CUSTODIAN_EXCHANGE_H
#define SSO_CUSTODIAN_EXCHANGE_H

#include <event2/buffer.h>
#include <event2/http.h>
#include <sys/types.h>

#include "custodian/request.h"

struct connection;
struct request_threads;

struct exchange {
    struct request request;
    struct identity identity; /* who is at the other end */
    struct evbuffer *body;    /* as it came */
    struct evbuffer *reply;   /* as it goes */

    struct connection *connection; /* the loop's: NULL when the client has gone */
    struct evhttp_request *http;
    struct request_threads *threads;
    struct exchange *next;
};

enum sso_code exchange_new(struct custodian *custodian, struct exchange **out,
                           struct sso_error *err) __attribute__((warn_unused_result));
void exchange_free(struct exchange **exchange);

/* The reply's bytes from request.reply or request.text. */
void exchange_render(struct exchange *exchange);

/* The request threads: who asks, the body, the operation, the reply. `done` is called for each
 * exchange that may be answered, on one of them or on the committer's thread. */
typedef void (*exchange_done)(struct exchange *exchange, void *context);
enum sso_code request_threads_start(unsigned count, exchange_done done, void *context,
                                    struct request_threads **out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* SSO_TOO_MANY_REQUESTS where too many wait already: the exchange is still the caller's. */
enum sso_code request_threads_submit(struct request_threads *threads, struct exchange *exchange,
                                     struct sso_error *err) __attribute__((warn_unused_result));
/* What was submitted is still run, and `done` called for it. */
void request_threads_stop(struct request_threads **threads);

#endif
