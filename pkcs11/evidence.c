#include "pkcs11/evidence.h"

#include <stdio.h>
#include <string.h>

#include "pkcs11/canary.h"
#include "pkcs11/ckr.h"
#include "pkcs11/gcm.h"
#include "pkcs11/key.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

struct trial {
    struct session *session;
    CK_OBJECT_HANDLE key;
    const struct suite *suite;
    struct evidence *evidence;
    struct sso_error no_session; /* a usage could not be tried for want of a session */
};

static void append(char *list, size_t size, const char *word)
{
    size_t length = strlen(list);
    snprintf(list + length, size - length, "%s%s", length > 0 ? "," : "", word);
}

static void weak(struct trial *trial, const char *check)
{
    append(trial->evidence->weak, sizeof trial->evidence->weak, check);
}

static struct module *module_of(struct trial *trial)
{
    return trial->session->token->module;
}

static void try_read_value(struct trial *trial)
{
    uint8_t *value = trial->session->row_key;
    CK_ATTRIBUTE attribute = {CKA_VALUE, value, ROW_KEY_BYTES};
    struct outcome call = CALL(module_of(trial), GetAttributeValue, trial->session->handle,
                               trial->key, &attribute, 1);
    memset(value, 0, ROW_KEY_BYTES);
    ckr_name(call.rv, trial->evidence->read_value);
    if (call.rv == CKR_OK)
        weak(trial, "read_value");
}

/* The mechanisms with which a key could leave the token. */
static const CK_MECHANISM_TYPE wrapping[] = {CKM_AES_KEY_WRAP, CKM_AES_KEY_WRAP_PAD,
                                             CKM_AES_CBC_PAD};

static struct outcome try_wrap_with(struct trial *trial, CK_MECHANISM_TYPE type,
                                    CK_OBJECT_HANDLE with, CK_OBJECT_HANDLE key)
{
    uint8_t iv[16] = {0}, out[96];
    CK_ULONG length = sizeof out;
    CK_MECHANISM mechanism = {.mechanism = type};
    if (type == CKM_AES_CBC_PAD) {
        mechanism.pParameter = iv;
        mechanism.ulParameterLen = sizeof iv;
    }
    return CALL(module_of(trial), WrapKey, trial->session->handle, &mechanism, with, key, out,
                &length);
}

/* With a fresh key that nobody else has and that is destroyed at once. A refusal counts only for a
 * mechanism that does wrap an extractable key. */
static void try_wrap(struct trial *trial)
{
    CK_OBJECT_HANDLE with = CK_INVALID_HANDLE, control = CK_INVALID_HANDLE;
    struct session *session = trial->session;
    struct outcome made = key_generate_session(session, CKA_WRAP, &with);
    if (made.rv == CKR_OK)
        made = key_generate_session(session, 0, &control);
    struct outcome verdict = made;
    for (size_t i = 0; made.rv == CKR_OK && i < COUNT(wrapping); i++) {
        struct outcome able = try_wrap_with(trial, wrapping[i], with, control);
        if (able.rv != CKR_OK) {
            if (verdict.rv == CKR_OK)
                verdict = able;
            continue;
        }
        verdict = try_wrap_with(trial, wrapping[i], with, trial->key);
        if (verdict.rv == CKR_OK)
            break;
    }
    if (with != CK_INVALID_HANDLE)
        (void)CALL(module_of(trial), DestroyObject, session->handle, with);
    if (control != CK_INVALID_HANDLE)
        (void)CALL(module_of(trial), DestroyObject, session->handle, control);
    ckr_name(verdict.rv, trial->evidence->wrap);
    if (verdict.rv == CKR_OK)
        weak(trial, "wrap");
}

static void try_copy(struct trial *trial)
{
    CK_ATTRIBUTE both[] = {{CKA_TOKEN, &no, sizeof no},
                           {CKA_SENSITIVE, &no, sizeof no},
                           {CKA_EXTRACTABLE, &yes, sizeof yes}};
    CK_ATTRIBUTE extractable[] = {{CKA_TOKEN, &no, sizeof no}, {CKA_EXTRACTABLE, &yes, sizeof yes}};
    CK_ATTRIBUTE readable[] = {{CKA_TOKEN, &no, sizeof no}, {CKA_SENSITIVE, &no, sizeof no}};
    struct {
        CK_ATTRIBUTE *template;
        CK_ULONG count;
    } tries[] = {
        {both, COUNT(both)}, {extractable, COUNT(extractable)}, {readable, COUNT(readable)}};
    struct outcome verdict = {FN_CopyObject, CKR_OK};
    for (size_t i = 0; i < COUNT(tries); i++) {
        CK_OBJECT_HANDLE copy = CK_INVALID_HANDLE;
        verdict = CALL(module_of(trial), CopyObject, trial->session->handle, trial->key,
                       tries[i].template, tries[i].count, &copy);
        if (verdict.rv != CKR_OK)
            continue;
        (void)CALL(module_of(trial), DestroyObject, trial->session->handle, copy);
        break;
    }
    ckr_name(verdict.rv, trial->evidence->copy);
    if (verdict.rv == CKR_OK)
        weak(trial, "copy");
}

static void try_set_extractable(struct trial *trial)
{
    CK_ATTRIBUTE extractable = {CKA_EXTRACTABLE, &yes, sizeof yes};
    CK_ATTRIBUTE readable = {CKA_SENSITIVE, &no, sizeof no};
    struct outcome call = CALL(module_of(trial), SetAttributeValue, trial->session->handle,
                               trial->key, &extractable, 1);
    if (call.rv != CKR_OK)
        call = CALL(module_of(trial), SetAttributeValue, trial->session->handle, trial->key,
                    &readable, 1);
    ckr_name(call.rv, trial->evidence->set_extractable);
    if (call.rv == CKR_OK)
        weak(trial, "set_extractable");
}

/* Does the token let the key do what it must not? Each trial gets a session of its own, since one
 * that succeeds leaves an operation behind. */
static bool starts(struct trial *trial, CK_ATTRIBUTE_TYPE usage)
{
    uint8_t iv[16] = {0}, data[ROW_KEY_BYTES] = {0};
    CK_KEY_DERIVATION_STRING_DATA derivation = {data, sizeof data};
    CK_MECHANISM cbc = {CKM_AES_CBC_PAD, iv, sizeof iv}, cmac = {CKM_AES_CMAC, NULL, 0},
                 derive = {CKM_AES_ECB_ENCRYPT_DATA, &derivation, sizeof derivation};
    struct session session = {0};
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    CK_ATTRIBUTE template[] = {{CKA_TOKEN, &no, sizeof no}};
    struct outcome call = {FN_OpenSession, CKR_OK};
    if (session_open(&session, trial->session->token, trial->session->table, &trial->no_session) !=
        SSO_OK) {
        session_close(&session);
        return false;
    }
    struct module *module = module_of(trial);
    switch (usage) {
    case CKA_ENCRYPT:
        call = CALL(module, EncryptInit, session.handle, &cbc, trial->key);
        break;
    case CKA_DECRYPT:
        call = CALL(module, DecryptInit, session.handle, &cbc, trial->key);
        break;
    case CKA_SIGN:
        call = CALL(module, SignInit, session.handle, &cmac, trial->key);
        break;
    case CKA_VERIFY:
        call = CALL(module, VerifyInit, session.handle, &cmac, trial->key);
        break;
    case CKA_DERIVE:
        call = CALL(module, DeriveKey, session.handle, &derive, trial->key, template,
                    COUNT(template), &object);
        break;
    default:
        break;
    }
    session_close(&session);
    return call.rv == CKR_OK;
}

/* A gcm key must neither wrap nor unwrap. */
static bool wraps(struct trial *trial, CK_ATTRIBUTE_TYPE usage)
{
    struct session *session = trial->session;
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    struct outcome call;
    if (usage == CKA_UNWRAP) {
        /* Nothing is at hand that this key would unwrap, so it is the refusal's kind that counts:
         * the usage or the mechanism, not the data. */
        static const uint8_t no_binding[BINDING_BYTES] = {0};
        const struct wrapped_key nothing = {.length_bytes = KEY_WRAPPED_BYTES};
        call = suite_aes256_kw.unwrap(session, trial->key, no_binding, &nothing, session->row_key);
        return ckr_class(call) != CKR_CLASS_CONFIGURATION;
    }
    call = key_generate_session(session, 0, &object);
    if (call.rv != CKR_OK)
        return false;
    call = try_wrap_with(trial, CKM_AES_KEY_WRAP, trial->key, object);
    (void)CALL(module_of(trial), DestroyObject, session->handle, object);
    return call.rv == CKR_OK;
}

static void try_usages(struct trial *trial)
{
    bool as_named = true, as_tried = true;
    for (size_t i = 0; i < KEY_USAGES; i++) {
        CK_ATTRIBUTE_TYPE usage = key_usages[i].type;
        bool wanted = key_usage_wanted(trial->suite, usage);
        bool named = key_attribute(trial->session, trial->key, usage) == 1;
        if (named)
            append(trial->evidence->usages, sizeof trial->evidence->usages, key_usages[i].name);
        if (named != wanted)
            as_named = false;
        if (wanted)
            continue; /* the canary tries these */
        bool does =
            usage == CKA_WRAP || usage == CKA_UNWRAP ? wraps(trial, usage) : starts(trial, usage);
        if (does)
            as_tried = false;
    }
    if (!as_named || !as_tried)
        weak(trial, "usages");
}

static void note_gcm_iv(struct trial *trial)
{
    struct gcm_way way;
    if (trial->suite->id == SUITE_AES256_GCM && gcm_way(trial->session, &way).rv == CKR_OK)
        snprintf(trial->evidence->gcm_iv, sizeof trial->evidence->gcm_iv, "%s",
                 gcm_iv_name(way.iv));
}

enum sso_code evidence_take(struct session *session, const struct generation_key *generation,
                            CK_OBJECT_HANDLE key, bool weak_accepted, struct evidence *out,
                            struct sso_error *err)
{
    struct trial trial = {
        .session = session, .key = key, .suite = suite_by_id(generation->suite), .evidence = out};
    *out = (struct evidence){0};
    /* Before the trials: one that succeeds may change what the key says of itself. */
    out->sensitive = key_attribute(session, key, CKA_SENSITIVE) == 1;
    out->extractable = key_attribute(session, key, CKA_EXTRACTABLE) != 0;
    out->modifiable = key_attribute(session, key, CKA_MODIFIABLE);
    out->copyable = key_attribute(session, key, CKA_COPYABLE);
    out->local = key_attribute(session, key, CKA_LOCAL);
    out->never_extractable = key_attribute(session, key, CKA_NEVER_EXTRACTABLE);
    out->always_sensitive = key_attribute(session, key, CKA_ALWAYS_SENSITIVE);
    if (!out->sensitive)
        weak(&trial, "sensitive");
    if (out->extractable)
        weak(&trial, "extractable");
    try_read_value(&trial);
    try_wrap(&trial);
    try_copy(&trial);
    try_set_extractable(&trial);
    try_usages(&trial);
    if (trial.no_session.code != SSO_OK)
        return sso_fail(err, SSO_HSM_UNAVAILABLE,
                        "the usages of a key are tried in a session of their own: %s; let who "
                        "uses the token leave one",
                        trial.no_session.detail);
    note_gcm_iv(&trial);
    enum sso_code code = canary_open(session, key, trial.suite, generation, err);
    if (code != SSO_OK && code != SSO_WRONG_MASTER_SECRET)
        return code;
    out->canary = code == SSO_OK;
    out->accepted = out->canary && (out->weak[0] == '\0' || weak_accepted);
    return SSO_OK;
}

enum sso_code evidence_verdict(const struct evidence *evidence, const struct token *token,
                               struct sso_error *err)
{
    if (evidence->accepted)
        return SSO_OK;
    if (!evidence->canary)
        return sso_fail(err, SSO_KEY_NOT_ACCEPTABLE,
                        "token \"%s\" does not open what it wrapped itself: the canary failed",
                        token->identity.token);
    return sso_fail(err, SSO_KEY_NOT_ACCEPTABLE,
                    "token \"%s\" fails required checks of a master secret: %s; use another token, "
                    "or say weak_token = accept in its [hsm] section, which stays visible for ever",
                    token->identity.token, evidence->weak);
}
