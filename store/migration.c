#include "store/migration.h"

#include <string.h>

enum sso_code migration_compare(const struct migration *known, unsigned count,
                                const struct migration_row *row, struct sso_error *err)
{
    if (row->number > count)
        return sso_fail(err, SSO_SCHEMA_NEWER,
                        "%s has schema %lld, this program knows %u: use a newer sso-hsm",
                        row->database, (long long)row->number, count);
    const struct migration *migration = &known[row->place];
    if (row->number == migration->number && row->checksum_bytes == MIGRATION_CHECKSUM_BYTES &&
        memcmp(row->checksum, migration->checksum, MIGRATION_CHECKSUM_BYTES) == 0)
        return SSO_OK;
    return sso_fail(err, SSO_DATABASE_OF_OTHER_SYSTEM,
                    "schema %lld of %s has another checksum than %s of this program: it was made "
                    "by a changed version",
                    (long long)row->number, row->database, migration->name);
}

enum sso_code migration_older(const char *database, unsigned has, unsigned needs,
                              struct sso_error *err)
{
    return sso_fail(err, SSO_SCHEMA_OLDER,
                    "%s has schema %u, this program needs %u: run sso-hsm db upgrade", database,
                    has, needs);
}
