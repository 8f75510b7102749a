/* Compare-and-swap of row keys. A statement for each row would cost more than what it does to the
 * row, so one statement walks the table from the first row to the last and asks, at each row,
 * functions of this file whether it is one of those to change, and to what. */
#include "store/sqlite_swap.h"

#include <string.h>

#include "store/sql_statement.h"

/* Rows of rising place, and one target generation; those that are renewed are passed over. */
struct sqlite_swap_run {
    struct key_swap *swaps;
    size_t count;
    size_t asked, written; /* no row before these comes any more */
};

static struct key_swap *find(struct sqlite_swap_run *run, size_t *at, int64_t place)
{
    while (*at < run->count && run->swaps[*at].place < place)
        ++*at;
    struct key_swap *swap = *at < run->count ? &run->swaps[*at] : NULL;
    return swap != NULL && swap->place == place && swap->renewal == NULL ? swap : NULL;
}

static bool holds_bytes(sqlite3_value *value, const uint8_t *bytes, size_t count)
{
    if (sqlite3_value_type(value) != SQLITE_BLOB || (size_t)sqlite3_value_bytes(value) != count)
        return false;
    return memcmp(sqlite3_value_blob(value), bytes, count) == 0;
}

/* swap_fits(rowid, row_id, generation, wrapped_row_key) */
static void swap_fits(sqlite3_context *context, int count, sqlite3_value **value)
{
    struct sqlite_connection *connection = sqlite3_user_data(context);
    struct sqlite_swap_run *run = connection->swap_run;
    struct key_swap *swap = NULL;
    (void)count;
    if (run != NULL)
        swap = find(run, &run->asked, sqlite3_value_int64(value[0]));
    bool fits = swap != NULL && holds_bytes(value[1], swap->row_id, sizeof swap->row_id) &&
                sqlite3_value_type(value[2]) == SQLITE_INTEGER &&
                sqlite3_value_int64(value[2]) == (int64_t)swap->old_generation &&
                holds_bytes(value[3], swap->old_wrapped.bytes, swap->old_wrapped.length_bytes);
    if (fits)
        swap->swapped = true;
    sqlite3_result_int(context, fits);
}

/* swap_fresh(rowid): the new wrapped key of a row that fits. */
static void swap_fresh(sqlite3_context *context, int count, sqlite3_value **value)
{
    struct sqlite_connection *connection = sqlite3_user_data(context);
    struct sqlite_swap_run *run = connection->swap_run;
    struct key_swap *swap = NULL;
    (void)count;
    if (run != NULL)
        swap = find(run, &run->written, sqlite3_value_int64(value[0]));
    if (swap != NULL)
        sqlite3_result_blob(context, swap->new_wrapped.bytes, swap->new_wrapped.length_bytes,
                            SQLITE_STATIC);
    else
        sqlite3_result_null(context); /* the column takes none: the statement fails */
}

int sqlite_swap_functions(struct sqlite_connection *connection)
{
    const int flags = SQLITE_UTF8 | SQLITE_DIRECTONLY;
    int result = sqlite3_create_function(connection->db, "swap_fits", 4, flags, connection,
                                         swap_fits, NULL, NULL);
    return result != SQLITE_OK ? result
                               : sqlite3_create_function(connection->db, "swap_fresh", 1, flags,
                                                         connection, swap_fresh, NULL, NULL);
}

static enum sso_code run_swap(struct store_tx *tx, struct sqlite_swap_run *run,
                              struct sso_error *err)
{
    static const char sql[] =
        "UPDATE credentials NOT INDEXED SET generation = ?, wrapped_row_key = swap_fresh(rowid)"
        " WHERE rowid BETWEEN ? AND ?"
        " AND swap_fits(rowid, row_id, generation, wrapped_row_key)";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    struct sqlite_connection *connection = ((struct sqlite_tx *)tx)->connection;
    sql_bind_integer(&statement, run->swaps[0].new_generation);
    sql_bind_integer(&statement, run->swaps[0].place);
    sql_bind_integer(&statement, run->swaps[run->count - 1].place);
    connection->swap_run = run;
    rc = sql_run(&statement, NULL, err);
    connection->swap_run = NULL;
    return rc;
}

/* Where one row is too long to be read whole (scan) the statement undoes all of its rows: so then
 * one by one, and that one is not swapped. */
static enum sso_code run_singly(struct store_tx *tx, const struct sqlite_swap_run *run,
                                struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    for (size_t i = 0; rc == SSO_OK && i < run->count; i++) {
        struct sqlite_swap_run single = {.swaps = &run->swaps[i], .count = 1};
        single.swaps->swapped = false;
        rc = run_swap(tx, &single, err);
        if (rc == SSO_TOO_LARGE) {
            single.swaps->swapped = false;
            rc = SSO_OK;
        }
    }
    return rc;
}

/* For rows that no scan found. Leaves 0 where there is no such row. */
static enum sso_code look_up_place(struct store_tx *tx, struct key_swap *swap,
                                   struct sso_error *err)
{
    static const char sql[] = "SELECT rowid FROM credentials WHERE row_id = ?";
    SQL_STATEMENT_AUTO statement = {0};
    bool found = false;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, swap->row_id, sizeof swap->row_id);
    rc = sql_step(&statement, &found, err);
    if (rc == SSO_OK && found)
        swap->place = sql_read_integer(&statement, INT64_MIN, INT64_MAX);
    return rc;
}

static enum sso_code swap_keys(struct store_tx *tx, struct key_swap *swaps, size_t count,
                               struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    for (size_t i = 0; rc == SSO_OK && i < count; i++)
        if (swaps[i].place == 0)
            rc = look_up_place(tx, &swaps[i], err);
    for (size_t first = 0, end; rc == SSO_OK && first < count; first = end) {
        struct sqlite_swap_run run = {.swaps = &swaps[first]};
        for (end = first + 1; end < count && swaps[end].place > swaps[end - 1].place &&
                              swaps[end].new_generation == swaps[first].new_generation;)
            end++;
        run.count = end - first;
        rc = run_swap(tx, &run, err);
        if (rc == SSO_TOO_LARGE)
            rc = run_singly(tx, &run, err);
    }
    return rc;
}

static enum sso_code swap_renewed(struct store_tx *tx, struct key_swap *swaps, size_t count,
                                  struct sso_error *err)
{
    static const char sql[] =
        "UPDATE credentials INDEXED BY credentials_by_row_id SET generation = ?,"
        " wrapped_row_key = ?, born = ?, row_key_id = ?, nonce = ?, ciphertext = ?"
        " WHERE row_id = ? AND generation = ? AND wrapped_row_key = ?";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    for (size_t i = 0; rc == SSO_OK && i < count; i++) {
        struct key_swap *one = &swaps[i];
        const struct row_renewal *renewal = one->renewal;
        uint64_t changed = 0;
        if (renewal == NULL)
            continue;
        sql_bind_integer(&statement, one->new_generation);
        sql_bind_wrapped(&statement, &one->new_wrapped);
        sql_bind_integer(&statement, renewal->born);
        sql_bind_bytes(&statement, renewal->row_key_id, sizeof renewal->row_key_id);
        sql_bind_bytes(&statement, renewal->nonce, sizeof renewal->nonce);
        sql_bind_bytes(&statement, renewal->ciphertext, renewal->ciphertext_bytes);
        sql_bind_bytes(&statement, one->row_id, sizeof one->row_id);
        sql_bind_integer(&statement, one->old_generation);
        sql_bind_wrapped(&statement, &one->old_wrapped);
        rc = sql_run(&statement, &changed, err);
        if (rc == SSO_TOO_LARGE)
            rc = SSO_OK; /* it cannot even be read whole (scan): not swapped */
        one->swapped = rc == SSO_OK && changed == 1;
    }
    return rc;
}

enum sso_code sqlite_swap(struct store_tx *tx, struct key_swap *swaps, size_t count,
                          struct sso_error *err)
{
    size_t renewed = 0;
    for (size_t i = 0; i < count; i++) {
        renewed += swaps[i].renewal != NULL;
        swaps[i].swapped = false;
    }
    enum sso_code rc = renewed < count ? swap_keys(tx, swaps, count, err) : SSO_OK;
    return rc == SSO_OK && renewed > 0 ? swap_renewed(tx, swaps, count, err) : rc;
}
