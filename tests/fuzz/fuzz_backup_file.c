/* What anybody can hand to `key restore` as a backup file: read without fault, and what is read is
 * written back as it was. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/backup_file.h"

#define HEAP_BYTES (4 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct backup_keys *keys;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const uint8_t bytes[BACKUP_SECRET_BYTES] = {1};
    struct sso_error err;
    struct secret secret = {0};
    (void)argc, (void)argv;
    wiping_allocator_install();
    if (secret_memory_init(HEAP_BYTES, &err) != SSO_OK ||
        secret_append(&secret, bytes, sizeof bytes, &err) != SSO_OK ||
        (keys = secret_alloc(sizeof *keys)) == NULL ||
        backup_keys_derive(&secret, bytes, 1, keys, &err) != SSO_OK) {
        fprintf(stderr, "%s\n", err.detail);
        exit(1);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct backup_file file, again;
    ENCODER_AUTO text = {0};
    if (backup_file_parse((const char *)data, size, &file, NULL) != SSO_OK)
        return 0;
    if (file.authenticated_bytes >= size || file.set.scheme.count > SLIP39_SHARES_MAX)
        abort();
    if (backup_file_check(&file, (const char *)data, keys, NULL) == SSO_OK)
        abort(); /* nobody has the key */
    if (backup_file_write(&file, keys, &text, NULL) != SSO_OK ||
        backup_file_parse((const char *)text.data, text.length_bytes, &again, NULL) != SSO_OK ||
        backup_file_check(&again, (const char *)text.data, keys, NULL) != SSO_OK)
        abort();
    memcpy(file.check, again.check, sizeof file.check);
    memcpy(file.mac, again.mac, sizeof file.mac);
    file.authenticated_bytes = again.authenticated_bytes;
    if (memcmp(&file, &again, sizeof file) != 0)
        abort();
    return 0;
}
