/* The end of a node's audit chain, and the file of the state directory that keeps it, so that a cut
 * tail of the chain in the database can be told. */
#ifndef SSO_COMMON_AUDIT_HEAD_H
#define SSO_COMMON_AUDIT_HEAD_H

#include <stdbool.h>

#include "common/audit_record.h"

struct audit_head {
    char node[65];
    uint64_t number; /* of the last record */
    uint8_t hash[AUDIT_HASH_BYTES];
};

#define AUDIT_HEAD_FILE "audit-head"

/* Number and hash from state_directory/audit-head; number 0 where none is kept. The file is of one
 * node: `node` is empty. */
void audit_head_read(const char *state_directory, struct audit_head *out);

/* Overwritten in place, less than a sector: a new file renamed over the old one costs the file
 * system's journal more than the commit that it follows. Not `durable`: after a crash of the
 * machine the file may lag behind the database; it never runs ahead of it. */
bool audit_head_write(const char *state_directory, const struct audit_record *last, bool durable);

#endif
