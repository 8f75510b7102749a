/* A pool over the faulty token, rows to work on, and callers that do not stop. */
#ifndef SSO_TESTS_PKCS11_RIG_H
#define SSO_TESTS_PKCS11_RIG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tokens.h"

#define RIG_ROWS_MAX 512

struct rig {
    struct test_token token;
    struct spawner *spawner;
    struct hsm *hsm;
    struct generation_key key[4]; /* 1: aes256-kw, 2: aes256-gcm, 3: aes256-kw */
    struct key_item row[RIG_ROWS_MAX];
    uint8_t *plain; /* what each row opens to, locked */
    size_t rows;
};

/* A new rig for each test, in the program's `rig`. */
#define RIG_TEST(name) cmocka_unit_test_prestate_setup_teardown(name, rig_setup, rig_teardown, &rig)
int rig_setup(void **state);
int rig_teardown(void **state);
/* First thing in main: 0, or what it must return (77: there is no SoftHSM). */
int rig_prepare(void);

/* Everything below ends the test with a message where it does not succeed. */
void rig_new(struct rig *rig);
void rig_free(struct rig *rig);
/* With the section of rig->token as it is now. */
void rig_open(struct rig *rig);
void rig_close(struct rig *rig);
/* Makes the generations and so many rows, turn by turn under 1 and 2. */
void rig_fill(struct rig *rig, size_t rows);

/* One call over all rows: SSO_OK, or what the pool said. Items that are done change their row. */
enum sso_code rig_rewrap(struct rig *rig, uint32_t to, struct sso_error *err);
/* Opens all rows. SSO_ROW_CORRUPT: one does not open, or to something else than it should. */
enum sso_code rig_check(struct rig *rig, struct sso_error *err);
/* Until the pool does it again; returns after how many ms. */
int64_t rig_await_service(struct rig *rig);

struct rig_load {
    struct rig *rig;
    size_t callers;
    int64_t deadline_ms; /* of each call */
    pthread_t thread[64];
    _Atomic bool stop;
    _Atomic unsigned long done, failed;
    struct sso_error err;
};

/* Callers that open and check the rows, one row in each call. */
void rig_load_start(struct rig_load *load);
void rig_load_until(struct rig_load *load, unsigned long more);
void rig_load_stop(struct rig_load *load);

int64_t rig_soon(void);
/* Polls until it is true. */
#define RIG_WAIT(condition)                                                                        \
    for (int64_t rig_until = rig_soon(); !(condition); usleep(2000))                               \
    assert_true(boot_clock_ms() < rig_until)

#endif
