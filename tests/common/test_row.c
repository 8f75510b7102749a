#include "tests/common/testing.h"

#include "common/clock.h"
#include "common/row.h"
#include "common/row_fields.h"

static const uint8_t system_id[SYSTEM_ID_BYTES] = "0123456789abcdef";
static const uint8_t row_key[ROW_KEY_BYTES] = "a row key of exactly 32 bytes...";

static struct credential_row make_row(void)
{
    struct credential_row row = {.format = ROW_FORMAT,
                                 .generation = 3,
                                 .born = 2,
                                 .version = 7,
                                 .updated_ms = 1700000000123};
    memset(row.row_id, 1, sizeof row.row_id);
    memset(row.application_id, 2, sizeof row.application_id);
    memset(row.row_key_id, 3, sizeof row.row_key_id);
    strcpy(row.principal, "alice");
    strcpy(row.external_user, "ALICE01");
    row.wrapped.length_bytes = 40;
    return row;
}

static void add_field(struct credential_fields *fields, const char *label, const char *value)
{
    fields->field[fields->count++] =
        (struct credential_field){label, value, strlen(label), strlen(value)};
}

static struct credential_row sealed_row(void)
{
    struct credential_row row = make_row();
    struct credential_fields fields = {0};
    add_field(&fields, "user", "ALICE01");
    add_field(&fields, "password", "correct horse");
    assert_int_equal(row_seal(system_id, &row, row_key, &fields, NULL), SSO_OK);
    return row;
}

static enum sso_code open_row(const struct credential_row *row)
{
    struct credential_fields fields;
    enum sso_code rc = row_open(system_id, row, row_key, &fields, NULL);
    if (rc != SSO_OK) {
        assert_int_equal(fields.count, 0);
        assert_null(fields.storage.data);
    }
    credential_fields_free(&fields);
    return rc;
}

static void round_trip(void **state)
{
    (void)state;
    struct credential_row row = sealed_row();
    struct credential_fields fields;
    assert_int_equal(row_open(system_id, &row, row_key, &fields, NULL), SSO_OK);
    assert_int_equal(fields.count, 2);
    assert_int_equal(fields.field[1].label_bytes, 8);
    assert_memory_equal(fields.field[1].label, "password", 8);
    assert_int_equal(fields.field[1].value_bytes, 13);
    assert_memory_equal(fields.field[1].value, "correct horse", 13);
    credential_fields_free(&fields);
    credential_fields_free(&fields);
    credential_row_free(&row);
    credential_row_free(&row);
}

static void extremes_go_round(void **state)
{
    (void)state;
    static char value[FIELD_VALUE_BYTES_MAX];
    static char label[FIELD_LABEL_BYTES_MAX];
    struct credential_row row = make_row();
    struct credential_fields in = {.count = 4}, out;
    memset(value, 'v', sizeof value);
    memset(label, 'l', sizeof label);
    for (size_t i = 0; i < in.count; i++)
        in.field[i] = (struct credential_field){label, value, sizeof label, sizeof value};
    in.field[1].value_bytes = 0;
    assert_int_equal(row_seal(system_id, &row, row_key, &in, NULL), SSO_OK);
    assert_int_equal(row_open(system_id, &row, row_key, &out, NULL), SSO_OK);
    assert_int_equal(out.count, in.count);
    assert_int_equal(out.field[1].value_bytes, 0);
    assert_memory_equal(out.field[3].value, value, sizeof value);
    credential_fields_free(&out);

    in.count = 0;
    assert_int_equal(row_seal(system_id, &row, row_key, &in, NULL), SSO_OK);
    assert_int_equal(row_open(system_id, &row, row_key, &out, NULL), SSO_OK);
    assert_int_equal(out.count, 0);
    credential_fields_free(&out);
    credential_row_free(&row);
}

static void too_much_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    struct credential_row row = sealed_row(), before = row;
    struct credential_fields fields = {.count = FIELDS_MAX + 1};
    struct sso_error err;
    check_failure(row_seal(system_id, &row, row_key, &fields, &err), SSO_BAD_REQUEST, &err, "32");
    fields.count = 1;
    fields.field[0] = (struct credential_field){"l", "v", 0, 1};
    check_failure(row_seal(system_id, &row, row_key, &fields, &err), SSO_BAD_REQUEST, &err, NULL);
    fields.field[0] = (struct credential_field){"l", "v", 1, FIELD_VALUE_BYTES_MAX + 1};
    check_failure(row_seal(system_id, &row, row_key, &fields, &err), SSO_TOO_LARGE, &err, NULL);
    assert_memory_equal(&row, &before, sizeof row);
    assert_int_equal(open_row(&row), SSO_OK);
    credential_row_free(&row);
}

/* The members that the seal binds; each is changed in turn. */
#define MEMBER(member)                                                                             \
    {                                                                                              \
#member, offsetof(struct credential_row, member)                                           \
    }
static const struct {
    const char *name;
    size_t offset;
} bound[] = {MEMBER(format),        MEMBER(row_id),    MEMBER(application_id), MEMBER(principal),
             MEMBER(external_user), MEMBER(born),      MEMBER(row_key_id),     MEMBER(nonce),
             MEMBER(version),       MEMBER(updated_ms)};

static void every_bound_member_counts(void **state)
{
    (void)state;
    struct credential_row row = sealed_row();
    for (size_t i = 0; i < sizeof bound / sizeof bound[0]; i++)
        for (int bit = 0; bit < 7; bit++) {
            struct credential_row changed = row;
            ((uint8_t *)&changed)[bound[i].offset] ^= (uint8_t)(1 << bit);
            if (open_row(&changed) != SSO_ROW_CORRUPT)
                fail_msg("%s, bit %d", bound[i].name, bit);
        }
    credential_row_free(&row);
}

static void system_key_and_every_byte_of_the_ciphertext_count(void **state)
{
    (void)state;
    struct credential_row row = sealed_row();
    struct credential_fields fields;
    struct sso_error err;
    uint8_t other[ROW_KEY_BYTES];
    memcpy(other, system_id, SYSTEM_ID_BYTES);
    other[15] ^= 1;
    check_failure(row_open(other, &row, row_key, &fields, &err), SSO_ROW_CORRUPT, &err,
                  "01010101-0101-0101-0101-010101010101");
    memcpy(other, row_key, ROW_KEY_BYTES);
    other[31] ^= 1;
    check_failure(row_open(system_id, &row, other, &fields, &err), SSO_ROW_CORRUPT, &err, NULL);

    for (size_t i = 0; i < row.ciphertext_bytes; i++) {
        row.ciphertext[i] ^= 0x10;
        assert_int_equal(open_row(&row), SSO_ROW_CORRUPT);
        row.ciphertext[i] ^= 0x10;
    }
    size_t length = row.ciphertext_bytes;
    for (row.ciphertext_bytes = 0; row.ciphertext_bytes < length; row.ciphertext_bytes++)
        assert_int_equal(open_row(&row), SSO_ROW_CORRUPT);
    assert_int_equal(open_row(&row), SSO_OK);
    credential_row_free(&row);
    assert_int_equal(open_row(&row), SSO_ROW_CORRUPT);
}

/* Texts that meet at another place are not the same texts. */
static void texts_do_not_run_into_each_other(void **state)
{
    (void)state;
    struct credential_row row = make_row();
    uint8_t one[BINDING_BYTES], other[BINDING_BYTES];
    strcpy(row.principal, "ab");
    strcpy(row.external_user, "c");
    row_binding_digest(system_id, &row, one);
    strcpy(row.principal, "a");
    strcpy(row.external_user, "bc");
    row_binding_digest(system_id, &row, other);
    assert_memory_not_equal(one, other, sizeof one);
}

static void rewrapping_is_not_bound(void **state)
{
    (void)state;
    struct credential_row row = sealed_row();
    uint8_t before[BINDING_BYTES], after[BINDING_BYTES];
    row_binding_digest(system_id, &row, before);
    row.generation++;
    row.wrapped.bytes[0] ^= 1;
    row_binding_digest(system_id, &row, after);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(open_row(&row), SSO_OK);
    credential_row_free(&row);
}

static void longest_texts_are_bound_to_their_end(void **state)
{
    (void)state;
    struct credential_row row = make_row();
    uint8_t one[BINDING_BYTES], other[BINDING_BYTES];
    memset(row.principal, 'p', PRINCIPAL_BYTES_MAX);
    memset(row.external_user, 'e', EXTERNAL_USER_BYTES_MAX);
    row_binding_digest(system_id, &row, one);
    row.updated_ms++; /* bound last */
    row_binding_digest(system_id, &row, other);
    assert_memory_not_equal(one, other, sizeof one);
}

static void padding_hides_the_length(void **state)
{
    (void)state;
    char value[64];
    memset(value, 'x', sizeof value);
    size_t wanted = 0;
    for (size_t length = 8; length <= 40; length++) { /* 4 + 2 + 4 + 8 + 4 + 40 = 62 */
        struct credential_row row = make_row();
        struct credential_fields fields = {.count = 1};
        fields.field[0] = (struct credential_field){"password", value, 8, length};
        assert_int_equal(row_seal(system_id, &row, row_key, &fields, NULL), SSO_OK);
        assert_int_equal((row.ciphertext_bytes - SEAL_TAG_BYTES) % SEAL_PADDING_BYTES, 0);
        wanted = wanted == 0 ? row.ciphertext_bytes : wanted;
        assert_int_equal(row.ciphertext_bytes, wanted);
        credential_row_free(&row);
    }
}

/* What somebody who has the row key could seal: it must be the one encoding of its fields. */
static void plaintexts_of_another_form_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *hex; /* zeros follow, up to 64 bytes */
        bool fits;
    } cases[] = {
        {"000000020000", true},                      /* no field */
        {"0000000c000100000001610000000162", true},  /* "a": "b" */
        {"0000000b000100000001610000000162", false}, /* one too short */
        {"0000000d000100000001610000000162", false}, /* one too long */
        {"0000000b0001000000016100000000", true},    /* "a": "" */
        {"0000000200000000000001", false},           /* padding that is not zero */
        {"000000020021", false},                     /* more fields than there may be */
        {"0000003d0000", false},                     /* longer than there is */
        {"ffffffff0000", false},
        {"0000000100", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct credential_fields fields = {0};
        uint8_t plain[64] = {0};
        assert_true(hex_decode(cases[i].hex, plain, strlen(cases[i].hex) / 2));
        assert_int_equal(secret_append(&fields.storage, plain, sizeof plain, NULL), SSO_OK);
        if (credential_fields_decode(&fields) != cases[i].fits)
            fail_msg("case %zu", i);
        credential_fields_free(&fields);
    }
}

static void every_seal_has_its_own_nonce(void **state)
{
    (void)state;
    struct credential_row one = sealed_row(), other = sealed_row();
    assert_memory_not_equal(one.nonce, other.nonce, NONCE_BYTES);
    credential_row_free(&one);
    credential_row_free(&other);
}

static void row_ids_are_uuids_of_version_7(void **state)
{
    (void)state;
    uint8_t id[16], other[16];
    char text[UUID_TEXT_SIZE];
    int64_t before = wall_clock_ms(), made = 0;
    assert_int_equal(uuid_v7(id, NULL), SSO_OK);
    assert_int_equal(uuid_v7(other, NULL), SSO_OK);
    assert_memory_not_equal(id, other, sizeof id);
    assert_int_equal(id[6] >> 4, 7);
    assert_int_equal(id[8] >> 6, 2);
    for (int i = 0; i < 6; i++)
        made = made << 8 | id[i];
    assert_true(made >= before);
    uuid_text((const uint8_t *)"\x01\x9a\xbc\xde\xf0\x12\x74\x56\x89\x00\x11\x22\x33\x44\x55\x66",
              text);
    assert_string_equal(text, "019abcde-f012-7456-8900-112233445566");
}

int main(void)
{
    testing_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(extremes_go_round),
        cmocka_unit_test(too_much_is_refused_and_changes_nothing),
        cmocka_unit_test(every_bound_member_counts),
        cmocka_unit_test(system_key_and_every_byte_of_the_ciphertext_count),
        cmocka_unit_test(texts_do_not_run_into_each_other),
        cmocka_unit_test(rewrapping_is_not_bound),
        cmocka_unit_test(longest_texts_are_bound_to_their_end),
        cmocka_unit_test(padding_hides_the_length),
        cmocka_unit_test(plaintexts_of_another_form_are_refused),
        cmocka_unit_test(every_seal_has_its_own_nonce),
        cmocka_unit_test(row_ids_are_uuids_of_version_7),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
