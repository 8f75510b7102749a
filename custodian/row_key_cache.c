#include "custodian/row_key_cache.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/secret.h"

#define NONE UINT32_MAX
#define WRAPPED_DIGEST_BYTES 16
#define HEAP_LEFT_FOR_OTHERS_BYTES (1024u * 1024u)

/* Two orders at once: by last use, which says who is evicted, and by age, which says whose lease
 * ends next. Both are lists of entry numbers, oldest at the head. */
enum order { BY_USE, BY_AGE, ORDERS };

struct link {
    uint32_t before, after;
};

/* The key of entry i is at keys + i * ROW_KEY_BYTES; what is here is no secret. */
struct entry {
    uint8_t row_id[ROW_ID_BYTES];
    uint8_t row_key_id[ROW_KEY_ID_BYTES];
    uint8_t application_id[APPLICATION_ID_BYTES];
    uint8_t wrapped_digest[WRAPPED_DIGEST_BYTES];
    uint64_t version;
    int64_t lease_end_ms; /* boot clock */
    uint32_t next_in_bucket;
    struct link link[ORDERS];
};

struct row_key_cache {
    pthread_mutex_t lock;
    uint64_t lease_ms;
    uint32_t max_entries, entries;
    uint32_t free_head; /* chained by next_in_bucket */
    uint32_t head[ORDERS], tail[ORDERS];
    uint32_t *bucket;
    uint32_t bucket_mask;
    struct entry *entry;
    uint8_t *keys;
    size_t keys_bytes;
    bool keys_mapped; /* a mapping of its own; else from the locked heap */
    uint64_t hits, misses;
};

static uint8_t *key_of(struct row_key_cache *cache, uint32_t number)
{
    return cache->keys + (size_t)number * ROW_KEY_BYTES;
}

static void list_remove(struct row_key_cache *cache, enum order order, uint32_t number)
{
    struct link *link = &cache->entry[number].link[order];
    if (link->before == NONE)
        cache->head[order] = link->after;
    else
        cache->entry[link->before].link[order].after = link->after;
    if (link->after == NONE)
        cache->tail[order] = link->before;
    else
        cache->entry[link->after].link[order].before = link->before;
}

static void list_append(struct row_key_cache *cache, enum order order, uint32_t number)
{
    struct link *link = &cache->entry[number].link[order];
    link->after = NONE;
    link->before = cache->tail[order];
    if (link->before == NONE)
        cache->head[order] = number;
    else
        cache->entry[link->before].link[order].after = number;
    cache->tail[order] = number;
}

/* The last bytes of a UUIDv7 are random, so they are their own hash. */
static uint32_t *bucket_of(struct row_key_cache *cache, const uint8_t row_id[static ROW_ID_BYTES])
{
    uint32_t hash;
    memcpy(&hash, row_id + ROW_ID_BYTES - sizeof hash, sizeof hash);
    return &cache->bucket[hash & cache->bucket_mask];
}

static uint32_t find(struct row_key_cache *cache, const uint8_t row_id[static ROW_ID_BYTES])
{
    if (cache->max_entries == 0)
        return NONE;
    uint32_t number = *bucket_of(cache, row_id);
    while (number != NONE && memcmp(cache->entry[number].row_id, row_id, ROW_ID_BYTES) != 0)
        number = cache->entry[number].next_in_bucket;
    return number;
}

static void drop(struct row_key_cache *cache, uint32_t number)
{
    struct entry *entry = &cache->entry[number];
    uint32_t *place = bucket_of(cache, entry->row_id);
    while (*place != number)
        place = &cache->entry[*place].next_in_bucket;
    *place = entry->next_in_bucket;
    list_remove(cache, BY_USE, number);
    list_remove(cache, BY_AGE, number);
    OPENSSL_cleanse(key_of(cache, number), ROW_KEY_BYTES);
    memset(entry, 0, sizeof *entry);
    entry->next_in_bucket = cache->free_head;
    cache->free_head = number;
    cache->entries--;
}

static void drop_expired(struct row_key_cache *cache)
{
    int64_t now_ms = boot_clock_ms();
    while (cache->head[BY_AGE] != NONE && cache->entry[cache->head[BY_AGE]].lease_end_ms <= now_ms)
        drop(cache, cache->head[BY_AGE]);
}

static void drop_all(struct row_key_cache *cache)
{
    while (cache->head[BY_AGE] != NONE)
        drop(cache, cache->head[BY_AGE]);
}

static void wrapped_digest(const struct credential_row *row,
                           uint8_t out[static WRAPPED_DIGEST_BYTES])
{
    uint8_t input[sizeof row->generation + WRAPPED_KEY_BYTES_MAX];
    uint8_t digest[DIGEST_BYTES];
    size_t wrapped_bytes = row->wrapped.length_bytes <= WRAPPED_KEY_BYTES_MAX
                               ? row->wrapped.length_bytes
                               : WRAPPED_KEY_BYTES_MAX;
    memcpy(input, &row->generation, sizeof row->generation);
    memcpy(input + sizeof row->generation, row->wrapped.bytes, wrapped_bytes);
    digest_sha256(input, sizeof row->generation + wrapped_bytes, digest);
    memcpy(out, digest, WRAPPED_DIGEST_BYTES);
}

/* A mapping of its own comes first: the locked heap is sized for what requests need at a time. */
static enum sso_code keys_allocate(struct row_key_cache *cache, struct sso_error *err)
{
    cache->keys_bytes = (size_t)cache->max_entries * ROW_KEY_BYTES;
    void *mapping =
        mmap(NULL, cache->keys_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping != MAP_FAILED) {
        if (mlock(mapping, cache->keys_bytes) == 0 &&
            madvise(mapping, cache->keys_bytes, MADV_DONTDUMP) == 0) {
            cache->keys = mapping;
            cache->keys_mapped = true;
            return SSO_OK;
        }
        munmap(mapping, cache->keys_bytes);
    }
    cache->keys = secret_alloc(cache->keys_bytes);
    void *for_others = cache->keys == NULL ? NULL : secret_alloc(HEAP_LEFT_FOR_OTHERS_BYTES);
    if (for_others != NULL) {
        secret_dealloc(for_others);
        return SSO_OK;
    }
    secret_dealloc(cache->keys);
    cache->keys = NULL;
    struct rlimit limit = {0};
    getrlimit(RLIMIT_MEMLOCK, &limit);
    return sso_fail(err, SSO_CONFIG_ERROR,
                    "the row-key cache needs %zu bytes of locked memory for %u entries, and "
                    "RLIMIT_MEMLOCK is %llu bytes: raise the limit (LimitMEMLOCK= in the unit) or "
                    "lower [cache] max_entries",
                    cache->keys_bytes, cache->max_entries, (unsigned long long)limit.rlim_cur);
}

static enum sso_code tables_allocate(struct row_key_cache *cache, struct sso_error *err)
{
    uint32_t buckets = 16;
    while (buckets < cache->max_entries && buckets < UINT32_C(1) << 30)
        buckets *= 2;
    cache->bucket_mask = buckets - 1;
    cache->bucket = malloc((size_t)buckets * sizeof *cache->bucket);
    cache->entry = calloc(cache->max_entries, sizeof *cache->entry);
    if (cache->bucket == NULL || cache->entry == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a row-key cache of %u entries",
                        cache->max_entries);
    memset(cache->bucket, 0xff, (size_t)buckets * sizeof *cache->bucket);
    for (uint32_t i = 0; i < cache->max_entries; i++)
        cache->entry[i].next_in_bucket = i + 1 < cache->max_entries ? i + 1 : NONE;
    cache->free_head = 0;
    return SSO_OK;
}

/* Added to a clock it does not overflow. */
static uint64_t lease_bounded(uint64_t lease_ms)
{
    return lease_ms > INT64_MAX / 2 ? INT64_MAX / 2 : lease_ms;
}

enum sso_code row_key_cache_new(unsigned max_entries, uint64_t lease_ms, struct row_key_cache **out,
                                struct sso_error *err)
{
    struct row_key_cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the row-key cache");
    pthread_mutex_init(&cache->lock, NULL);
    cache->lease_ms = lease_bounded(lease_ms);
    cache->max_entries = max_entries;
    for (enum order order = BY_USE; order < ORDERS; order++)
        cache->head[order] = cache->tail[order] = NONE;
    cache->free_head = NONE;
    if (cache->max_entries != 0) {
        enum sso_code rc = keys_allocate(cache, err);
        if (rc == SSO_OK)
            rc = tables_allocate(cache, err);
        if (rc != SSO_OK) {
            row_key_cache_free(&cache);
            return rc;
        }
    }
    *out = cache;
    return SSO_OK;
}

void row_key_cache_free(struct row_key_cache **cache)
{
    struct row_key_cache *gone = *cache;
    if (gone == NULL)
        return;
    *cache = NULL;
    if (gone->keys_mapped) {
        OPENSSL_cleanse(gone->keys, gone->keys_bytes);
        munmap(gone->keys, gone->keys_bytes);
    } else {
        secret_dealloc(gone->keys);
    }
    free(gone->bucket);
    free(gone->entry);
    pthread_mutex_destroy(&gone->lock);
    free(gone);
}

static enum cache_answer answer_for(struct row_key_cache *cache, uint32_t number,
                                    const struct credential_row *row)
{
    const struct entry *entry = &cache->entry[number];
    if (row->version < entry->version)
        return CACHE_ROW_WENT_BACK;
    if (row->version > entry->version ||
        memcmp(row->row_key_id, entry->row_key_id, ROW_KEY_ID_BYTES) != 0)
        return CACHE_MISS;
    uint8_t digest[WRAPPED_DIGEST_BYTES];
    wrapped_digest(row, digest);
    return memcmp(digest, entry->wrapped_digest, sizeof digest) == 0 ? CACHE_HIT : CACHE_REWRAPPED;
}

enum cache_answer row_key_cache_get(struct row_key_cache *cache, const struct credential_row *row,
                                    uint8_t row_key[static ROW_KEY_BYTES])
{
    pthread_mutex_lock(&cache->lock);
    drop_expired(cache);
    uint32_t number = find(cache, row->row_id);
    enum cache_answer answer = number == NONE ? CACHE_MISS : answer_for(cache, number, row);
    if (answer == CACHE_HIT || answer == CACHE_REWRAPPED) {
        memcpy(row_key, key_of(cache, number), ROW_KEY_BYTES);
        list_remove(cache, BY_USE, number);
        list_append(cache, BY_USE, number);
    }
    if (answer == CACHE_HIT)
        cache->hits++;
    else
        cache->misses++;
    pthread_mutex_unlock(&cache->lock);
    return answer;
}

static uint32_t entry_take(struct row_key_cache *cache, const struct credential_row *row)
{
    if (cache->free_head == NONE)
        drop(cache, cache->head[BY_USE]);
    uint32_t number = cache->free_head;
    struct entry *entry = &cache->entry[number];
    cache->free_head = entry->next_in_bucket;
    uint32_t *bucket = bucket_of(cache, row->row_id);
    entry->next_in_bucket = *bucket;
    *bucket = number;
    cache->entries++;
    return number;
}

void row_key_cache_put(struct row_key_cache *cache, const struct credential_row *row,
                       const uint8_t row_key[static ROW_KEY_BYTES])
{
    if (cache->max_entries == 0)
        return;
    pthread_mutex_lock(&cache->lock);
    drop_expired(cache);
    uint32_t number = find(cache, row->row_id);
    if (cache->lease_ms == 0 || (number != NONE && cache->entry[number].version > row->version))
        goto out;
    if (number != NONE)
        drop(cache, number);
    number = entry_take(cache, row);
    struct entry *entry = &cache->entry[number];
    memcpy(entry->row_id, row->row_id, ROW_ID_BYTES);
    memcpy(entry->row_key_id, row->row_key_id, ROW_KEY_ID_BYTES);
    memcpy(entry->application_id, row->application_id, APPLICATION_ID_BYTES);
    wrapped_digest(row, entry->wrapped_digest);
    entry->version = row->version;
    entry->lease_end_ms = boot_clock_ms() + (int64_t)cache->lease_ms;
    memcpy(key_of(cache, number), row_key, ROW_KEY_BYTES);
    list_append(cache, BY_USE, number);
    list_append(cache, BY_AGE, number);
out:
    pthread_mutex_unlock(&cache->lock);
}

void row_key_cache_remove(struct row_key_cache *cache, const uint8_t row_id[static ROW_ID_BYTES])
{
    pthread_mutex_lock(&cache->lock);
    uint32_t number = find(cache, row_id);
    if (number != NONE)
        drop(cache, number);
    pthread_mutex_unlock(&cache->lock);
}

void row_key_cache_remove_application(struct row_key_cache *cache,
                                      const uint8_t application_id[static APPLICATION_ID_BYTES])
{
    pthread_mutex_lock(&cache->lock);
    for (uint32_t number = cache->head[BY_AGE], after; number != NONE; number = after) {
        const struct entry *entry = &cache->entry[number];
        after = entry->link[BY_AGE].after;
        if (memcmp(entry->application_id, application_id, APPLICATION_ID_BYTES) == 0)
            drop(cache, number);
    }
    pthread_mutex_unlock(&cache->lock);
}

void row_key_cache_set_lease(struct row_key_cache *cache, uint64_t lease_ms)
{
    pthread_mutex_lock(&cache->lock);
    uint64_t lease = lease_bounded(lease_ms);
    if (lease < cache->lease_ms)
        drop_all(cache);
    cache->lease_ms = lease;
    pthread_mutex_unlock(&cache->lock);
}

void row_key_cache_clear(struct row_key_cache *cache)
{
    pthread_mutex_lock(&cache->lock);
    drop_all(cache);
    pthread_mutex_unlock(&cache->lock);
}

uint64_t row_key_cache_version(struct row_key_cache *cache,
                               const uint8_t row_id[static ROW_ID_BYTES])
{
    pthread_mutex_lock(&cache->lock);
    uint32_t number = find(cache, row_id);
    uint64_t version = number == NONE ? 0 : cache->entry[number].version;
    pthread_mutex_unlock(&cache->lock);
    return version;
}

void row_key_cache_expire(struct row_key_cache *cache)
{
    pthread_mutex_lock(&cache->lock);
    drop_expired(cache);
    pthread_mutex_unlock(&cache->lock);
}

void row_key_cache_status(struct row_key_cache *cache, struct row_key_cache_status *out)
{
    pthread_mutex_lock(&cache->lock);
    drop_expired(cache);
    out->entries = cache->entries;
    out->max_entries = cache->max_entries;
    out->hits = cache->hits;
    out->misses = cache->misses;
    pthread_mutex_unlock(&cache->lock);
}
