/* Lines of a file in buffers that wipe themselves, since they carry decoded fields. */
#ifndef SSO_CLI_LINE_READER_H
#define SSO_CLI_LINE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct line_reader {
    int fd; /* the caller's */
    size_t maximum_bytes;
    char *data; /* wiping_malloc */
    size_t start, end, capacity_bytes;
    bool at_end;
    uint64_t line; /* number of the line last returned */
};

void line_reader_init(struct line_reader *reader, int fd, size_t maximum_bytes);
void line_reader_free(struct line_reader *reader);

/* The next line without its end, as a view that the next call invalidates; NULL at the end.
 * `too_long`: the line has more than maximum_bytes, was skipped, and the view is empty. */
enum sso_code line_reader_next(struct line_reader *reader, const char **line, size_t *length,
                               bool *too_long, struct sso_error *err)
    __attribute__((warn_unused_result));

/* All of `fd`, at most maximum_bytes, NUL behind; to be freed with wiping_free. */
enum sso_code read_whole(int fd, size_t maximum_bytes, char **out, size_t *length,
                         struct sso_error *err) __attribute__((warn_unused_result));

#endif
