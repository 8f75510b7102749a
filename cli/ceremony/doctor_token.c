/* Doctor's checks of the tokens: can each be reached, what can it do, are our keys in it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ceremony/installation.h"

#define PROBES_MAX 64

/* Checks of [hsm NAME] carry its name, so that ids stay unique. */
static void token_id(const struct config_hsm *section, const char *what, char out[static 96])
{
    snprintf(out, 96, "%.64s%s%.30s", what, section->name[0] != '\0' ? ":" : "", section->name);
}

static bool has_check(const json_t *checks, const char *id)
{
    size_t i;
    const json_t *check;
    json_array_foreach(checks, i, check)
    {
        const char *other = json_string_value(json_object_get(check, "id"));
        if (other != NULL && strcmp(other, id) == 0)
            return true;
    }
    return false;
}

struct trouble {
    const char *what;
    char remedy[257];
};

/* These have the code of the configuration like any other fault of it; the texts are of pkcs11/. */
static bool is_of_pin_source(const char *detail)
{
    static const char *const signs[] = {"PIN source", "PIN program", "pin-source"};
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
        if (strstr(detail, signs[i]) != NULL)
            return true;
    }
    return false;
}

static void trouble_set(struct trouble *trouble, const char *what, const char *remedy)
{
    trouble->what = what;
    snprintf(trouble->remedy, sizeof trouble->remedy, "%s", remedy);
}

static void trouble_of(const struct ceremony *ceremony, const struct config_hsm *section,
                       const struct sso_error *problem, struct trouble *out)
{
    const struct config *config = ceremony->config;
    switch (problem->code) {
    case SSO_TOKEN_NOT_FOUND:
        trouble_set(out, "token", "name a token that the module shows in [hsm] token");
        return;
    case SSO_TOKEN_AMBIGUOUS:
        trouble_set(out, "token", "add serial= to the URI of [hsm] token");
        return;
    case SSO_TOKEN_NOT_SUITABLE:
        trouble_set(out, "token", "use a token that can do what is missing");
        return;
    case SSO_PIN_REFUSED:
        trouble_set(out, "pin",
                    "correct the PIN's source: a changed file is tried by itself; if the token was "
                    "at fault, sso-hsm pin reset");
        return;
    default:
        break;
    }
    trouble_set(out, "module", "see [hsm] module, environment and init_args");
    if (problem->code != SSO_CONFIG_ERROR)
        return;
    if (is_of_pin_source(problem->detail)) {
        out->what = "pin";
        snprintf(out->remedy, sizeof out->remedy,
                 "the pin-source of [hsm] token must be a file of the user %s ([hsm] user) with "
                 "mode 0400, in folders that this user may enter",
                 section->user);
    } else if (strstr(problem->detail, config->system.state_directory) != NULL) {
        out->what = "pin_guard";
        snprintf(out->remedy, sizeof out->remedy,
                 "make [system] state_directory, owned by the user %s, mode 0700",
                 config->system.user);
    }
}

static const char *const stages[] = {"module", "token", "pin"};

/* The stages before the one that failed are passed, those behind it cannot be told. */
static void report_closed(const struct ceremony *ceremony, const struct config_hsm *section,
                          const struct sso_error *problem, json_t *checks)
{
    struct trouble trouble;
    char id[96];
    trouble_of(ceremony, section, problem, &trouble);
    bool behind = strcmp(trouble.what, "pin_guard") == 0; /* it is wanted before the module */
    if (behind) {
        token_id(section, trouble.what, id);
        doctor_add(checks, id, CHECK_FAIL, trouble.remedy, "%s", problem->detail);
    }
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        token_id(section, stages[i], id);
        if (strcmp(stages[i], trouble.what) == 0) {
            doctor_add(checks, id, CHECK_FAIL, trouble.remedy, "%s: %s (%s)",
                       sso_code_facts(problem->code)->name, problem->detail,
                       strcmp(trouble.what, "module") == 0 ? section->module : section->token);
            behind = true;
        } else if (behind) {
            doctor_add(checks, id, CHECK_SKIP, "", "cannot be told before the %s is right",
                       trouble.what);
        } else {
            doctor_add(checks, id, CHECK_PASS, "", "%s", i == 0 ? section->module : section->token);
        }
    }
}

static void probe(const struct config_hsm *section, struct hsm *pool, json_t *checks)
{
    struct check found[PROBES_MAX];
    struct sso_error problem = {0};
    size_t count = 0;
    char id[96];
    if (hsm_probe(pool, found, PROBES_MAX, &count, &problem) != SSO_OK) {
        token_id(section, "probe", id);
        doctor_add(checks, id, CHECK_FAIL, "see the token's own log", "%s", problem.detail);
    }
    for (size_t i = 0; i < count; i++) {
        token_id(section, found[i].id, id);
        doctor_add(checks, id, found[i].result, found[i].remedy, "%s", found[i].detail);
    }
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        const char *const details[] = {section->module, section->token, "accepted"};
        token_id(section, stages[i], id);
        if (!has_check(checks, id))
            doctor_add(checks, id, CHECK_PASS, "", "%s", details[i]);
    }
}

static void check_evidence(struct ceremony *ceremony, const struct generation *generation,
                           json_t *checks)
{
    char id[64];
    struct generation_key key;
    struct evidence evidence = {0};
    struct sso_error problem = {0};
    snprintf(id, sizeof id, "evidence.generation-%u", generation->number);
    generation_key_of(ceremony->system.id, generation, &key);
    struct hsm *pool = keyring_pool(ceremony->keyring, generation->number);
    if (hsm_evidence(pool, &key, &evidence, &problem) != SSO_OK)
        doctor_add(checks, id, CHECK_FAIL, "rotate to a new generation in a sound token", "%s",
                   problem.detail);
    else if (!evidence.accepted)
        doctor_add(checks, id, CHECK_FAIL, "rotate to a new generation in a sound token",
                   "the token fails: %s", evidence.weak);
    else if (evidence.weak[0] != '\0')
        doctor_add(checks, id, CHECK_WARN, "move to a sound token",
                   "accepted as weak by the configuration: %s", evidence.weak);
    else
        doctor_add(checks, id, CHECK_PASS, "", "the key cannot leave the token");
}

/* `partly`: not every token is looked at, so a generation that is not found may be in another. */
static void check_generations(struct ceremony *ceremony, bool partly, json_t *checks)
{
    struct sso_error problem = {0};
    size_t opened = 0, shut = 0;
    if (ceremony->generation_count == 0) {
        doctor_add(checks, "canary", CHECK_SKIP, "", "there is no generation yet");
        return;
    }
    if (installation_open_keyring(ceremony, &problem) != SSO_OK) {
        doctor_add(checks, "canary", CHECK_FAIL, "", "%s", problem.detail);
        return;
    }
    for (size_t i = 0; i < ceremony->generation_count; i++) {
        const struct generation *generation = &ceremony->generation[i];
        if (generation->state == GENERATION_DESTROYED)
            continue;
        if (installation_open_generation(ceremony, generation, &problem) == SSO_OK) {
            opened++;
            check_evidence(ceremony, generation, checks);
        } else if (generation->state == GENERATION_DESTROYING) {
            char remedy[64];
            snprintf(remedy, sizeof remedy, "sso-hsm key destroy %u goes on", generation->number);
            doctor_add(checks, "destruction", CHECK_WARN, remedy,
                       "the destruction of generation %u was begun and not ended: %s",
                       generation->number, problem.detail);
        } else if (!partly && generation->state == GENERATION_RETIRED) {
            doctor_add(checks, "retired", CHECK_WARN,
                       "no row needs it; for older copies of the database bring its token back, or "
                       "sso-hsm key restore FILE",
                       "generation %u: %s", generation->number, problem.detail);
        } else if (!partly) {
            shut++;
            doctor_add(checks, "canary", CHECK_FAIL,
                       "bring the token back that holds it, or sso-hsm key restore FILE; no row is "
                       "changed or deleted meanwhile",
                       "generation %u: %s", generation->number, problem.detail);
        }
    }
    if (shut == 0)
        doctor_add(checks, "canary", CHECK_PASS, "", "opened with each of %zu generations", opened);
}

#define KEYS_NAMED_MAX 4

/* Left by a ceremony that was interrupted, or of a database that is not this one any more. */
static void check_keys(struct ceremony *ceremony, const struct config_hsm *section,
                       struct hsm *pool, json_t *checks)
{
    struct token_key *keys = NULL;
    struct sso_error problem = {0};
    size_t count = 0, unknown = 0;
    char id[96], names[KEYS_NAMED_MAX * (GENERATION_LABEL_SIZE + 2) + 1] = "";
    token_id(section, "keys.unknown", id);
    if (hsm_list_keys(pool, ceremony->system.id, &keys, &count, &problem) != SSO_OK) {
        doctor_add(checks, id, CHECK_WARN, "see the token's own log", "%s", problem.detail);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        char label[GENERATION_LABEL_SIZE];
        bool known = false;
        for (size_t k = 0; k < ceremony->generation_count && !known; k++)
            known =
                memcmp(ceremony->generation[k].secret_id, keys[i].secret_id, SECRET_ID_BYTES) == 0;
        if (known || unknown++ >= KEYS_NAMED_MAX)
            continue;
        generation_label(ceremony->system.id, keys[i].number, label);
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? ", " : "", label);
    }
    free(keys);
    if (unknown == 0)
        doctor_add(checks, id, CHECK_PASS, "", "the database knows all %zu keys of this system",
                   count);
    else
        doctor_add(checks, id, CHECK_WARN,
                   "the next ceremony takes away what one left that was interrupted; where the "
                   "database was put back, sso-hsm db accept-restore; else take it out with the "
                   "token's own tool",
                   "the token holds %zu keys of this system that the database does not know: %s",
                   unknown, names);
}

static void check_policy(struct ceremony *ceremony, json_t *checks)
{
    struct sso_error problem = {0};
    if (ceremony->keyring == NULL) {
        doctor_add(checks, "policy", CHECK_SKIP, "", "there is no policy key yet");
        return;
    }
    enum sso_code rc = installation_open_policy(ceremony, &problem);
    if (rc == SSO_OK)
        rc = installation_check_tags(ceremony, &problem);
    if (rc == SSO_OK)
        doctor_add(checks, "policy", CHECK_PASS, "", "the tags of all generations fit");
    else
        doctor_add(checks, "policy", CHECK_FAIL, "sso-hsm db check --open names every such row",
                   "%s", problem.detail);
}

void doctor_check_tokens(struct ceremony *ceremony, const char *token, json_t *checks)
{
    const struct config *config = ceremony->config;
    size_t tried = 0, opened = 0;
    for (size_t i = 0; i < config->hsm_count; i++) {
        const struct config_hsm *section = &config->hsm[i];
        struct sso_error problem = {0};
        if (token != NULL && strcmp(section->name, token) != 0)
            continue;
        tried++;
        /* One section at a time: each failure is told of, not only the first. */
        if (installation_open_pools(ceremony, section->name, true, &problem) == SSO_OK) {
            opened++;
            probe(section, ceremony->pool[i], checks);
            if (ceremony->generation_count > 0)
                check_keys(ceremony, section, ceremony->pool[i], checks);
        } else {
            report_closed(ceremony, section, &problem, checks);
        }
        ceremony->pool_error = (struct sso_error){0};
    }
    if (tried == 0)
        doctor_add(checks, "module", CHECK_FAIL, "add a section [hsm] to the configuration",
                   "no token is configured%s%s", token != NULL ? " as " : "",
                   token != NULL ? token : "");
    if (opened == 0) {
        doctor_add(checks, "canary", CHECK_SKIP, "", "no token is open");
        doctor_add(checks, "policy", CHECK_SKIP, "", "no token is open");
        return;
    }
    check_generations(ceremony, token != NULL, checks);
    check_policy(ceremony, checks);
}
