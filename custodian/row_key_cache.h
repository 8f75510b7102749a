/* Row keys that were opened lately, in locked memory, until their lease ends (DESIGN §5.2);
 * bounded, the least recently used goes first. Thread-safe. Keyed by row id; an entry fits only the
 * same row key id, and a row whose version is lower than the entry's is older than what was seen.
 */
#ifndef SSO_CUSTODIAN_ROW_KEY_CACHE_H
#define SSO_CUSTODIAN_ROW_KEY_CACHE_H

#include <stdbool.h>

#include "common/row.h"

struct row_key_cache;

enum sso_code row_key_cache_new(unsigned max_entries, uint64_t lease_ms, struct row_key_cache **out,
                                struct sso_error *err) __attribute__((warn_unused_result));
void row_key_cache_free(struct row_key_cache **cache);

enum cache_answer { CACHE_HIT, CACHE_MISS, CACHE_ROW_WENT_BACK };
enum cache_answer row_key_cache_get(struct row_key_cache *cache, const struct credential_row *row,
                                    uint8_t row_key[static ROW_KEY_BYTES]);
void row_key_cache_put(struct row_key_cache *cache, const struct credential_row *row,
                       const uint8_t row_key[static ROW_KEY_BYTES]);
void row_key_cache_remove(struct row_key_cache *cache, const uint8_t row_id[static ROW_ID_BYTES]);
void row_key_cache_clear(struct row_key_cache *cache);

struct row_key_cache_status {
    unsigned entries, max_entries;
    uint64_t hits, misses;
};
void row_key_cache_status(struct row_key_cache *cache, struct row_key_cache_status *out);

#endif
