/* What is known of every generation. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ceremony/accepting.h"
#include "common/clock.h"

void accepting_free(struct accepting *self)
{
    for (size_t i = 0; i < self->count; i++)
        free(self->generation[i].token);
    free(self->generation);
    high_water_free(&self->marks);
    json_decref(self->left_alone);
    journal_close(&self->journal);
}

static struct found_generation *find(struct accepting *self, uint32_t number)
{
    for (size_t i = 0; i < self->count; i++)
        if (self->generation[i].row.number == number)
            return &self->generation[i];
    return NULL;
}

/* The place of `number` in the order. NULL: no memory. */
static struct found_generation *insert(struct accepting *self, uint32_t number)
{
    struct found_generation *grown = reallocarray(self->generation, self->count + 1, sizeof *grown);
    if (grown == NULL)
        return NULL;
    self->generation = grown;
    size_t at = self->count++;
    for (; at > 0 && grown[at - 1].row.number > number; at--)
        grown[at] = grown[at - 1];
    grown[at] = (struct found_generation){.row.number = number};
    return &grown[at];
}

static enum sso_code no_memory(struct sso_error *err)
{
    return sso_fail(err, SSO_NO_MEMORY, "no memory for what was found");
}

static enum sso_code take_database(struct accepting *self, struct sso_error *err)
{
    const struct ceremony *ceremony = self->ceremony;
    for (size_t i = 0; i < ceremony->generation_count; i++) {
        struct found_generation *found = insert(self, ceremony->generation[i].number);
        if (found == NULL)
            return no_memory(err);
        found->row = ceremony->generation[i];
        found->state = found->row.state;
    }
    return SSO_OK;
}

/* A mark is believed by its tag; one of another key than the database's would have to be looked
 * into first. */
static enum sso_code take_marks(struct accepting *self, struct sso_error *err)
{
    for (size_t i = 0; i < self->marks.generation_count; i++) {
        const struct generation *mark = &self->marks.generation[i];
        struct found_generation *found = find(self, mark->number);
        if (policy_check_generation(&self->ceremony->policy, mark, NULL) != SSO_OK)
            continue;
        if (found != NULL && memcmp(found->row.secret_id, mark->secret_id, SECRET_ID_BYTES) != 0)
            return sso_fail(err, SSO_WRONG_MASTER_SECRET,
                            "generation %u of the database is another key than the one that this "
                            "node has worked with: this is no older state of its database",
                            mark->number);
        if (found == NULL) {
            found = insert(self, mark->number);
            if (found == NULL)
                return no_memory(err);
            found->kind = FINDING_MARKED;
            found->row = *mark;
        }
        found->mark = mark;
    }
    return SSO_OK;
}

static bool has_row(const struct ceremony *ceremony, uint32_t number,
                    const struct token_identity *token)
{
    for (size_t i = 0; i < ceremony->token_count; i++)
        if (ceremony->token[i].number == number &&
            strcmp(ceremony->token[i].node, ceremony->config->cluster.node) == 0 &&
            token_identity_same(&ceremony->token[i].token, token))
            return true;
    return false;
}

static enum sso_code add_token(struct accepting *self, struct found_generation *found,
                               struct hsm *pool, const struct evidence *evidence,
                               struct sso_error *err)
{
    const struct ceremony *ceremony = self->ceremony;
    struct generation_token row;
    keyring_token_row(pool, found->row.number, ceremony->config->cluster.node, evidence, &row);
    if (has_row(ceremony, found->row.number, &row.token))
        return SSO_OK;
    for (size_t i = 0; i < found->token_count; i++)
        if (token_identity_same(&found->token[i].token, &row.token))
            return SSO_OK; /* two tokens that look alike */
    struct generation_token *grown =
        reallocarray(found->token, found->token_count + 1, sizeof *grown);
    if (grown == NULL)
        return no_memory(err);
    found->token = grown;
    policy_tag_generation_token(&ceremony->policy, &row);
    grown[found->token_count++] = row;
    return SSO_OK;
}

static void leave_alone(struct accepting *self, const struct token_key *key, struct hsm *pool,
                        const char *why)
{
    struct hsm_status status;
    char text[320], label[GENERATION_LABEL_SIZE];
    hsm_status(pool, &status);
    generation_label(self->ceremony->system.id, key->number, label);
    snprintf(text, sizeof text, "%s in token \"%s\": %.180s", label, status.token.token, why);
    json_array_append_new(self->left_alone, json_string(text));
}

/* A key that nothing but the token knows. */
static enum sso_code take_stranger(struct accepting *self, const struct token_key *key,
                                   struct hsm *pool, struct sso_error *err)
{
    struct generation_key made = {.number = key->number, .suite = key->suite};
    struct evidence evidence;
    struct sso_error problem = {0};
    memcpy(made.system_id, self->ceremony->system.id, SYSTEM_ID_BYTES);
    memcpy(made.secret_id, key->secret_id, SECRET_ID_BYTES);
    enum sso_code rc = hsm_take_up_key(pool, &made, &evidence, &problem);
    if (rc == SSO_HSM_UNAVAILABLE || rc == SSO_NO_MEMORY)
        return sso_fail(err, rc, "%s", problem.detail);
    if (rc != SSO_OK) {
        leave_alone(self, key, pool, problem.detail);
        return SSO_OK;
    }
    struct found_generation *found = insert(self, key->number);
    if (found == NULL)
        return no_memory(err);
    found->kind = FINDING_STRANGE;
    found->in_token = true;
    found->row = (struct generation){.number = key->number,
                                     .suite = key->suite,
                                     .no_backup = true,
                                     .created_ms = wall_clock_ms(),
                                     .canary = made.canary};
    memcpy(found->row.secret_id, key->secret_id, SECRET_ID_BYTES);
    return add_token(self, found, pool, &evidence, err);
}

static enum sso_code take_key(struct accepting *self, const struct token_key *key, struct hsm *pool,
                              struct sso_error *err)
{
    struct found_generation *found = find(self, key->number);
    struct generation_key wanted;
    struct evidence evidence;
    struct sso_error problem = {0};
    if (key->number > self->highest)
        self->highest = key->number;
    if (key->suite == SUITE_NONE) {
        leave_alone(self, key, pool, "it is no master secret by what it may do");
        return SSO_OK;
    }
    if (found == NULL)
        return take_stranger(self, key, pool, err);
    if (memcmp(found->row.secret_id, key->secret_id, SECRET_ID_BYTES) != 0) {
        leave_alone(self, key, pool, "another key than that of the generation");
        return SSO_OK;
    }
    found->in_token = true;
    if (found->kind == FINDING_STRANGE)
        return SSO_OK;
    generation_key_of(self->ceremony->system.id, &found->row, &wanted);
    enum sso_code rc = hsm_evidence(pool, &wanted, &evidence, &problem);
    if (rc == SSO_HSM_UNAVAILABLE || rc == SSO_NO_MEMORY)
        return sso_fail(err, rc, "%s", problem.detail);
    if (rc != SSO_OK || !evidence.accepted) {
        leave_alone(self, key, pool,
                    rc != SSO_OK ? problem.detail : "its canary or its evidence is not right");
        return SSO_OK;
    }
    found->proven = true;
    return add_token(self, found, pool, &evidence, err);
}

static enum sso_code take_tokens(struct accepting *self, struct sso_error *err)
{
    struct ceremony *ceremony = self->ceremony;
    for (size_t i = 0; i < CONFIG_HSM_MAX; i++) {
        struct token_key *keys = NULL;
        size_t count = 0;
        if (ceremony->pool[i] == NULL)
            continue;
        enum sso_code rc =
            hsm_list_keys(ceremony->pool[i], ceremony->system.id, &keys, &count, err);
        for (size_t k = 0; rc == SSO_OK && k < count; k++)
            rc = take_key(self, &keys[k], ceremony->pool[i], err);
        free(keys);
        if (rc != SSO_OK)
            return rc;
    }
    return SSO_OK;
}

enum sso_code accepting_gather(struct accepting *self, struct sso_error *err)
{
    enum sso_code rc = take_database(self, err);
    if (rc == SSO_OK)
        rc = take_marks(self, err);
    if (rc == SSO_OK)
        rc = take_tokens(self, err);
    return rc;
}
