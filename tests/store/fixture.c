#include "fixture.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server.h"

static const char *kind = "sqlite";

void fixture_use(const char *kind_)
{
    kind = kind_;
}

/* A schema of its own is a database of its own for the store, and made in no time. */
static struct store *make(const char *folder, char *url, size_t size)
{
    static unsigned number;
    struct sso_error err = {0};
    struct store *store = NULL;
    char sql[64];
    number++;
    if (strcmp(kind, "sqlite") == 0) {
        snprintf(url, size, "sqlite:%s/db%u", folder, number);
    } else if (strcmp(kind, "postgresql") == 0) {
        snprintf(sql, sizeof sql, "CREATE SCHEMA t%u", number);
        server_sql(sql);
        snprintf(url, size,
                 "postgresql:///postgres?host=%s&user=postgres&options=-csearch_path%%3Dt%u",
                 server_folder(), number);
    } else {
        fail_msg("no store of kind %s", kind);
    }
    assert_ok(store_create(url, &store, &err));
    return store;
}

int fixture_setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    strcpy(fixture->folder, "/tmp/sso-store-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    fixture->store = make(fixture->folder, fixture->url, sizeof fixture->url);
    *state = fixture;
    return 0;
}

struct store *fixture_another(const struct fixture *fixture)
{
    char url[200];
    return make(fixture->folder, url, sizeof url);
}

static int drop(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status, (void)type, (void)where;
    return remove(path);
}

int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    store_close(&fixture->store);
    nftw(fixture->folder, drop, 8, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

struct store_tx *begin(struct store *store, enum store_access access)
{
    struct store_tx *tx = NULL;
    struct sso_error err = {0};
    assert_ok(store_begin(store, access, &tx, &err));
    return tx;
}

void commit(struct store_tx *tx)
{
    struct sso_error err = {0};
    assert_ok(store_commit(&tx, &err));
    assert_null(tx);
}

struct setting sample_setting(const char *name, const char *value, uint64_t version)
{
    struct setting setting = {.version = version, .tag = {1, 2, 3}};
    snprintf(setting.name, sizeof setting.name, "%s", name);
    snprintf(setting.value, sizeof setting.value, "%s", value);
    return setting;
}

struct generation sample_generation(uint32_t number)
{
    struct generation generation = {
        .number = number,
        .secret_id = {(uint8_t)number, 7},
        .suite = SUITE_AES256_KW,
        .state = number == 1 ? GENERATION_ACTIVE : GENERATION_PENDING,
        .no_backup = true,
        .created_ms = 1700000000000,
        .canary = {.wrapped = {.bytes = {9, 9}, .length_bytes = 40}, .mac = {5}},
        .version = 1,
        .tag = {4},
    };
    strcpy(generation.share_set, "a set");
    return generation;
}

struct application sample_application(uint8_t id, const char *name)
{
    struct application application = {
        .id = {id},
        .type = APPLICATION_INDIVIDUAL,
        .enabled = true,
        .cached = true,
        .tickets_validated = true,
        .ticket_lifetime_ms = 300000,
        .ticket_lifetime_since_ms = 7,
        .description = "what it is for, \"quoted\"",
        .contact = "zoë@example.org",
        .field = {{"user", false}, {"pass\"word", true}, {"größe", true}},
        .field_count = 3,
        .admins = "admins",
        .users = {"staff", "grün"},
        .user_group_count = 2,
        .readers = "svc",
        .created_ms = 1,
        .updated_ms = 2,
        .version = 1,
        .tag = {6},
    };
    snprintf(application.name, sizeof application.name, "%s", name);
    return application;
}

struct mapping sample_mapping(uint8_t application, const char *principal)
{
    struct mapping mapping = {.application_id = {application},
                              .external_user = "größe",
                              .state = MAPPING_ENABLED,
                              .updated_ms = 3,
                              .version = 1,
                              .tag = {8}};
    snprintf(mapping.principal, sizeof mapping.principal, "%s", principal);
    return mapping;
}

struct credential_row sample_row(uint32_t number, uint8_t application, const char *principal)
{
    struct credential_row row = {
        .format = ROW_FORMAT,
        .row_id = {1, (uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8),
                   (uint8_t)number},
        .application_id = {application},
        .generation = 1,
        .born = 1,
        .row_key_id = {(uint8_t)number, 3},
        .wrapped = {.bytes = {(uint8_t)number, (uint8_t)(number >> 8), 1}, .length_bytes = 40},
        .nonce = {(uint8_t)number, 2},
        .ciphertext_bytes = 144,
        .version = 1,
        .updated_ms = 1700000000000 + number,
    };
    snprintf(row.principal, sizeof row.principal, "%s", principal);
    snprintf(row.external_user, sizeof row.external_user, "ext-%s", principal);
    row.ciphertext = malloc(row.ciphertext_bytes);
    assert_non_null(row.ciphertext);
    memset(row.ciphertext, (int)number, row.ciphertext_bytes);
    return row;
}

struct audit_record sample_record(const char *node, const char *target)
{
    struct audit_record record = {.time_ms = 1700000000000,
                                  .actor = "alice",
                                  .how = "unix",
                                  .operation = "credential.set",
                                  .outcome = "ok",
                                  .request_id = {1},
                                  .row_id = {2},
                                  .row_version = 3};
    snprintf(record.node, sizeof record.node, "%s", node);
    snprintf(record.target, sizeof record.target, "%s", target);
    return record;
}

static void fill_rows(struct store_tx *tx, uint32_t rows)
{
    struct sso_error err = {0};
    for (uint32_t i = 0; i < rows; i++) {
        char principal[32];
        snprintf(principal, sizeof principal, "user%05u", i);
        struct credential_row row = sample_row(i, 1, principal);
        struct mapping mapping = sample_mapping(1, principal);
        assert_ok(store_mapping_put(tx, &mapping, &err));
        assert_ok(store_credential_put(tx, &row, 0, &err));
        credential_row_free(&row);
    }
}

void fill(struct store *store, uint32_t rows)
{
    struct sso_error err = {0};
    struct store_tx *tx = begin(store, STORE_WRITE);
    struct generation one = sample_generation(1), two = sample_generation(2);
    struct application application = sample_application(1, "Payroll");
    struct setting enabled = sample_setting(SETTING_SYSTEM_ENABLED, "yes", 1);
    struct setting revocation = sample_setting(SETTING_REVOCATION, "0", 1);
    assert_ok(store_generation_insert(tx, &one, &err));
    assert_ok(store_generation_insert(tx, &two, &err));
    assert_ok(store_application_insert(tx, &application, &err));
    assert_ok(store_setting_put(tx, &enabled, &err));
    assert_ok(store_setting_put(tx, &revocation, &err));
    fill_rows(tx, rows);
    commit(tx);
}

uint64_t rows_of_generation(struct store *store, uint32_t generation)
{
    struct sso_error err = {0};
    struct generation_rows *rows = NULL;
    size_t count = 0;
    uint64_t found = 0;
    STORE_TX_AUTO tx = begin(store, STORE_READ);
    assert_ok(store_count_by_generation(tx, &rows, &count, &err));
    for (size_t i = 0; i < count; i++)
        if (rows[i].generation == generation)
            found = rows[i].credentials;
    free(rows);
    return found;
}
