/* A stretch of an import on its way to the custodian: lines that are sent over several connections
 * at once. A principal's lines all go over the same connection, in their order, so that of two
 * lines for one principal the later one counts. */
#ifndef SSO_CLI_IMPORT_WINDOW_H
#define SSO_CLI_IMPORT_WINDOW_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/config.h"
#include "common/error.h"

#define IMPORT_CONNECTIONS 4
#define IMPORT_WINDOW_LINES 8000
#define IMPORT_WINDOW_BYTES ((size_t)16 << 20)

enum import_outcome { IMPORT_NOT_SENT, IMPORT_CREATED, IMPORT_UPDATED, IMPORT_FAILED };

struct import_line {
    uint64_t number;
    size_t bytes;  /* of its text: at least what it takes in a request */
    char *app;     /* owned */
    json_t *item;  /* owned: principal, external_user, fields */
    unsigned lane; /* the connection it goes over */
    bool taken;    /* into a batch of that lane */
    enum import_outcome outcome;
    enum sso_code code; /* of IMPORT_FAILED */
    char *detail;       /* owned, of IMPORT_FAILED */
};

struct import_window {
    struct import_line line[IMPORT_WINDOW_LINES];
    size_t count, bytes;
};
void import_window_clear(struct import_window *window);
void import_line_fail(struct import_line *line, enum sso_code code, const char *detail);

struct import_lanes;
enum sso_code import_lanes_open(const struct config *config, struct import_lanes **out,
                                struct sso_error *err) __attribute__((warn_unused_result));
void import_lanes_close(struct import_lanes **lanes);

/* Sends the lines that have not failed yet and returns at once; the window belongs to the lanes
 * until import_lanes_wait. */
void import_lanes_send(struct import_lanes *lanes, struct import_window *window);
/* SSO_OK: every line of the window has an outcome. Else why the import cannot go on: the caller may
 * not do this, or the custodian cannot for longer than is waited. */
enum sso_code import_lanes_wait(struct import_lanes *lanes, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
