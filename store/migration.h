/* Schema files, embedded at build time by store/schema/embed.py. A file that was released is never
 * changed: its checksum stands in every database. */
#ifndef SSO_STORE_MIGRATION_H
#define SSO_STORE_MIGRATION_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define MIGRATION_CHECKSUM_BYTES 32

struct migration {
    unsigned number; /* 1, 2, 3 …: the index here plus one */
    const char *name;
    const unsigned char *sql;                   /* ends with NUL */
    uint8_t checksum[MIGRATION_CHECKSUM_BYTES]; /* SHA-256 */
};

extern const struct migration sqlite_migrations[];
extern const unsigned sqlite_migrations_count;
extern const struct migration postgresql_migrations[];
extern const unsigned postgresql_migrations_count;

/* What a database says that it has, as number `place` of its rows. */
struct migration_row {
    const char *database; /* its name, for texts */
    unsigned place;
    int64_t number;
    const void *checksum;
    size_t checksum_bytes;
};
/* SSO_SCHEMA_NEWER, or SSO_DATABASE_OF_OTHER_SYSTEM where it is none of ours. */
enum sso_code migration_compare(const struct migration *known, unsigned count,
                                const struct migration_row *row, struct sso_error *err);
/* SSO_SCHEMA_OLDER and its text. */
enum sso_code migration_older(const char *database, unsigned has, unsigned needs,
                              struct sso_error *err);

#endif
