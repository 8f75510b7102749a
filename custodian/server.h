/* The listener on the Unix socket and the event loop behind it. The loop's thread parses HTTP and
 * never waits: requests run on the request threads. */
#ifndef SSO_CUSTODIAN_SERVER_H
#define SSO_CUSTODIAN_SERVER_H

#include "common/error.h"

struct custodian;
struct server;

/* Takes the place of [listen] socket: SSO_IN_USE where somebody answers there. Nobody is let in
 * before server_run. */
enum sso_code server_new(struct custodian *custodian, struct server **out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* The loop, in the caller's thread, which is the only one that takes signals; returns when SIGTERM
 * or SIGINT came and what was running is answered. */
enum sso_code server_run(struct server *server, struct sso_error *err)
    __attribute__((warn_unused_result));
void server_free(struct server **server);

#endif
