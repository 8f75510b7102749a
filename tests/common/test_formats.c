/* Formats that are dear to change later, frozen as known answers. They were computed with another
 * implementation (Python's hashlib, hmac and cryptography) from the descriptions in the headers. */
#include "tests/common/testing.h"

#include "common/audit_record.h"
#include "common/digest.h"
#include "common/encode.h"
#include "common/policy.h"

static uint8_t system_id[SYSTEM_ID_BYTES];
static struct policy policy;

static int set_up(void **state)
{
    (void)state;
    uint8_t key[POLICY_KEY_BYTES];
    memset(key, 0x42, sizeof key);
    for (uint8_t i = 0; i < sizeof system_id; i++)
        system_id[i] = policy.system_id[i] = i;
    return secret_append(&policy.key, key, sizeof key, NULL) == SSO_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    policy_free(&policy);
    return 0;
}

static void check_hex(const uint8_t *bytes, size_t count, const char *wanted)
{
    char *hex = malloc(2 * count + 1);
    assert_non_null(hex);
    hex_encode(bytes, count, hex);
    assert_string_equal(hex, wanted);
    free(hex);
}

static struct credential_row make_row(void)
{
    struct credential_row row = {.format = ROW_FORMAT,
                                 .generation = 9,
                                 .born = 2,
                                 .version = 7,
                                 .updated_ms = 1700000000123};
    memset(row.row_id, 1, sizeof row.row_id);
    memset(row.application_id, 2, sizeof row.application_id);
    memset(row.row_key_id, 3, sizeof row.row_key_id);
    strcpy(row.principal, "alice");
    strcpy(row.external_user, "Zo\xc3\xab");
    return row;
}

static void row_binding(void **state)
{
    (void)state;
    struct credential_row row = make_row();
    uint8_t digest[BINDING_BYTES];
    row_binding_digest(system_id, &row, digest);
    check_hex(digest, sizeof digest,
              "ef73189489203fc1efb16d0473a462d844555660d659af960c42f86f7586e36b");
}

static void sealed_row(void **state)
{
    (void)state;
    static const char ciphertext_hex[] =
        "17f7077bc0cd9f5fe53bab4f2dd4e9d51f948cae23c2e97b634f0ae8019104703608c47037a8f9de433b825f"
        "943d2a4193baf110e6177afeb474eaf9e26befb26ec64d937544481d2e0948127cead369";
    struct credential_row row = make_row();
    struct credential_fields fields;
    struct sso_error err = {0};
    uint8_t row_key[ROW_KEY_BYTES];
    memset(row_key, 0x11, sizeof row_key);
    memset(row.nonce, 0x22, sizeof row.nonce);
    row.ciphertext_bytes = sizeof ciphertext_hex / 2;
    row.ciphertext = malloc(row.ciphertext_bytes);
    assert_non_null(row.ciphertext);
    assert_true(hex_decode(ciphertext_hex, row.ciphertext, row.ciphertext_bytes));
    if (row_open(system_id, &row, row_key, &fields, &err) != SSO_OK)
        fail_msg("%s", err.detail);
    assert_int_equal(fields.count, 2);
    assert_memory_equal(fields.field[0].label, "user", 4);
    assert_memory_equal(fields.field[0].value, "ALICE01", 7);
    assert_memory_equal(fields.field[1].value, "correct horse", 13);
    credential_fields_free(&fields);
    credential_row_free(&row);
}

static void binding_of_a_sealed_key(void **state)
{
    (void)state;
    struct sealed_key key = {.purpose = PURPOSE_POLICY, .generation = 3, .born = 1};
    uint8_t digest[BINDING_BYTES];
    memset(key.key_id, 5, sizeof key.key_id);
    sealed_key_binding(system_id, &key, digest);
    check_hex(digest, sizeof digest,
              "78151e3e093a11d0ec378367cd3d7912fd5404463560526f142505fd31371c2f");
    key.born = 2;
    uint8_t other[BINDING_BYTES];
    sealed_key_binding(system_id, &key, other);
    assert_memory_not_equal(digest, other, sizeof digest);
}

static void tag_of_an_application(void **state)
{
    (void)state;
    struct application row = {.name = "crm",
                              .type = APPLICATION_INDIVIDUAL,
                              .enabled = true,
                              .cached = true,
                              .tickets_validated = true,
                              .ticket_lifetime_ms = 60000,
                              .ticket_lifetime_since_ms = 900,
                              .description = "d",
                              .contact = "c",
                              .field = {{"user", false}, {"password", true}},
                              .field_count = 2,
                              .admins = "adm",
                              .users = {"sales"},
                              .user_group_count = 1,
                              .readers = "svc",
                              .created_ms = 1000,
                              .updated_ms = 2000,
                              .version = 3};
    memset(row.id, 9, sizeof row.id);
    policy_tag_application(&policy, &row);
    check_hex(row.tag, sizeof row.tag,
              "557cae7d32989dd63e360cdd304d8f622d8485b54d49bbfd557b027bc166a9d7");
}

static void tag_of_a_mapping(void **state)
{
    (void)state;
    struct mapping row = {.principal = "alice",
                          .external_user = "A.LICE",
                          .state = MAPPING_DISABLED_BY_USER,
                          .updated_ms = 1700000000123,
                          .version = 4};
    memset(row.application_id, 2, sizeof row.application_id);
    policy_tag_mapping(&policy, &row);
    check_hex(row.tag, sizeof row.tag,
              "3b0c59646c817d9ad10b988481e80ae91bb4a5ce2f4c9bf4ade3e9646812e95a");
}

static void tag_of_a_setting(void **state)
{
    (void)state;
    struct setting row = {.name = "system.enabled", .value = "yes", .version = 1};
    policy_tag_setting(&policy, &row);
    check_hex(row.tag, sizeof row.tag,
              "835fa04770c462ababa16196fc30fac0e28dae1a732ee49d72ccf403f7cd534a");
}

static void tag_of_a_generation(void **state)
{
    (void)state;
    struct generation row = {.number = 1,
                             .suite = SUITE_AES256_KW,
                             .state = GENERATION_ACTIVE,
                             .no_backup = true,
                             .created_ms = 1000,
                             .wraps = 99,
                             .version = 2};
    memset(row.secret_id, 6, sizeof row.secret_id);
    row.canary.wrapped.length_bytes = 40;
    memset(row.canary.wrapped.bytes, 7, 40);
    memset(row.canary.mac, 8, sizeof row.canary.mac);
    policy_tag_generation(&policy, &row);
    check_hex(row.tag, sizeof row.tag,
              "cb313a72a4b0414f122dd1779aa7b45e9b636192777a81b7365e897e546838cd");
}

static void tag_of_a_token_of_a_generation(void **state)
{
    (void)state;
    struct generation_token row = {.number = 1,
                                   .token = {"sso", "12", "m", "v2"},
                                   .node = "node1",
                                   .evidence = "{}",
                                   .since_ms = 1000,
                                   .version = 1};
    policy_tag_generation_token(&policy, &row);
    check_hex(row.tag, sizeof row.tag,
              "537c7a5f093c647739b5342232f4e6c05d39c28cc6272f282500b5d8240cea45");
}

static struct audit_record make_record(void)
{
    struct audit_record record = {.node = "node1",
                                  .number = 1,
                                  .time_ms = 1700000000123,
                                  .actor = "alice",
                                  .how = "unix",
                                  .operation = "credential.set",
                                  .target = "crm/alice",
                                  .outcome = "ok",
                                  .row_version = 7};
    memset(record.request_id, 4, sizeof record.request_id);
    memset(record.row_id, 1, sizeof record.row_id);
    return record;
}

static void hash_of_an_audit_record(void **state)
{
    (void)state;
    static const uint8_t none[AUDIT_HASH_BYTES];
    struct audit_record record = make_record();
    audit_record_hash(none, &record, record.hash);
    check_hex(record.hash, sizeof record.hash,
              "03f72cf99871c872b42eb2b77cd6fcfd2aaad22d7a535997d2467522ca3d401f");
}

#define PLACE(member) offsetof(struct audit_record, member)

static void every_member_of_an_audit_record_counts(void **state)
{
    (void)state;
    static const size_t places[] = {PLACE(node),   PLACE(number),     PLACE(time_ms),
                                    PLACE(actor),  PLACE(how),        PLACE(operation),
                                    PLACE(target), PLACE(outcome),    PLACE(request_id),
                                    PLACE(row_id), PLACE(row_version)};
    uint8_t previous[AUDIT_HASH_BYTES] = {0}, wanted[AUDIT_HASH_BYTES], hash[AUDIT_HASH_BYTES];
    struct audit_record record = make_record();
    audit_record_hash(previous, &record, wanted);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        struct audit_record changed = record;
        ((uint8_t *)&changed)[places[i]] ^= 1;
        audit_record_hash(previous, &changed, hash);
        assert_memory_not_equal(hash, wanted, sizeof hash);
    }
    previous[31] = 1;
    audit_record_hash(previous, &record, hash);
    assert_memory_not_equal(hash, wanted, sizeof hash);
}

/* RFC 4231, test cases 1, 2 and 6; and a second round, since contexts are used again. */
static void hmac_and_hash(void **state)
{
    (void)state;
    uint8_t key[131], out[DIGEST_BYTES];
    for (int round = 0; round < 2; round++) {
        memset(key, 0x0b, 20);
        digest_hmac_sha256(key, 20, "Hi There", 8, out);
        check_hex(out, sizeof out,
                  "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        digest_hmac_sha256((const uint8_t *)"Jefe", 4, "what do ya want for nothing?", 28, out);
        check_hex(out, sizeof out,
                  "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        memset(key, 0xaa, sizeof key);
        digest_hmac_sha256(key, sizeof key,
                           "Test Using Larger Than Block-Size Key - Hash Key First", 54, out);
        check_hex(out, sizeof out,
                  "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
        digest_sha256("abc", 3, out); /* FIPS 180-4 */
        check_hex(out, sizeof out,
                  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}

static void names_of_suites_and_states(void **state)
{
    (void)state;
    assert_string_equal(suite_name(SUITE_AES256_KW), "aes256-kw");
    assert_string_equal(suite_name(SUITE_AES256_GCM), "aes256-gcm");
    assert_int_equal(suite_from_name("aes256-gcm"), SUITE_AES256_GCM);
    assert_int_equal(suite_from_name("aes128-kw"), SUITE_NONE);
    assert_string_equal(suite_name(SUITE_NONE), "unknown");
    assert_string_equal(suite_name((enum suite_id)77), "unknown");
    for (int s = GENERATION_PENDING; s <= GENERATION_DESTROYED; s++)
        assert_int_equal(
            generation_state_from_name(generation_state_name((enum generation_state)s)), s);
    assert_int_equal(generation_state_from_name("alive"), 0);
}

static void labels_and_uris(void **state)
{
    (void)state;
    char label[GENERATION_LABEL_SIZE], uri[TOKEN_URI_SIZE];
    generation_label(system_id, 4294967295U, label);
    assert_string_equal(label, "sso-hsm:000102030405060708090a0b0c0d0e0f:4294967295");
    struct token_identity token = {"sso hsm;a/b", "0123", "SoftHSM project", "Zo\xc3\xab"};
    token_identity_uri(&token, uri);
    assert_string_equal(uri, "pkcs11:token=sso%20hsm%3Ba%2Fb;serial=0123;"
                             "manufacturer=SoftHSM%20project;model=Zo%C3%AB");
    token = (struct token_identity){.serial = "1"};
    token_identity_uri(&token, uri);
    assert_string_equal(uri, "pkcs11:serial=1");
    memset(&token, '%', sizeof token);
    token.token[32] = token.serial[16] = token.manufacturer[32] = token.model[16] = '\0';
    token_identity_uri(&token, uri);
    assert_int_equal(strlen(uri), strlen("pkcs11:token=;serial=;manufacturer=;model=") + 3 * 96);
}

int main(void)
{
    testing_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(row_binding),
        cmocka_unit_test(sealed_row),
        cmocka_unit_test(binding_of_a_sealed_key),
        cmocka_unit_test(tag_of_an_application),
        cmocka_unit_test(tag_of_a_mapping),
        cmocka_unit_test(tag_of_a_setting),
        cmocka_unit_test(tag_of_a_generation),
        cmocka_unit_test(tag_of_a_token_of_a_generation),
        cmocka_unit_test(hash_of_an_audit_record),
        cmocka_unit_test(every_member_of_an_audit_record_counts),
        cmocka_unit_test(hmac_and_hash),
        cmocka_unit_test(names_of_suites_and_states),
        cmocka_unit_test(labels_and_uris),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
