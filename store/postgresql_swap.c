/* Compare-and-swap of row keys: one statement for all rows, which come as arrays. The rows are
 * locked in the order of their places, and one that another transaction is at is passed over, as
 * if it had changed: two that write the same rows cannot wait for each other. */
#include <endian.h>
#include <string.h>

#include "store/postgresql.h"

/* pg_type's binary form of an array of one dimension (array_send): its element is a length and the
 * bytes, which is how encode_bytes writes them. */
static void begin_array(struct encoder *array, Oid element, size_t count)
{
    encode_u32(array, 1); /* dimension */
    encode_u32(array, 0); /* no nulls */
    encode_u32(array, element);
    encode_u32(array, (uint32_t)count);
    encode_u32(array, 1); /* counted from */
}

static void add_integer(struct encoder *array, int64_t value)
{
    encode_u32(array, sizeof value);
    encode_u64(array, (uint64_t)value);
}

static void bind_array(struct sql_statement *statement, Oid type, const struct encoder *array)
{
    postgresql_bind(statement, type, array->data, array->length_bytes);
}

/* Of the swaps those that are renewed, or those that are not. */
struct columns {
    struct encoder row_id, place, old_generation, old_wrapped, generation, wrapped;
    struct encoder born, row_key_id, nonce, ciphertext; /* of a renewal */
};

static void free_columns(struct columns *columns)
{
    struct encoder *all = (struct encoder *)columns;
    for (size_t i = 0; i < sizeof *columns / sizeof *all; i++)
        encoder_free(&all[i]);
}

static void begin_columns(struct columns *columns, size_t count)
{
    begin_array(&columns->row_id, POSTGRESQL_BYTEA, count);
    begin_array(&columns->place, POSTGRESQL_INT8, count);
    begin_array(&columns->old_generation, POSTGRESQL_INT8, count);
    begin_array(&columns->old_wrapped, POSTGRESQL_BYTEA, count);
    begin_array(&columns->generation, POSTGRESQL_INT8, count);
    begin_array(&columns->wrapped, POSTGRESQL_BYTEA, count);
    begin_array(&columns->born, POSTGRESQL_INT8, count);
    begin_array(&columns->row_key_id, POSTGRESQL_BYTEA, count);
    begin_array(&columns->nonce, POSTGRESQL_BYTEA, count);
    begin_array(&columns->ciphertext, POSTGRESQL_BYTEA, count);
}

static void add_swap(struct columns *columns, const struct key_swap *swap)
{
    const struct row_renewal *renewal = swap->renewal;
    encode_bytes(&columns->row_id, swap->row_id, sizeof swap->row_id);
    add_integer(&columns->place, swap->place);
    add_integer(&columns->old_generation, swap->old_generation);
    encode_bytes(&columns->old_wrapped, swap->old_wrapped.bytes, swap->old_wrapped.length_bytes);
    add_integer(&columns->generation, swap->new_generation);
    encode_bytes(&columns->wrapped, swap->new_wrapped.bytes, swap->new_wrapped.length_bytes);
    if (renewal == NULL)
        return;
    add_integer(&columns->born, renewal->born);
    encode_bytes(&columns->row_key_id, renewal->row_key_id, sizeof renewal->row_key_id);
    encode_bytes(&columns->nonce, renewal->nonce, sizeof renewal->nonce);
    encode_bytes(&columns->ciphertext, renewal->ciphertext, renewal->ciphertext_bytes);
}

static bool is_whole(const struct columns *columns)
{
    const struct encoder *all = (const struct encoder *)columns;
    for (size_t i = 0; i < sizeof *columns / sizeof *all; i++)
        if (all[i].failed)
            return false;
    return true;
}

#define SWAP(set, arrays, columns)                                                                 \
    "UPDATE credentials AS c SET generation = n.generation, wrapped_row_key = n.wrapped" set       \
    " FROM (SELECT c.place AS at, n.* FROM unnest(?, ?, ?, ?, ?, ?" arrays ") WITH ORDINALITY"     \
    " AS n(row_id, place, old_generation, old_wrapped, generation, wrapped" columns ", number)"    \
    " JOIN credentials AS c ON c.row_id = n.row_id WHERE c.generation = n.old_generation"          \
    " AND c.wrapped_row_key = n.old_wrapped AND (n.place = 0 OR n.place = c.place)"                \
    " ORDER BY c.place FOR UPDATE OF c SKIP LOCKED) AS n WHERE c.place = n.at RETURNING n.number"

static void bind_columns(struct sql_statement *s, const struct columns *columns, bool renewed)
{
    bind_array(s, POSTGRESQL_BYTEA_ARRAY, &columns->row_id);
    bind_array(s, POSTGRESQL_INT8_ARRAY, &columns->place);
    bind_array(s, POSTGRESQL_INT8_ARRAY, &columns->old_generation);
    bind_array(s, POSTGRESQL_BYTEA_ARRAY, &columns->old_wrapped);
    bind_array(s, POSTGRESQL_INT8_ARRAY, &columns->generation);
    bind_array(s, POSTGRESQL_BYTEA_ARRAY, &columns->wrapped);
    if (!renewed)
        return;
    bind_array(s, POSTGRESQL_INT8_ARRAY, &columns->born);
    bind_array(s, POSTGRESQL_BYTEA_ARRAY, &columns->row_key_id);
    bind_array(s, POSTGRESQL_BYTEA_ARRAY, &columns->nonce);
    bind_array(s, POSTGRESQL_BYTEA_ARRAY, &columns->ciphertext);
}

/* The number-th, from 1, of those that were sent. */
static struct key_swap *find_sent(struct key_swap *swaps, size_t count, bool renewed,
                                  uint64_t number)
{
    for (size_t i = 0; i < count; i++)
        if ((swaps[i].renewal != NULL) == renewed && --number == 0)
            return &swaps[i];
    return NULL;
}

static enum sso_code run_swap(struct sql_statement *s, struct key_swap *swaps, size_t count,
                              bool renewed, struct sso_error *err)
{
    enum sso_code rc;
    bool row = false, mixed = false;
    for (size_t i = 0; i < count; i++)
        mixed |= (swaps[i].renewal != NULL) != renewed;
    while ((rc = sql_step(s, &row, err)) == SSO_OK && row) {
        uint64_t number = (uint64_t)sql_read_integer(s, 1, (int64_t)count);
        if (number == 0)
            return sso_fail(err, SSO_INTERNAL, "the database answered for a row not asked of it");
        struct key_swap *swap =
            mixed ? find_sent(swaps, count, renewed, number) : &swaps[number - 1];
        if (swap != NULL)
            swap->swapped = true;
    }
    return rc;
}

static enum sso_code swap_some(struct store_tx *tx, struct key_swap *swaps, size_t count,
                               bool renewed, struct sso_error *err)
{
    static const char keys_sql[] = SWAP("", "", "");
    static const char renewed_sql[] =
        SWAP(", born = n.born, row_key_id = n.row_key_id, nonce = n.nonce,"
             " ciphertext = n.ciphertext",
             ", ?, ?, ?, ?", ", born, row_key_id, nonce, ciphertext");
    struct columns columns = {0};
    size_t wanted = 0;
    SQL_STATEMENT_AUTO statement = {0};
    for (size_t i = 0; i < count; i++)
        wanted += (swaps[i].renewal != NULL) == renewed;
    if (wanted == 0)
        return SSO_OK;
    begin_columns(&columns, wanted);
    for (size_t i = 0; i < count; i++)
        if ((swaps[i].renewal != NULL) == renewed)
            add_swap(&columns, &swaps[i]);
    enum sso_code rc = is_whole(&columns)
                           ? sql_prepare(tx, renewed ? renewed_sql : keys_sql, &statement, err)
                           : sso_fail(err, SSO_NO_MEMORY, "no memory for %zu rows", wanted);
    if (rc == SSO_OK) {
        bind_columns(&statement, &columns, renewed);
        rc = run_swap(&statement, swaps, count, renewed, err);
    }
    free_columns(&columns);
    return rc;
}

enum sso_code postgresql_swap(struct store_tx *tx, struct key_swap *swaps, size_t count,
                              struct sso_error *err)
{
    for (size_t i = 0; i < count; i++)
        swaps[i].swapped = false;
    enum sso_code rc = swap_some(tx, swaps, count, false, err);
    return rc == SSO_OK ? swap_some(tx, swaps, count, true, err) : rc;
}
