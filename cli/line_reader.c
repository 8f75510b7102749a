#include "cli/line_reader.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/secret.h"

#define READ_BYTES ((size_t)256 << 10)

void line_reader_init(struct line_reader *reader, int fd, size_t maximum_bytes)
{
    *reader = (struct line_reader){.fd = fd, .maximum_bytes = maximum_bytes};
}

void line_reader_free(struct line_reader *reader)
{
    wiping_free(reader->data);
    reader->data = NULL;
}

/* Reads once, behind what is there. */
static enum sso_code fill(struct line_reader *reader, struct sso_error *err)
{
    if (reader->start > 0) {
        memmove(reader->data, reader->data + reader->start, reader->end - reader->start);
        reader->end -= reader->start;
        reader->start = 0;
    }
    if (reader->capacity_bytes - reader->end < READ_BYTES) {
        size_t capacity = 2 * reader->capacity_bytes + READ_BYTES;
        char *grown = wiping_realloc(reader->data, capacity);
        if (grown == NULL)
            return sso_fail(err, SSO_NO_MEMORY, "no memory for a line of %zu bytes", reader->end);
        reader->data = grown;
        reader->capacity_bytes = capacity;
    }
    for (;;) {
        ssize_t got =
            read(reader->fd, reader->data + reader->end, reader->capacity_bytes - reader->end);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return sso_fail_errno(err, SSO_INTERNAL, errno, "the input cannot be read");
        reader->end += (size_t)got;
        reader->at_end = got == 0;
        return SSO_OK;
    }
}

enum sso_code line_reader_next(struct line_reader *reader, const char **line, size_t *length,
                               bool *too_long, struct sso_error *err)
{
    size_t searched = 0;
    *too_long = false;
    for (;;) {
        size_t held = reader->end - reader->start;
        char *first = held > 0 ? reader->data + reader->start : "";
        char *newline = held > searched ? memchr(first + searched, '\n', held - searched) : NULL;
        if (newline != NULL || (reader->at_end && (held > 0 || *too_long))) {
            size_t bytes = newline != NULL ? (size_t)(newline - first) : held;
            reader->start += bytes + (newline != NULL);
            reader->line++;
            *too_long = *too_long || bytes > reader->maximum_bytes;
            *line = *too_long ? "" : first;
            *length = *too_long ? 0 : bytes;
            return SSO_OK;
        }
        if (reader->at_end) {
            *line = NULL;
            return SSO_OK;
        }
        searched = held;
        if (held > reader->maximum_bytes) {
            *too_long = true;
            reader->start = reader->end;
            searched = 0;
        }
        enum sso_code rc = fill(reader, err);
        if (rc != SSO_OK)
            return rc;
    }
}

enum sso_code read_whole(int fd, size_t maximum_bytes, char **out, size_t *length,
                         struct sso_error *err)
{
    struct line_reader reader;
    line_reader_init(&reader, fd, maximum_bytes);
    enum sso_code rc = SSO_OK;
    while (rc == SSO_OK && !reader.at_end && reader.end <= maximum_bytes)
        rc = fill(&reader, err);
    if (rc == SSO_OK && reader.end > maximum_bytes)
        rc = sso_fail(err, SSO_TOO_LARGE, "the input has more than %zu bytes", maximum_bytes);
    if (rc != SSO_OK) {
        line_reader_free(&reader);
        return rc;
    }
    reader.data[reader.end] = '\0'; /* the last fill read 0 bytes into room that is left */
    *out = reader.data;
    *length = reader.end;
    return SSO_OK;
}
