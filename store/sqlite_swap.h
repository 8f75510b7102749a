/* store_credential_swap for SQLite. */
#ifndef SSO_STORE_SQLITE_SWAP_H
#define SSO_STORE_SQLITE_SWAP_H

#include "store/sqlite.h"

/* Makes known to a connection that writes what sqlite_swap needs. A code of SQLite. */
int sqlite_swap_functions(struct sqlite_connection *connection);
enum sso_code sqlite_swap(struct store_tx *tx, struct key_swap *swaps, size_t count,
                          struct sso_error *err);

#endif
