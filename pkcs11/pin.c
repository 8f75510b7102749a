#include "pkcs11/pin.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "pkcs11/pin_handed.h"

#define PROGRAM_DEADLINE_MS 5000

static const char *path_of(const char *source, bool *program)
{
    *program = source[0] == '|';
    if (*program)
        return source + 1;
    if (strncmp(source, "file:", 5) == 0)
        source += 5;
    return strncmp(source, "///", 3) == 0 ? source + 2 : source;
}

static enum sso_code check(const char *path, bool program, const struct stat *st,
                           struct sso_error *err)
{
    const char *wrong = NULL;
    if (!S_ISREG(st->st_mode))
        wrong = "is not a regular file";
    else if (program && st->st_uid != 0)
        wrong = "is a program that root does not own";
    else if (program && (st->st_mode & (S_IWGRP | S_IWOTH)) != 0)
        wrong = "is a program that others may write";
    else if (!program && (st->st_mode & 0177) != 0)
        wrong = "must have mode 0400 or 0600";
    else if (!program && st->st_uid != 0 && st->st_uid != geteuid())
        wrong = "must be owned by the token's user or root";
    return wrong == NULL ? SSO_OK
                         : sso_fail(err, SSO_CONFIG_ERROR, "PIN source %s %s", path, wrong);
}

/* Whether a credential was corrected is not to be seen: systemd makes the file anew at every start,
 * and a start must not be a try. So only another length is a change by itself. */
static enum sso_code look_at_handed(const char *source, struct pin_source_facts *out,
                                    struct sso_error *err)
{
    struct stat st;
    if (fstat(WORKER_PIN_FD, &st) != 0 || !S_ISREG(st.st_mode))
        return sso_fail(err, SSO_CONFIG_ERROR, "PIN source %s is no regular file", source);
    bool typed = strcmp(source, PIN_PROMPT) == 0;
    if (!typed && (st.st_mode & 0137) != 0)
        return sso_fail(err, SSO_CONFIG_ERROR, "PIN source %s must have mode 0400", source);
    *out = (struct pin_source_facts){.size_bytes = (uint64_t)st.st_size};
    if (typed) { /* once for each start, by a person */
        out->device = st.st_dev;
        out->inode = st.st_ino;
        out->size_bytes = 0;
        out->modified_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    }
    snprintf(out->source, sizeof out->source, "%s", source);
    return SSO_OK;
}

enum sso_code pin_source_look(const char *source, struct pin_source_facts *out,
                              struct sso_error *err)
{
    bool program = false;
    struct stat st;
    if (source == NULL)
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "the token wants a PIN: add ?pin-source=file:/path to [hsm] token");
    if (pin_is_handed(source) && strlen(source) < sizeof out->source)
        return look_at_handed(source, out, err);
    const char *path = path_of(source, &program);
    if (path[0] != '/' || strlen(source) >= sizeof out->source)
        return sso_fail(err, SSO_CONFIG_ERROR, "pin-source %s is not an absolute path", source);
    if (stat(path, &st) != 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "PIN source %s", path);
    enum sso_code code = check(path, program, &st, err);
    if (code != SSO_OK)
        return code;
    snprintf(out->source, sizeof out->source, "%s", source);
    out->device = st.st_dev;
    out->inode = st.st_ino;
    out->size_bytes = (uint64_t)st.st_size;
    out->modified_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    return SSO_OK;
}

/* Without its newline. */
static enum sso_code check_pin(const char *source, struct secret *pin, struct sso_error *err)
{
    if (pin->length_bytes > 0 && pin->data[pin->length_bytes - 1] == '\n')
        pin->length_bytes--;
    if (pin->length_bytes == 0 || pin->length_bytes > PIN_BYTES_MAX)
        return sso_fail(err, SSO_CONFIG_ERROR, "PIN source %s must give 1 to %d bytes", source,
                        PIN_BYTES_MAX);
    return SSO_OK;
}

/* Reads to the end, straight into locked memory. */
static enum sso_code read_all(int fd, const char *path, int64_t deadline_ms, struct secret *out,
                              struct sso_error *err)
{
    enum sso_code code = secret_reserve(out, PIN_BYTES_MAX + 2, err);
    while (code == SSO_OK) {
        int64_t left = deadline_ms - boot_clock_ms();
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (left <= 0 || (poll(&ready, 1, (int)left) < 0 && errno != EINTR))
            return sso_fail(err, SSO_CONFIG_ERROR, "PIN source %s did not finish in time", path);
        ssize_t n = read(fd, out->data + out->length_bytes, PIN_BYTES_MAX + 2 - out->length_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "PIN source %s", path);
        if (n == 0)
            break;
        out->length_bytes += (size_t)n;
        if (out->length_bytes == PIN_BYTES_MAX + 2)
            return sso_fail(err, SSO_CONFIG_ERROR, "PIN source %s gives more than %d bytes", path,
                            PIN_BYTES_MAX);
    }
    return code == SSO_OK ? check_pin(path, out, err) : code;
}

static enum sso_code read_file(const char *path, struct secret *out, struct sso_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "PIN source %s", path);
    struct stat st;
    enum sso_code code = fstat(fd, &st) == 0
                             ? check(path, false, &st, err)
                             : sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "PIN source %s", path);
    if (code == SSO_OK)
        code = read_all(fd, path, boot_clock_ms() + PROGRAM_DEADLINE_MS, out, err);
    close(fd);
    return code;
}

static int spawn_program(const char *path, int output, pid_t *pid)
{
    char *const argv[] = {(char *)path, NULL};
    char *const envp[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", NULL};
    posix_spawn_file_actions_t actions;
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0)
        return rc;
    rc = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    /* posix_spawn runs no atfork handlers, which modules use to deadlock in. */
    if (rc == 0)
        rc = posix_spawn(pid, path, &actions, NULL, argv, envp);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

static enum sso_code read_program(const char *path, struct secret *out, struct sso_error *err)
{
    int fds[2];
    pid_t pid = 0;
    struct stat st;
    if (stat(path, &st) != 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "PIN program %s", path);
    enum sso_code code = check(path, true, &st, err);
    if (code != SSO_OK)
        return code;
    if (pipe2(fds, O_CLOEXEC) != 0)
        return sso_fail_errno(err, SSO_INTERNAL, errno, "pipe for PIN program %s", path);
    int rc = spawn_program(path, fds[1], &pid);
    close(fds[1]);
    if (rc != 0) {
        code = sso_fail_errno(err, SSO_CONFIG_ERROR, rc, "PIN program %s", path);
    } else {
        code = read_all(fds[0], path, boot_clock_ms() + PROGRAM_DEADLINE_MS, out, err);
        if (code != SSO_OK)
            kill(pid, SIGKILL);
        int status = 0;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        if (code == SSO_OK && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
            code = sso_fail(err, SSO_CONFIG_ERROR, "PIN program %s failed", path);
    }
    close(fds[0]);
    return code;
}

/* Other workers have the same open file: its position is nobody's. */
static enum sso_code read_handed(const char *source, struct secret *out, struct sso_error *err)
{
    enum sso_code code = secret_reserve(out, PIN_BYTES_MAX + 2, err);
    if (code != SSO_OK)
        return code;
    ssize_t n = pread(WORKER_PIN_FD, out->data, PIN_BYTES_MAX + 2, 0);
    if (n < 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "PIN source %s", source);
    out->length_bytes = (size_t)n;
    return check_pin(source, out, err);
}

enum sso_code pin_read(const char *source, struct secret *out, struct sso_error *err)
{
    bool program = false;
    const char *path = path_of(source, &program);
    enum sso_code code = pin_is_handed(source) ? read_handed(source, out, err)
                         : program             ? read_program(path, out, err)
                                               : read_file(path, out, err);
    if (code != SSO_OK)
        secret_free(out);
    return code;
}
