/* How many rows stand on each generation, for those who only tell of it (status). Counting reads
 * the whole table, so of a large one the last count is told, and renewed beside: what decides
 * anything (finish, retire, destroy) counts for itself, under its locks. Thread-safe. */
#ifndef SSO_CUSTODIAN_ROW_COUNTS_H
#define SSO_CUSTODIAN_ROW_COUNTS_H

#include "store/store.h"

struct row_counts;

/* Up to `exact_up_to` rows every reader counts for himself. */
enum sso_code row_counts_new(uint64_t exact_up_to, struct row_counts **out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Waits for a count that runs. Safe on NULL. */
void row_counts_free(struct row_counts **counts);

struct counted_rows {
    struct generation_rows *rows; /* malloc: free(3) */
    size_t count;
    int64_t counted_ms; /* wall clock: when */
};
/* `tx` is a read transaction of `store`, which stays open until row_counts_free. Counts a large
 * table itself the first time only; later it may wait for a second where the kept count is older
 * than a minute. */
enum sso_code row_counts_read(struct row_counts *counts, struct store *store, struct store_tx *tx,
                              struct counted_rows *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Rows went to another generation by the thousand: what is kept is old, whatever its age. */
void row_counts_outdated(struct row_counts *counts);

#endif
