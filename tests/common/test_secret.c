#include "tests/common/testing.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARK 0xa7

static size_t dirty_blocks_freed;

/* Linked with --wrap=free: sees every block that secret.c gives back. */
void __real_free(void *memory);
void __wrap_free(void *memory);
void __wrap_free(void *memory)
{
    const uint8_t *bytes = memory;
    for (size_t i = 0; memory != NULL && i < malloc_usable_size(memory); i++)
        if (bytes[i] != 0) {
            dirty_blocks_freed++;
            break;
        }
    __real_free(memory);
}

static size_t marks(const uint8_t *bytes, size_t count)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        found += bytes[i] == MARK;
    return found;
}

static void plain_blocks_are_wiped_to_their_real_end(void **state)
{
    (void)state;
    dirty_blocks_freed = 0;
    for (size_t size = 0; size < 300; size += 7) {
        uint8_t *block = wiping_malloc(size);
        assert_non_null(block);
        memset(block, MARK, size);
        wiping_free(block);
    }
    wiping_free(NULL);
    assert_int_equal(dirty_blocks_freed, 0);
}

static void growth_keeps_the_content_and_wipes_the_old_place(void **state)
{
    (void)state;
    dirty_blocks_freed = 0;
    uint8_t *block = NULL;
    for (size_t size = 1; size < 10000; size = size * 3 + 1) {
        uint8_t *grown = wiping_realloc(block, size);
        assert_non_null(grown);
        assert_int_equal(marks(grown, size / 3), size / 3);
        memset(grown, MARK, size);
        block = grown;
    }
    block = wiping_realloc(block, 10);
    assert_int_equal(marks(block, 10), 10);
    wiping_free(block);
    char *copy = wiping_strdup("text");
    assert_string_equal(copy, "text");
    wiping_free(copy);
    assert_int_equal(dirty_blocks_freed, 0);
}

static void calloc_is_zero_and_refuses_overflow(void **state)
{
    (void)state;
    uint8_t *block = wiping_calloc(17, 3);
    for (size_t i = 0; i < 51; i++)
        assert_int_equal(block[i], 0);
    wiping_free(block);
    volatile size_t huge = SIZE_MAX / 2;
    assert_null(wiping_calloc(huge, 3));
}

static void a_secret_lives_in_the_locked_heap(void **state)
{
    (void)state;
    SECRET_AUTO secret = {0};
    struct sso_error err;
    assert_int_equal(secret_append(&secret, NULL, 0, &err), SSO_OK);
    assert_int_equal(secret_append(&secret, "pin", 3, &err), SSO_OK);
    assert_int_equal(secret_append(&secret, "1234", 4, &err), SSO_OK);
    assert_int_equal(secret.length_bytes, 7);
    assert_memory_equal(secret.data, "pin1234", 7);
    assert_true(CRYPTO_secure_allocated(secret.data));
}

/* The old place stays mapped, so that it can be looked at. */
static void a_growing_secret_wipes_its_old_place(void **state)
{
    (void)state;
    struct secret secret = {0};
    uint8_t bytes[64];
    memset(bytes, MARK, sizeof bytes);
    assert_int_equal(secret_append(&secret, bytes, sizeof bytes, NULL), SSO_OK);
    const uint8_t *old = secret.data;
    size_t old_bytes = secret.capacity_bytes;
    assert_int_equal(marks(old, old_bytes), sizeof bytes);
    assert_int_equal(secret_reserve(&secret, old_bytes + 1, NULL), SSO_OK);
    assert_ptr_not_equal(secret.data, old);
    assert_int_equal(marks(old, old_bytes), 0);
    assert_int_equal(marks(secret.data, secret.length_bytes), sizeof bytes);

    secret_clear(&secret);
    assert_int_equal(secret.length_bytes, 0);
    assert_int_equal(marks(secret.data, secret.capacity_bytes), 0);
    assert_int_equal(secret_append(&secret, bytes, sizeof bytes, NULL), SSO_OK);
    old = secret.data;
    secret_free(&secret);
    assert_int_equal(marks(old, sizeof bytes), 0);
    assert_null(secret.data);
    secret_free(&secret);
}

static void a_used_up_heap_changes_nothing(void **state)
{
    (void)state;
    SECRET_AUTO secret = {0};
    struct sso_error err = {0};
    assert_int_equal(secret_append(&secret, "abc", 3, &err), SSO_OK);
    check_failure(secret_reserve(&secret, SIZE_MAX / 4, &err), SSO_NO_MEMORY, &err,
                  "RLIMIT_MEMLOCK");
    assert_int_equal(secret.length_bytes, 3);
    assert_memory_equal(secret.data, "abc", 3);
    assert_null(secret_alloc(SIZE_MAX / 4));
    assert_null(secret_alloc(SIZE_MAX));
}

/* AddressSanitizer takes the place of mlock(2) and does nothing. */
#ifdef __SANITIZE_ADDRESS__
#define MLOCK_LOCKS false
#else
#define MLOCK_LOCKS true
#endif

/* Of this process, from /proc/self/status. */
static size_t locked_bytes(void)
{
    char line[128];
    size_t kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    assert_non_null(status);
    while (fgets(line, sizeof line, status) != NULL)
        (void)sscanf(line, "VmLck: %zu", &kib);
    fclose(status);
    return kib * 1024;
}

static void large_pieces_take_their_own_size_beside_the_heap(void **state)
{
    (void)state;
    const size_t bytes = 2 * TEST_HEAP_BYTES + 4096 + 1;
    SECRET_AUTO secret = {0};
    struct sso_error err;
    size_t before = locked_bytes();
    assert_int_equal(secret_append(&secret, "abc", 3, &err), SSO_OK);
    assert_int_equal(secret_reserve(&secret, bytes, &err), SSO_OK);
    assert_memory_equal(secret.data, "abc", 3);
    assert_in_range(secret.capacity_bytes, bytes, bytes + 8192);
    if (MLOCK_LOCKS)
        assert_in_range(locked_bytes() - before, bytes, bytes + 8192);
    memset(secret.data, MARK, secret.capacity_bytes);
    assert_int_equal(secret_reserve(&secret, 2 * bytes, &err), SSO_OK);
    assert_int_equal(marks(secret.data, 3), 3);
    uint8_t *array = secret_alloc(bytes);
    assert_non_null(array);
    for (size_t i = 0; i < bytes; i++)
        assert_int_equal(array[i], 0);
    secret_dealloc(array);
    secret_free(&secret);
    assert_int_equal(locked_bytes(), before);
}

static void arrays_are_zeroed_and_wiped(void **state)
{
    (void)state;
    uint8_t *keys = secret_alloc(10 * ROW_KEY_BYTES);
    assert_non_null(keys);
    for (size_t i = 0; i < 10 * ROW_KEY_BYTES; i++)
        assert_int_equal(keys[i], 0);
    memset(keys, MARK, 10 * ROW_KEY_BYTES);
    secret_dealloc(keys);
    assert_int_equal(marks(keys, 10 * ROW_KEY_BYTES), 0);
    secret_dealloc(NULL);
}

static void the_process_leaves_no_core(void **state)
{
    (void)state;
    struct rlimit limit;
    assert_int_equal(prctl(PR_GET_DUMPABLE), 0);
    assert_int_equal(getrlimit(RLIMIT_CORE, &limit), 0);
    assert_int_equal(limit.rlim_max, 0);
    assert_int_equal(secret_memory_init(TEST_HEAP_BYTES, NULL), SSO_INTERNAL); /* once only */
}

/* As a person without CAP_IPC_LOCK, in a process that has no such heap yet. */
static void a_low_memlock_limit_is_named(void)
{
    struct sso_error err = {0};
    const struct rlimit low = {65536, 65536};
    if (setrlimit(RLIMIT_MEMLOCK, &low) != 0 || (geteuid() == 0 && setresuid(1, 1, 1) != 0))
        _exit(77);
    enum sso_code rc = secret_memory_init(TEST_HEAP_BYTES, &err);
    bool named = rc == SSO_CONFIG_ERROR && strstr(err.detail, "RLIMIT_MEMLOCK is 64 KiB") != NULL &&
                 strstr(err.detail, "1024") != NULL;
    /* And a smaller one can be had after that. */
    _exit(named && secret_memory_init(32768, &err) == SSO_OK ? 0 : 1);
}

/* The largest credential, once encoded and once more, beside the heap, under the limit that most
 * systems have; a third does not fit, and nothing is taken from anywhere else. */
static void a_large_piece_fits_8_mib(void)
{
    const struct rlimit usual = {8 << 20, 8 << 20};
    const size_t largest = (size_t)32 * (65536 + 64 + 8) + 128;
    if (setrlimit(RLIMIT_MEMLOCK, &usual) != 0 || (geteuid() == 0 && setresuid(1, 1, 1) != 0))
        _exit(77);
    if (secret_memory_init(2 << 20, NULL) != SSO_OK)
        _exit(2);
    uint8_t *one = secret_alloc(largest), *two = secret_alloc(largest);
    if (one == NULL || two == NULL || secret_alloc(largest) != NULL)
        _exit(3);
    secret_dealloc(one);
    one = secret_alloc(largest);
    secret_dealloc(two);
    secret_dealloc(one);
    _exit(one != NULL ? 0 : 4);
}

static int in_child(void (*test)(void))
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        test();
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int memlock_status, large_status;

static void large_pieces_under_the_usual_limit(void **state)
{
    (void)state;
    if (large_status == 77 || !MLOCK_LOCKS)
        skip();
    assert_int_equal(large_status, 0);
}

static void memlock_refusal(void **state)
{
    (void)state;
    if (memlock_status == 77)
        skip();
    assert_int_equal(memlock_status, 0);
}

int main(void)
{
    wiping_allocator_install();
    memlock_status = in_child(a_low_memlock_limit_is_named);
    large_status = in_child(a_large_piece_fits_8_mib);

    testing_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_blocks_are_wiped_to_their_real_end),
        cmocka_unit_test(growth_keeps_the_content_and_wipes_the_old_place),
        cmocka_unit_test(calloc_is_zero_and_refuses_overflow),
        cmocka_unit_test(a_secret_lives_in_the_locked_heap),
        cmocka_unit_test(a_growing_secret_wipes_its_old_place),
        cmocka_unit_test(a_used_up_heap_changes_nothing),
        cmocka_unit_test(arrays_are_zeroed_and_wiped),
        cmocka_unit_test(the_process_leaves_no_core),
        cmocka_unit_test(large_pieces_take_their_own_size_beside_the_heap),
        cmocka_unit_test(large_pieces_under_the_usual_limit),
        cmocka_unit_test(memlock_refusal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
