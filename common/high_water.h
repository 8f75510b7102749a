/*
 * High-water marks (DESIGN §6): the most that this node has seen in its database, in a file of the
 * state directory. A database below one of them was put back from a backup. Generations are kept
 * whole, policy tag included, so that one which the database no longer knows can be taken up again
 * and proven by its canary.
 *
 * Read the file before the database that is compared with it: whoever writes both writes the
 * database first.
 */
#ifndef SSO_COMMON_HIGH_WATER_H
#define SSO_COMMON_HIGH_WATER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/audit_head.h"
#include "common/error.h"
#include "common/generation.h"

#define HIGH_WATER_FILE "high-water"

struct high_water {
    uint8_t system_id[SYSTEM_ID_BYTES];
    uint32_t highest;              /* number of a generation that was ever used */
    uint64_t epoch;                /* of the master lease; 0: there is none yet */
    uint64_t revocation;           /* setting system.revocation */
    struct generation *generation; /* malloc, by number */
    size_t generation_count;
    struct audit_head *head; /* malloc: the end of each node's chain */
    size_t head_count;
};
void high_water_free(struct high_water *marks);
#define HIGH_WATER_AUTO __attribute__((cleanup(high_water_free))) struct high_water

const struct generation *high_water_generation(const struct high_water *marks, uint32_t number);

/* SSO_NOT_FOUND: this node has no marks yet. SSO_DATABASE_WENT_BACK: the file is there and cannot
 * be read, so nobody knows what was seen; the text says so. */
enum sso_code high_water_read(const char *state_directory, struct high_water *out,
                              struct sso_error *err) __attribute__((warn_unused_result));
/* Raises the file's marks to what was seen, durably; nothing is written where they are that high. A
 * generation in `seen` with version 0 only raises the wraps of one that is known. Never call it
 * with what was not compared (high_water_compare) before. SSO_DATABASE_OF_OTHER_SYSTEM. */
enum sso_code high_water_raise(const char *state_directory, const struct high_water *seen,
                               struct sso_error *err) __attribute__((warn_unused_result));
/* These marks and no others, durably; marks of another system are kept beside them, under its id.
 */
enum sso_code high_water_replace(const char *state_directory, const struct high_water *marks,
                                 struct sso_error *err) __attribute__((warn_unused_result));

/* SSO_DATABASE_WENT_BACK where `now`, what the database says, is below a mark; the text names the
 * first. SSO_DATABASE_OF_OTHER_SYSTEM. The heads are for who has the database open. */
enum sso_code high_water_compare(const struct high_water *marks, const struct high_water *now,
                                 struct sso_error *err) __attribute__((warn_unused_result));

#endif
