/*
 * A worker between the pool and the real one (NOISY_WORKER): passes on what both say, until a file
 * `noise` stands in FAULTY_FOLDER. Then, once, what the worker says is spoilt, by what the file
 * says:
 *
 *   random   bytes that are no frame
 *   length   a frame that claims to be of two gigabytes
 *   id       an answer to a question that nobody asked
 *   cut      half of an answer, and the end
 *   code     an answer with a code that does not exist
 *   longer   an answer with bytes behind its last item
 */
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define POOL_FD 3
#define BYTES 65536

static void send_all(int fd, const uint8_t *bytes, size_t count)
{
    while (count > 0) {
        ssize_t n = send(fd, bytes, count, MSG_NOSIGNAL);
        if (n <= 0)
            _exit(0);
        bytes += n;
        count -= (size_t)n;
    }
}

/* Reads what to do, and takes the file away: for one worker, once. */
static bool noise(char out[static 16])
{
    char path[512];
    snprintf(path, sizeof path, "%s/noise", getenv("FAULTY_FOLDER"));
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return false;
    bool read = fscanf(file, "%15s", out) == 1;
    fclose(file);
    return read && unlink(path) == 0;
}

/* `answer` begins with a frame: u32 length, u32 id, u8 flags, u16 code …, in network order. */
static void spoil(const char *how, uint8_t *answer, size_t count)
{
    if (strcmp(how, "random") == 0) {
        for (size_t i = 0; i < count; i++)
            answer[i] = (uint8_t)rand();
    } else if (strcmp(how, "length") == 0) {
        answer[0] = 0x7f;
    } else if (strcmp(how, "id") == 0) {
        answer[4] ^= 0x80;
    } else if (strcmp(how, "code") == 0) {
        answer[9] = answer[10] = 0xff;
    } else if (strcmp(how, "longer") == 0) {
        uint32_t length = (uint32_t)answer[0] << 24 | (uint32_t)answer[1] << 16 |
                          (uint32_t)answer[2] << 8 | answer[3];
        length += 5;
        for (int i = 0; i < 4; i++)
            answer[i] = (uint8_t)(length >> (24 - 8 * i));
        memset(answer + count, 0, 5);
        count += 5;
    }
    send_all(POOL_FD, answer, strcmp(how, "cut") == 0 ? count / 2 : count);
    if (strcmp(how, "cut") == 0)
        _exit(0);
}

static bool pass_on(int from, int to)
{
    static uint8_t bytes[BYTES + 5];
    char how[16];
    ssize_t n = recv(from, bytes, BYTES, 0);
    if (n <= 0)
        return false;
    if (to == POOL_FD && n > 11 && noise(how))
        spoil(how, bytes, (size_t)n);
    else
        send_all(to, bytes, (size_t)n);
    return true;
}

int main(void)
{
    int fds[2];
    prctl(PR_SET_PDEATHSIG, 9);
    srand((unsigned)getpid());
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
        return 1;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, 9);
        close(fds[0]);
        if (dup2(fds[1], POOL_FD) < 0)
            _exit(1);
        execl(getenv("NOISY_WORKER"), "sso-hsm-worker", (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    struct pollfd both[] = {{.fd = POOL_FD, .events = POLLIN}, {.fd = fds[0], .events = POLLIN}};
    while (pid > 0 && poll(both, 2, -1) > 0) {
        if (both[0].revents != 0 && !pass_on(POOL_FD, fds[0]))
            break;
        if (both[1].revents != 0 && !pass_on(fds[0], POOL_FD))
            break;
    }
    return 0;
}
