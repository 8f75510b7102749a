#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"

int rig_setup(void **state)
{
    rig_new(*state);
    return 0;
}

int rig_teardown(void **state)
{
    rig_free(*state);
    return 0;
}

int rig_prepare(void)
{
    struct sso_error err = {0};
    wiping_allocator_install();
    if (secret_memory_init((size_t)8 << 20, &err) != SSO_OK) {
        fprintf(stderr, "%s\n", err.detail);
        return 1;
    }
    return access("/usr/lib/softhsm/libsofthsm2.so", R_OK) == 0 ? 0 : 77;
}

int64_t rig_soon(void)
{
    return boot_clock_ms() + 120000;
}

static void must(enum sso_code code, const struct sso_error *err)
{
    if (code != SSO_OK)
        print_error("%s: %s\n", sso_code_facts(code)->name, err->detail);
    assert_int_equal(code, SSO_OK);
}

void rig_new(struct rig *rig)
{
    static const char *const labels[] = {"first", NULL};
    *rig = (struct rig){0};
    assert_true(test_token_new(&rig->token, TOKEN_SOFTHSM, labels));
    test_token_make_faulty(&rig->token);
    rig->plain = secret_alloc((size_t)RIG_ROWS_MAX * ROW_KEY_BYTES);
    assert_non_null(rig->plain);
}

void rig_free(struct rig *rig)
{
    rig_close(rig);
    secret_dealloc(rig->plain);
    test_token_free(&rig->token);
}

void rig_open(struct rig *rig)
{
    struct sso_error err = {0};
    assert_true(test_token_spawner(&rig->token, &rig->spawner));
    must(hsm_open(&rig->token.section, rig->token.state, rig->spawner, true, &rig->hsm, &err),
         &err);
    hsm_await_start(rig->hsm);
}

void rig_close(struct rig *rig)
{
    hsm_close(&rig->hsm);
    spawner_stop(&rig->spawner);
}

void rig_fill(struct rig *rig, size_t rows)
{
    struct sso_error err = {0};
    struct evidence evidence;
    for (uint32_t n = 1; n <= 3; n++) {
        rig->key[n] = (struct generation_key){.number = n,
                                              .suite = n == 2 ? SUITE_AES256_GCM : SUITE_AES256_KW};
        must(hsm_generate(rig->hsm, &rig->key[n], &evidence, &err), &err);
        must(hsm_open_generation(rig->hsm, &rig->key[n], false, &err), &err);
    }
    rig->rows = rows;
    for (size_t i = 0; i < rows; i++) {
        rig->row[i].generation = 1 + i % 2;
        rig->row[i].binding[0] = (uint8_t)i;
        rig->row[i].row_key = rig->plain + i * ROW_KEY_BYTES;
    }
    must(hsm_make(rig->hsm, HSM_LIVE, rig->row, rows, rig_soon(), &err), &err);
    for (size_t i = 0; i < rows; i++) {
        assert_int_equal(rig->row[i].code, SSO_OK);
        rig->row[i].row_key = NULL;
    }
}

enum sso_code rig_rewrap(struct rig *rig, uint32_t to, struct sso_error *err)
{
    struct key_item items[RIG_ROWS_MAX];
    memcpy(items, rig->row, rig->rows * sizeof *items);
    enum sso_code code = hsm_rewrap(rig->hsm, HSM_BULK, to, items, rig->rows, rig_soon(), err);
    for (size_t i = 0; code == SSO_OK && i < rig->rows; i++) {
        if (items[i].code != SSO_OK)
            return sso_fail(err, items[i].code, "row %zu is refused", i);
        rig->row[i].wrapped = items[i].wrapped;
        rig->row[i].generation = to;
    }
    return code;
}

/* `keys` has room for a key of each row. */
static enum sso_code check_rows(struct rig *rig, size_t first, size_t count, uint8_t *keys,
                                int64_t deadline_ms, struct sso_error *err)
{
    struct key_item items[RIG_ROWS_MAX];
    memcpy(items, rig->row + first, count * sizeof *items);
    for (size_t i = 0; i < count; i++)
        items[i].row_key = keys + i * ROW_KEY_BYTES;
    enum sso_code code = hsm_unwrap(rig->hsm, HSM_LIVE, items, count, deadline_ms, err);
    for (size_t i = 0; code == SSO_OK && i < count; i++) {
        if (items[i].code != SSO_OK)
            return sso_fail(err, items[i].code, "row %zu does not open", first + i);
        if (memcmp(items[i].row_key, rig->plain + (first + i) * ROW_KEY_BYTES, ROW_KEY_BYTES) != 0)
            return sso_fail(err, SSO_ROW_CORRUPT, "row %zu opens to another key", first + i);
    }
    return code;
}

enum sso_code rig_check(struct rig *rig, struct sso_error *err)
{
    uint8_t *keys = secret_alloc(rig->rows * ROW_KEY_BYTES);
    assert_non_null(keys);
    enum sso_code code = check_rows(rig, 0, rig->rows, keys, rig_soon(), err);
    secret_dealloc(keys);
    return code;
}

int64_t rig_await_service(struct rig *rig)
{
    struct sso_error err = {0};
    int64_t began = boot_clock_ms(), until = rig_soon();
    while (rig_check(rig, &err) != SSO_OK) {
        if (boot_clock_ms() > until)
            print_error("%s\n", err.detail);
        assert_true(boot_clock_ms() < until);
        usleep(1000);
    }
    return boot_clock_ms() - began;
}

static void *load_main(void *arg)
{
    struct rig_load *load = arg;
    struct rig *rig = load->rig;
    uint8_t *key = secret_alloc(ROW_KEY_BYTES);
    for (size_t turn = 0; !atomic_load(&load->stop); turn++) {
        struct sso_error err = {0};
        size_t row = (turn * 7 + (size_t)pthread_self() / 64) % rig->rows;
        if (check_rows(rig, row, 1, key, boot_clock_ms() + load->deadline_ms, &err) != SSO_OK) {
            atomic_fetch_add(&load->failed, 1);
            load->err = err;
        }
        atomic_fetch_add(&load->done, 1);
    }
    secret_dealloc(key);
    return NULL;
}

void rig_load_start(struct rig_load *load)
{
    for (size_t i = 0; i < load->callers; i++)
        assert_int_equal(pthread_create(&load->thread[i], NULL, load_main, load), 0);
}

void rig_load_until(struct rig_load *load, unsigned long more)
{
    unsigned long wanted = atomic_load(&load->done) + more;
    RIG_WAIT(atomic_load(&load->done) >= wanted);
}

void rig_load_stop(struct rig_load *load)
{
    atomic_store(&load->stop, true);
    for (size_t i = 0; i < load->callers; i++)
        pthread_join(load->thread[i], NULL);
    if (load->failed > 0)
        print_error("%lu of %lu failed: %s\n", load->failed, load->done, load->err.detail);
}
