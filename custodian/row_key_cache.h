/* Row keys that were opened lately, in locked memory, until their lease ends (DESIGN §5.2);
 * bounded, the least recently used goes first. Thread-safe. Keyed by row id; an entry fits only the
 * same row key id, and a row whose version is lower than the entry's is older than what was seen.
 */
#ifndef SSO_CUSTODIAN_ROW_KEY_CACHE_H
#define SSO_CUSTODIAN_ROW_KEY_CACHE_H

#include <stdbool.h>

#include "common/row.h"

struct row_key_cache;

/* max_entries 0 or lease_ms 0: nothing is kept. SSO_CONFIG_ERROR names RLIMIT_MEMLOCK where
 * the keys cannot be locked. */
enum sso_code row_key_cache_new(unsigned max_entries, uint64_t lease_ms, struct row_key_cache **out,
                                struct sso_error *err) __attribute__((warn_unused_result));
void row_key_cache_free(struct row_key_cache **cache);
/* For what is opened from now on; a shorter lease empties the cache. */
void row_key_cache_set_lease(struct row_key_cache *cache, uint64_t lease_ms);

/* CACHE_REWRAPPED: the key fits the row, but the row's generation or wrapped row key is not the one
 * that was opened: a rotation moved the row, or somebody edited it. `row_key` is filled; only
 * unwrapping tells which, so it is for when the HSM cannot be asked. CACHE_ROW_WENT_BACK: a row
 * read before the entry was put may just be outrun by a write; see row_key_cache_version. */
enum cache_answer { CACHE_HIT, CACHE_MISS, CACHE_REWRAPPED, CACHE_ROW_WENT_BACK };
enum cache_answer row_key_cache_get(struct row_key_cache *cache, const struct credential_row *row,
                                    uint8_t row_key[static ROW_KEY_BYTES]);
/* A row that is older than the entry changes nothing. */
void row_key_cache_put(struct row_key_cache *cache, const struct credential_row *row,
                       const uint8_t row_key[static ROW_KEY_BYTES]);
void row_key_cache_remove(struct row_key_cache *cache, const uint8_t row_id[static ROW_ID_BYTES]);
void row_key_cache_remove_application(struct row_key_cache *cache,
                                      const uint8_t application_id[static APPLICATION_ID_BYTES]);
void row_key_cache_clear(struct row_key_cache *cache);

/* The version of the row that was seen, 0 where the cache has none. A row read after this call that
 * is older than the answer went back. */
uint64_t row_key_cache_version(struct row_key_cache *cache,
                               const uint8_t row_id[static ROW_ID_BYTES]);
/* Wipes what is past its lease. The other functions do so on their way; this is for when there are
 * no requests. */
void row_key_cache_expire(struct row_key_cache *cache);

struct row_key_cache_status {
    unsigned entries, max_entries;
    uint64_t hits, misses;
};
void row_key_cache_status(struct row_key_cache *cache, struct row_key_cache_status *out);

#endif
