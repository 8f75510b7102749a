/* The place of the TLS listener. */
#ifndef SSO_CUSTODIAN_TCP_SOCKET_H
#define SSO_CUSTODIAN_TCP_SOCKET_H

#include "common/error.h"

#define TCP_ADDRESS_BYTES 300

/* Bound to HOST:PORT, not listening yet. SSO_IN_USE where somebody else has it. */
enum sso_code tcp_socket_bind(const char *address, int *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Where a socket is bound, or who is at its other end, as HOST:PORT in numbers. */
void tcp_socket_name(int fd, char out[static TCP_ADDRESS_BYTES]);
void tcp_socket_peer(int fd, char out[static TCP_ADDRESS_BYTES]);
/* An accepted one: small answers leave at once, a peer that is gone is noticed. */
void tcp_socket_set_up(int fd);

#endif
