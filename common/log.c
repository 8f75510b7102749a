#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/encode.h"

#define LINE_BYTES 4096

/* Set once by log_init, before any thread. */
static struct {
    const char *program;
    enum log_level lowest;
    bool to_journal;
} settings = {"sso-hsm", LOG_LEVEL_INFO, false};

static const struct {
    const char *name;
    char priority; /* syslog(3) */
} levels[] = {
    [LOG_LEVEL_DEBUG] = {"debug", '7'},
    [LOG_LEVEL_INFO] = {"info", '6'},
    [LOG_LEVEL_WARNING] = {"warning", '4'},
    [LOG_LEVEL_ERROR] = {"error", '3'},
};

/* $JOURNAL_STREAM (systemd.exec(5)) is inherited by children whose standard error is elsewhere. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat facts;
    unsigned long long device, inode;
    return stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &facts) == 0 && facts.st_dev == device && facts.st_ino == inode;
}

void log_init(const char *program, enum log_level lowest)
{
    settings.program = program;
    settings.lowest = lowest;
    settings.to_journal = stderr_is_journal();
}

struct line {
    char text[LINE_BYTES];
    size_t length;
};

/* Leaves room for the newline. */
static void put(struct line *line, const char *text, size_t count)
{
    size_t room = sizeof line->text - 1 - line->length;
    if (count > room)
        count = room;
    memcpy(line->text + line->length, text, count);
    line->length += count;
}

/* In quotes, with quotes, backslashes, control characters and what is no UTF-8 escaped, so that no
 * value can end its line or forge another. */
static void put_quoted(struct line *line, const char *value)
{
    bool utf8 = text_is_clean_utf8(value, strlen(value));
    put(line, "\"", 1);
    for (const unsigned char *next = (const unsigned char *)value; *next != '\0'; next++) {
        char escaped[5];
        if (*next == '"' || *next == '\\')
            snprintf(escaped, sizeof escaped, "\\%c", *next);
        else if (*next < 0x20 || *next == 0x7f || (*next >= 0x80 && !utf8))
            snprintf(escaped, sizeof escaped, "\\x%02x", *next);
        else
            snprintf(escaped, sizeof escaped, "%c", *next);
        put(line, escaped, strlen(escaped));
    }
    put(line, "\"", 1);
}

static void put_pair(struct line *line, const char *key, const char *value)
{
    put(line, " ", 1);
    put(line, key, strlen(key));
    put(line, "=", 1);
    put_quoted(line, value != NULL ? value : "");
}

/* One write(2) for each line: those of threads and workers do not mix. */
static void write_line(const struct line *line)
{
    size_t done = 0;
    while (done < line->length) {
        ssize_t wrote = write(STDERR_FILENO, line->text + done, line->length - done);
        if (wrote > 0)
            done += (size_t)wrote;
        else if (wrote == 0 || errno != EINTR)
            return;
    }
}

bool log_wants(enum log_level level)
{
    return level >= settings.lowest;
}

void log_line(enum log_level level, const char *message, ...)
{
    if (!log_wants(level))
        return;
    int caller_errno = errno;
    char now[RFC3339_SIZE], head[96];
    struct line line = {.length = 0};
    int used = snprintf(head, sizeof head, "time=%s level=%s program=%s",
                        rfc3339(wall_clock_ms(), now), levels[level].name, settings.program);
    if (settings.to_journal) {
        const char prefix[] = {'<', levels[level].priority, '>'};
        put(&line, prefix, sizeof prefix);
    }
    put(&line, head, used < (int)sizeof head ? (size_t)used : sizeof head - 1);
    put_pair(&line, "message", message);

    va_list pairs;
    va_start(pairs, message);
    for (const char *key = va_arg(pairs, const char *); key != NULL;
         key = va_arg(pairs, const char *))
        put_pair(&line, key, va_arg(pairs, const char *));
    va_end(pairs);
    line.text[line.length++] = '\n';
    write_line(&line);
    errno = caller_errno;
}
