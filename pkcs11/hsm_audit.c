/* What is done with the audit signing key of a token. */
#include <string.h>

#include "common/row.h"
#include "pkcs11/pool.h"

/* Making a key pair may take a small HSM many calls' time. */
#define MAKE_DEADLINES 6
/* Whoever asks for a signature has other things to do, and asks again. */
#define SIGN_DEADLINES 1
#define SIGN_TRIES 2

/* *died: the worker did, so nothing is known of what it did. */
static enum sso_code run(struct hsm *hsm, enum frame_kind kind, const struct encoder *body,
                         struct encoder *reply, bool *died, struct sso_error *err)
{
    unsigned deadlines = kind == FRAME_AUDIT_SIGN ? SIGN_DEADLINES : MAKE_DEADLINES;
    struct control control = {
        .kind = kind, .deadline_ms = deadlines * hsm->section->deadline_ms, .body = body};
    pthread_mutex_lock(&hsm->control_mutex);
    enum sso_code code = control_run_any(hsm, &control, NULL, err);
    pthread_mutex_unlock(&hsm->control_mutex);
    if (code == SSO_OK)
        encode_fixed(reply, control.reply.data, control.reply.length_bytes);
    encoder_free(&control.reply);
    *died = control.died;
    return code;
}

static enum sso_code damaged(struct sso_error *err)
{
    return sso_fail(err, SSO_HSM_UNAVAILABLE, "a worker answered with a damaged frame");
}

enum sso_code hsm_audit_make(struct hsm *hsm, const uint8_t system_id[static SYSTEM_ID_BYTES],
                             struct audit_key *key, struct sso_error *err)
{
    ENCODER_AUTO body = {0};
    ENCODER_AUTO reply = {0};
    bool died = false;
    static const uint8_t unset[AUDIT_KEY_ID_BYTES];
    struct audit_key made = *key;
    struct hsm_status status;
    enum sso_code code = SSO_OK;
    if (memcmp(made.id, unset, sizeof unset) == 0)
        code = random_bytes(made.id, sizeof made.id, err);
    if (code != SSO_OK)
        return code;
    encode_fixed(&body, system_id, SYSTEM_ID_BYTES);
    encode_fixed(&body, made.id, sizeof made.id);
    code = run(hsm, FRAME_AUDIT_MAKE, &body, &reply, &died, err);
    if (code != SSO_OK)
        return code;
    struct decoder in = {.next = reply.data, .left_bytes = reply.length_bytes};
    decode_fixed(&in, made.public_key, sizeof made.public_key);
    if (decode_end(&in, "audit key", NULL) != SSO_OK)
        return damaged(err);
    hsm_status(hsm, &status);
    made.token = status.token;
    *key = made;
    return SSO_OK;
}

enum sso_code hsm_audit_sign(struct hsm *hsm, const struct audit_key *key,
                             const uint8_t digest[static AUDIT_DIGEST_BYTES],
                             uint8_t signature[static AUDIT_SIGNATURE_BYTES], struct sso_error *err)
{
    ENCODER_AUTO body = {0};
    ENCODER_AUTO reply = {0};
    uint8_t made[AUDIT_SIGNATURE_BYTES];
    bool died = true;
    enum sso_code code = SSO_INTERNAL;
    encode_fixed(&body, key->id, sizeof key->id);
    encode_fixed(&body, digest, AUDIT_DIGEST_BYTES);
    for (unsigned i = 0; i < SIGN_TRIES && died; i++)
        code = run(hsm, FRAME_AUDIT_SIGN, &body, &reply, &died, err);
    if (code != SSO_OK)
        return code;
    struct decoder in = {.next = reply.data, .left_bytes = reply.length_bytes};
    decode_fixed(&in, made, sizeof made);
    if (decode_end(&in, "signature", NULL) != SSO_OK)
        return damaged(err);
    /* A token that signs with another key, or nonsense, is found out here and not in a year. */
    if (!audit_key_verifies(key, digest, made))
        return sso_fail(err, SSO_WRONG_MASTER_SECRET,
                        "the token's signature is not of the audit key that the database knows");
    memcpy(signature, made, sizeof made);
    return SSO_OK;
}

enum sso_code hsm_audit_destroy(struct hsm *hsm, const struct audit_key *key, struct sso_error *err)
{
    ENCODER_AUTO body = {0};
    ENCODER_AUTO reply = {0};
    bool died = false;
    encode_fixed(&body, key->id, sizeof key->id);
    return run(hsm, FRAME_AUDIT_DESTROY, &body, &reply, &died, err);
}
