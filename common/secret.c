#include "common/secret.h"

#include <errno.h>
#include <jansson.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* The smallest piece that the secure heap hands out: half a row key would be waste. */
#define SMALLEST_BYTES 32

/* The secure heap hands out powers of two, so that few large pieces would use it up: from here on
 * each is a locked mapping of its own, of its very size. */
#define LARGE_BYTES ((size_t)256 * 1024)

/* Before the bytes of such a mapping, which lies between two pages that nobody may touch. */
struct large {
    size_t mapped_bytes, capacity_bytes;
} __attribute__((aligned(16)));

void *wiping_malloc(size_t bytes)
{
    return malloc(bytes > 0 ? bytes : 1);
}

void *wiping_calloc(size_t count, size_t bytes)
{
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total))
        return NULL;
    return calloc(1, total > 0 ? total : 1);
}

/* Wipes what the allocator really gave, not what was asked for: what stood in the block before
 * reaches to its end. */
void wiping_free(void *memory)
{
    if (memory == NULL)
        return;
    explicit_bzero(memory, malloc_usable_size(memory));
    free(memory);
}

/* Never realloc(3), which leaves the old place as it is. A block with room enough stays. */
void *wiping_realloc(void *old, size_t bytes)
{
    size_t room = old != NULL ? malloc_usable_size(old) : 0;
    if (old != NULL && bytes > 0 && bytes <= room && bytes >= room / 2)
        return old;
    void *fresh = wiping_malloc(bytes);
    if (fresh == NULL)
        return NULL;
    if (old != NULL)
        memcpy(fresh, old, room < bytes ? room : bytes);
    wiping_free(old);
    return fresh;
}

char *wiping_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = wiping_malloc(size);
    return copy != NULL ? memcpy(copy, text, size) : NULL;
}

static void *openssl_malloc(size_t bytes, const char *file, int line)
{
    (void)file, (void)line;
    return bytes > 0 ? wiping_malloc(bytes) : NULL;
}

static void *openssl_realloc(void *old, size_t bytes, const char *file, int line)
{
    (void)file, (void)line;
    if (bytes > 0)
        return wiping_realloc(old, bytes);
    wiping_free(old);
    return NULL;
}

static void openssl_free(void *memory, const char *file, int line)
{
    (void)file, (void)line;
    wiping_free(memory);
}

void wiping_allocator_install(void)
{
    static bool installed;
    if (installed)
        return;
    if (CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) != 1) {
        fputs("wiping_allocator_install: OpenSSL has been used before\n", stderr);
        abort();
    }
    json_set_alloc_funcs(wiping_malloc, wiping_free);
    installed = true;
}

static enum sso_code lock_refused(size_t bytes, struct sso_error *err)
{
    struct rlimit limit = {0};
    (void)getrlimit(RLIMIT_MEMLOCK, &limit);
    return sso_fail(err, SSO_CONFIG_ERROR,
                    "cannot lock %zu KiB of memory for secrets: RLIMIT_MEMLOCK is %llu KiB (hard "
                    "limit %llu KiB); set LimitMEMLOCK=%zuK in the unit, or ulimit -l %zu, or more",
                    bytes / 1024, (unsigned long long)limit.rlim_cur / 1024,
                    (unsigned long long)limit.rlim_max / 1024, bytes / 1024, bytes / 1024);
}

enum sso_code secret_memory_init(size_t bytes, struct sso_error *err)
{
    const struct rlimit no_core = {0, 0};
    if (setrlimit(RLIMIT_CORE, &no_core) != 0)
        return sso_fail_errno(err, SSO_INTERNAL, errno, "cannot turn off core dumps");
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return sso_fail_errno(err, SSO_INTERNAL, errno, "cannot make the process non-dumpable");
    if (CRYPTO_secure_malloc_initialized())
        return sso_fail(err, SSO_INTERNAL, "the memory for secrets was set up before");
    switch (CRYPTO_secure_malloc_init(bytes, SMALLEST_BYTES)) {
    case 1:
        return SSO_OK;
    case 2: /* usable, but not locked or not kept out of core dumps */
        CRYPTO_secure_malloc_done();
        return lock_refused(bytes, err);
    default:
        return sso_fail(err, SSO_NO_MEMORY, "cannot map %zu KiB of memory for secrets",
                        bytes / 1024);
    }
}

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* NULL where RLIMIT_MEMLOCK has no room for it. */
static void *map_large(size_t bytes)
{
    size_t page = page_bytes();
    if (bytes > SIZE_MAX / 2)
        return NULL;
    size_t inner = (sizeof(struct large) + bytes + page - 1) / page * page;
    uint8_t *base =
        mmap(NULL, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    if (mprotect(base + page, inner, PROT_READ | PROT_WRITE) != 0 ||
        madvise(base + page, inner, MADV_DONTDUMP) != 0 || mlock(base + page, inner) != 0) {
        munmap(base, inner + 2 * page);
        return NULL;
    }
    struct large *large = (struct large *)(base + page);
    *large = (struct large){inner + 2 * page, inner - sizeof *large};
    return large + 1;
}

static struct large *large_of(void *memory)
{
    return (struct large *)memory - 1;
}

/* Without its heap OpenSSL would take ordinary memory, and say nothing. */
static void *locked_malloc(size_t bytes)
{
    if (!CRYPTO_secure_malloc_initialized())
        return NULL;
    void *memory = bytes >= LARGE_BYTES ? map_large(bytes) : NULL;
    return memory != NULL ? memory : OPENSSL_secure_malloc(bytes);
}

static size_t locked_room(void *memory)
{
    return CRYPTO_secure_allocated(memory) ? OPENSSL_secure_actual_size(memory)
                                           : large_of(memory)->capacity_bytes;
}

static void locked_free(void *memory)
{
    if (memory == NULL)
        return;
    if (CRYPTO_secure_allocated(memory)) {
        OPENSSL_secure_free(memory); /* wipes the whole block by its actual size */
        return;
    }
    struct large *large = large_of(memory);
    size_t mapped = large->mapped_bytes;
    OPENSSL_cleanse(large, sizeof *large + large->capacity_bytes);
    munmap((uint8_t *)large - page_bytes(), mapped);
}

enum sso_code secret_reserve(struct secret *secret, size_t capacity_bytes, struct sso_error *err)
{
    if (capacity_bytes <= secret->capacity_bytes)
        return SSO_OK;
    uint8_t *place = locked_malloc(capacity_bytes);
    if (place == NULL)
        return sso_fail(err, SSO_NO_MEMORY,
                        "the locked memory for secrets has no %zu bytes left; fewer or smaller "
                        "requests at a time, or a higher RLIMIT_MEMLOCK, help",
                        capacity_bytes);
    if (secret->length_bytes > 0)
        memcpy(place, secret->data, secret->length_bytes);
    locked_free(secret->data);
    secret->data = place;
    secret->capacity_bytes = locked_room(place);
    return SSO_OK;
}

enum sso_code secret_append(struct secret *secret, const void *bytes, size_t count,
                            struct sso_error *err)
{
    if (count > SIZE_MAX - secret->length_bytes)
        return sso_fail(err, SSO_NO_MEMORY, "a secret of more bytes than there can be");
    enum sso_code rc = secret_reserve(secret, secret->length_bytes + count, err);
    if (rc != SSO_OK || count == 0)
        return rc;
    memcpy(secret->data + secret->length_bytes, bytes, count);
    secret->length_bytes += count;
    return SSO_OK;
}

void secret_clear(struct secret *secret)
{
    if (secret->data != NULL)
        OPENSSL_cleanse(secret->data, secret->capacity_bytes);
    secret->length_bytes = 0;
}

void secret_free(struct secret *secret)
{
    locked_free(secret->data);
    *secret = (struct secret){0};
}

void *secret_alloc(size_t bytes)
{
    void *memory = locked_malloc(bytes);
    return memory != NULL ? memset(memory, 0, bytes) : NULL;
}

void secret_dealloc(void *memory)
{
    locked_free(memory);
}
