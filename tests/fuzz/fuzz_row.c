/* What a database and a peer can hold: the decoder under any bytes, a row with any ciphertext
 * (which must not open), and any plaintext of fields (which must come back as it was, or not be
 * sealed). */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/encode.h"
#include "common/row.h"
#include "common/row_fields.h"

#define HEAP_BYTES (4 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static const uint8_t system_id[SYSTEM_ID_BYTES];
static const uint8_t row_key[ROW_KEY_BYTES] = {1};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct sso_error err;
    (void)argc, (void)argv;
    wiping_allocator_install();
    if (secret_memory_init(HEAP_BYTES, &err) != SSO_OK) {
        fprintf(stderr, "%s\n", err.detail);
        exit(1);
    }
    return 0;
}

/* The input itself chooses the calls. */
static void decode(const uint8_t *data, size_t size)
{
    struct decoder decoder = {data, size, false};
    struct sso_error err;
    while (decoder.left_bytes > 0 && !decoder.failed) {
        char text[32];
        size_t count;
        const uint8_t *view;
        switch (decode_u8(&decoder) % 6) {
        case 0:
            decode_u16(&decoder);
            break;
        case 1:
            decode_u32(&decoder);
            break;
        case 2:
            decode_u64(&decoder);
            break;
        case 3:
            decode_fixed(&decoder, text, sizeof text);
            break;
        case 4:
            view = decode_bytes(&decoder, 1000, &count);
            if (count > 1000 || (view != NULL && (view < data || view + count > data + size)))
                abort();
            break;
        default:
            decode_text(&decoder, text, sizeof text);
            if (memchr(text, '\0', sizeof text) == NULL)
                abort();
            break;
        }
    }
    if ((decode_end(&decoder, "input", &err) == SSO_OK) !=
        (!decoder.failed && decoder.left_bytes == 0))
        abort();
}

static void open_any_ciphertext(const uint8_t *data, size_t size)
{
    struct credential_row row = {.format = ROW_FORMAT, .version = 1};
    struct credential_fields fields;
    row.ciphertext = malloc(size + 1);
    if (row.ciphertext == NULL)
        return;
    memcpy(row.ciphertext, data, size);
    row.ciphertext_bytes = size;
    if (row_open(system_id, &row, row_key, &fields, NULL) != SSO_ROW_CORRUPT ||
        fields.storage.data != NULL)
        abort();
    credential_row_free(&row);
}

/* As if somebody who has the row key had sealed anything. */
static void decode_any_plaintext(const uint8_t *data, size_t size)
{
    struct credential_fields fields = {0};
    const char *end;
    if (secret_append(&fields.storage, data, size, NULL) != SSO_OK)
        return;
    end = (const char *)fields.storage.data + size;
    if (credential_fields_decode(&fields))
        for (size_t i = 0; i < fields.count; i++)
            if (fields.field[i].value + fields.field[i].value_bytes > end ||
                fields.field[i].label_bytes > FIELD_LABEL_BYTES_MAX)
                abort();
    credential_fields_free(&fields);
}

/* Cuts the input into labels and values by its own first bytes. */
static void seal_any_fields(const uint8_t *data, size_t size)
{
    struct credential_fields fields = {0}, opened;
    struct credential_row row = {.format = ROW_FORMAT, .version = 1};
    struct decoder decoder = {data, size, false};
    while (fields.count < FIELDS_MAX && !decoder.failed && decoder.left_bytes > 2) {
        struct credential_field *field = &fields.field[fields.count];
        field->label_bytes = decode_u8(&decoder) % (FIELD_LABEL_BYTES_MAX + 2);
        field->value_bytes = decode_u8(&decoder);
        if (field->label_bytes + field->value_bytes > decoder.left_bytes)
            break;
        field->label = (const char *)decoder.next;
        field->value = field->label + field->label_bytes;
        decoder.next += field->label_bytes + field->value_bytes;
        decoder.left_bytes -= field->label_bytes + field->value_bytes;
        fields.count++;
    }
    if (row_seal(system_id, &row, row_key, &fields, NULL) != SSO_OK)
        return;
    if (row_open(system_id, &row, row_key, &opened, NULL) != SSO_OK || opened.count != fields.count)
        abort();
    for (size_t i = 0; i < fields.count; i++)
        if (opened.field[i].value_bytes != fields.field[i].value_bytes ||
            memcmp(opened.field[i].value, fields.field[i].value, fields.field[i].value_bytes) != 0)
            abort();
    credential_fields_free(&opened);
    credential_row_free(&row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    decode(data, size);
    open_any_ciphertext(data, size);
    decode_any_plaintext(data, size);
    seal_any_fields(data, size);
    (void)text_is_clean_utf8((const char *)data, size);
    return 0;
}
