/* Frames of a ceremony with a backup (DESIGN §8). Each does all its work in one session and leaves
 * no session object in it. */
#include <openssl/crypto.h>

#include "common/fault.h"
#include "pkcs11/canary.h"
#include "pkcs11/ckr.h"
#include "pkcs11/key.h"
#include "pkcs11/worker.h"
#include "pkcs11/wrapping_key.h"

static enum sso_code damaged(struct sso_error *err)
{
    return sso_fail(err, SSO_BAD_REQUEST, "a damaged frame");
}

/* What this session made goes, whatever came of it. An object that the token does not let go is
 * left to the end of the session, which is then ended. */
static void drop(struct worker_thread *thread, CK_OBJECT_HANDLE object)
{
    struct session *session = &thread->session;
    if (object == CK_INVALID_HANDLE)
        return;
    struct outcome call = CALL(session->token->module, DestroyObject, session->handle, object);
    if (call.rv != CKR_OK && session_renew(session, NULL) != SSO_OK)
        thread->flags |= REPLY_REPLACE_ME;
}

/* The wrapping key follows the generation in a request. Nothing of it stays in the buffer. */
static enum sso_code enter(struct worker_thread *thread, struct decoder *request,
                           CK_OBJECT_HANDLE *out, struct sso_error *err)
{
    const uint8_t *bytes = request->next;
    *out = CK_INVALID_HANDLE;
    if (request->failed || request->left_bytes < WRAPPING_KEY_BYTES)
        return damaged(err);
    request->next += WRAPPING_KEY_BYTES;
    request->left_bytes -= WRAPPING_KEY_BYTES;
    enum sso_code code = wrapping_key_enter(&thread->session, bytes, out, err);
    OPENSSL_cleanse((void *)bytes, WRAPPING_KEY_BYTES);
    return code;
}

static enum sso_code wrap(struct worker_thread *thread, CK_OBJECT_HANDLE object,
                          struct key_backup *backup, struct sso_error *err)
{
    CK_MECHANISM mechanism = {.mechanism = CKM_AES_KEY_WRAP};
    CK_ULONG length = sizeof backup->wrapped.bytes;
    struct session *session = &thread->session;
    struct outcome call = CALL(session->token->module, WrapKey, session->handle, &mechanism,
                               backup->wrapping_key, object, backup->wrapped.bytes, &length);
    if (call.rv != CKR_OK)
        return ckr_fail(err, call, "wrapping the master secret for its backup");
    backup->wrapped.length_bytes = (uint8_t)length;
    return SSO_OK;
}

static enum sso_code random_from_token(struct worker_thread *thread, struct sso_error *err)
{
    struct session *session = &thread->session;
    struct outcome call = CALL(session->token->module, GenerateRandom, session->handle,
                               session->scratch, WRAPPING_KEY_BYTES);
    if (call.rv == CKR_OK)
        encode_fixed(&thread->reply, session->scratch, WRAPPING_KEY_BYTES);
    OPENSSL_cleanse(session->scratch, SESSION_SCRATCH_BYTES);
    return call.rv == CKR_OK ? SSO_OK : ckr_fail(err, call, "asking the token for randomness");
}

/* A fresh extractable session key, wrapped: that is the backup. */
static enum sso_code make_backup(struct worker_thread *thread, struct key_backup *backup,
                                 struct sso_error *err)
{
    CK_OBJECT_HANDLE fresh = CK_INVALID_HANDLE;
    struct outcome call = key_generate_session(&thread->session, 0, &fresh);
    if (call.rv != CKR_OK)
        return ckr_fail(err, call, "making the master secret");
    enum sso_code code = wrap(thread, fresh, backup, err);
    drop(thread, fresh);
    return code;
}

/* What every request begins with: the generation, and the wrapping key of its backup. */
static enum sso_code begin(struct worker_thread *thread, struct decoder *request,
                           struct generation_key *generation, struct key_backup *backup,
                           struct sso_error *err)
{
    enum sso_code code = worker_read_generation(request, generation, err);
    if (code == SSO_OK)
        code = worker_check_suite(thread, suite_by_id(generation->suite), err);
    return code == SSO_OK ? enter(thread, request, &backup->wrapping_key, err) : code;
}

/* The key that was installed proves itself, or is gone. */
static enum sso_code settle(struct worker_thread *thread, struct generation_key *generation,
                            CK_OBJECT_HANDLE key, bool made, struct sso_error *err)
{
    fault_point("ceremony.installed");
    enum sso_code code = worker_prove(thread, generation, key, made, err);
    if (code != SSO_OK)
        worker_unmake(thread, generation, key, err);
    return code;
}

/* The master secret is the restoration of its own backup. */
static enum sso_code generate_backed(struct worker_thread *thread, struct decoder *request,
                                     struct sso_error *err)
{
    struct generation_key generation;
    struct key_backup backup = {0};
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    enum sso_code code = begin(thread, request, &generation, &backup, err);
    if (code != SSO_OK)
        return code;
    code = make_backup(thread, &backup, err);
    fault_point("ceremony.wrapped");
    if (code == SSO_OK)
        code = key_install(&thread->session, &backup, &generation, &key, err);
    drop(thread, backup.wrapping_key);
    if (code == SSO_OK)
        code = settle(thread, &generation, key, true, err);
    if (code == SSO_OK)
        frame_put_wrapped(&thread->reply, &backup.wrapped);
    return code;
}

/* How many of the rows that the request brings open under `key`. */
static enum sso_code open_samples(struct worker_thread *thread, struct decoder *request,
                                  CK_OBJECT_HANDLE key, const struct suite *suite,
                                  struct sso_error *err)
{
    struct session *session = &thread->session;
    uint32_t count = decode_u32(request), opened = 0;
    for (uint32_t i = 0; i < count && !request->failed; i++) {
        struct key_item item = {0};
        frame_get_item(request, FRAME_UNWRAP, &item);
        if (request->failed || !suite_wrapped_fits(suite->id, item.wrapped.length_bytes))
            continue;
        struct outcome call =
            suite->unwrap(session, key, item.binding, &item.wrapped, session->row_key);
        opened += call.rv == CKR_OK;
        OPENSSL_cleanse(session->row_key, ROW_KEY_BYTES);
    }
    encode_u32(&thread->reply, opened);
    return request->failed || request->left_bytes != 0 ? damaged(err) : SSO_OK;
}

/* All that a restoration proves, on a key that ends with the session. */
static enum sso_code try_key(struct worker_thread *thread, struct decoder *request,
                             const struct generation_key *generation,
                             const struct key_backup *backup, struct sso_error *err)
{
    struct session *session = &thread->session;
    const struct suite *suite = suite_by_id(generation->suite);
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    enum sso_code code = key_install_trial(session, backup, generation, &key, err);
    if (code != SSO_OK)
        return code;
    code = canary_open(session, key, suite, generation, err);
    if (code == SSO_OK)
        code = open_samples(thread, request, key, suite, err);
    drop(thread, key);
    return code;
}

static enum sso_code try_backup(struct worker_thread *thread, struct decoder *request, bool commit,
                                struct sso_error *err)
{
    struct generation_key generation;
    struct key_backup backup = {0};
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    enum sso_code code = begin(thread, request, &generation, &backup, err);
    if (code != SSO_OK)
        return code;
    frame_get_wrapped(request, &backup.wrapped);
    code = request->failed ? damaged(err) : try_key(thread, request, &generation, &backup, err);
    if (code == SSO_OK && commit)
        code = key_install(&thread->session, &backup, &generation, &key, err);
    drop(thread, backup.wrapping_key);
    return code == SSO_OK && commit ? settle(thread, &generation, key, false, err) : code;
}

/* The old backup, opened as an extractable session key and wrapped under the new wrapping key; the
 * new one must open to the same key. */
static enum sso_code rewrap(struct worker_thread *thread, const struct generation_key *generation,
                            const struct key_backup *old, struct key_backup *new,
                            struct sso_error *err)
{
    struct session *session = &thread->session;
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    struct outcome call = key_unwrap_extractable(session, old, &key);
    if (call.rv != CKR_OK)
        return ckr_fail(err, call, "opening the backup of the master secret");
    enum sso_code code = wrap(thread, key, new, err);
    drop(thread, key);
    if (code == SSO_OK)
        code = key_install_trial(session, new, generation, &key, err);
    if (code != SSO_OK)
        return code;
    code = canary_open(session, key, suite_by_id(generation->suite), generation, err);
    drop(thread, key);
    return code;
}

static enum sso_code rewrap_backup(struct worker_thread *thread, struct decoder *request,
                                   struct sso_error *err)
{
    struct generation_key generation;
    struct key_backup old = {0}, new = {0};
    enum sso_code code = begin(thread, request, &generation, &old, err);
    if (code == SSO_OK) {
        frame_get_wrapped(request, &old.wrapped);
        code = enter(thread, request, &new.wrapping_key, err);
    }
    if (code == SSO_OK)
        code =
            request->left_bytes != 0 ? damaged(err) : rewrap(thread, &generation, &old, &new, err);
    drop(thread, old.wrapping_key);
    drop(thread, new.wrapping_key);
    if (code == SSO_OK)
        frame_put_wrapped(&thread->reply, &new.wrapped);
    return code;
}

enum sso_code worker_backup(struct worker_thread *thread, enum frame_kind kind,
                            struct decoder *request, struct sso_error *err)
{
    session_refresh(&thread->session);
    switch (kind) {
    case FRAME_RANDOM:
        return random_from_token(thread, err);
    case FRAME_GENERATE_BACKED:
        return generate_backed(thread, request, err);
    case FRAME_TRY_BACKUP:
        return try_backup(thread, request, false, err);
    case FRAME_INSTALL_BACKUP:
        return try_backup(thread, request, true, err);
    case FRAME_REWRAP_BACKUP:
        return rewrap_backup(thread, request, err);
    default:
        return sso_fail(err, SSO_BAD_REQUEST, "a frame of an unknown kind");
    }
}
