#include "cli/prompt.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <openssl/crypto.h>

static volatile sig_atomic_t interrupted_by;

static void remember_signal(int number)
{
    interrupted_by = number;
}

static const int watched_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
#define WATCHED (sizeof watched_signals / sizeof watched_signals[0])

bool prompt_possible(void)
{
    return isatty(STDIN_FILENO) == 1;
}

static enum sso_code read_line(size_t maximum_bytes, struct secret *out, struct sso_error *err)
{
    for (;;) {
        char c = 0;
        ssize_t got = read(STDIN_FILENO, &c, 1);
        if (got < 0 && errno == EINTR && interrupted_by == 0)
            continue;
        if (got < 0 && errno == EINTR)
            return sso_fail(err, SSO_USAGE, "interrupted");
        if (got <= 0)
            return sso_fail(err, SSO_USAGE, "the input ended before a value was given");
        if (c == '\n')
            return SSO_OK;
        if (out->length_bytes == maximum_bytes)
            return sso_fail(err, SSO_USAGE, "the value is longer than %zu bytes", maximum_bytes);
        enum sso_code rc = secret_append(out, &c, 1, err);
        OPENSSL_cleanse(&c, sizeof c);
        if (rc != SSO_OK)
            return rc;
    }
}

enum sso_code prompt_secret(const char *label, size_t maximum_bytes, struct secret *out,
                            struct sso_error *err)
{
    struct termios before, silent;
    struct sigaction old[WATCHED], watch = {.sa_handler = remember_signal};
    if (tcgetattr(STDIN_FILENO, &before) != 0)
        return sso_fail_errno(err, SSO_USAGE, errno, "standard input is no terminal");
    interrupted_by = 0;
    for (size_t i = 0; i < WATCHED; i++)
        sigaction(watched_signals[i], &watch, &old[i]);
    silent = before;
    silent.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL);

    enum sso_code rc;
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) != 0) {
        rc = sso_fail_errno(err, SSO_INTERNAL, errno, "the terminal's echo cannot be turned off");
    } else {
        fprintf(stderr, "%s: ", label);
        rc = read_line(maximum_bytes, out, err);
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fputc('\n', stderr);
    }
    for (size_t i = 0; i < WATCHED; i++)
        sigaction(watched_signals[i], &old[i], NULL);
    if (rc != SSO_OK)
        secret_free(out);
    if (interrupted_by != 0)
        raise(interrupted_by);
    return rc;
}
