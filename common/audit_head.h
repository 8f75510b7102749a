/* The end of a node's audit chain, and the file of the state directory that keeps it, so that a cut
 * tail of the chain in the database can be told. */
#ifndef SSO_COMMON_AUDIT_HEAD_H
#define SSO_COMMON_AUDIT_HEAD_H

#include <stdbool.h>

#include "common/audit_record.h"
#include "common/error.h"

struct audit_head {
    char node[65];
    uint64_t number; /* of the last record */
    uint8_t hash[AUDIT_HASH_BYTES];
};

#define AUDIT_HEAD_FILE "audit-head"

/* Number and hash from state_directory/audit-head; number 0 where none is kept. The file is of one
 * node: `node` is empty. SSO_AUDIT_UNAVAILABLE where it is there and cannot be read, which must not
 * pass for none: the next record would move it over a cut. */
enum sso_code audit_head_read(const char *state_directory, struct audit_head *out,
                              struct sso_error *err) __attribute__((warn_unused_result));

/* Only upwards: the service and direct commands write it after their commits, in whatever order.
 * Overwritten in place, less than a sector: a new file renamed over the old one costs the file
 * system's journal more than the commit that it follows. Not `durable`: after a crash of the
 * machine the file may lag behind the database; it never runs ahead of it. */
bool audit_head_raise(const char *state_directory, const struct audit_record *last, bool durable);
/* Whatever it is now: where an older database was accepted. Durable. */
bool audit_head_write(const char *state_directory, const struct audit_record *last);

#endif
