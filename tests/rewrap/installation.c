#include "tests/rewrap/installation.h"

#include <ftw.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"

#define MODULE "/usr/lib/softhsm/libsofthsm2.so"
#define PIN "123456"
#define NODE "node1"

/* --- the folder --- */

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0 || chmod(path, 0600) != 0)
        fail_msg("cannot write %s", path);
}

static void make_token(const struct installation *in)
{
    char path[160], text[256], command[512];
    snprintf(path, sizeof path, "%s/tokens", in->folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(text, sizeof text, "directories.tokendir = %s\nobjectstore.backend = file\n", path);
    snprintf(path, sizeof path, "%s/softhsm2.conf", in->folder);
    write_file(path, text);
    snprintf(command, sizeof command,
             "SOFTHSM2_CONF=%s softhsm2-util --init-token --free --label rewrap --so-pin %s --pin "
             "%s > /dev/null",
             path, PIN, PIN);
    assert_int_equal(system(command), 0);
    snprintf(path, sizeof path, "%s/pin", in->folder);
    write_file(path, PIN);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

/* --- opening and closing --- */

static void open_token(struct installation *in)
{
    const struct passwd *user = getpwuid(geteuid());
    assert_non_null(user);
    snprintf(in->module_environment, sizeof in->module_environment,
             "SOFTHSM2_CONF=%s/softhsm2.conf", in->folder);
    snprintf(in->token_uri, sizeof in->token_uri, "pkcs11:token=rewrap?pin-source=file:%s/pin",
             in->folder);
    in->section =
        (struct config_hsm){.name = strdup(""),
                            .module = strdup(MODULE),
                            .user = strdup(user->pw_name),
                            .init_args = strdup(""),
                            .environment = in->module_environment,
                            .token = in->token_uri,
                            .workers = 2,
                            .sessions_per_worker = 1,
                            /* A sanitizer keeps what was freed: far more than the module. */
                            .worker_memory_limit_bytes = UINT64_C(1) << 30,
                            .deadline_ms = 10000};
    OK(spawner_start(TEST_WORKER, &in->section, 1, &in->spawner, &problem));
    OK(hsm_open(&in->section, in->folder, in->spawner, false, &in->hsm, &problem));
}

static void database_url(const struct installation *in, char out[static 96])
{
    snprintf(out, 96, "sqlite:%s/credentials.db", in->folder);
}

static void open_generations(struct installation *in)
{
    struct generation *generation = NULL;
    struct generation_token *token = NULL;
    size_t count, token_count;
    STORE_TX_AUTO tx = NULL;
    OK(store_begin(in->store, STORE_READ, &tx, &problem));
    OK(store_generation_list(tx, &generation, &count, &problem));
    OK(store_generation_token_list(tx, &token, &token_count, &problem));
    for (size_t i = 0; i < count; i++)
        OK(keyring_open(in->keyring, &generation[i], token, token_count, false, &problem));
    free(generation);
    free(token);
}

void installation_open(struct installation *in, const char *folder)
{
    struct system_row row;
    struct sealed_key *sealed = NULL;
    struct application application;
    size_t count;
    char url[96];
    memset(in, 0, sizeof *in);
    snprintf(in->folder, sizeof in->folder, "%s", folder);
    open_token(in);
    database_url(in, url);
    OK(store_open(url, &in->store, &problem));
    OK(wrap_budget_new(in->store, &in->budget, &problem));
    struct store_tx *tx = NULL;
    OK(store_begin(in->store, STORE_READ, &tx, &problem));
    OK(store_system_get(tx, &row, &problem));
    OK(store_sealed_key_list(tx, &sealed, &count, &problem));
    OK(store_application_get(tx, "mail", &application, &problem));
    store_rollback(&tx);
    memcpy(in->application_id, application.id, sizeof in->application_id);
    memcpy(in->policy.system_id, row.id, sizeof in->policy.system_id);
    OK(keyring_new(row.id, &in->keyring, &problem));
    keyring_add_pool(in->keyring, in->hsm);
    open_generations(in);
    assert_int_equal(count, 1);
    OK(keyring_open_policy(in->keyring, sealed, &in->policy, &problem));
    free(sealed);
}

void installation_close(struct installation *in)
{
    wrap_budget_free(&in->budget);
    store_close(&in->store);
    keyring_free(&in->keyring);
    hsm_close(&in->hsm);
    spawner_stop(&in->spawner);
    policy_free(&in->policy);
    free(in->section.name);
    free(in->section.module);
    free(in->section.user);
    free(in->section.init_args);
}

void installation_remove(struct installation *in)
{
    installation_close(in);
    nftw(in->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* --- making one --- */

static struct application make_application(struct installation *in)
{
    struct application application = {.name = "mail",
                                      .type = APPLICATION_INDIVIDUAL,
                                      .enabled = true,
                                      .field = {{"password", true}},
                                      .field_count = 1,
                                      .created_ms = wall_clock_ms(),
                                      .updated_ms = wall_clock_ms(),
                                      .version = 1};
    OK(uuid_v7(application.id, &problem));
    memcpy(in->application_id, application.id, sizeof application.id);
    policy_tag_application(&in->policy, &application);
    return application;
}

void installation_make(struct installation *in, enum suite_id suite)
{
    struct system_row row = {.name = "test", .created_ms = wall_clock_ms()};
    struct generation generation;
    struct generation_token token;
    struct evidence evidence;
    struct sealed_key sealed;
    char url[96];
    if (access(MODULE, R_OK) != 0) {
        fprintf(stderr, "skipped: no %s\n", MODULE);
        exit(77);
    }
    memset(in, 0, sizeof *in);
    snprintf(in->folder, sizeof in->folder, "%s", "/tmp/sso-rewrap-XXXXXX");
    assert_non_null(mkdtemp(in->folder));
    make_token(in);
    open_token(in);
    OK(random_bytes(row.id, sizeof row.id, &problem));
    memcpy(in->policy.system_id, row.id, sizeof row.id);
    OK(keyring_new(row.id, &in->keyring, &problem));
    keyring_add_pool(in->keyring, in->hsm);
    OK(keyring_generate(in->keyring, in->hsm, 1, suite, NODE, &generation, &token, &evidence,
                        &problem));
    OK(keyring_open(in->keyring, &generation, &token, 1, true, &problem));
    OK(keyring_make_sealed(in->keyring, PURPOSE_POLICY, 1, &sealed, &in->policy.key, &problem));
    generation.state = GENERATION_ACTIVE;
    generation.no_backup = true;
    policy_tag_generation(&in->policy, &generation);
    policy_tag_generation_token(&in->policy, &token);
    struct application application = make_application(in);
    database_url(in, url);
    OK(store_create(url, &in->store, &problem));
    OK(wrap_budget_new(in->store, &in->budget, &problem));
    struct store_tx *tx = NULL;
    OK(store_begin(in->store, STORE_WRITE, &tx, &problem));
    OK(store_system_insert(tx, &row, &problem));
    OK(store_generation_insert(tx, &generation, &problem));
    OK(store_generation_token_put(tx, &token, &problem));
    OK(store_sealed_key_insert(tx, &sealed, &problem));
    OK(store_application_insert(tx, &application, &problem));
    OK(store_commit(&tx, &problem));
}

uint32_t make_generation(struct installation *in, enum suite_id suite)
{
    struct generation *list = NULL, generation;
    struct generation_token token;
    struct evidence evidence;
    size_t count;
    struct store_tx *tx = NULL;
    OK(store_begin(in->store, STORE_READ, &tx, &problem));
    OK(store_generation_list(tx, &list, &count, &problem));
    store_rollback(&tx);
    uint32_t number = list[count - 1].number + 1;
    free(list);
    OK(keyring_generate(in->keyring, in->hsm, number, suite, NODE, &generation, &token, &evidence,
                        &problem));
    generation.no_backup = true;
    policy_tag_generation(&in->policy, &generation);
    policy_tag_generation_token(&in->policy, &token);
    OK(store_begin(in->store, STORE_WRITE, &tx, &problem));
    OK(store_generation_insert(tx, &generation, &problem));
    OK(store_generation_token_put(tx, &token, &problem));
    OK(store_commit(&tx, &problem));
    return number;
}

size_t list_generations(struct installation *in, struct generation **list)
{
    size_t count;
    STORE_TX_AUTO tx = NULL;
    OK(store_begin(in->store, STORE_READ, &tx, &problem));
    OK(store_generation_list(tx, list, &count, &problem));
    return count;
}

struct generation read_generation(struct installation *in, uint32_t number)
{
    struct generation *list = NULL, found = {0};
    size_t count = list_generations(in, &list);
    for (size_t i = 0; i < count; i++) {
        OK(policy_check_generation(&in->policy, &list[i], &problem));
        if (list[i].number == number)
            found = list[i];
    }
    free(list);
    assert_int_equal(found.number, number);
    return found;
}

void mark_compromised(struct installation *in, uint32_t number)
{
    struct generation generation;
    STORE_TX_AUTO tx = NULL;
    OK(store_begin(in->store, STORE_WRITE, &tx, &problem));
    OK(store_generation_hold(tx, number, STORE_EXCLUSIVE, &generation, &problem));
    generation.compromised = true;
    generation.version++;
    policy_tag_generation(&in->policy, &generation);
    OK(store_generation_update(tx, &generation, &problem));
    OK(store_commit(&tx, &problem));
}

/* --- jobs --- */

static enum sso_code open_in_keyring(struct installation *in, uint32_t number, bool fresh,
                                     struct sso_error *err)
{
    struct generation generation = read_generation(in, number);
    struct generation_token *token = NULL;
    size_t count;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(in->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_generation_token_list(tx, &token, &count, err);
    if (rc == SSO_OK)
        rc = keyring_open(in->keyring, &generation, token, count, fresh, err);
    free(token);
    return rc;
}

enum sso_code open_generation(struct installation *in, uint32_t number, struct sso_error *err)
{
    return open_in_keyring(in, number, true, err);
}

enum sso_code open_without_new_workers(struct installation *in, uint32_t number,
                                       struct sso_error *err)
{
    return open_in_keyring(in, number, false, err);
}

static enum sso_code open_target(void *context, uint32_t number, struct sso_error *err)
{
    return open_generation(context, number, err);
}

static void states_changed(void *context)
{
    struct installation *in = context;
    atomic_fetch_add(&in->states_changed, 1);
}

static void audit_actor(void *context, struct audit_record *record)
{
    (void)context;
    snprintf(record->actor, sizeof record->actor, "%s", "operator");
    snprintf(record->how, sizeof record->how, "%s", "unix");
}

static enum sso_code write_alone(void *context, rewrap_write run, void *run_context,
                                 struct audit_record *record, struct sso_error *err)
{
    struct installation *in = context;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(in->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = run(tx, run_context, err);
    snprintf(record->node, sizeof record->node, "%s", NODE);
    if (rc == SSO_OK && record->operation[0] != '\0')
        rc = store_audit_append(tx, record, 1, err);
    return rc == SSO_OK ? store_commit(&tx, err) : rc;
}

void read_rotation(struct installation *in, struct rotation *out)
{
    STORE_TX_AUTO tx = NULL;
    OK(store_begin(in->store, STORE_READ, &tx, &problem));
    OK(store_rotation_latest(tx, out, &problem));
}

void load_job(struct installation *in, struct rewrap_job *job)
{
    memset(job, 0, sizeof *job);
    job->store = in->store;
    job->keyring = in->keyring;
    job->policy = &in->policy;
    job->budget = in->budget;
    snprintf(job->node, sizeof job->node, "%s", NODE);
    job->open_target = open_target;
    job->states_changed = states_changed;
    job->write = write_alone;
    job->audit_actor = audit_actor;
    job->context = in;
    read_rotation(in, &job->rotation);
}

void plan_job(struct installation *in, struct rewrap_job *job, uint32_t to,
              const struct rotation *options)
{
    struct rotation rotation = {0};
    if (options != NULL)
        rotation = *options;
    rotation.to = to;
    struct store_tx *tx = NULL;
    OK(store_begin(in->store, STORE_WRITE, &tx, &problem));
    OK(rewrap_plan(tx, &in->policy, &rotation, &problem));
    OK(store_commit(&tx, &problem));
    load_job(in, job);
}
