#include "pkcs11/pin_handed.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

#include "pkcs11/frame.h"
#include "pkcs11/pin.h"

/* Above the descriptors that a worker begins with, so that none of them is in the way. */
#define DESCRIPTOR_MIN 10
#define MEMORY_BYTES 4096

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c != '\0' ? strchr(digits, c | ('A' <= c && c <= 'F' ? 0x20 : 0)) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

/* The pin-source of a token's URI (RFC 7512 §2.3), decoded; "" where it has none. */
static void source_of(const char *uri, char *out, size_t size)
{
    size_t used = 0;
    const char *at = uri != NULL ? strchr(uri, '?') : NULL;
    while (at != NULL && strncmp(at + 1, "pin-source=", 11) != 0)
        at = strchr(at + 1, '&');
    for (at = at != NULL ? at + 12 : ""; *at != '\0' && *at != '&' && used + 1 < size; at++) {
        int high = *at == '%' ? hex_digit(at[1]) : -1, low = high >= 0 ? hex_digit(at[2]) : -1;
        out[used++] = low >= 0 ? (char)(high << 4 | low) : *at;
        at += low >= 0 ? 2 : 0;
    }
    out[used] = '\0';
}

/* --- systemd's credentials --- */

static enum sso_code open_credential(const char *name, int *out, struct sso_error *err)
{
    char path[PATH_MAX];
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    if (*name == '\0' || *name == '.' || strchr(name, '/') != NULL)
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "PIN source " PIN_CREDENTIAL "%s names no credential", name);
    if (folder == NULL || folder[0] != '/')
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "PIN source " PIN_CREDENTIAL
                        "%s: there is no $CREDENTIALS_DIRECTORY; put LoadCredential=%s:/path into "
                        "the unit, or run a command by systemd-run -p LoadCredential=%s:/path",
                        name, name, name);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "PIN source " PIN_CREDENTIAL "%s: %s",
                              name, path);
    *out = fcntl(fd, F_DUPFD_CLOEXEC, DESCRIPTOR_MIN);
    close(fd);
    return SSO_OK;
}

/* --- a person at the terminal --- */

/* *length: of the line. False: the owner or the terminal is gone, or the line is too long. */
static bool read_line(int terminal, int owner, char *out, size_t room, size_t *length)
{
    for (*length = 0; *length < room;) {
        struct pollfd wait[] = {{.fd = terminal, .events = POLLIN}, {.fd = owner, .events = 0}};
        if (poll(wait, 2, -1) < 0 && errno == EINTR)
            continue;
        if (wait[1].revents != 0 || read(terminal, out + *length, 1) != 1)
            return false;
        if (out[*length] == '\n') {
            out[*length] = '\0';
            return true;
        }
        ++*length;
    }
    return false;
}

static bool ask(const struct config_hsm *section, int owner, char *out, size_t room, size_t *length)
{
    struct termios before, silent;
    int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (terminal < 0 || tcgetattr(terminal, &before) != 0) {
        if (terminal >= 0)
            close(terminal);
        return false;
    }
    silent = before;
    silent.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
    tcsetattr(terminal, TCSAFLUSH, &silent);
    const char *name = section->name != NULL ? section->name : "";
    dprintf(terminal, "PIN of the token of [hsm%s%s]: ", name[0] != '\0' ? " " : "", name);
    bool good = read_line(terminal, owner, out, room, length);
    tcsetattr(terminal, TCSAFLUSH, &before);
    dprintf(terminal, "\n");
    close(terminal);
    return good && *length > 0;
}

/* The file is the only place where it ever is; its page is locked as long as this process lives. */
static enum sso_code type(const struct config_hsm *section, struct pin_typed *typed, int owner,
                          struct sso_error *err)
{
    size_t length = 0;
    int fd = memfd_create("pin", MFD_CLOEXEC);
    char *memory = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, MEMORY_BYTES) == 0)
        memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED || mlock(memory, MEMORY_BYTES) != 0) {
        close(fd);
        return sso_fail(err, SSO_NO_MEMORY, "no locked memory for a PIN");
    }
    if (ask(section, owner, memory, PIN_BYTES_MAX + 1, &length) && length <= PIN_BYTES_MAX &&
        ftruncate(fd, (off_t)length) == 0) {
        typed->fd = fcntl(fd, F_DUPFD_CLOEXEC, DESCRIPTOR_MIN);
        close(fd);
        return SSO_OK;
    }
    explicit_bzero(memory, MEMORY_BYTES);
    munmap(memory, MEMORY_BYTES);
    close(fd);
    return sso_fail(err, SSO_CONFIG_ERROR,
                    "PIN source " PIN_PROMPT " wants somebody at a terminal who types it, at most "
                    "%d bytes: start this at one, or name a file or a credential",
                    PIN_BYTES_MAX);
}

enum sso_code pin_hand_over(const struct config_hsm *section, struct pin_typed *typed, int owner,
                            int *out, struct sso_error *err)
{
    char source[sizeof((struct pin_source_facts *)0)->source];
    enum sso_code code = SSO_OK;
    *out = -1;
    source_of(section->token, source, sizeof source);
    if (!pin_is_handed(source))
        return SSO_OK;
    if (strcmp(source, PIN_PROMPT) != 0)
        return open_credential(source + strlen(PIN_CREDENTIAL), out, err);
    if (typed->fd == 0)
        code = type(section, typed, owner, err);
    if (code == SSO_OK)
        *out = fcntl(typed->fd, F_DUPFD_CLOEXEC, DESCRIPTOR_MIN);
    return code;
}
