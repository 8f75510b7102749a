/* What anybody can send to the socket: path, query and body of a request, as any bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/encode.h"
#include "common/secret.h"
#include "custodian/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    wiping_allocator_install();
    return 0;
}

/* Each segment is clean text and no two spellings of a separator exist: there are as many segments
 * as slashes in what came in. */
static void path(const char *text)
{
    struct request request = {0};
    struct sso_error err = {0};
    if (request_parse_path(&request, text, &err) == SSO_OK) {
        size_t slashes = 0;
        for (const char *c = text; *c != '\0'; c++)
            slashes += *c == '/';
        if (slashes != request.segment_count)
            abort();
        for (size_t i = 0; i < request.segment_count; i++)
            if (request.segment[i][0] == '\0' ||
                !text_is_clean_utf8(request.segment[i], strlen(request.segment[i])))
                abort();
    }
    request_free(&request);
}

static void query(const char *text)
{
    struct request request = {0};
    struct sso_error err = {0};
    char value[64];
    uint64_t number;
    if (request_parse_query(&request, text, &err) == SSO_OK) {
        if (request_query(&request, "after", value, sizeof value) &&
            memchr(value, '\0', sizeof value) == NULL)
            abort();
        if (request_query_number(&request, "limit", 100, 1000, &number, &err) == SSO_OK &&
            number > 1000)
            abort();
    }
    request_free(&request);
}

static void body(const char *text, size_t size)
{
    struct request request = {0};
    struct sso_error err = {0};
    (void)!request_parse_body(&request, text, size, &err);
    request_free(&request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char *text = malloc(size);
    if (text == NULL)
        return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    if (data[0] % 3 == 0)
        path(text);
    else if (data[0] % 3 == 1)
        query(text);
    else
        body(text, size - 1);
    free(text);
    return 0;
}
