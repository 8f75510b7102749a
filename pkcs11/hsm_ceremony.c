/* What is done with a master secret itself, and what a token shows of it. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/row.h"
#include "pkcs11/pool.h"

/* Making a key, and the trials of the evidence, may take a small HSM many calls' time. */
#define CEREMONY_DEADLINES 6
#define TRIES 3

struct control ceremony_control(struct hsm *hsm, enum frame_kind kind, const struct encoder *body)
{
    return (struct control){
        .kind = kind, .deadline_ms = CEREMONY_DEADLINES * hsm->section->deadline_ms, .body = body};
}

enum sso_code ceremony_damaged(struct sso_error *err)
{
    return sso_fail(err, SSO_HSM_UNAVAILABLE, "a worker answered with a damaged frame");
}

void ceremony_may_be_left(const struct control *control, const struct generation_key *key,
                          struct sso_error *err)
{
    char label[GENERATION_LABEL_SIZE];
    if (control->code == SSO_OK || !control->died || err == NULL)
        return;
    generation_label(key->system_id, key->number, label);
    sso_error_context(err, "a key %s may be left in the token", label);
}

static enum sso_code generate(struct hsm *hsm, struct generation_key *key,
                              struct evidence *evidence, struct lane **lane, struct sso_error *err)
{
    ENCODER_AUTO body = {0};
    frame_put_generation(&body, key);
    struct control control = ceremony_control(hsm, FRAME_GENERATE, &body);
    enum sso_code code = control_run_any(hsm, &control, lane, err);
    struct decoder reply = {.next = control.reply.data, .left_bytes = control.reply.length_bytes};
    if (code == SSO_OK &&
        (!frame_get_generation(&reply, key) || !frame_get_evidence(&reply, evidence)))
        code = ceremony_damaged(err);
    ceremony_may_be_left(&control, key, err);
    encoder_free(&control.reply);
    return code;
}

enum sso_code hsm_generate(struct hsm *hsm, struct generation_key *key, struct evidence *evidence,
                           struct sso_error *err)
{
    static const uint8_t unset[SECRET_ID_BYTES];
    struct generation_key made = *key;
    struct lane *lane = NULL;
    enum sso_code code = SSO_OK;
    if (memcmp(made.secret_id, unset, sizeof unset) == 0)
        code = random_bytes(made.secret_id, sizeof made.secret_id, err);
    if (code != SSO_OK)
        return code;
    pthread_mutex_lock(&hsm->control_mutex);
    code = generate(hsm, &made, evidence, &lane, err);
    /* A running module need not see what another process made. One that cannot be replaced now
     * shows when the generation is opened. */
    if (code == SSO_OK)
        (void)!replace_workers(hsm, lane, NULL);
    pthread_mutex_unlock(&hsm->control_mutex);
    if (code == SSO_OK)
        *key = made;
    return code;
}

enum sso_code ceremony_ask(struct hsm *hsm, enum frame_kind kind, const struct encoder *body,
                           struct encoder *reply, struct sso_error *err)
{
    enum sso_code code = SSO_INTERNAL;
    pthread_mutex_lock(&hsm->control_mutex);
    for (unsigned i = 0; i < TRIES; i++) {
        struct control control = ceremony_control(hsm, kind, body);
        control.reply.locked = reply->locked;
        code = control_run_any(hsm, &control, NULL, err);
        if (code == SSO_OK)
            encode_fixed(reply, control.reply.data, control.reply.length_bytes);
        encoder_free(&control.reply);
        if (code == SSO_OK || !control.died)
            break;
    }
    pthread_mutex_unlock(&hsm->control_mutex);
    return code;
}

enum sso_code hsm_evidence(struct hsm *hsm, const struct generation_key *key,
                           struct evidence *evidence, struct sso_error *err)
{
    ENCODER_AUTO body = {0};
    ENCODER_AUTO reply = {0};
    frame_put_generation(&body, key);
    enum sso_code code = ceremony_ask(hsm, FRAME_EVIDENCE, &body, &reply, err);
    struct decoder in = {.next = reply.data, .left_bytes = reply.length_bytes};
    if (code == SSO_OK && !frame_get_evidence(&in, evidence))
        code = ceremony_damaged(err);
    return code;
}

enum sso_code hsm_list_keys(struct hsm *hsm, const uint8_t system_id[static SYSTEM_ID_BYTES],
                            struct token_key **out, size_t *count, struct sso_error *err)
{
    ENCODER_AUTO body = {0};
    ENCODER_AUTO reply = {0};
    *out = NULL;
    *count = 0;
    encode_fixed(&body, system_id, SYSTEM_ID_BYTES);
    enum sso_code code = ceremony_ask(hsm, FRAME_LIST, &body, &reply, err);
    struct decoder in = {.next = reply.data, .left_bytes = reply.length_bytes};
    if (code != SSO_OK)
        return code;
    uint32_t found = decode_u32(&in);
    struct token_key *keys = found <= TOKEN_KEYS_MAX ? calloc(found + 1, sizeof *keys) : NULL;
    if (keys == NULL)
        return ceremony_damaged(err);
    for (uint32_t i = 0; i < found; i++) {
        if (!frame_get_token_key(&in, &keys[i])) {
            free(keys);
            return ceremony_damaged(err);
        }
    }
    *out = keys;
    *count = found;
    return SSO_OK;
}

enum sso_code hsm_take_up_key(struct hsm *hsm, struct generation_key *key,
                              struct evidence *evidence, struct sso_error *err)
{
    ENCODER_AUTO body = {0};
    ENCODER_AUTO reply = {0};
    frame_put_generation(&body, key);
    enum sso_code code = ceremony_ask(hsm, FRAME_TAKE_UP, &body, &reply, err);
    struct decoder in = {.next = reply.data, .left_bytes = reply.length_bytes};
    if (code == SSO_OK && (!frame_get_generation(&in, key) || !frame_get_evidence(&in, evidence)))
        code = ceremony_damaged(err);
    return code;
}

enum sso_code hsm_destroy_key(struct hsm *hsm, const struct generation_key *key,
                              struct sso_error *err)
{
    ENCODER_AUTO body = {0};
    struct lane *lane = NULL;
    hsm_forget_generation(hsm, key->number);
    frame_put_generation(&body, key);
    pthread_mutex_lock(&hsm->control_mutex);
    struct control control = ceremony_control(hsm, FRAME_DESTROY, &body);
    enum sso_code code = control_run_any(hsm, &control, &lane, err);
    if (code == SSO_OK)
        (void)!replace_workers(hsm, lane, NULL);
    pthread_mutex_unlock(&hsm->control_mutex);
    encoder_free(&control.reply);
    return code;
}

const char *check_result_name(enum check_result result)
{
    static const char *const names[] = {"PASS", "WARN", "FAIL", "SKIP"};
    return result <= CHECK_SKIP ? names[result] : "FAIL";
}

enum sso_code hsm_probe(struct hsm *hsm, struct check *out, size_t maximum, size_t *count,
                        struct sso_error *err)
{
    ENCODER_AUTO reply = {0};
    *count = 0;
    enum sso_code code = ceremony_ask(hsm, FRAME_PROBE, NULL, &reply, err);
    if (code != SSO_OK)
        return code;
    struct decoder in = {.next = reply.data, .left_bytes = reply.length_bytes};
    for (uint32_t left = decode_u32(&in); left > 0 && *count < maximum; left--) {
        if (!frame_get_check(&in, &out[*count]))
            return ceremony_damaged(err);
        ++*count;
    }
    return SSO_OK;
}

static json_t *json_tristate(int value)
{
    return value < 0 ? json_null() : json_boolean(value);
}

/* "wrap,unwrap" as an array. */
static json_t *json_words(const char *list)
{
    json_t *array = json_array();
    for (const char *word = list; array != NULL && *word != '\0';) {
        size_t length = strcspn(word, ",");
        json_array_append_new(array, json_stringn(word, length));
        word += length + (word[length] == ',');
    }
    return array;
}

void evidence_json(const struct evidence *evidence, char *out, size_t size)
{
    json_t *object = json_pack(
        "{s:b, s:o, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:s, s:s, s:o, s:b, s:o}",
        "accepted", evidence->accepted, "weak", json_words(evidence->weak), "sensitive",
        evidence->sensitive, "extractable", evidence->extractable, "modifiable",
        json_tristate(evidence->modifiable), "copyable", json_tristate(evidence->copyable), "local",
        json_tristate(evidence->local), "never_extractable",
        json_tristate(evidence->never_extractable), "always_sensitive",
        json_tristate(evidence->always_sensitive), "read_value", evidence->read_value, "wrap",
        evidence->wrap, "copy", evidence->copy, "set_extractable", evidence->set_extractable,
        "usages", json_words(evidence->usages), "canary", evidence->canary, "gcm_iv",
        json_text_or_null(evidence->gcm_iv));
    char *line = object != NULL ? json_line(object) : NULL;
    snprintf(out, size, "%s", line != NULL ? line : "{}");
    wiping_free(line);
    json_decref(object);
}
