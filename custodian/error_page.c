#include "custodian/error_page.h"

#include <stdlib.h>
#include <string.h>

#include "common/encode.h"
#include "common/json.h"
#include "common/row.h"
#include "common/secret.h"

#define STATUS_LINE "HTTP/1.1 "
#define PAGE_END "</HTML>\n"
#define HEAD_BYTES (sizeof STATUS_LINE - 1 + 3)

static bool is_complete(struct evbuffer *output)
{
    char end[sizeof PAGE_END - 1];
    struct evbuffer_ptr at;
    size_t length = evbuffer_get_length(output);
    return length > sizeof end &&
           evbuffer_ptr_set(output, &at, length - sizeof end, EVBUFFER_PTR_SET) == 0 &&
           evbuffer_copyout_from(output, &at, end, sizeof end) == (ev_ssize_t)sizeof end &&
           memcmp(end, PAGE_END, sizeof end) == 0;
}

static int status_of(struct evbuffer *output)
{
    char head[HEAD_BYTES + 1] = {0};
    if (evbuffer_copyout(output, head, HEAD_BYTES) != (ev_ssize_t)HEAD_BYTES ||
        strncmp(head, "HTTP/1.", 7) != 0)
        return 0;
    return atoi(head + sizeof STATUS_LINE - 1);
}

static char *problem_text(int status, const uint8_t *id)
{
    json_t *problem =
        status == 413 ? json_problem(SSO_TOO_LARGE, "the request is larger than [limits] allow", id)
                      : json_problem(SSO_BAD_REQUEST, "this is not a request of HTTP/1.1", id);
    char *text = problem != NULL ? json_line(problem) : NULL;
    json_decref(problem);
    return text;
}

void error_page_replace(struct evbuffer *output)
{
    uint8_t id[REQUEST_ID_BYTES] = {0};
    char id_hex[2 * REQUEST_ID_BYTES + 1];
    int status = is_complete(output) ? status_of(output) : 0;
    if (status < 400 || random_bytes(id, sizeof id, NULL) != SSO_OK)
        return;
    status = status == 413 ? 413 : 400;
    hex_encode(id, sizeof id, id_hex);
    char *text = problem_text(status, id);
    if (text == NULL)
        return;
    /* A socket's bufferevent keeps the front of its output frozen while it is not writing. */
    evbuffer_unfreeze(output, 1);
    evbuffer_drain(output, evbuffer_get_length(output));
    evbuffer_add_printf(output,
                        STATUS_LINE "%d %s\r\n"
                                    "Content-Type: application/problem+json\r\n"
                                    "Content-Length: %zu\r\n"
                                    "X-Request-Id: %s\r\n"
                                    "Connection: close\r\n\r\n%s",
                        status, status == 413 ? "Request Entity Too Large" : "Bad Request",
                        strlen(text), id_hex, text);
    evbuffer_freeze(output, 1);
    wiping_free(text);
}
