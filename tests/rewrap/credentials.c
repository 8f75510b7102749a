/* Credentials of a test's installation: written as a custodian does, opened, damaged. */
#include "tests/rewrap/installation.h"

#include <inttypes.h>

#include "common/clock.h"

#define WRITE_BATCH 256

static uint32_t active_generation(struct installation *in)
{
    struct generation *list = NULL;
    uint32_t active = 0;
    size_t count = list_generations(in, &list);
    for (size_t i = 0; i < count; i++)
        if (list[i].state == GENERATION_ACTIVE)
            active = list[i].number;
    free(list);
    assert_int_not_equal(active, 0);
    return active;
}

static void password_of(const struct credential_row *row, char out[static 320])
{
    snprintf(out, 320, "%s has password %" PRIu64 " here", row->principal, row->version);
}

static void begin_row(struct installation *in, struct credential_row *row, unsigned number,
                      uint32_t generation)
{
    memset(row, 0, sizeof *row);
    row->format = ROW_FORMAT;
    OK(uuid_v7(row->row_id, &problem));
    memcpy(row->application_id, in->application_id, sizeof row->application_id);
    snprintf(row->principal, sizeof row->principal, "p%u", number);
    snprintf(row->external_user, sizeof row->external_user, "EXTERNAL%u", number);
    row->generation = row->born = generation;
    OK(random_bytes(row->row_key_id, sizeof row->row_key_id, &problem));
    row->version = 1;
    row->updated_ms = wall_clock_ms();
}

static void seal(struct installation *in, struct credential_row *row, const struct key_item *item)
{
    char password[320];
    password_of(row, password);
    struct credential_fields fields = {
        .field = {{"password", password, strlen("password"), strlen(password)}}, .count = 1};
    assert_int_equal(item->code, SSO_OK);
    row->wrapped = item->wrapped;
    OK(row_seal(in->policy.system_id, row, item->row_key, &fields, &problem));
}

static void make_keys(struct installation *in, const struct credential_row *rows,
                      struct key_item *items, uint8_t *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        items[i] = (struct key_item){.generation = rows[i].generation,
                                     .row_key = keys + i * ROW_KEY_BYTES};
        row_binding_digest(in->policy.system_id, &rows[i], items[i].binding);
    }
    OK(keyring_make(in->keyring, HSM_LIVE, items, count, boot_clock_ms() + 60000, &problem));
}

void add_credentials(struct installation *in, unsigned first, unsigned count)
{
    struct credential_row *rows = calloc(WRITE_BATCH, sizeof *rows);
    struct key_item *items = calloc(WRITE_BATCH, sizeof *items);
    uint8_t *keys = secret_alloc((size_t)WRITE_BATCH * ROW_KEY_BYTES);
    uint32_t generation = active_generation(in);
    assert_non_null(keys);
    for (unsigned done = 0; done < count;) {
        unsigned n = count - done < WRITE_BATCH ? count - done : WRITE_BATCH;
        for (unsigned i = 0; i < n; i++)
            begin_row(in, &rows[i], first + done + i, generation);
        make_keys(in, rows, items, keys, n);
        struct store_tx *tx = NULL;
        OK(store_begin(in->store, STORE_WRITE, &tx, &problem));
        for (unsigned i = 0; i < n; i++) {
            seal(in, &rows[i], &items[i]);
            OK(store_credential_put(tx, &rows[i], 0, &problem));
            credential_row_free(&rows[i]);
        }
        OK(store_commit(&tx, &problem));
        done += n;
    }
    secret_dealloc(keys);
    free(items);
    free(rows);
}

static bool get_credential(struct installation *in, unsigned number, struct credential_row *row)
{
    char principal[32];
    snprintf(principal, sizeof principal, "p%u", number);
    STORE_TX_AUTO tx = NULL;
    OK(store_begin(in->store, STORE_READ, &tx, &problem));
    enum sso_code rc = store_credential_get(tx, in->application_id, principal, row, NULL);
    assert_true(rc == SSO_OK || rc == SSO_NOT_FOUND);
    return rc == SSO_OK;
}

uint64_t credential_version(struct installation *in, unsigned number)
{
    struct credential_row row = {0};
    uint64_t version = get_credential(in, number, &row) ? row.version : 0;
    credential_row_free(&row);
    return version;
}

/* False: the generation is not the active one any more, the key must be wrapped anew. */
static bool put_credential(struct installation *in, const struct credential_row *row)
{
    struct generation generation;
    STORE_TX_AUTO tx = NULL;
    OK(store_begin(in->store, STORE_WRITE, &tx, &problem));
    OK(store_generation_hold(tx, row->generation, STORE_SHARED, &generation, &problem));
    if (generation.state != GENERATION_ACTIVE)
        return false;
    OK(store_credential_put(tx, row, row->version - 1, &problem));
    OK(store_commit(&tx, &problem));
    return true;
}

void write_credential(struct installation *in, unsigned number)
{
    uint8_t *key = secret_alloc(ROW_KEY_BYTES);
    assert_non_null(key);
    for (bool written = false; !written;) {
        struct credential_row old = {0}, row;
        struct key_item item;
        begin_row(in, &row, number, active_generation(in));
        if (get_credential(in, number, &old)) {
            memcpy(row.row_id, old.row_id, sizeof row.row_id);
            row.version = old.version + 1;
        }
        credential_row_free(&old);
        make_keys(in, &row, &item, key, 1);
        seal(in, &row, &item);
        written = put_credential(in, &row);
        credential_row_free(&row);
    }
    secret_dealloc(key);
}

void add_credential_below(struct installation *in, unsigned number, uint32_t generation)
{
    struct credential_row row;
    struct key_item item;
    uint8_t *key = secret_alloc(ROW_KEY_BYTES);
    assert_non_null(key);
    begin_row(in, &row, number, generation);
    memset(row.row_id, 0, sizeof row.row_id);
    make_keys(in, &row, &item, key, 1);
    seal(in, &row, &item);
    struct store_tx *tx = NULL;
    OK(store_begin(in->store, STORE_WRITE, &tx, &problem));
    OK(store_credential_put(tx, &row, 0, &problem));
    OK(store_commit(&tx, &problem));
    credential_row_free(&row);
    secret_dealloc(key);
}

void delete_credential(struct installation *in, unsigned number)
{
    char principal[32];
    snprintf(principal, sizeof principal, "p%u", number);
    struct store_tx *tx = NULL;
    OK(store_begin(in->store, STORE_WRITE, &tx, &problem));
    OK(store_credential_delete(tx, in->application_id, principal, 0, &problem));
    OK(store_commit(&tx, &problem));
}

/* --- looking --- */

static void unwrap_keys(struct installation *in, const struct credential_row *rows,
                        struct key_item *items, uint8_t *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        items[i] = (struct key_item){.generation = rows[i].generation,
                                     .wrapped = rows[i].wrapped,
                                     .row_key = keys + i * ROW_KEY_BYTES};
        row_binding_digest(in->policy.system_id, &rows[i], items[i].binding);
    }
    if (count != 0)
        OK(keyring_unwrap(in->keyring, HSM_LIVE, items, count, boot_clock_ms() + 60000, &problem));
}

static bool opens(struct installation *in, const struct credential_row *row,
                  const struct key_item *item)
{
    struct credential_fields fields = {0};
    char password[320];
    if (item->code != SSO_OK ||
        row_open(in->policy.system_id, row, item->row_key, &fields, NULL) != SSO_OK)
        return false;
    password_of(row, password);
    assert_int_equal(fields.count, 1);
    assert_int_equal(fields.field[0].value_bytes, strlen(password));
    assert_memory_equal(fields.field[0].value, password, strlen(password));
    credential_fields_free(&fields);
    return true;
}

size_t open_all(struct installation *in, uint32_t generation, size_t *unopened)
{
    struct credential_row *rows = calloc(WRITE_BATCH, sizeof *rows);
    struct scan_options options = {
        .with_ciphertext = true, .limit = WRITE_BATCH, .limit_bytes = 1 << 20};
    struct scan_position position = {0};
    struct key_item *items = calloc(WRITE_BATCH, sizeof *items);
    uint8_t *keys = secret_alloc((size_t)WRITE_BATCH * ROW_KEY_BYTES);
    size_t total = 0, count;
    *unopened = 0;
    do {
        struct store_tx *tx = NULL;
        OK(store_begin(in->store, STORE_READ, &tx, &problem));
        OK(store_credential_scan(tx, &options, &position, rows, &count, &problem));
        store_rollback(&tx);
        unwrap_keys(in, rows, items, keys, count);
        for (size_t i = 0; i < count; i++) {
            if (!opens(in, &rows[i], &items[i]))
                ++*unopened;
            else if (generation != 0)
                assert_int_equal(rows[i].generation, generation);
            credential_row_free(&rows[i]);
        }
        total += count;
    } while (count != 0);
    secret_dealloc(keys);
    free(items);
    free(rows);
    return total;
}

void check_all_open(struct installation *in, uint32_t generation, size_t rows)
{
    size_t unopened;
    assert_int_equal(open_all(in, generation, &unopened), rows);
    assert_int_equal(unopened, 0);
}

struct generation_rows rows_of(struct installation *in, uint32_t generation)
{
    struct generation_rows *list = NULL, found = {.generation = generation};
    size_t count;
    STORE_TX_AUTO tx = NULL;
    OK(store_begin(in->store, STORE_READ, &tx, &problem));
    OK(store_count_by_generation(tx, &list, &count, &problem));
    for (size_t i = 0; i < count; i++)
        if (list[i].generation == generation)
            found = list[i];
    free(list);
    return found;
}

uint64_t quarantined(struct installation *in)
{
    struct quarantine_count count;
    STORE_TX_AUTO tx = NULL;
    OK(store_begin(in->store, STORE_READ, &tx, &problem));
    OK(store_quarantine_count(tx, &count, &problem));
    return count.rows - count.to_retry;
}

void check_reason(struct installation *in, const char *principal, const char *part)
{
    struct quarantine_entry *list = NULL;
    size_t count, found = 0;
    STORE_TX_AUTO tx = NULL;
    OK(store_begin(in->store, STORE_READ, &tx, &problem));
    OK(store_quarantine_list(tx, &list, &count, &problem));
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i].principal, principal) != 0)
            continue;
        found++;
        assert_int_equal(list[i].code, SSO_ROW_CORRUPT);
        if (strstr(list[i].reason, part) == NULL)
            fail_msg("%s: %s", principal, list[i].reason);
    }
    free(list);
    assert_int_equal(found, 1);
}

void damage_credential(struct installation *in, unsigned number, enum damage damage)
{
    struct credential_row row = {0};
    assert_true(get_credential(in, number, &row));
    struct key_swap swap = {.old_generation = row.generation,
                            .new_generation = row.generation,
                            .old_wrapped = row.wrapped,
                            .new_wrapped = row.wrapped};
    memcpy(swap.row_id, row.row_id, sizeof swap.row_id);
    if (damage == DAMAGE_WRAPPED_KEY)
        swap.new_wrapped.bytes[20] ^= 1;
    else if (damage == DAMAGE_LENGTH)
        swap.new_wrapped.length_bytes--;
    else if (damage == DAMAGE_GENERATION)
        swap.new_generation++;
    struct store_tx *tx = NULL;
    OK(store_begin(in->store, STORE_WRITE, &tx, &problem));
    if (damage == DAMAGE_CIPHERTEXT) {
        row.ciphertext[0] ^= 1;
        OK(store_credential_put(tx, &row, row.version, &problem));
    } else {
        OK(store_credential_swap(tx, &swap, 1, &problem));
        assert_true(swap.swapped);
    }
    OK(store_commit(&tx, &problem));
    credential_row_free(&row);
}
