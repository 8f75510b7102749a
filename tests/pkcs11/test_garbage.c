/* Nonsense between a pool and its workers: a pool that reads it replaces the worker and does the
 * work again; a worker that reads it ends itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/rand.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "pkcs11/frame.h"
#include "rig.h"

static struct rig rig;

/* ---- from the worker ---- */

static void make_noise(const char *how)
{
    char fresh[128], path[128];
    snprintf(fresh, sizeof fresh, "%s/faulty/noise.new", rig.token.folder);
    snprintf(path, sizeof path, "%s/faulty/noise", rig.token.folder);
    FILE *file = fopen(fresh, "w");
    assert_true(file != NULL && fputs(how, file) >= 0 && fclose(file) == 0);
    assert_int_equal(rename(fresh, path), 0);
}

static bool noise_was_made(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/faulty/noise", rig.token.folder);
    return access(path, F_OK) != 0;
}

static void test_garbage_from_a_worker(void **state)
{
    static const char *const noises[] = {"random", "length", "id", "cut", "code", "longer"};
    struct sso_error err = {0};
    struct hsm_status before, after;
    (void)state;
    char *real = strdup(getenv("SSO_HSM_WORKER")), *environment = NULL;
    assert_true(asprintf(&environment, "%s,NOISY_WORKER=%s", rig.token.section.environment, real) >
                0);
    free(rig.token.section.environment);
    rig.token.section.environment = environment;
    setenv("SSO_HSM_WORKER", getenv("NOISY_WORKER"), 1);
    rig_open(&rig);
    setenv("SSO_HSM_WORKER", real, 1);
    rig_fill(&rig, 50);
    for (size_t i = 0; i < sizeof noises / sizeof *noises; i++) {
        /* Both: one that only just starts would be a start that failed. */
        RIG_WAIT((hsm_status(rig.hsm, &before), before.workers_ready == 2));
        make_noise(noises[i]);
        do
            assert_int_equal(rig_rewrap(&rig, i % 2 == 0 ? 3 : 1, &err), SSO_OK);
        while (!noise_was_made());
        assert_int_equal(rig_check(&rig, &err), SSO_OK);
        RIG_WAIT((hsm_status(rig.hsm, &after), after.workers_replaced > before.workers_replaced));
    }
    print_message("%zu kinds of nonsense, each cost a worker and no row\n",
                  sizeof noises / sizeof *noises);
    free(real);
}

/* ---- to the worker ---- */

struct talk {
    int socket;
    pid_t pid;
    struct frame_reader reader;
    uint8_t room[FRAME_BYTES_MAX];
    struct encoder out;
};

static void greet(struct talk *talk)
{
    struct sso_error err = {0};
    struct decoder reply;
    *talk = (struct talk){.reader.buffer = malloc(FRAME_BYTES_MAX)};
    talk->out =
        (struct encoder){.data = talk->room, .capacity_bytes = FRAME_BYTES_MAX, .fixed = true};
    assert_int_equal(spawner_spawn(rig.spawner, "", 1, &talk->socket, &talk->pid, &err), SSO_OK);
    while (!frame_next(&talk->reader, &reply))
        assert_int_equal(frame_fill(&talk->reader, talk->socket, 0), 1);
}

/* It says no more, and its end of the socket is closed: it has ended. Answers before that are read
 * past. */
static void assert_ends(struct talk *talk)
{
    uint8_t bytes[4096];
    for (int64_t until = rig_soon();;) {
        struct pollfd ready = {.fd = talk->socket, .events = POLLIN};
        assert_true(boot_clock_ms() < until);
        if (poll(&ready, 1, 1000) == 1 && recv(talk->socket, bytes, sizeof bytes, 0) <= 0)
            break;
    }
    close(talk->socket);
    free(talk->reader.buffer);
}

static void log_in(struct talk *talk)
{
    struct decoder reply;
    struct reply_header header;
    frame_begin_request(&talk->out, 1, FRAME_LOGIN);
    encode_u32(&talk->out, 1);
    assert_int_equal(frame_finish(&talk->out, NULL), SSO_OK);
    assert_true(frame_send(talk->socket, &talk->out, rig_soon()));
    while (!frame_next(&talk->reader, &reply))
        assert_int_equal(frame_fill(&talk->reader, talk->socket, 0), 1);
    assert_true(frame_get_reply_header(&reply, &header));
    assert_int_equal(header.code, SSO_OK);
}

static void say(struct talk *talk, const void *bytes, size_t count)
{
    assert_int_equal(send(talk->socket, bytes, count, MSG_NOSIGNAL), (ssize_t)count);
}

static void test_garbage_to_a_worker(void **state)
{
    static const uint8_t absurd[] = {0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1};
    static const uint8_t empty[] = {0, 0, 0, 0};
    static const uint8_t unknown[] = {0, 0, 0, 5, 0, 0, 0, 9, 0xee};
    static const uint8_t half[] = {0, 0, 1, 0, 0, 0, 0, 9, FRAME_REWRAP};
    const struct {
        const void *bytes;
        size_t count;
        bool ends; /* nothing more comes: half a frame is told by nothing else */
    } said[] = {{absurd, sizeof absurd, false},
                {empty, sizeof empty, false},
                {unknown, sizeof unknown, false},
                {half, sizeof half, true}};
    struct talk talk;
    unsigned cases = 0;
    (void)state;
    assert_true(test_token_spawner(&rig.token, &rig.spawner));
    for (int logged_in = 0; logged_in < 2; logged_in++) {
        for (size_t i = 0; i < sizeof said / sizeof *said; i++, cases++) {
            greet(&talk);
            if (logged_in)
                log_in(&talk);
            say(&talk, said[i].bytes, said[i].count);
            if (said[i].ends)
                shutdown(talk.socket, SHUT_WR);
            assert_ends(&talk);
        }
        for (int round = 0; round < 5; round++, cases++) {
            uint8_t noise[512];
            assert_int_equal(RAND_bytes(noise, sizeof noise), 1);
            noise[0] |= 0x40; /* no frame is as long as that */
            greet(&talk);
            if (logged_in)
                log_in(&talk);
            say(&talk, noise, sizeof noise);
            assert_ends(&talk); /* without being told that nothing more comes */
        }
    }
    print_message("%u times nonsense: every worker ended\n", cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(test_garbage_from_a_worker),
        RIG_TEST(test_garbage_to_a_worker),
    };
    int rc = rig_prepare();
    return rc != 0 ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
