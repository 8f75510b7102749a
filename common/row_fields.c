#include "common/row_fields.h"

void credential_fields_free(struct credential_fields *fields)
{
    secret_free(&fields->storage);
    *fields = (struct credential_fields){0};
}

enum sso_code credential_fields_encode(const struct credential_fields *fields, struct encoder *out,
                                       struct sso_error *err)
{
    static const uint8_t zeros[SEAL_PADDING_BYTES];
    if (fields->count > FIELDS_MAX)
        return sso_fail(err, SSO_BAD_REQUEST, "a credential has at most %d fields", FIELDS_MAX);

    size_t length = sizeof(uint16_t);
    for (size_t i = 0; i < fields->count; i++) {
        const struct credential_field *field = &fields->field[i];
        if (field->label_bytes == 0 || field->label_bytes > FIELD_LABEL_BYTES_MAX)
            return sso_fail(err, SSO_BAD_REQUEST, "the label of a field has 1 to %d bytes",
                            FIELD_LABEL_BYTES_MAX);
        if (field->value_bytes > FIELD_VALUE_BYTES_MAX)
            return sso_fail(err, SSO_TOO_LARGE, "the value of a field has at most %d bytes",
                            FIELD_VALUE_BYTES_MAX);
        length += 2 * sizeof(uint32_t) + field->label_bytes + field->value_bytes;
    }

    size_t padded = out->length_bytes + sizeof(uint32_t) + length;
    encoder_reserve(out,
                    (padded + SEAL_PADDING_BYTES - 1) / SEAL_PADDING_BYTES * SEAL_PADDING_BYTES);
    encode_u32(out, (uint32_t)length);
    encode_u16(out, (uint16_t)fields->count);
    for (size_t i = 0; i < fields->count; i++) {
        encode_bytes(out, fields->field[i].label, fields->field[i].label_bytes);
        encode_bytes(out, fields->field[i].value, fields->field[i].value_bytes);
    }
    encode_fixed(out, zeros,
                 (SEAL_PADDING_BYTES - out->length_bytes % SEAL_PADDING_BYTES) %
                     SEAL_PADDING_BYTES);
    if (out->failed)
        return sso_fail(err, SSO_NO_MEMORY,
                        "the locked memory has no room for a credential of "
                        "%zu bytes; try again, or raise RLIMIT_MEMLOCK",
                        length);
    return SSO_OK;
}

static bool only_zeros(const struct decoder *decoder)
{
    uint8_t any = 0;
    for (size_t i = 0; i < decoder->left_bytes; i++)
        any |= decoder->next[i];
    return decoder->left_bytes < SEAL_PADDING_BYTES && any == 0;
}

bool credential_fields_decode(struct credential_fields *fields)
{
    struct decoder padded = {fields->storage.data, fields->storage.length_bytes, false};
    size_t length;
    const uint8_t *inner = decode_bytes(&padded, SIZE_MAX, &length);
    if (padded.failed || !only_zeros(&padded))
        return false;

    struct decoder decoder = {inner, length, false};
    size_t count = decode_u16(&decoder);
    if (count > FIELDS_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        struct credential_field *field = &fields->field[i];
        field->label =
            (const char *)decode_bytes(&decoder, FIELD_LABEL_BYTES_MAX, &field->label_bytes);
        field->value =
            (const char *)decode_bytes(&decoder, FIELD_VALUE_BYTES_MAX, &field->value_bytes);
    }
    fields->count = count;
    return !decoder.failed && decoder.left_bytes == 0;
}
