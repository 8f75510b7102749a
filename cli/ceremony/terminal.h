/* The terminal at which officers sit one after the other: /dev/tty, whatever standard input and
 * output are, on the alternate screen, which leaves nothing in the scroll-back. */
#ifndef SSO_CLI_CEREMONY_TERMINAL_H
#define SSO_CLI_CEREMONY_TERMINAL_H

#include <signal.h>
#include <stdbool.h>
#include <termios.h>

#include "common/secret.h"

#define TERMINAL_SIGNALS 5

struct terminal {
    int fd; /* -1: closed */
    struct termios before;
    struct sigaction old[TERMINAL_SIGNALS];
};

/* SSO_USAGE where there is no terminal; `instead` says what to do then. From here to
 * terminal_close Ctrl-C and the like do not end the process, but the next line that is asked for:
 * SSO_INTERRUPTED. */
enum sso_code terminal_open(struct terminal *terminal, const char *instead, struct sso_error *err)
    __attribute__((warn_unused_result));
/* SSO_USAGE where terminal_open would give it. */
enum sso_code terminal_check(const char *instead, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Clears the screen and gives the terminal back as it was. Safe twice. */
void terminal_close(struct terminal *terminal);
#define TERMINAL_AUTO __attribute__((cleanup(terminal_close))) struct terminal

void terminal_clear(struct terminal *terminal);
/* Not for secrets: for these terminal_write. */
void terminal_say(struct terminal *terminal, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void terminal_write(struct terminal *terminal, const char *text, size_t length);

/* One line without its end. `echo`: as it is typed. SSO_INTERRUPTED. */
enum sso_code terminal_line(struct terminal *terminal, bool echo, struct secret *out,
                            struct sso_error *err) __attribute__((warn_unused_result));
/* Waits for Enter. */
enum sso_code terminal_wait(struct terminal *terminal, const char *what, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
