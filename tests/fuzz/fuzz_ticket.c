/* What anybody can hand in as a ticket: no text opens, whatever bytes stand in it, and one that was
 * sealed here opens only as it was. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/secret.h"
#include "common/ticket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static const uint8_t system_id[SYSTEM_ID_BYTES], key_id[SEALED_KEY_ID_BYTES] = {1};
static const uint8_t key[ROW_KEY_BYTES] = {1};
static char sealed[TICKET_TEXT_SIZE];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct ticket_claims claims = {.name = "alice", .principal = "alice", .expires_ms = 1};
    struct sso_error err;
    (void)argc, (void)argv;
    wiping_allocator_install();
    if (ticket_seal(system_id, key_id, key, &claims, sealed, &err) != SSO_OK) {
        fprintf(stderr, "%s\n", err.detail);
        exit(1);
    }
    return 0;
}

/* The input says which characters of a true ticket become which others. */
static void change(const uint8_t *data, size_t size)
{
    struct ticket_claims claims;
    char text[TICKET_TEXT_SIZE];
    memcpy(text, sealed, sizeof text);
    for (size_t i = 0; i + 1 < size; i += 2)
        text[data[i] % strlen(sealed)] = (char)(data[i + 1] % 127 + 1);
    if (strcmp(text, sealed) != 0 && ticket_open(system_id, key, text, &claims, NULL) == SSO_OK)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ticket_claims claims;
    uint8_t named[SEALED_KEY_ID_BYTES];
    char *text = malloc(size + 1);
    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    (void)!ticket_key_id(system_id, text, named, NULL);
    if (ticket_open(system_id, key, text, &claims, NULL) == SSO_OK && strcmp(text, sealed) != 0)
        abort();
    free(text);
    change(data, size);
    return 0;
}
