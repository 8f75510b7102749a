#include "pkcs11/spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/privileges.h"
#include "pkcs11/frame.h"
#include "pkcs11/pin_handed.h"

#ifndef SSO_LIBEXECDIR
#define SSO_LIBEXECDIR "/usr/libexec/sso-hsm"
#endif

#define WORKER_NAME "sso-hsm-worker"
#define WORKERS_MAX 256
#define GRACE_MS 1000 /* for workers to end by themselves once their sockets are closed */

struct spawner {
    int socket;
    pid_t pid;
    pthread_mutex_t mutex; /* one request and its answer at a time */
};

enum request_kind { REQUEST_SPAWN = 1, REQUEST_KILL };

#define SECTION_NAME_BYTES 256

struct request {
    uint32_t kind;
    pid_t pid;                        /* KILL */
    unsigned sessions;                /* SPAWN */
    char section[SECTION_NAME_BYTES]; /* SPAWN */
};

struct answer {
    struct sso_error err;
    pid_t pid; /* the worker's end's other end comes with it as SCM_RIGHTS */
};

/* ---- in the spawner's process ---- */

struct nursery {
    int owner;   /* socket */
    int signals; /* signalfd for SIGCHLD */
    const char *worker;
    const struct config_hsm *section; /* as they were at the fork */
    size_t section_count;
    struct pin_typed typed[CONFIG_HSM_MAX];
    pid_t child[WORKERS_MAX];
    size_t count;
};

static void reap(struct nursery *nursery)
{
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
        for (size_t i = 0; i < nursery->count; i++)
            if (nursery->child[i] == pid)
                nursery->child[i--] = nursery->child[--nursery->count];
}

/* Cuts the list: in the worker's own process, just before it becomes the worker. */
static char *const *environment_of(char *list, char *entries[static 66])
{
    size_t n = 0;
    entries[n++] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    entries[n++] = "LANG=C.UTF-8";
    for (char *save = NULL, *one = strtok_r(list, ",", &save); one != NULL && n < 65;
         one = strtok_r(NULL, ",", &save)) {
        one += strspn(one, " \t");
        if (strchr(one, '=') != NULL)
            entries[n++] = one;
    }
    entries[n] = NULL;
    return entries;
}

/* Between fork and exec. The exit codes are for a tracer's eyes: the pool sees the socket close. */
static _Noreturn void become_worker(const char *worker, const struct config_hsm *section,
                                    int socket, int pin)
{
    static char *entries[66], nothing[1];
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (section->user != NULL && become_user(section->user, NULL) != SSO_OK)
        _exit(126);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        _exit(126);
    /* dup2 onto itself would keep close-on-exec. */
    if (socket == WORKER_SOCKET_FD ? fcntl(socket, F_SETFD, 0) != 0
                                   : dup2(socket, WORKER_SOCKET_FD) < 0)
        _exit(126);
    if (pin >= 0 && dup2(pin, WORKER_PIN_FD) < 0)
        _exit(126);
    close_range((pin >= 0 ? WORKER_PIN_FD : WORKER_SOCKET_FD) + 1, ~0U, 0);
    char *const argv[] = {(char *)WORKER_NAME, NULL};
    char *environment = section->environment != NULL ? section->environment : nothing;
    execve(worker, argv, environment_of(environment, entries));
    _exit(127);
}

static enum sso_code check_user(const char *user, struct sso_error *err)
{
    struct person person;
    if (user == NULL)
        return SSO_OK;
    enum sso_code code = person_by_name(user, &person, err);
    if (code == SSO_OK && geteuid() != 0 && geteuid() != person.uid)
        code = sso_fail(err, SSO_FORBIDDEN,
                        "only root or %s may start workers as %s; run this as one of them", user,
                        user);
    return code;
}

static const struct config_hsm *find_section(const struct nursery *nursery, const char *name)
{
    for (size_t i = 0; i < nursery->section_count; i++) {
        const char *here = nursery->section[i].name;
        if (strcmp(here != NULL ? here : "", name) == 0)
            return &nursery->section[i];
    }
    return NULL;
}

static const char *text_of(const char *text)
{
    return text != NULL ? text : "";
}

/* Fits the socket's buffer whole: nobody reads yet. */
static enum sso_code greet(const struct config_hsm *section, unsigned sessions, int socket,
                           struct sso_error *err)
{
    static uint8_t room[FRAME_BYTES_MAX];
    struct encoder frame = {.data = room, .capacity_bytes = sizeof room, .fixed = true};
    const struct hello_request hello = {
        .module = text_of(section->module),
        .init_args = text_of(section->init_args),
        .token = text_of(section->token),
        .sessions =
            section->sessions_per_worker == CONFIG_AUTO ? sessions : section->sessions_per_worker,
        .weak_token_accepted = section->weak_token_accepted,
    };
    frame_begin_request(&frame, SPAWNER_HELLO_ID, FRAME_HELLO);
    frame_put_hello(&frame, &hello);
    enum sso_code code = frame_finish(&frame, err);
    if (code == SSO_OK && !frame_send(socket, &frame, boot_clock_ms() + GRACE_MS))
        code = sso_fail(err, SSO_HSM_UNAVAILABLE, "a worker ended before it was greeted");
    return code;
}

/* On success *out is the pool's end. */
static enum sso_code spawn(struct nursery *nursery, const struct config_hsm *section,
                           unsigned sessions, struct answer *answer, int *out)
{
    struct sso_error *err = &answer->err;
    int fds[2], pin = -1;
    if (nursery->count == WORKERS_MAX)
        return sso_fail(err, SSO_CONFIG_ERROR, "more than %d workers", WORKERS_MAX);
    enum sso_code code = check_user(section->user, err);
    if (code == SSO_OK)
        code = pin_hand_over(section, &nursery->typed[section - nursery->section], nursery->owner,
                             &pin, err);
    if (code != SSO_OK)
        return code;
    bool paired = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0;
    answer->pid = paired ? fork() : -1;
    if (answer->pid == 0)
        become_worker(nursery->worker, section, fds[1], pin);
    if (pin >= 0)
        close(pin);
    if (!paired)
        return sso_fail_errno(err, SSO_HSM_UNAVAILABLE, errno, "socketpair for a worker");
    close(fds[1]);
    if (answer->pid < 0) {
        close(fds[0]);
        return sso_fail_errno(err, SSO_HSM_UNAVAILABLE, errno, "fork for a worker");
    }
    nursery->child[nursery->count++] = answer->pid;
    code = greet(section, sessions, fds[0], err);
    if (code != SSO_OK)
        close(fds[0]);
    else
        *out = fds[0];
    return code;
}

static void send_answer(int socket, const struct answer *answer, int fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {(void *)answer, sizeof *answer};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(head), &fd, sizeof fd);
    }
    (void)!sendmsg(socket, &message, MSG_NOSIGNAL);
}

/* Only pids that we started and have not reaped: such a pid cannot be anyone else's. */
static void kill_child(struct nursery *nursery, pid_t pid)
{
    for (size_t i = 0; i < nursery->count; i++)
        if (nursery->child[i] == pid)
            kill(pid, SIGKILL);
}

/* False when the owner is gone. */
static bool serve_request(struct nursery *nursery)
{
    struct request request;
    ssize_t n = recv(nursery->owner, &request, sizeof request, 0);
    if (n < 0 && errno == EINTR)
        return true;
    if (n != (ssize_t)sizeof request)
        return false;
    request.section[sizeof request.section - 1] = '\0';
    if (request.kind == REQUEST_KILL) {
        kill_child(nursery, request.pid);
        return true;
    }
    struct answer answer = {0};
    int fd = -1;
    const struct config_hsm *section = find_section(nursery, request.section);
    answer.err.code = section != NULL
                          ? spawn(nursery, section, request.sessions, &answer, &fd)
                          : sso_fail(&answer.err, SSO_CONFIG_ERROR,
                                     "there was no section [hsm %s] when this program was started",
                                     request.section);
    send_answer(nursery->owner, &answer, fd);
    if (fd >= 0)
        close(fd);
    return true;
}

static _Noreturn void end_all(struct nursery *nursery)
{
    for (int64_t until = boot_clock_ms() + GRACE_MS; nursery->count > 0;) {
        int64_t left = until - boot_clock_ms();
        struct pollfd child = {.fd = nursery->signals, .events = POLLIN};
        if (left <= 0 || poll(&child, 1, (int)left) == 0)
            break;
        struct signalfd_siginfo info;
        (void)!read(nursery->signals, &info, sizeof info);
        reap(nursery);
    }
    for (size_t i = 0; i < nursery->count; i++)
        kill(nursery->child[i], SIGKILL);
    _exit(0);
}

/* `nursery` is filled but for the descriptors. */
static _Noreturn void spawner_main(struct nursery *nursery_of_owner, int owner)
{
    struct nursery nursery = *nursery_of_owner;
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    /* A signal to the whole group must not take the workers from a service that is draining. */
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    /* What else the owner has open is not the spawner's, nor its workers'. */
    if (owner > STDERR_FILENO + 1)
        close_range(STDERR_FILENO + 1, (unsigned)owner - 1, 0);
    close_range((unsigned)owner + 1, ~0U, 0);
    prctl(PR_SET_NAME, "sso-hsm-spawner");
    prctl(PR_SET_DUMPABLE, 0);
    nursery.owner = owner;
    nursery.signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    if (nursery.signals < 0)
        _exit(1);
    struct pollfd wait[] = {{.fd = owner, .events = POLLIN},
                            {.fd = nursery.signals, .events = POLLIN}};
    for (;;) {
        if (poll(wait, 2, -1) < 0) {
            if (errno != EINTR)
                end_all(&nursery);
            continue;
        }
        struct signalfd_siginfo info;
        while (read(nursery.signals, &info, sizeof info) > 0)
            ;
        reap(&nursery);
        if (wait[0].revents != 0 && !serve_request(&nursery))
            end_all(&nursery);
    }
}

/* ---- in the program's process ---- */

static bool try_path(char out[static PATH_MAX], const char *folder, const char *rest)
{
    int n = snprintf(out, PATH_MAX, "%s%s" WORKER_NAME, folder, rest);
    return n > 0 && n < PATH_MAX && access(out, X_OK) == 0;
}

static enum sso_code find_worker(char out[static PATH_MAX], struct sso_error *err)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = '\0';
        *strrchr(self, '/') = '\0';
        /* Installed side by side, by prefix, or in a build tree. */
        if (try_path(out, self, "/") || try_path(out, self, "/../libexec/sso-hsm/") ||
            try_path(out, self, "/../pkcs11/"))
            return SSO_OK;
    }
    if (try_path(out, SSO_LIBEXECDIR, "/"))
        return SSO_OK;
    return sso_fail(err, SSO_CONFIG_ERROR,
                    "%s is neither beside this program nor in %s; install it", WORKER_NAME,
                    SSO_LIBEXECDIR);
}

enum sso_code spawner_start(const char *worker_program, const struct config_hsm *sections,
                            size_t section_count, struct spawner **out, struct sso_error *err)
{
    struct nursery nursery = {.section = sections, .section_count = section_count};
    char worker[PATH_MAX];
    int fds[2];
    if (worker_program == NULL) {
        enum sso_code code = find_worker(worker, err);
        if (code != SSO_OK)
            return code;
        worker_program = worker;
    } else if (access(worker_program, X_OK) != 0) {
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "worker program %s", worker_program);
    }
    nursery.worker = worker_program;
    struct spawner *spawner = calloc(1, sizeof *spawner);
    if (spawner == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the spawner");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
        free(spawner);
        return sso_fail_errno(err, SSO_INTERNAL, errno, "socketpair for the spawner");
    }
    spawner->pid = fork();
    if (spawner->pid == 0) {
        close(fds[0]);
        spawner_main(&nursery, fds[1]);
    }
    close(fds[1]);
    if (spawner->pid < 0) {
        int why = errno;
        close(fds[0]);
        free(spawner);
        return sso_fail_errno(err, SSO_INTERNAL, why, "fork for the spawner");
    }
    spawner->socket = fds[0];
    pthread_mutex_init(&spawner->mutex, NULL);
    *out = spawner;
    return SSO_OK;
}

static enum sso_code receive_answer(int socket, struct answer *answer, int *fd,
                                    struct sso_error *err)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {answer, sizeof *answer};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t n;
    do
        n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof *answer)
        return sso_fail(err, SSO_HSM_UNAVAILABLE,
                        "the process that starts workers is gone; restart this service");
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (head != NULL && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(head), sizeof *fd);
    return SSO_OK;
}

enum sso_code spawner_spawn(struct spawner *spawner, const char *section, unsigned sessions,
                            int *out_socket, pid_t *out_pid, struct sso_error *err)
{
    struct request request = {.kind = REQUEST_SPAWN, .sessions = sessions};
    struct answer answer = {0};
    int fd = -1;
    if (strlen(section) >= sizeof request.section)
        return sso_fail(err, SSO_CONFIG_ERROR, "the name of a section [hsm NAME] is too long");
    strcpy(request.section, section);
    pthread_mutex_lock(&spawner->mutex);
    enum sso_code code = SSO_OK;
    if (send(spawner->socket, &request, sizeof request, MSG_NOSIGNAL) != (ssize_t)sizeof request)
        code = sso_fail(err, SSO_HSM_UNAVAILABLE,
                        "the process that starts workers is gone; restart this service");
    else
        code = receive_answer(spawner->socket, &answer, &fd, err);
    pthread_mutex_unlock(&spawner->mutex);
    if (code == SSO_OK && answer.err.code != SSO_OK)
        code = sso_fail(err, answer.err.code, "%s", answer.err.detail);
    if (code == SSO_OK && fd < 0)
        code = sso_fail(err, SSO_HSM_UNAVAILABLE, "no descriptor is free for a worker's socket");
    if (code != SSO_OK) {
        if (fd >= 0)
            close(fd);
        return code;
    }
    *out_socket = fd;
    *out_pid = answer.pid;
    return SSO_OK;
}

void spawner_kill(struct spawner *spawner, pid_t pid)
{
    struct request request = {.kind = REQUEST_KILL, .pid = pid};
    pthread_mutex_lock(&spawner->mutex);
    (void)!send(spawner->socket, &request, sizeof request, MSG_NOSIGNAL);
    pthread_mutex_unlock(&spawner->mutex);
}

void spawner_stop(struct spawner **spawner)
{
    if (spawner == NULL || *spawner == NULL)
        return;
    close((*spawner)->socket);
    while (waitpid((*spawner)->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    pthread_mutex_destroy(&(*spawner)->mutex);
    free(*spawner);
    *spawner = NULL;
}
