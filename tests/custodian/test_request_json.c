/* What requests say of applications, credentials and rotations, and what they are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/json.h"
#include "common/secret.h"
#include "custodian/application_json.h"
#include "custodian/credential_json.h"
#include "custodian/rotation_status.h"

static json_t *parse(const char *text)
{
    json_t *value = json_parse(text, strlen(text), NULL);
    assert_non_null(value);
    return value;
}

static enum sso_code application_read(const char *text, struct application *out,
                                      struct sso_error *err)
{
    json_t *body = parse(text);
    enum sso_code rc = application_from_json(body, out, err);
    json_decref(body);
    return rc;
}

static void reads_an_application(void **state)
{
    (void)state;
    struct application application;
    assert_int_equal(
        application_read("{\"name\":\"billing\",\"type\":\"individual\",\"contact\":null,"
                         "\"fields\":[{\"label\":\"user\"},{\"label\":\"password\","
                         "\"masked\":true}],\"users\":[\"staff\",\"temps\"],\"readers\":\"svc\"}",
                         &application, NULL),
        SSO_OK);
    assert_string_equal(application.name, "billing");
    assert_false(application.enabled);
    assert_int_equal(application.field_count, 2);
    assert_true(application.field[1].masked);
    assert_string_equal(application.users[1], "temps");
    json_t *shown = application_json(&application);
    assert_string_equal(json_string_value(json_object_get(shown, "readers")), "svc");
    assert_true(json_is_null(json_object_get(shown, "admins")));
    assert_true(json_is_false(json_object_get(shown, "enabled")));
    json_decref(shown);
}

static void refuses_what_is_no_application(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{}",
        "{\"name\":\"a b\",\"type\":\"individual\",\"fields\":[{\"label\":\"x\"}]}",
        "{\"name\":\"a\",\"type\":\"other\",\"fields\":[{\"label\":\"x\"}]}",
        "{\"name\":\"a\",\"type\":\"group\",\"fields\":[]}",
        "{\"name\":\"a\",\"type\":\"group\"}",
        "{\"name\":\"a\",\"type\":\"group\",\"fields\":[{\"label\":\"x\"},{\"label\":\"x\"}]}",
        "{\"name\":\"a\",\"type\":\"group\",\"fields\":[{\"label\":\"\"}]}",
        "{\"name\":\"a\",\"type\":\"group\",\"fields\":[{\"label\":\"x\",\"masked\":1}]}",
        "{\"name\":\"a\",\"type\":\"group\",\"fields\":[{\"label\":\"x\",\"more\":1}]}",
        "{\"name\":\"a\",\"type\":\"group\",\"fields\":[\"x\"]}",
        "{\"name\":\"a\",\"type\":\"group\",\"fields\":[{\"label\":\"x\"}],\"enabled\":true}",
        "{\"name\":\"a\",\"type\":\"group\",\"fields\":[{\"label\":\"x\"}],\"users\":\"all\"}",
        "{\"name\":\"a\",\"type\":\"group\",\"fields\":[{\"label\":\"x\"}],\"users\":[\"\"]}",
        "{\"name\":\"a\",\"type\":\"group\",\"fields\":[{\"label\":\"x\"}],\"admins\":3}",
    };
    struct application application;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct sso_error err = {0};
        assert_int_equal(application_read(bad[i], &application, &err), SSO_BAD_REQUEST);
        assert_string_not_equal(err.detail, "");
    }
}

static void changes_only_what_may_change(void **state)
{
    (void)state;
    struct application application = {.name = "a", .user_group_count = 2};
    strcpy(application.users[0], "one");
    strcpy(application.users[1], "two");
    json_t *body = parse("{\"enabled\":true,\"users\":[\"three\"],\"contact\":\"ops\"}");
    assert_int_equal(application_change_from_json(body, &application, NULL), SSO_OK);
    json_decref(body);
    assert_true(application.enabled);
    assert_int_equal(application.user_group_count, 1);
    assert_string_equal(application.users[0], "three");
    assert_string_equal(application.users[1], "");
    assert_string_equal(application.contact, "ops");
    body = parse("{\"fields\":[]}");
    assert_int_equal(application_change_from_json(body, &application, NULL), SSO_BAD_REQUEST);
    json_decref(body);
}

static struct application two_fields(void)
{
    struct application application = {.name = "billing", .field_count = 2};
    strcpy(application.field[0].label, "user");
    strcpy(application.field[1].label, "password");
    return application;
}

static void reads_a_credential(void **state)
{
    (void)state;
    struct application application = two_fields();
    struct credential_input input;
    struct credential_fields fields;
    json_t *body =
        parse("{\"external_user\":\"E1\",\"fields\":{\"password\":\"\",\"user\":\"u\"}}");
    assert_int_equal(credential_input_read(body, &application, &input, NULL), SSO_OK);
    assert_string_equal(input.external_user, "E1");
    credential_input_fields(&input, &application, &fields);
    assert_int_equal(fields.count, 2);
    assert_memory_equal(fields.field[0].label, "user", 4);
    assert_memory_equal(fields.field[0].value, "u", 1);
    assert_int_equal(fields.field[1].value_bytes, 0);
    json_decref(body);
}

static void names_the_field_and_never_a_value(void **state)
{
    (void)state;
    static const struct {
        const char *text, *named;
    } bad[] = {
        {"{\"fields\":{\"user\":\"S3CRET\"}}", "password"},
        {"{\"fields\":{\"user\":\"S3CRET\",\"password\":7}}", "password"},
        {"{\"fields\":{\"user\":\"S3CRET\",\"password\":null}}", "password"},
        {"{\"fields\":{\"user\":\"S3CRET\",\"password\":\"S3CRET\",\"pin\":\"S3CRET\"}}", "pin"},
        {"{\"fields\":\"S3CRET\"}", "fields"},
        {"{\"external_user\":5,\"fields\":{\"user\":\"a\",\"password\":\"b\"}}", "external_user"},
        {"{}", "fields"},
    };
    struct application application = two_fields();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct credential_input input;
        struct sso_error err = {0};
        json_t *body = parse(bad[i].text);
        assert_int_equal(credential_input_read(body, &application, &input, &err), SSO_BAD_REQUEST);
        assert_non_null(strstr(err.detail, bad[i].named));
        assert_null(strstr(err.detail, "S3CRET"));
        json_decref(body);
    }
}

static void value_length_is_bounded(void **state)
{
    (void)state;
    struct application application = two_fields();
    struct credential_input input;
    char *value = malloc(FIELD_VALUE_BYTES_MAX + 1);
    assert_non_null(value);
    memset(value, 'x', FIELD_VALUE_BYTES_MAX + 1);
    for (size_t extra = 0; extra < 2; extra++) {
        json_t *body = json_pack("{s:{s:s,s:s%}}", "fields", "user", "u", "password", value,
                                 (size_t)FIELD_VALUE_BYTES_MAX + extra);
        assert_int_equal(credential_input_read(body, &application, &input, NULL),
                         extra == 0 ? SSO_OK : SSO_BAD_REQUEST);
        json_decref(body);
    }
    free(value);
}

static void credential_has_its_members(void **state)
{
    (void)state;
    struct credential_row row = {.generation = 3, .version = 7, .principal = "alice"};
    struct credential_fields fields = {.count = 1};
    fields.field[0] = (struct credential_field){"password", "p\xc3\xa9", 8, 3};
    json_t *object = credential_json("billing", &row, &fields);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(object, "fields"), "password")),
        "p\xc3\xa9");
    assert_int_equal(json_integer_value(json_object_get(object, "version")), 7);
    assert_true(json_is_null(json_object_get(object, "external_user")));
    json_decref(object);
    object = credential_json("billing", &row, NULL);
    assert_null(json_object_get(object, "fields"));
    json_decref(object);
}

static long number_of(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    assert_true(json_is_integer(value));
    return (long)json_integer_value(value);
}

static void rotation_has_all_members(void **state)
{
    (void)state;
    static const char *const members[] = {"id",      "state",           "phase",       "from",
                                          "to",      "total",           "done",        "skipped",
                                          "failed",  "rows_per_second", "eta_seconds", "rate",
                                          "dry_run", "reencrypt",       "started",     "finished",
                                          "error"};
    struct rotation rotation = {.id = 2,
                                .state = ROTATION_RUNNING,
                                .phase = PHASE_STREAM,
                                .to = 4,
                                .from = "1,3",
                                .total = 1000,
                                .done = 390,
                                .skipped = 10,
                                .started_ms = 1000};
    json_t *running = rotation_json(&rotation, 100);
    json_t *none = rotation_json(NULL, 0);
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        assert_non_null(json_object_get(running, members[i]));
        assert_non_null(json_object_get(none, members[i]));
    }
    assert_string_equal(json_string_value(json_object_get(none, "state")), "none");
    assert_int_equal(number_of(running, "eta_seconds"), 6);
    assert_int_equal(json_array_size(json_object_get(running, "from")), 2);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(running, "from"), 1)), 3);
    assert_true(json_is_null(json_object_get(running, "error")));
    json_decref(running);
    json_decref(none);
    rotation.state = ROTATION_COMPLETED;
    rotation.finished_ms = 3000;
    json_t *ended = rotation_json(&rotation, 0);
    assert_int_equal(number_of(ended, "rows_per_second"), 195);
    assert_int_equal(number_of(ended, "eta_seconds"), 0);
    json_decref(ended);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_an_application),
        cmocka_unit_test(refuses_what_is_no_application),
        cmocka_unit_test(changes_only_what_may_change),
        cmocka_unit_test(reads_a_credential),
        cmocka_unit_test(names_the_field_and_never_a_value),
        cmocka_unit_test(value_length_is_bounded),
        cmocka_unit_test(credential_has_its_members),
        cmocka_unit_test(rotation_has_all_members),
    };
    wiping_allocator_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
