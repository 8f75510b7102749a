#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ceremony/installation.h"
#include "cli/ceremony/making.h"
#include "common/json.h"

#define NUMBERS_PASSED_MAX 16

json_t *key_show_object(const struct ceremony *ceremony, const struct generation *generation,
                        const struct evidence *evidence, int64_t rows)
{
    char text[2048];
    json_t *object = json_generation(generation, ceremony->token, ceremony->token_count, rows);
    evidence_json(evidence, text, sizeof text);
    json_t *parsed = json_parse(text, strlen(text), NULL);
    json_object_set_new(object, "evidence", parsed != NULL ? parsed : json_null());
    return object;
}

enum sso_code console_undo_key(const struct ceremony *ceremony, struct hsm *pool,
                               const struct generation *generation, bool *gone,
                               struct sso_error *err)
{
    struct generation_key key;
    char label[GENERATION_LABEL_SIZE];
    struct sso_error why = err != NULL ? *err : (struct sso_error){.code = SSO_INTERNAL};
    struct sso_error problem = {0};
    generation_key_of(ceremony->system.id, generation, &key);
    generation_label(ceremony->system.id, generation->number, label);
    *gone = hsm_destroy_key(pool, &key, &problem) == SSO_OK;
    if (*gone)
        return sso_fail(err, why.code, "%s; the key made for it was destroyed again", why.detail);
    return sso_fail(err, why.code,
                    "%s; the key made for it is still in the token, unused, as %s (%s)", why.detail,
                    label, problem.detail);
}

static enum sso_code store_generation(struct ceremony *ceremony, struct making *making,
                                      struct audit_record *record, struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(ceremony->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = making_store(ceremony, making, tx, err);
    if (rc == SSO_OK)
        rc = store_audit_append(tx, record, 1, err);
    return rc == SSO_OK ? store_commit(&tx, err) : rc;
}

static enum sso_code choose_pool(struct ceremony *ceremony, const char *token, struct hsm **pool,
                                 struct sso_error *err)
{
    const struct generation *active = installation_active(ceremony);
    if (token != NULL || active == NULL) {
        *pool = installation_pool(ceremony, token);
    } else {
        enum sso_code rc = installation_open_generation(ceremony, active, err);
        if (rc != SSO_OK)
            return rc;
        *pool = keyring_pool(ceremony->keyring, active->number);
    }
    if (*pool != NULL)
        return SSO_OK;
    for (size_t i = 0; token != NULL && i < ceremony->config->hsm_count; i++) {
        if (strcmp(ceremony->config->hsm[i].name, token) == 0)
            return sso_fail(err, ceremony->pool_error.code, "%s", ceremony->pool_error.detail);
    }
    return sso_fail(err, SSO_CONFIG_ERROR, "%s has no section [hsm %s]", ceremony->config->file,
                    token != NULL ? token : "");
}

static enum sso_code next_number(const struct ceremony *ceremony, uint32_t *number,
                                 struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(ceremony->store, STORE_READ, &tx, err);
    return rc == SSO_OK ? store_generation_next(tx, number, err) : rc;
}

/* A number whose key somebody was killed over stands in the token without a row. It is passed over:
 * numbers are never used again, and what is in the token is for a person to judge. */
static enum sso_code make_key(struct ceremony *ceremony, struct making *making, enum suite_id suite,
                              struct sso_error *err)
{
    uint32_t first;
    enum sso_code rc = next_number(ceremony, &first, err);
    if (rc != SSO_OK)
        return rc;
    for (uint32_t number = first;; number++) {
        rc = making_key(ceremony, making, number, suite, err);
        if (rc != SSO_ALREADY_EXISTS || number - first == NUMBERS_PASSED_MAX)
            return rc;
        console_warn("generation %u is passed over: the token holds a key of that number which "
                     "the database does not know",
                     number);
    }
}

static enum sso_code finish_generation(struct ceremony *ceremony, struct making *making,
                                       struct sso_error *err)
{
    char target[32];
    struct audit_record record;
    struct generation *generation = &making->made.generation;
    snprintf(target, sizeof target, "generation %u", generation->number);
    /* A fresh worker opens it: proof that the key is really in the token. */
    enum sso_code rc =
        keyring_open(ceremony->keyring, generation, &making->made.token, 1, true, err);
    if (rc == SSO_OK)
        rc = making_prove(ceremony, making, err);
    if (rc == SSO_OK)
        rc = console_record(ceremony, "generation.generate", target, &record, err);
    if (rc == SSO_OK)
        rc = store_generation(ceremony, making, &record, err);
    if (rc != SSO_OK)
        return rc;
    console_keep_head(ceremony, &record, false);
    making_done(ceremony, making);
    return SSO_OK;
}

static void tell_of_pending(const struct ceremony *ceremony, const struct generation *active)
{
    for (size_t i = 0; i < ceremony->generation_count; i++) {
        const struct generation *other = &ceremony->generation[i];
        if (other->state == GENERATION_PENDING &&
            (active == NULL || other->number > active->number))
            console_warn("generation %u is pending already: `sso-hsm rotate` will want to be told "
                         "which one with --generation",
                         other->number);
    }
}

static void know_token(struct ceremony *ceremony, const struct generation_token *token)
{
    struct generation_token *grown =
        reallocarray(ceremony->token, ceremony->token_count + 1, sizeof *grown);
    if (grown == NULL)
        return;
    ceremony->token = grown;
    ceremony->token[ceremony->token_count++] = *token;
}

static enum sso_code make_generation(struct ceremony *ceremony, const struct generation_wish *wish,
                                     struct making *making, struct sso_error *err)
{
    const struct generation *active = installation_active(ceremony);
    enum suite_id suite = wish->suite != NULL ? suite_from_name(wish->suite)
                          : active != NULL    ? active->suite
                                              : SUITE_AES256_KW;
    enum sso_code rc = choose_pool(ceremony, wish->token, &making->pool, err);
    if (rc == SSO_OK)
        rc = making_begin(ceremony, making, wish->backing, err);
    if (rc != SSO_OK)
        return rc;
    tell_of_pending(ceremony, active);
    console_hold_signals();
    rc = make_key(ceremony, making, suite, err);
    if (rc != SSO_OK)
        return rc;
    rc = finish_generation(ceremony, making, err);
    return rc == SSO_OK ? rc : making_undo(ceremony, making, err);
}

enum sso_code ceremony_generate(struct ceremony *ceremony, const struct generation_wish *wish,
                                json_t **result, struct sso_error *err)
{
    struct making making = {.ceremony = "key generate", .journal = {.fd = -1}};
    enum sso_code rc = installation_open_all(ceremony, err);
    if (rc == SSO_OK)
        rc = installation_check_marks(ceremony, err);
    if (rc == SSO_OK)
        rc = make_generation(ceremony, wish, &making, err);
    if (rc == SSO_OK) {
        know_token(ceremony, &making.made.token);
        *result = key_show_object(ceremony, &making.made.generation, &making.made.evidence, 0);
        backing_report(&making.backing, *result);
    }
    making_end(&making);
    return rc;
}

static enum sso_code rows_of(struct ceremony *ceremony, uint32_t number, int64_t *rows,
                             struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    struct generation_rows *counted = NULL;
    size_t count = 0;
    enum sso_code rc = store_begin(ceremony->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_count_by_generation(tx, &counted, &count, err);
    *rows = 0;
    for (size_t i = 0; i < count; i++) {
        if (counted[i].generation == number)
            *rows = (int64_t)counted[i].credentials;
    }
    free(counted);
    return rc;
}

enum sso_code ceremony_show(struct ceremony *ceremony, uint32_t number, json_t **result,
                            struct sso_error *err)
{
    struct generation_key key;
    struct evidence evidence = {0};
    int64_t rows = 0;
    enum sso_code rc = installation_open_all(ceremony, err);
    if (rc != SSO_OK)
        return rc;
    const struct generation *generation =
        number != 0 ? installation_generation(ceremony, number) : installation_active(ceremony);
    if (generation == NULL && number != 0)
        return sso_fail(err, SSO_NOT_FOUND, "there is no generation %u", number);
    if (generation == NULL)
        return sso_fail(err, SSO_NO_MASTER_SECRET, "no generation is active");
    rc = installation_open_generation(ceremony, generation, err);
    if (rc != SSO_OK)
        return rc;
    generation_key_of(ceremony->system.id, generation, &key);
    rc = hsm_evidence(keyring_pool(ceremony->keyring, generation->number), &key, &evidence, err);
    if (rc == SSO_OK)
        rc = rows_of(ceremony, generation->number, &rows, err);
    if (rc == SSO_OK)
        *result = key_show_object(ceremony, generation, &evidence, rows);
    return rc;
}
