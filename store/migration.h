/* Schema files, embedded at build time by store/schema/embed.py. A file that was released is never
 * changed: its checksum stands in every database. */
#ifndef SSO_STORE_MIGRATION_H
#define SSO_STORE_MIGRATION_H

#include <stdint.h>

#define MIGRATION_CHECKSUM_BYTES 32

struct migration {
    unsigned number; /* 1, 2, 3 …: the index here plus one */
    const char *name;
    const unsigned char *sql;                   /* ends with NUL */
    uint8_t checksum[MIGRATION_CHECKSUM_BYTES]; /* SHA-256 */
};

extern const struct migration sqlite_migrations[];
extern const unsigned sqlite_migrations_count;

#endif
