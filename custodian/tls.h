/* TLS 1.3 for the listener: what this node shows, whom it believes, and who a peer is. A peer
 * without a certificate that stands the test (chain, purpose, revocation, a usable name) ends in
 * its handshake. Nothing of a session outlives it: there are no tickets and no resumption, so that
 * each connection is judged by the files as they are. Sessions belong to the event loop's thread;
 * files and expiries may be asked for from any. */
#ifndef SSO_CUSTODIAN_TLS_H
#define SSO_CUSTODIAN_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "common/error.h"
#include "custodian/identity.h"

struct tls;

/* Reads the files of [tls]. SSO_CONFIG_ERROR names file and remedy. What has expired is taken: it
 * is an event, and the Unix socket goes on. `owner` may own the key, besides root. */
enum sso_code tls_new(const struct config *config, uid_t owner, struct tls **out,
                      struct sso_error *err) __attribute__((warn_unused_result));
void tls_free(struct tls **tls);
/* Reads them again, for connections to come. On error, also where the new certificate or list has
 * expired, the former stay in force. */
enum sso_code tls_read_again(struct tls *tls, struct sso_error *err)
    __attribute__((warn_unused_result));

enum tls_file { TLS_CERTIFICATE, TLS_CA, TLS_CRL, TLS_FILES };
extern const char *const tls_file_name[TLS_FILES]; /* "certificate" … */
struct tls_validity {
    int64_t from_ms, until_ms; /* wall clock; 0: there is no such file */
};
void tls_validity(struct tls *tls, struct tls_validity out[static TLS_FILES]);

/* The peer of one connection. */
struct tls_peer {
    struct identity *identity;    /* to be filled; good when the handshake is done */
    char refusal[256];            /* what was wrong with its certificate; "" where nothing */
    void (*ready)(void *context); /* the handshake is done */
    void *context;
    unsigned reading; /* of the files by which it was judged */
    int64_t judged_ms;
};

/* For a connection to be accepted. `peer` stays where it is until tls_session_forget. */
SSL *tls_session_new(struct tls *tls, struct tls_peer *peer);
void tls_session_forget(SSL *session);
/* Logs that its handshake failed: `fd` is whose, `error` OpenSSL's. Whoever connects can make such
 * lines, so there are no more than some in a second. */
void tls_tell_of_failure(struct tls *tls, const struct tls_peer *peer, int fd, unsigned long error);
/* Would it be let in by the files of now, at this time? Asked at each request, and answered from
 * what is remembered of the last minute as long as the files are the same. */
bool tls_session_is_trusted(struct tls *tls, SSL *session, struct tls_peer *peer);

#endif
