/*
 * Memory for secrets: locked (never swapped), left out of core dumps, guarded, wiped when freed
 * or grown. It is OpenSSL's secure heap (OPENSSL_secure_malloc(3)) behind a buffer type; pieces of
 * 256 KiB and more are locked mappings of their own beside that heap.
 *
 * Row keys, PINs, shares and decoded credentials live here and nowhere else. In transit they also
 * pass through buffers of libraries: wiping_allocator_install() makes those wipe what they free.
 */
#ifndef SSO_COMMON_SECRET_H
#define SSO_COMMON_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define ROW_KEY_BYTES 32
#define PIN_BYTES_MAX 256

/* Gives jansson, OpenSSL (and, by the hooks below, libevent and libcurl) an allocator that wipes on
 * free and on growth. First thing in main, before any other call of these libraries. */
void wiping_allocator_install(void);
void *wiping_malloc(size_t bytes);
void *wiping_calloc(size_t count, size_t bytes);
void *wiping_realloc(void *old, size_t bytes);
char *wiping_strdup(const char *text);
void wiping_free(void *memory);

/* Turns off core dumps and ptrace by others (PR_SET_DUMPABLE 0) and locks a heap of `bytes` (a
 * power of two) for secrets. SSO_CONFIG_ERROR names RLIMIT_MEMLOCK where it does not suffice. Once
 * per process, after wiping_allocator_install() and before any thread. */
enum sso_code secret_memory_init(size_t bytes, struct sso_error *err)
    __attribute__((warn_unused_result));

/* A buffer in that heap. All zero is the empty buffer. Not to be copied by assignment. */
struct secret {
    uint8_t *data;
    size_t length_bytes;
    size_t capacity_bytes;
};

/* Room for at least `capacity_bytes`; what is there is kept, the old place is wiped.
 * SSO_NO_MEMORY: the locked heap is used up; the buffer is unchanged. */
enum sso_code secret_reserve(struct secret *secret, size_t capacity_bytes, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Appends; `bytes` may be NULL where count is 0. On error the buffer is unchanged. */
enum sso_code secret_append(struct secret *secret, const void *bytes, size_t count,
                            struct sso_error *err) __attribute__((warn_unused_result));

/* Length 0, what was there wiped, the room kept. */
void secret_clear(struct secret *secret);

/* Wiped, freed, empty. Safe on an empty buffer and twice. */
void secret_free(struct secret *secret);

#define SECRET_AUTO __attribute__((cleanup(secret_free))) struct secret

/* A single array in the same heap, for arrays of row keys: zeroed; NULL when the heap is used up.
 */
void *secret_alloc(size_t bytes);
/* Wipes by the size that was allocated; NULL allowed. */
void secret_dealloc(void *memory);

#endif
