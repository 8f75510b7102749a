/* Master secrets that have a backup (DESIGN §8). */
#include <string.h>

#include "pkcs11/pool.h"

#define LOCKED_ENCODER_AUTO(name) ENCODER_AUTO name = {.locked = true}

enum sso_code hsm_random(struct hsm *hsm, uint8_t *out, struct sso_error *err)
{
    LOCKED_ENCODER_AUTO(reply);
    enum sso_code code = ceremony_ask(hsm, FRAME_RANDOM, NULL, &reply, err);
    if (code == SSO_OK && (reply.failed || reply.length_bytes != WRAPPING_KEY_BYTES))
        code = ceremony_damaged(err);
    if (code == SSO_OK)
        memcpy(out, reply.data, WRAPPING_KEY_BYTES);
    return code;
}

static void put_backup(struct encoder *out, const struct generation_key *key,
                       const struct hsm_backup *backup)
{
    frame_put_generation(out, key);
    encode_fixed(out, backup->wrapping_key, WRAPPING_KEY_BYTES);
}

/* A frame that leaves a key in the token; the reply begins with generation and evidence. `wrapped`
 * may be NULL. */
static enum sso_code make(struct hsm *hsm, enum frame_kind kind, const struct encoder *body,
                          struct generation_key *key, struct evidence *evidence,
                          struct wrapped_key *wrapped, struct sso_error *err)
{
    struct lane *lane = NULL;
    pthread_mutex_lock(&hsm->control_mutex);
    struct control control = ceremony_control(hsm, kind, body);
    enum sso_code code = control_run_any(hsm, &control, &lane, err);
    struct decoder reply = {.next = control.reply.data, .left_bytes = control.reply.length_bytes};
    if (code == SSO_OK && kind == FRAME_INSTALL_BACKUP)
        (void)decode_u32(&reply); /* of samples: there are none */
    if (code == SSO_OK &&
        (!frame_get_generation(&reply, key) || !frame_get_evidence(&reply, evidence)))
        code = ceremony_damaged(err);
    if (code == SSO_OK && wrapped != NULL)
        frame_get_wrapped(&reply, wrapped);
    if (code == SSO_OK && (reply.failed || reply.left_bytes != 0))
        code = ceremony_damaged(err);
    ceremony_may_be_left(&control, key, err);
    encoder_free(&control.reply);
    if (code == SSO_OK)
        (void)!replace_workers(hsm, lane, NULL);
    pthread_mutex_unlock(&hsm->control_mutex);
    return code;
}

enum sso_code hsm_generate_backed(struct hsm *hsm, struct generation_key *key,
                                  struct hsm_backup *backup, struct evidence *evidence,
                                  struct sso_error *err)
{
    LOCKED_ENCODER_AUTO(body);
    struct generation_key made = *key;
    put_backup(&body, key, backup);
    if (body.failed)
        return sso_fail(err, SSO_NO_MEMORY, "no locked memory for a wrapping key");
    enum sso_code code =
        make(hsm, FRAME_GENERATE_BACKED, &body, &made, evidence, &backup->wrapped, err);
    if (code == SSO_OK)
        *key = made;
    return code;
}

enum sso_code hsm_try_backup(struct hsm *hsm, const struct generation_key *key,
                             const struct hsm_backup *backup, struct hsm_samples *samples,
                             struct sso_error *err)
{
    LOCKED_ENCODER_AUTO(body);
    ENCODER_AUTO reply = {0};
    put_backup(&body, key, backup);
    frame_put_wrapped(&body, &backup->wrapped);
    encode_u32(&body, (uint32_t)samples->count);
    for (size_t i = 0; i < samples->count; i++)
        frame_put_item(&body, FRAME_UNWRAP, &samples->item[i]);
    if (body.failed)
        return sso_fail(err, SSO_NO_MEMORY, "no locked memory for a wrapping key");
    enum sso_code code = ceremony_ask(hsm, FRAME_TRY_BACKUP, &body, &reply, err);
    struct decoder in = {.next = reply.data, .left_bytes = reply.length_bytes};
    if (code != SSO_OK)
        return code;
    samples->opened = decode_u32(&in);
    return in.failed || in.left_bytes != 0 ? ceremony_damaged(err) : SSO_OK;
}

enum sso_code hsm_install_backup(struct hsm *hsm, const struct generation_key *key,
                                 const struct hsm_backup *backup, struct evidence *evidence,
                                 struct sso_error *err)
{
    LOCKED_ENCODER_AUTO(body);
    struct generation_key installed = *key;
    put_backup(&body, key, backup);
    frame_put_wrapped(&body, &backup->wrapped);
    encode_u32(&body, 0);
    if (body.failed)
        return sso_fail(err, SSO_NO_MEMORY, "no locked memory for a wrapping key");
    return make(hsm, FRAME_INSTALL_BACKUP, &body, &installed, evidence, NULL, err);
}

enum sso_code hsm_rewrap_backup(struct hsm *hsm, const struct generation_key *key,
                                const struct hsm_backup *old_backup, struct hsm_backup *new_backup,
                                struct sso_error *err)
{
    LOCKED_ENCODER_AUTO(body);
    ENCODER_AUTO reply = {0};
    put_backup(&body, key, old_backup);
    frame_put_wrapped(&body, &old_backup->wrapped);
    encode_fixed(&body, new_backup->wrapping_key, WRAPPING_KEY_BYTES);
    if (body.failed)
        return sso_fail(err, SSO_NO_MEMORY, "no locked memory for a wrapping key");
    enum sso_code code = ceremony_ask(hsm, FRAME_REWRAP_BACKUP, &body, &reply, err);
    struct decoder in = {.next = reply.data, .left_bytes = reply.length_bytes};
    if (code != SSO_OK)
        return code;
    frame_get_wrapped(&in, &new_backup->wrapped);
    return in.failed || in.left_bytes != 0 ? ceremony_damaged(err) : SSO_OK;
}
