/* An installation for tests of the rotation engine: a SoftHSM token and a SQLite database in a
 * folder of its own, without a custodian. It can be closed and opened again, also by another
 * process. */
#ifndef SSO_TESTS_REWRAP_INSTALLATION_H
#define SSO_TESTS_REWRAP_INSTALLATION_H

#include "tests/common/testing.h"

#include "rewrap/rewrap.h"

struct installation {
    char folder[64];
    char module_environment[128], token_uri[160];
    struct config_hsm section;
    struct spawner *spawner;
    struct hsm *hsm;
    struct keyring *keyring;
    struct store *store;
    struct wrap_budget *budget;
    struct policy policy;
    uint8_t application_id[APPLICATION_ID_BYTES];
    atomic_uint states_changed;
};

/* Makes everything: generation 1 active, policy key, one application. Skips the program (exit 77)
 * where there is no SoftHSM. */
void installation_make(struct installation *in, enum suite_id suite);
/* Opens what installation_make left in `folder`. */
void installation_open(struct installation *in, const char *folder);
void installation_close(struct installation *in);
void installation_remove(struct installation *in); /* closes it too */

/* Makes the next generation: pending, without backup. Returns its number. */
uint32_t make_generation(struct installation *in, enum suite_id suite);
/* Opens it in all workers, as job->open_target does. */
enum sso_code open_generation(struct installation *in, uint32_t number, struct sso_error *err);
/* SoftHSM sees what another process made, and starting workers takes its time. */
enum sso_code open_without_new_workers(struct installation *in, uint32_t number,
                                       struct sso_error *err);
size_t list_generations(struct installation *in, struct generation **list);
struct generation read_generation(struct installation *in, uint32_t number);

/* Makes credentials p<first> … p<first + count - 1>, version 1. */
void add_credentials(struct installation *in, unsigned first, unsigned count);
/* Writes one as a custodian does: version + 1, or 1 where there is none. */
void write_credential(struct installation *in, unsigned number);
/* As a writer would leave one that heeds no lock: under `generation`, and before all others. */
void add_credential_below(struct installation *in, unsigned number, uint32_t generation);
void delete_credential(struct installation *in, unsigned number);
/* Version in the database; 0 where there is none. */
uint64_t credential_version(struct installation *in, unsigned number);

/* Opens every row and compares every field; returns how many rows there are, and how many of them
 * do not open. All that open must be on `generation`, unless that is 0. */
size_t open_all(struct installation *in, uint32_t generation, size_t *unopened);
/* There are so many rows, each of them opens, and all are on `generation`. */
void check_all_open(struct installation *in, uint32_t generation, size_t rows);
/* Credentials and sealed keys of a generation. */
struct generation_rows rows_of(struct installation *in, uint32_t generation);

/* A job for `to`, planned; options may be set in `options` (NULL: none). */
void plan_job(struct installation *in, struct rewrap_job *job, uint32_t to,
              const struct rotation *options);
/* A job from what stands in the database. */
void load_job(struct installation *in, struct rewrap_job *job);
void read_rotation(struct installation *in, struct rotation *out);
uint64_t quarantined(struct installation *in); /* without those to be tried again */
/* One entry of the quarantine is of this principal, row_corrupt, and its reason has this part. */
void check_reason(struct installation *in, const char *principal, const char *part);
void mark_compromised(struct installation *in, uint32_t number);

/* What goes wrong with a row, done behind everybody's back. */
enum damage {
    DAMAGE_WRAPPED_KEY, /* one bit */
    DAMAGE_LENGTH,      /* the last byte is cut off */
    DAMAGE_GENERATION,  /* it names the next one */
    DAMAGE_CIPHERTEXT   /* one bit; its key still opens */
};
void damage_credential(struct installation *in, unsigned number, enum damage damage);

/* The call passes &problem for its error. */
#define OK(call)                                                                                   \
    do {                                                                                           \
        struct sso_error problem = {0};                                                            \
        enum sso_code result = (call);                                                             \
        if (result != SSO_OK)                                                                      \
            fail_msg("%s: %s: %s", #call, sso_code_facts(result)->name, problem.detail);           \
    } while (0)

#endif
