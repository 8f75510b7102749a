/* One record of a node's audit chain (DESIGN §11): hash = SHA-256(previous hash ‖ encoded record).
 */
#ifndef SSO_COMMON_AUDIT_RECORD_H
#define SSO_COMMON_AUDIT_RECORD_H

#include <stdint.h>

#define AUDIT_HASH_BYTES 32
#define REQUEST_ID_BYTES 16

/* Says that the database was put back and accepted: what the chain held behind the record before is
 * not in it any more. */
#define AUDIT_ACCEPT_OPERATION "database.accept-restore"

struct audit_record {
    char node[65];
    uint64_t number; /* 1, 2, 3 … per node */
    int64_t time_ms;
    char actor[257];    /* user name or certificate name */
    char how[33];       /* "unix", "tls", "console", "self" */
    char operation[65]; /* "credential.set", "rotation.start" … */
    char target[641];   /* application/principal, generation …; never a secret */
    char outcome[41];   /* "ok" or a code */
    uint8_t request_id[REQUEST_ID_BYTES];
    /* For writes, releases and lookups of a row; zero elsewhere. */
    uint8_t row_id[16];
    uint64_t row_version;
    uint8_t hash[AUDIT_HASH_BYTES];
};

/* The first record of a chain follows 32 zero bytes. Writes record->hash. */
void audit_record_hash(const uint8_t previous[static AUDIT_HASH_BYTES],
                       const struct audit_record *record, uint8_t out[static AUDIT_HASH_BYTES]);

#endif
