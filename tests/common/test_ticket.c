/* Tickets: they come back as they were, and not otherwise. */
#include "tests/common/testing.h"

#include "common/encode.h"
#include "common/secret.h"
#include "common/ticket.h"

static const uint8_t system_id[SYSTEM_ID_BYTES] = {1}, other_id[SYSTEM_ID_BYTES] = {2};
static const uint8_t key_id[SEALED_KEY_ID_BYTES] = {3};
static const uint8_t key[ROW_KEY_BYTES] = {4}, other_key[ROW_KEY_BYTES] = {5};

static struct ticket_claims sample(size_t principal_bytes)
{
    struct ticket_claims claims = {.id = {9},
                                   .uid = 4000000000u,
                                   .name = "alice",
                                   .issued_ms = 1700000000000,
                                   .expires_ms = 1700000120000,
                                   .validated = true};
    memset(claims.principal, 'p', principal_bytes);
    return claims;
}

static void comes_back_as_it_was(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes <= PRINCIPAL_BYTES_MAX; bytes++) {
        struct ticket_claims claims = sample(bytes), back;
        char text[TICKET_TEXT_SIZE];
        uint8_t named[SEALED_KEY_ID_BYTES];
        memset(claims.name, 'n', bytes);
        assert_int_equal(ticket_seal(system_id, key_id, key, &claims, text, NULL), SSO_OK);
        assert_int_equal(strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                      "0123456789-_"),
                         strlen(text));
        assert_int_equal(ticket_key_id(system_id, text, named, NULL), SSO_OK);
        assert_memory_equal(named, key_id, sizeof named);
        assert_int_equal(ticket_open(system_id, key, text, &back, NULL), SSO_OK);
        assert_memory_equal(back.id, claims.id, sizeof back.id);
        assert_string_equal(back.principal, claims.principal);
        assert_string_equal(back.name, claims.name);
        assert_true(back.uid == claims.uid && back.validated);
        assert_true(back.issued_ms == claims.issued_ms && back.expires_ms == claims.expires_ms);
    }
}

static void each_wrong_one_has_its_code(void **state)
{
    (void)state;
    struct ticket_claims claims = sample(5), back;
    char text[TICKET_TEXT_SIZE];
    assert_int_equal(ticket_seal(system_id, key_id, key, &claims, text, NULL), SSO_OK);
    assert_int_equal(ticket_open(other_id, key, text, &back, NULL), SSO_TICKET_OF_OTHER_SYSTEM);
    assert_int_equal(ticket_open(system_id, other_key, text, &back, NULL), SSO_TICKET_FORGED);
    static const char *const none[] = {"", "A", "AQ", "not a ticket", "====", "\xff\xff"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_int_equal(ticket_open(system_id, key, none[i], &back, NULL), SSO_TICKET_INVALID);
    char longer[3000];
    memset(longer, 'A', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(ticket_open(system_id, key, longer, &back, NULL), SSO_TICKET_INVALID);
}

static void no_changed_character_is_taken(void **state)
{
    (void)state;
    struct ticket_claims claims = sample(5), back;
    char text[TICKET_TEXT_SIZE];
    assert_int_equal(ticket_seal(system_id, key_id, key, &claims, text, NULL), SSO_OK);
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++) {
        char kept = text[i];
        for (int other = 0; other < 3; other++) {
            text[i] = "Ax_"[other];
            if (text[i] == kept)
                continue;
            enum sso_code rc = ticket_open(system_id, key, text, &back, NULL);
            assert_true(rc == SSO_TICKET_INVALID || rc == SSO_TICKET_FORGED ||
                        rc == SSO_TICKET_OF_OTHER_SYSTEM);
        }
        text[i] = kept;
    }
    for (size_t cut = 1; cut < length; cut++) {
        char kept = text[length - cut];
        text[length - cut] = '\0';
        assert_int_not_equal(ticket_open(system_id, key, text, &back, NULL), SSO_OK);
        text[length - cut] = kept;
    }
    assert_int_equal(ticket_open(system_id, key, text, &back, NULL), SSO_OK);
}

static void no_two_are_alike(void **state)
{
    (void)state;
    struct ticket_claims claims = sample(5);
    char one[TICKET_TEXT_SIZE], two[TICKET_TEXT_SIZE];
    assert_int_equal(ticket_seal(system_id, key_id, key, &claims, one, NULL), SSO_OK);
    assert_int_equal(ticket_seal(system_id, key_id, key, &claims, two, NULL), SSO_OK);
    assert_string_not_equal(one, two);
}

int main(void)
{
    wiping_allocator_install();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back_as_it_was),
        cmocka_unit_test(each_wrong_one_has_its_code),
        cmocka_unit_test(no_changed_character_is_taken),
        cmocka_unit_test(no_two_are_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
