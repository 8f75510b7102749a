#include <stdlib.h>
#include <string.h>

#include "pkcs11/audit_signing.h"
#include "pkcs11/canary.h"
#include "pkcs11/evidence.h"
#include "pkcs11/key.h"
#include "pkcs11/key_list.h"
#include "pkcs11/probe.h"
#include "pkcs11/worker.h"

static enum sso_code open_generation(struct worker_thread *thread,
                                     const struct generation_key *generation, struct sso_error *err)
{
    struct session *session = &thread->session;
    const struct suite *suite = suite_by_id(generation->suite);
    CK_OBJECT_HANDLE key;
    enum sso_code code = key_find(session, generation, &key, err);
    if (code == SSO_OK && !thread->worker->weak_token_accepted)
        code = key_check(session, key, suite, err);
    if (code == SSO_OK)
        code = canary_open(session, key, suite, generation, err);
    if (code == SSO_OK && !generation_table_put(&thread->worker->table, generation))
        code = sso_fail(err, SSO_TOO_LARGE, "more than %d generations are open", GENERATIONS_MAX);
    return code;
}

enum sso_code worker_check_suite(struct worker_thread *thread, const struct suite *suite,
                                 struct sso_error *err)
{
    struct token *token = &thread->worker->token;
    if (token_has(token, suite->mechanism, suite->mechanism_flags))
        return SSO_OK;
    return sso_fail(err, SSO_TOKEN_NOT_SUITABLE,
                    "token \"%s\" cannot do %s (%s); choose the other suite or another token",
                    token->identity.token, suite_name(suite->id),
                    suite->wraps ? "CKM_AES_KEY_WRAP" : "CKM_AES_GCM");
}

enum sso_code worker_prove(struct worker_thread *thread, struct generation_key *generation,
                           CK_OBJECT_HANDLE key, bool made, struct sso_error *err)
{
    struct session *session = &thread->session;
    struct evidence evidence;
    enum sso_code code = SSO_OK;
    if (made)
        code = canary_make(session, key, suite_by_id(generation->suite), generation, err);
    if (code == SSO_OK)
        code = evidence_take(session, generation, key, thread->worker->weak_token_accepted,
                             &evidence, err);
    if (code == SSO_OK)
        code = evidence_verdict(&evidence, &thread->worker->token, err);
    if (code == SSO_OK) {
        frame_put_generation(&thread->reply, generation);
        frame_put_evidence(&thread->reply, &evidence);
    }
    return code;
}

void worker_unmake(struct worker_thread *thread, const struct generation_key *generation,
                   CK_OBJECT_HANDLE key, struct sso_error *err)
{
    char label[GENERATION_LABEL_SIZE];
    struct sso_error left = {0};
    generation_label(generation->system_id, generation->number, label);
    if (key_destroy(&thread->session, key, &left) != SSO_OK && err != NULL)
        sso_error_context(err, "the key %s is left in the token (%s)", label, left.detail);
}

static enum sso_code generate(struct worker_thread *thread, struct generation_key *generation,
                              struct sso_error *err)
{
    CK_OBJECT_HANDLE key;
    enum sso_code code = worker_check_suite(thread, suite_by_id(generation->suite), err);
    if (code == SSO_OK)
        code = key_generate(&thread->session, generation, &key, err);
    if (code != SSO_OK)
        return code;
    code = worker_prove(thread, generation, key, true, err);
    if (code != SSO_OK)
        worker_unmake(thread, generation, key, err);
    return code;
}

static enum sso_code evidence(struct worker_thread *thread, const struct generation_key *generation,
                              struct sso_error *err)
{
    CK_OBJECT_HANDLE key;
    struct evidence taken;
    enum sso_code code = key_find(&thread->session, generation, &key, err);
    if (code == SSO_OK)
        code = evidence_take(&thread->session, generation, key, thread->worker->weak_token_accepted,
                             &taken, err);
    if (code == SSO_OK)
        frame_put_evidence(&thread->reply, &taken);
    return code;
}

static enum sso_code destroy(struct worker_thread *thread, const struct generation_key *generation,
                             struct sso_error *err)
{
    CK_OBJECT_HANDLE key;
    bool absent = false;
    enum sso_code code = key_is_absent(&thread->session, generation, &absent, err);
    if (code == SSO_OK && absent)
        code = sso_fail(err, SSO_NOT_FOUND, "the token holds no key of generation %u",
                        generation->number);
    if (code == SSO_OK)
        code = key_find(&thread->session, generation, &key, err);
    if (code == SSO_OK)
        code = key_destroy(&thread->session, key, err);
    if (code == SSO_OK)
        generation_table_remove(&thread->worker->table, generation->number);
    return code;
}

static enum sso_code take_up(struct worker_thread *thread, struct generation_key *generation,
                             struct sso_error *err)
{
    CK_OBJECT_HANDLE key;
    enum sso_code code = key_find(&thread->session, generation, &key, err);
    return code == SSO_OK ? worker_prove(thread, generation, key, true, err) : code;
}

static enum sso_code list(struct worker_thread *thread, struct decoder *request,
                          struct sso_error *err)
{
    uint8_t system_id[SYSTEM_ID_BYTES];
    size_t count = 0;
    decode_fixed(request, system_id, sizeof system_id);
    enum sso_code code = decode_end(request, "system", err);
    struct token_key *keys = code == SSO_OK ? calloc(TOKEN_KEYS_MAX, sizeof *keys) : NULL;
    if (code == SSO_OK && keys == NULL)
        code = sso_fail(err, SSO_NO_MEMORY, "no memory for a list of keys");
    if (code == SSO_OK)
        code = key_list(&thread->session, system_id, keys, TOKEN_KEYS_MAX, &count, err);
    if (code == SSO_OK)
        encode_u32(&thread->reply, (uint32_t)count);
    for (size_t i = 0; code == SSO_OK && i < count; i++)
        frame_put_token_key(&thread->reply, &keys[i]);
    free(keys);
    return code;
}

static void probe(struct worker_thread *thread)
{
    struct check checks[PROBE_CHECKS_MAX];
    size_t count = probe_token(&thread->session, thread->worker->weak_token_accepted, checks);
    encode_u32(&thread->reply, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        frame_put_check(&thread->reply, &checks[i]);
}

/* The audit signing key: its id, and what each kind of frame has beside it. */
static enum sso_code audit(struct worker_thread *thread, enum frame_kind kind,
                           struct decoder *request, struct sso_error *err)
{
    struct session *session = &thread->session;
    struct audit_key key = {0};
    uint8_t system_id[SYSTEM_ID_BYTES], digest[AUDIT_DIGEST_BYTES];
    uint8_t signature[AUDIT_SIGNATURE_BYTES];
    if (kind == FRAME_AUDIT_MAKE)
        decode_fixed(request, system_id, sizeof system_id);
    decode_fixed(request, key.id, sizeof key.id);
    if (kind == FRAME_AUDIT_SIGN)
        decode_fixed(request, digest, sizeof digest);
    enum sso_code code = decode_end(request, "audit key", err);
    if (code != SSO_OK)
        return code;
    switch (kind) {
    case FRAME_AUDIT_MAKE:
        code = audit_signing_make(session, system_id, &key, err);
        if (code == SSO_OK)
            encode_fixed(&thread->reply, key.public_key, sizeof key.public_key);
        return code;
    case FRAME_AUDIT_SIGN:
        code = audit_signing_sign(session, key.id, digest, signature, err);
        if (code == SSO_OK)
            encode_fixed(&thread->reply, signature, sizeof signature);
        return code;
    default:
        return audit_signing_destroy(session, key.id, err);
    }
}

enum sso_code worker_read_generation(struct decoder *request, struct generation_key *out,
                                     struct sso_error *err)
{
    if (!frame_get_generation(request, out))
        return sso_fail(err, SSO_BAD_REQUEST, "a damaged frame");
    if (suite_by_id(out->suite) == NULL)
        return sso_fail(err, SSO_TOKEN_NOT_SUITABLE,
                        "generation %u has a suite that this version does not know", out->number);
    return SSO_OK;
}

enum sso_code worker_control(struct worker_thread *thread, enum frame_kind kind,
                             struct decoder *request, struct sso_error *err)
{
    struct generation_key generation = {0};
    enum sso_code code;
    if (kind == FRAME_PROBE) {
        probe(thread);
        return SSO_OK;
    }
    if (kind == FRAME_LIST)
        return list(thread, request, err);
    if (kind == FRAME_FORGET) {
        generation_table_remove(&thread->worker->table, decode_u32(request));
        return SSO_OK;
    }
    if (kind == FRAME_AUDIT_MAKE || kind == FRAME_AUDIT_SIGN || kind == FRAME_AUDIT_DESTROY)
        return audit(thread, kind, request, err);
    if (kind >= FRAME_RANDOM)
        return worker_backup(thread, kind, request, err);
    code = worker_read_generation(request, &generation, err);
    if (code == SSO_OK && request->left_bytes != 0)
        code = sso_fail(err, SSO_BAD_REQUEST, "a damaged frame");
    if (code != SSO_OK)
        return code;
    session_refresh(&thread->session);
    switch (kind) {
    case FRAME_OPEN:
        return open_generation(thread, &generation, err);
    case FRAME_GENERATE:
        return generate(thread, &generation, err);
    case FRAME_EVIDENCE:
        return evidence(thread, &generation, err);
    case FRAME_TAKE_UP:
        return take_up(thread, &generation, err);
    case FRAME_DESTROY:
        return destroy(thread, &generation, err);
    default:
        return sso_fail(err, SSO_BAD_REQUEST, "a frame of an unknown kind");
    }
}
