/* http_load SOCKET CONNECTIONS SECONDS health|lookup ROWS: as many requests as that many
 * connections get answered, one at a time on each, over a Unix socket; lookups go round ROWS
 * principals of the bench's application. One second of warm-up. Anything but 200 ends it. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define REPLY_BYTES_MAX 16384

struct connection {
    int fd;
    char reply[REPLY_BYTES_MAX];
    size_t used;
};

static long rows, next_row;
static bool lookups;

static void die(const char *what)
{
    fprintf(stderr, "http_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static int dial(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        die(path);
    return fd;
}

static void ask(struct connection *connection)
{
    char body[128] = "", text[512];
    if (lookups)
        snprintf(body, sizeof body, "{\"app\":\"app\",\"principal\":\"p%08ld\"}",
                 next_row++ % rows);
    int length = snprintf(
        text, sizeof text, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s",
        lookups ? "POST" : "GET", lookups ? "/v1/lookup" : "/v1/health", strlen(body), body);
    connection->used = 0;
    if (write(connection->fd, text, (size_t)length) != length)
        die("a request");
}

/* True where the whole reply is there. */
static bool take(struct connection *connection)
{
    ssize_t count = read(connection->fd, connection->reply + connection->used,
                         REPLY_BYTES_MAX - 1 - connection->used);
    if (count <= 0)
        die("a reply");
    connection->used += (size_t)count;
    connection->reply[connection->used] = '\0';
    const char *end = strstr(connection->reply, "\r\n\r\n");
    const char *length = strcasestr(connection->reply, "Content-Length:");
    if (end == NULL || length == NULL || length > end)
        return false;
    size_t wanted = (size_t)(end + 4 - connection->reply) + strtoul(length + 15, NULL, 10);
    if (connection->used < wanted)
        return false;
    if (strncmp(connection->reply, "HTTP/1.1 200", 12) != 0) {
        fprintf(stderr, "http_load: %s\n", connection->reply);
        exit(1);
    }
    return true;
}

static double run(int poll, double seconds)
{
    long answered = 0;
    double began = now(), end = began + seconds;
    while (now() < end) {
        struct epoll_event ready[64];
        int count = epoll_wait(poll, ready, 64, 10000);
        if (count <= 0)
            die("no answer within ten seconds");
        for (int i = 0; i < count; i++) {
            struct connection *connection = ready[i].data.ptr;
            if (!take(connection))
                continue;
            answered++;
            ask(connection);
        }
    }
    return (double)answered / (now() - began);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: http_load SOCKET CONNECTIONS SECONDS health|lookup ROWS\n");
        return 2;
    }
    int connections = atoi(argv[2]), poll = epoll_create1(EPOLL_CLOEXEC);
    lookups = strcmp(argv[4], "lookup") == 0;
    rows = atol(argv[5]);
    struct connection *all = calloc((size_t)connections, sizeof *all);
    if (all == NULL || poll < 0 || rows < 1)
        die("start");
    for (int i = 0; i < connections; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        all[i].fd = dial(argv[1]);
        if (epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &event) != 0)
            die("epoll");
        ask(&all[i]);
    }
    run(poll, 1);
    printf("requests_per_second=%.0f\n", run(poll, atof(argv[3])));
    free(all);
    return 0;
}
