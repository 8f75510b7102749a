/* All rows of all tables, from one database into another of any kind. */
#ifndef SSO_STORE_SQL_COPY_H
#define SSO_STORE_SQL_COPY_H

#include "store/store.h"

/* Made from the schema by schema/tables.py. */
struct sql_table {
    const char *name;
    const char *types; /* of each column: i(nteger), t(ext), b(ytes) */
    const char *select, *insert, *probe;
};
extern const struct sql_table sql_tables[];
extern const unsigned sql_tables_count;

enum sso_code sql_table_is_empty(struct store_tx *tx, const struct sql_table *table, bool *out,
                                 struct sso_error *err);

/* A copy of `store` as a SQLite file at `path`, as store_backup promises it. */
enum sso_code sql_backup(struct store *store, const char *path, struct sso_error *err);

#endif
