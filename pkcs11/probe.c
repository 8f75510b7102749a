#include "pkcs11/probe.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/digest.h"
#include "pkcs11/canary.h"
#include "pkcs11/ckr.h"
#include "pkcs11/evidence.h"
#include "pkcs11/key.h"

struct probe {
    struct session *session;
    struct check *out;
    size_t count;
    bool weak_accepted;
    unsigned suites_usable;
};

__attribute__((format(printf, 5, 6))) static void report(struct probe *probe, const char *id,
                                                         enum check_result result,
                                                         const char *remedy, const char *detail,
                                                         ...)
{
    struct check *check = &probe->out[probe->count++];
    *check = (struct check){.result = result};
    snprintf(check->id, sizeof check->id, "%s", id);
    snprintf(check->remedy, sizeof check->remedy, "%s",
             result == CHECK_PASS || remedy == NULL ? "" : remedy);
    va_list args;
    va_start(args, detail);
    vsnprintf(check->detail, sizeof check->detail, detail, args);
    va_end(args);
}

static void probe_identity(struct probe *probe, unsigned sessions)
{
    const struct token *token = probe->session->token;
    char uri[TOKEN_URI_SIZE];
    token_identity_uri(&token->identity, uri);
    report(probe, "token.found", CHECK_PASS, NULL, "%.200s, firmware %s", uri, token->firmware);
    bool low = (token->flags & (CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY)) != 0;
    report(probe, "token.login", low ? CHECK_WARN : CHECK_PASS,
           "somebody used a wrong PIN; find out who before the token locks",
           low ? "logged in; the token counts failed tries" : "logged in");
    report(probe, "token.sessions", CHECK_PASS, NULL, "%u sessions for a worker", sessions);
}

/* A wrapped key that has been changed by one bit, or bound to another row, must not open. */
static const char *try_damage(struct session *session, const struct suite *suite,
                              CK_OBJECT_HANDLE key, const uint8_t *binding,
                              const struct wrapped_key *wrapped)
{
    struct wrapped_key damaged = *wrapped;
    damaged.bytes[damaged.length_bytes - 1] ^= 1;
    if (suite->unwrap(session, key, binding, &damaged, session->row_key).rv == CKR_OK)
        return "opens a wrapped key that was changed";
    if (suite->wraps)
        return NULL;
    uint8_t other[BINDING_BYTES] = {1};
    if (suite->unwrap(session, key, other, wrapped, session->row_key).rv == CKR_OK)
        return "opens a wrapped key with another row's binding";
    return NULL;
}

static const char *try_suite(struct session *session, const struct suite *suite,
                             CK_OBJECT_HANDLE key, char text[static 96])
{
    char name[CKR_NAME_SIZE];
    uint8_t binding[BINDING_BYTES] = {0}, first[BINDING_BYTES];
    struct wrapped_key wrapped = {0};
    struct outcome call = suite->make(session, key, binding, session->row_key, &wrapped);
    digest_sha256(session->row_key, ROW_KEY_BYTES, first);
    OPENSSL_cleanse(session->row_key, ROW_KEY_BYTES);
    if (call.rv == CKR_OK)
        call = suite->unwrap(session, key, binding, &wrapped, session->row_key);
    if (call.rv == CKR_OK && suite->rewrap != NULL)
        call = suite->rewrap(session, key, key, &wrapped, &wrapped);
    if (call.rv != CKR_OK) {
        snprintf(text, 96, "%s says %s", module_function_name(call.function),
                 ckr_name(call.rv, name));
        return text;
    }
    uint8_t second[BINDING_BYTES];
    digest_sha256(session->row_key, ROW_KEY_BYTES, second);
    if (memcmp(first, second, sizeof first) != 0)
        return "gives back another key than it wrapped";
    return try_damage(session, suite, key, binding, &wrapped);
}

static void probe_suite(struct probe *probe, const struct suite *suite)
{
    static const char *const remedy = "use the other suite or another token";
    const char *id = suite->wraps ? "mechanism.aes-key-wrap" : "mechanism.aes-gcm";
    struct session *session = probe->session;
    struct generation_key trial = {.number = 1, .suite = suite->id};
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    struct sso_error err = {0};
    if (RAND_bytes(trial.system_id, sizeof trial.system_id) != 1 ||
        RAND_bytes(trial.secret_id, sizeof trial.secret_id) != 1)
        return;
    if (!token_has(session->token, suite->mechanism, suite->mechanism_flags)) {
        report(probe, id, CHECK_WARN, remedy, "the token does not have it: no %s",
               suite_name(suite->id));
        return;
    }
    if (key_generate_trial(session, &trial, &key, &err) != SSO_OK) {
        report(probe, id, CHECK_WARN, remedy, "%.200s", err.detail);
        return;
    }
    char text[96];
    const char *fault = try_suite(session, suite, key, text);
    report(probe, id, fault == NULL ? CHECK_PASS : CHECK_WARN, remedy, "%s: %s",
           suite_name(suite->id), fault == NULL ? "made, opened and rewrapped a key" : fault);
    if (fault == NULL) {
        probe->suites_usable++;
        struct evidence evidence;
        char check[64];
        snprintf(check, sizeof check, "evidence.%s", suite_name(suite->id));
        enum sso_code code = canary_make(session, key, suite, &trial, &err);
        if (code == SSO_OK)
            code = evidence_take(session, &trial, key, probe->weak_accepted, &evidence, &err);
        if (code == SSO_OK)
            code = evidence_verdict(&evidence, session->token, &err);
        bool sound = code == SSO_OK && evidence.weak[0] == '\0';
        report(probe, check,
               code != SSO_OK ? CHECK_FAIL
               : sound        ? CHECK_PASS
                              : CHECK_WARN,
               "use a token that keeps keys in", "%s%.200s",
               code != SSO_OK ? err.detail
               : sound        ? "every required check holds"
                              : "accepted as weak: ",
               code == SSO_OK ? evidence.weak : "");
    }
    (void)CALL(session->token->module, DestroyObject, session->handle, key);
}

size_t probe_token(struct session *session, unsigned sessions, bool weak_accepted,
                   struct check out[static PROBE_CHECKS_MAX])
{
    struct probe probe = {.session = session, .out = out, .weak_accepted = weak_accepted};
    probe_identity(&probe, sessions);
    bool makes = token_has(session->token, CKM_AES_KEY_GEN, CKF_GENERATE);
    report(&probe, "mechanism.aes-key-gen", makes ? CHECK_PASS : CHECK_FAIL,
           "this token cannot make a master secret: use another",
           makes ? "makes AES keys" : "the token does not have it");
    for (size_t n = 0; suite_at(n) != NULL; n++)
        probe_suite(&probe, suite_at(n));
    report(&probe, "suite.usable", probe.suites_usable > 0 ? CHECK_PASS : CHECK_FAIL,
           "this token has neither key wrap nor GCM: use another", "%u of the suites work here",
           probe.suites_usable);
    return probe.count;
}
