#include "cli/ceremony/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES_MAX 1024

static const int watched[TERMINAL_SIGNALS] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
static volatile sig_atomic_t interrupted;

static void remember(int number)
{
    interrupted = number;
}

static enum sso_code open_tty(int *fd, struct termios *mode, const char *instead,
                              struct sso_error *err)
{
    *fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*fd >= 0 && tcgetattr(*fd, mode) == 0)
        return SSO_OK;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    return sso_fail(err, SSO_USAGE, "there is no terminal here: %s", instead);
}

enum sso_code terminal_check(const char *instead, struct sso_error *err)
{
    struct termios mode;
    int fd;
    enum sso_code rc = open_tty(&fd, &mode, instead, err);
    if (fd >= 0)
        close(fd);
    return rc;
}

static bool set_echo(const struct terminal *terminal, bool echo)
{
    struct termios mode = terminal->before;
    mode.c_lflag |= ICANON | ISIG;
    if (!echo)
        mode.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL);
    return tcsetattr(terminal->fd, TCSADRAIN, &mode) == 0;
}

enum sso_code terminal_open(struct terminal *terminal, const char *instead, struct sso_error *err)
{
    static const char alternate_screen[] = "\033[?1049h";
    struct sigaction watch = {.sa_handler = remember};
    enum sso_code rc = open_tty(&terminal->fd, &terminal->before, instead, err);
    if (rc != SSO_OK)
        return rc;
    interrupted = 0;
    for (size_t i = 0; i < TERMINAL_SIGNALS; i++)
        sigaction(watched[i], &watch, &terminal->old[i]);
    set_echo(terminal, false); /* before the first prompt, for who types ahead of it */
    terminal_write(terminal, alternate_screen, sizeof alternate_screen - 1);
    terminal_clear(terminal);
    return SSO_OK;
}

void terminal_close(struct terminal *terminal)
{
    static const char normal_screen[] = "\033[?1049l";
    if (terminal->fd < 0)
        return;
    terminal_clear(terminal);
    terminal_write(terminal, normal_screen, sizeof normal_screen - 1);
    tcsetattr(terminal->fd, TCSAFLUSH, &terminal->before);
    for (size_t i = 0; i < TERMINAL_SIGNALS; i++)
        sigaction(watched[i], &terminal->old[i], NULL);
    close(terminal->fd);
    terminal->fd = -1;
}

void terminal_write(struct terminal *terminal, const char *text, size_t length)
{
    while (length > 0) {
        ssize_t written = write(terminal->fd, text, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return;
        text += written;
        length -= (size_t)written;
    }
}

void terminal_clear(struct terminal *terminal)
{
    /* Screen, scroll-back (where the terminal knows that), cursor home. */
    static const char clear[] = "\033[2J\033[3J\033[H";
    terminal_write(terminal, clear, sizeof clear - 1);
}

void terminal_say(struct terminal *terminal, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    terminal_write(terminal, text, strlen(text));
}

static enum sso_code read_line(struct terminal *terminal, struct secret *out, struct sso_error *err)
{
    secret_clear(out);
    for (;;) {
        char c = 0;
        ssize_t got = interrupted != 0 ? -1 : read(terminal->fd, &c, 1);
        if (interrupted != 0)
            return sso_fail(err, SSO_INTERRUPTED, "interrupted");
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return sso_fail(err, SSO_INTERRUPTED, "the terminal was closed");
        if (c == '\n')
            return SSO_OK;
        if (out->length_bytes == LINE_BYTES_MAX)
            continue; /* cannot be right: what was asked for is far shorter */
        enum sso_code rc = secret_append(out, &c, 1, err);
        OPENSSL_cleanse(&c, sizeof c);
        if (rc != SSO_OK)
            return rc;
    }
}

enum sso_code terminal_line(struct terminal *terminal, bool echo, struct secret *out,
                            struct sso_error *err)
{
    if (!set_echo(terminal, echo))
        return sso_fail_errno(err, SSO_INTERNAL, errno, "the terminal cannot be set");
    enum sso_code rc = read_line(terminal, out, err);
    set_echo(terminal, false);
    if (!echo)
        terminal_write(terminal, "\n", 1);
    return rc;
}

enum sso_code terminal_wait(struct terminal *terminal, const char *what, struct sso_error *err)
{
    SECRET_AUTO line = {0};
    terminal_say(terminal, "%s", what);
    return terminal_line(terminal, false, &line, err);
}
