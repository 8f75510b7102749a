#include "custodian/tcp_socket.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/address.h"

static int bind_one(const struct addrinfo *at)
{
    int on = 1, why;
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, at->ai_addr, at->ai_addrlen) == 0)
        return fd;
    why = errno;
    close(fd);
    errno = why;
    return -1;
}

enum sso_code tcp_socket_bind(const char *address, int *out, struct sso_error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    struct address parts;
    if (!address_parse(address, &parts))
        return sso_fail(err, SSO_CONFIG_ERROR, "[listen] tls: %s is not HOST:PORT", address);
    int why = getaddrinfo(parts.host, parts.port, &hints, &found);
    if (why != 0)
        return sso_fail(err, SSO_CONFIG_ERROR, "[listen] tls: %s is not known: %s", parts.host,
                        gai_strerror(why));
    int fd = -1, number = 0;
    for (const struct addrinfo *at = found; fd < 0 && at != NULL; at = at->ai_next) {
        fd = bind_one(at);
        number = errno;
    }
    freeaddrinfo(found);
    if (fd < 0)
        return sso_fail_errno(err, number == EADDRINUSE ? SSO_IN_USE : SSO_CONFIG_ERROR, number,
                              "[listen] tls: %s cannot be taken", address);
    *out = fd;
    return SSO_OK;
}

static void write_name(const struct sockaddr_storage *place, socklen_t size,
                       char out[static TCP_ADDRESS_BYTES])
{
    char host[NI_MAXHOST > 256 ? 256 : NI_MAXHOST], port[16];
    if (getnameinfo((const struct sockaddr *)place, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(out, TCP_ADDRESS_BYTES, "unknown");
    else
        snprintf(out, TCP_ADDRESS_BYTES, strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host,
                 port);
}

void tcp_socket_name(int fd, char out[static TCP_ADDRESS_BYTES])
{
    struct sockaddr_storage place = {0};
    socklen_t size = sizeof place;
    (void)getsockname(fd, (struct sockaddr *)&place, &size);
    write_name(&place, size, out);
}

void tcp_socket_peer(int fd, char out[static TCP_ADDRESS_BYTES])
{
    struct sockaddr_storage place = {0};
    socklen_t size = sizeof place;
    (void)getpeername(fd, (struct sockaddr *)&place, &size);
    write_name(&place, size, out);
}

void tcp_socket_set_up(int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}
