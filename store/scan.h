/* Credential rows by the thousand, for rotation and checks. A part of store/store.h. */
#ifndef SSO_STORE_SCAN_H
#define SSO_STORE_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/row.h"

struct store_tx;

/* Scan in an order of the store's own, each row once: rows with generation < below (0: all) behind
 * *position, at most `limit` rows and about `limit_bytes` of ciphertext, which counts, and whose
 * length is told, also where it does not come along. Begins where
 * position->started is false; advances it; *count 0 at the end. Rows in quarantine are left out
 * where `skip_quarantined`. The array is the caller's, with room for `limit`; each row to be freed
 * with credential_row_free. A row whose bytes cannot be one comes back with format 0 and what could
 * be read, so that a scan never stops at it. Over several transactions a row that changes meanwhile
 * is not met again; one that is new may be. */
struct scan_position {
    bool started;
    int64_t place;
};
struct scan_options {
    uint32_t below;
    bool with_ciphertext;
    uint32_t ciphertext_born; /* else: with that of rows born up to this generation */
    bool skip_quarantined;
    size_t limit;
    size_t limit_bytes; /* 0: no bound; one row comes in any case */
};
enum sso_code store_credential_scan(struct store_tx *tx, const struct scan_options *options,
                                    struct scan_position *position, struct credential_row *rows,
                                    size_t *count, struct sso_error *err)
    __attribute__((warn_unused_result));

/* What a row that is renewed gets besides. The bytes stay the caller's. */
struct row_renewal {
    uint32_t born;
    uint8_t row_key_id[ROW_KEY_ID_BYTES];
    uint8_t nonce[NONCE_BYTES];
    uint8_t *ciphertext;
    size_t ciphertext_bytes;
};

/* Compare-and-swap of many rows on (row id, old generation, old wrapped row key); `swapped` tells
 * of each. `place` is credential_row's: rows in the order of a scan, with it, are found without a
 * search. */
struct key_swap {
    uint8_t row_id[ROW_ID_BYTES];
    int64_t place;
    uint32_t old_generation, new_generation;
    struct wrapped_key old_wrapped, new_wrapped;
    const struct row_renewal *renewal; /* NULL: nothing else changes */
    bool swapped;
};
enum sso_code store_credential_swap(struct store_tx *tx, struct key_swap *swaps, size_t count,
                                    struct sso_error *err) __attribute__((warn_unused_result));

/* Rows of each generation, by number. */
struct generation_rows {
    uint32_t generation;
    uint64_t credentials, sealed_keys;
};
enum sso_code store_count_by_generation(struct store_tx *tx, struct generation_rows **out,
                                        size_t *count, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
