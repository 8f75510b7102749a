/* Rotations that renew row keys and ciphertexts: what a disclosed master secret is still good for
 * afterwards. */
#include "tests/rewrap/installation.h"

#include "common/clock.h"

#define ROWS 1000
#define PAGE 250

/* The row keys that somebody gets who has a copy of the database and a master secret. */
struct disclosed {
    size_t count;
    uint8_t row_id[2 * ROWS][ROW_ID_BYTES];
    uint8_t *key; /* ROW_KEY_BYTES for each */
};

/* Rows as they stand, with ciphertext, by generation and id. */
static size_t read_rows(struct installation *in, struct credential_row *out, size_t room)
{
    const struct scan_options options = {.with_ciphertext = true, .limit = PAGE};
    struct scan_position position = {0};
    size_t total = 0, count;
    STORE_TX_AUTO tx = NULL;
    OK(store_begin(in->store, STORE_READ, &tx, &problem));
    do {
        assert_true(total + PAGE <= room);
        OK(store_credential_scan(tx, &options, &position, out + total, &count, &problem));
        total += count;
    } while (count != 0);
    return total;
}

static struct credential_row *new_rows(void)
{
    struct credential_row *rows = calloc(2 * ROWS + PAGE, sizeof *rows);
    assert_non_null(rows);
    return rows;
}

static void free_rows(struct credential_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        credential_row_free(&rows[i]);
    free(rows);
}

static struct disclosed *disclose(struct installation *in)
{
    struct disclosed *out = calloc(1, sizeof *out);
    struct credential_row *rows = new_rows();
    size_t count = read_rows(in, rows, 2 * ROWS + PAGE);
    out->key = secret_alloc((size_t)2 * ROWS * ROW_KEY_BYTES);
    assert_non_null(out->key);
    assert_true(count <= 2 * ROWS);
    for (size_t i = 0; i < count; i++) {
        struct key_item item = {.generation = rows[i].generation,
                                .wrapped = rows[i].wrapped,
                                .row_key = out->key + i * ROW_KEY_BYTES};
        row_binding_digest(in->policy.system_id, &rows[i], item.binding);
        OK(keyring_unwrap(in->keyring, HSM_LIVE, &item, 1, boot_clock_ms() + 60000, &problem));
        assert_int_equal(item.code, SSO_OK);
        memcpy(out->row_id[i], rows[i].row_id, ROW_ID_BYTES);
    }
    out->count = count;
    free_rows(rows, count);
    return out;
}

static void forget(struct disclosed *disclosed)
{
    secret_dealloc(disclosed->key);
    free(disclosed);
}

static const uint8_t *key_of(const struct disclosed *disclosed, const struct credential_row *row)
{
    for (size_t i = 0; i < disclosed->count; i++)
        if (memcmp(disclosed->row_id[i], row->row_id, ROW_ID_BYTES) == 0)
            return disclosed->key + i * ROW_KEY_BYTES;
    return NULL;
}

/* How many rows, as they stand now, open with what was disclosed. */
static size_t still_open(struct installation *in, const struct disclosed *disclosed)
{
    struct credential_row *rows = new_rows();
    size_t count = read_rows(in, rows, 2 * ROWS + PAGE), opened = 0;
    for (size_t i = 0; i < count; i++) {
        struct credential_fields fields = {0};
        const uint8_t *key = key_of(disclosed, &rows[i]);
        opened +=
            key != NULL && row_open(in->policy.system_id, &rows[i], key, &fields, NULL) == SSO_OK;
        credential_fields_free(&fields);
    }
    free_rows(rows, count);
    return opened;
}

static void set_state(struct installation *in, struct store_tx *tx, struct generation *generation,
                      enum generation_state to)
{
    generation->state = to;
    generation->version++;
    policy_tag_generation(&in->policy, generation);
    OK(store_generation_update(tx, generation, &problem));
}

static void rotate(struct installation *in, uint32_t to, const struct rotation *options)
{
    struct rewrap_job job;
    plan_job(in, &job, to, options);
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.state, ROTATION_COMPLETED);
}

static size_t count_exposed(struct installation *in, uint32_t number, size_t *renewed)
{
    struct exposed_row *list = NULL;
    size_t count = 0;
    STORE_TX_AUTO tx = NULL;
    OK(store_begin(in->store, STORE_READ, &tx, &problem));
    OK(store_exposed_list(tx, number, NULL, 4 * ROWS, &list, &count, &problem));
    *renewed = 0;
    for (size_t i = 0; i < count; i++)
        *renewed += list[i].renewed_ms != 0;
    free(list);
    return count;
}

/* Plain rotation is the control: it leaves the disclosed row keys as good as they were. */
static void renew_all(enum suite_id first, enum suite_id second, enum rotation_verify verify)
{
    struct installation in;
    size_t renewed;
    installation_make(&in, first);
    add_credentials(&in, 0, ROWS);
    struct disclosed *disclosed = disclose(&in);
    assert_int_equal(still_open(&in, disclosed), ROWS);
    rotate(&in, make_generation(&in, second), NULL);
    assert_int_equal(still_open(&in, disclosed), ROWS);

    rotate(&in, make_generation(&in, second),
           &(struct rotation){.reencrypt = true, .verify = verify});
    assert_int_equal(still_open(&in, disclosed), 0);
    check_all_open(&in, 3, ROWS);
    struct credential_row *rows = new_rows();
    size_t count = read_rows(&in, rows, 2 * ROWS + PAGE);
    for (size_t i = 0; i < count; i++)
        assert_true(rows[i].born == 3 && rows[i].generation == 3 && rows[i].version == 1);
    free_rows(rows, count);
    /* Nobody said that a key is known to others. */
    assert_int_equal(count_exposed(&in, 2, &renewed), 0);
    forget(disclosed);
    installation_remove(&in);
}

static void renews_every_row(void **state)
{
    (void)state;
    renew_all(SUITE_AES256_KW, SUITE_AES256_KW, VERIFY_SAMPLE);
}

static void renews_under_gcm_and_verifies_each(void **state)
{
    (void)state;
    renew_all(SUITE_AES256_GCM, SUITE_AES256_GCM, VERIFY_FULL);
}

static void renews_from_one_suite_to_another(void **state)
{
    (void)state;
    renew_all(SUITE_AES256_GCM, SUITE_AES256_KW, VERIFY_FULL);
}

/* Generation 1 becomes known to others when its rows have long been moved to generation 2. */
static void renews_what_a_compromised_generation_opened(void **state)
{
    (void)state;
    struct installation in;
    size_t renewed;
    installation_make(&in, SUITE_AES256_KW);
    add_credentials(&in, 0, ROWS);
    struct disclosed *disclosed = disclose(&in);
    rotate(&in, make_generation(&in, SUITE_AES256_KW), NULL);
    add_credentials(&in, ROWS, ROWS / 2);
    struct disclosed *born_later = disclose(&in);
    mark_compromised(&in, 1);
    assert_int_equal(count_exposed(&in, 1, &renewed), ROWS);
    assert_int_equal(renewed, 0);

    rotate(&in, make_generation(&in, SUITE_AES256_KW), NULL);
    assert_int_equal(still_open(&in, disclosed), 0);
    assert_int_equal(still_open(&in, born_later), ROWS / 2); /* the others were only moved */
    check_all_open(&in, 3, ROWS + ROWS / 2);
    assert_int_equal(count_exposed(&in, 1, &renewed), ROWS);
    assert_int_equal(renewed, ROWS);

    /* What its owner has changed since is his own secret again. */
    write_credential(&in, 7);
    delete_credential(&in, 8);
    assert_int_equal(count_exposed(&in, 1, &renewed), ROWS - 2);
    /* Nothing is left to be renewed: what was, is moved like any other row. */
    struct disclosed *now = disclose(&in);
    rotate(&in, make_generation(&in, SUITE_AES256_KW), NULL);
    assert_int_equal(still_open(&in, now), ROWS + ROWS / 2 - 1);
    assert_int_equal(count_exposed(&in, 1, &renewed), ROWS - 2);
    forget(disclosed);
    forget(born_later);
    forget(now);
    installation_remove(&in);
}

static void quarantines_what_cannot_be_renewed(void **state)
{
    (void)state;
    struct installation in;
    struct rewrap_job job;
    size_t unopened;
    installation_make(&in, SUITE_AES256_KW);
    add_credentials(&in, 0, ROWS);
    damage_credential(&in, 5, DAMAGE_CIPHERTEXT);
    damage_credential(&in, 6, DAMAGE_WRAPPED_KEY);
    plan_job(&in, &job, make_generation(&in, SUITE_AES256_KW),
             &(struct rotation){.reencrypt = true});
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.state, ROTATION_COMPLETED_WITH_ERRORS);
    assert_int_equal(job.rotation.done, ROWS - 2);
    assert_int_equal(job.rotation.failed, 2);
    check_reason(&in, "p5", "the row does not open with it");
    check_reason(&in, "p6", "does not open under generation 1");
    assert_int_equal(open_all(&in, 0, &unopened), ROWS);
    assert_int_equal(unopened, 2);
    installation_remove(&in);
}

static void moves_nothing_to_a_compromised_target(void **state)
{
    (void)state;
    struct installation in;
    struct rewrap_job job;
    struct sso_error err = {0};
    size_t unopened;
    installation_make(&in, SUITE_AES256_KW);
    add_credentials(&in, 0, ROWS);
    plan_job(&in, &job, make_generation(&in, SUITE_AES256_KW), NULL);
    mark_compromised(&in, 2);
    assert_int_equal(rewrap_run(&job, &err), SSO_GENERATION_COMPROMISED);
    assert_int_equal(job.rotation.state, ROTATION_FAILED);
    assert_int_equal(rows_of(&in, 2).credentials + rows_of(&in, 2).sealed_keys, 0);
    rotate(&in, make_generation(&in, SUITE_AES256_KW), NULL);
    check_all_open(&in, 3, ROWS);
    assert_int_equal(open_all(&in, 3, &unopened), ROWS);
    installation_remove(&in);
}

#define UNFINISHED 70 /* more than 64, at which a rotation once broke */

/* Again and again without finishing: every row opens all the time, and all end on the newest. */
static void goes_through_many_generations(void **state)
{
    (void)state;
    struct installation in;
    struct rewrap_job job;
    installation_make(&in, SUITE_AES256_KW);
    for (unsigned n = 0; n < UNFINISHED; n++) {
        add_credentials(&in, n * 3, 3);
        uint32_t to = make_generation(&in, n % 2 == 0 ? SUITE_AES256_GCM : SUITE_AES256_KW);
        plan_job(&in, &job, to, NULL);
        OK(open_without_new_workers(&in, to, &problem));
        struct store_tx *tx = NULL;
        OK(store_begin(in.store, STORE_WRITE, &tx, &problem));
        struct generation target, former;
        OK(store_generation_hold(tx, to - 1, STORE_EXCLUSIVE, &former, &problem));
        OK(store_generation_hold(tx, to, STORE_EXCLUSIVE, &target, &problem));
        set_state(&in, tx, &former, GENERATION_RETIRING);
        set_state(&in, tx, &target, GENERATION_ACTIVE);
        OK(rewrap_cancel(tx, &job.rotation, &problem));
        OK(store_commit(&tx, &problem));
    }
    check_all_open(&in, 0, UNFINISHED * 3);
    uint32_t to = make_generation(&in, SUITE_AES256_KW);
    plan_job(&in, &job, to, NULL);
    assert_non_null(strstr(job.rotation.from, "1,2,3,"));
    assert_non_null(strstr(job.rotation.from, ",69,70"));
    OK(rewrap_run(&job, &problem));
    assert_int_equal(job.rotation.state, ROTATION_COMPLETED);
    check_all_open(&in, to, UNFINISHED * 3);
    struct generation *list = NULL;
    size_t count = list_generations(&in, &list);
    for (size_t i = 0; i + 1 < count; i++)
        assert_int_equal(list[i].state, GENERATION_RETIRED);
    free(list);
    installation_remove(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renews_every_row),
        cmocka_unit_test(renews_under_gcm_and_verifies_each),
        cmocka_unit_test(renews_from_one_suite_to_another),
        cmocka_unit_test(renews_what_a_compromised_generation_opened),
        cmocka_unit_test(quarantines_what_cannot_be_renewed),
        cmocka_unit_test(goes_through_many_generations),
        cmocka_unit_test(moves_nothing_to_a_compromised_target),
    };
    testing_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
