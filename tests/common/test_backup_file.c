/* The backup file: what is written is read back; every change of a byte is refused or found. */
#include "tests/common/testing.h"

#include "common/backup_file.h"
#include "common/row.h"

static struct secret secret;
static struct backup_keys *keys;

static struct backup_file example(void)
{
    struct backup_file file = {
        .system_id = {1, 2, 3},
        .system_name = "corp-sso",
        .generation = 7,
        .secret_id = {4, 5},
        .suite = SUITE_AES256_KW,
        .created_ms = INT64_C(1767225600123),
        .written_ms = INT64_C(1767225601000),
        .wrapped = {.bytes = {9}, .length_bytes = 40},
        .canary = {.wrapped = {.bytes = {8}, .length_bytes = 40}, .mac = {7}},
        .set = {.id = "0198c0de-0000-7000-8000-000000000001",
                .scheme = {2, 3, 1},
                .identifier = 0x7abc,
                .passphrase = true,
                .created_ms = INT64_C(1767225600124),
                .fingerprint = {{1}, {2}, {3}}},
        .audit_key = {"pkcs11:token=a;serial=1 3059aa", "pkcs11:token=b;serial=2 3059bb"},
        .audit_key_count = 2,
    };
    return file;
}

static int setup(void **state)
{
    static const uint8_t bytes[BACKUP_SECRET_BYTES] = {1, 2, 3, 4, 5};
    (void)state;
    keys = secret_alloc(sizeof *keys);
    struct backup_file file = example();
    return secret_append(&secret, bytes, sizeof bytes, NULL) == SSO_OK &&
                   backup_keys_derive(&secret, file.system_id, file.generation, keys, NULL) ==
                       SSO_OK
               ? 0
               : -1;
}

static int teardown(void **state)
{
    (void)state;
    secret_dealloc(keys);
    secret_free(&secret);
    return 0;
}

static void write_example(struct encoder *out)
{
    struct backup_file file = example();
    assert_int_equal(backup_file_write(&file, keys, out, NULL), SSO_OK);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    ENCODER_AUTO text = {0};
    struct backup_file file = example(), read;
    struct sso_error err = {0};
    write_example(&text);
    enum sso_code rc = backup_file_parse((const char *)text.data, text.length_bytes, &read, &err);
    if (rc != SSO_OK)
        fail_msg("%s", err.detail);
    assert_true(backup_file_fits(&read, keys));
    assert_int_equal(backup_file_check(&read, (const char *)text.data, keys, NULL), SSO_OK);
    memcpy(file.check, read.check, sizeof file.check);
    memcpy(file.mac, read.mac, sizeof file.mac);
    file.authenticated_bytes = read.authenticated_bytes;
    assert_memory_equal(&file, &read, sizeof file);
}

/* OpenSSL's own tool: openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt hexkey:0102030405000…
 * -kdfopt hexinfo:… HKDF */
static void keys_are_hkdf_of_the_documented_info(void **state)
{
    (void)state;
    char hex[65];
    hex_encode(keys->wrapping, 32, hex);
    assert_string_equal(hex, "ee80b903ad36e2a5845082be275cbd5bcf3acdc512e020660f7c251674cdd0eb");
    hex_encode(keys->mac, 32, hex);
    assert_string_equal(hex, "ee9a32c40e2a77a2372d5a6afb3f95fa05c2118c9cc22960ed7078b6c4940cee");
    hex_encode(keys->check, BACKUP_CHECK_BYTES, hex);
    assert_string_equal(hex, "948d1366058eb7a4");
}

static void keys_of_another_generation_system_or_secret_do_not_fit(void **state)
{
    (void)state;
    ENCODER_AUTO text = {0};
    struct backup_file read;
    struct backup_keys *other = secret_alloc(sizeof *other);
    write_example(&text);
    assert_int_equal(backup_file_parse((const char *)text.data, text.length_bytes, &read, NULL),
                     SSO_OK);
    assert_int_equal(backup_keys_derive(&secret, read.system_id, 8, other, NULL), SSO_OK);
    assert_false(backup_file_fits(&read, other));
    read.system_id[15] ^= 1;
    assert_int_equal(backup_keys_derive(&secret, read.system_id, 7, other, NULL), SSO_OK);
    assert_false(backup_file_fits(&read, other));
    secret_dealloc(other);
}

static void every_changed_byte_is_refused_or_found(void **state)
{
    (void)state;
    ENCODER_AUTO text = {0};
    size_t refused = 0, found = 0;
    write_example(&text);
    for (size_t i = 0; i < text.length_bytes; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            struct backup_file read;
            text.data[i] ^= (uint8_t)(1u << bit);
            enum sso_code rc =
                backup_file_parse((const char *)text.data, text.length_bytes, &read, NULL);
            if (rc != SSO_OK) {
                assert_int_equal(rc, SSO_BACKUP_INVALID);
                refused++;
            } else {
                assert_int_equal(backup_file_check(&read, (const char *)text.data, keys, NULL),
                                 SSO_BACKUP_TAMPERED);
                found++;
            }
            text.data[i] ^= (uint8_t)(1u << bit);
        }
    }
    printf("%zu refused, %zu found by the MAC\n", refused, found);
    assert_true(refused > 0 && found > 0);
}

static void every_cut_and_every_tail_is_refused(void **state)
{
    (void)state;
    ENCODER_AUTO text = {0};
    struct backup_file read;
    struct sso_error err;
    write_example(&text);
    for (size_t length = 0; length < text.length_bytes; length++)
        check_failure(backup_file_parse((const char *)text.data, length, &read, &err),
                      SSO_BACKUP_INVALID, &err, NULL);
    size_t whole = text.length_bytes;
    static const char *const tails[] = {"\n", "# remark\n", "mac: 00\n", " "};
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        encode_fixed(&text, tails[i], strlen(tails[i]));
        check_failure(backup_file_parse((const char *)text.data, text.length_bytes, &read, &err),
                      SSO_BACKUP_INVALID, &err, "the end of the file");
        text.length_bytes = whole;
    }
}

static void a_missing_line_is_named(void **state)
{
    (void)state;
    ENCODER_AUTO text = {0};
    struct backup_file read;
    struct sso_error err;
    write_example(&text);
    encode_u8(&text, 0);
    char *line = strstr((char *)text.data, "\nsuite: ") + 1;
    char *next = strchr(line, '\n') + 1;
    memmove(line, next, strlen(next) + 1);
    check_failure(backup_file_parse((char *)text.data, strlen((char *)text.data), &read, &err),
                  SSO_BACKUP_INVALID, &err, "line 12: suite was expected");
}

static void a_later_version_is_told_apart(void **state)
{
    (void)state;
    struct backup_file read;
    struct sso_error err;
    static const char later[] = "sso-hsm backup 2\nanything\n";
    check_failure(backup_file_parse(later, strlen(later), &read, &err), SSO_BACKUP_INVALID, &err,
                  "another version");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(keys_are_hkdf_of_the_documented_info),
        cmocka_unit_test(keys_of_another_generation_system_or_secret_do_not_fit),
        cmocka_unit_test(every_changed_byte_is_refused_or_found),
        cmocka_unit_test(every_cut_and_every_tail_is_refused),
        cmocka_unit_test(a_missing_line_is_named),
        cmocka_unit_test(a_later_version_is_told_apart),
    };
    testing_start();
    return cmocka_run_group_tests(tests, setup, teardown);
}
