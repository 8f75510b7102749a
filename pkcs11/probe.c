#include "pkcs11/probe.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/digest.h"
#include "pkcs11/audit_signing.h"
#include "pkcs11/canary.h"
#include "pkcs11/ckr.h"
#include "pkcs11/evidence.h"
#include "pkcs11/gcm.h"
#include "pkcs11/key.h"
#include "pkcs11/release.h"
#include "pkcs11/wrapping_key.h"

void probe_report(struct probe *probe, const char *id, enum check_result result, const char *remedy,
                  const char *detail, ...)
{
    if (probe->count == PROBE_CHECKS_MAX)
        return;
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

static void probe_identity(struct probe *probe)
{
    const struct token *token = probe->session->token;
    char uri[TOKEN_URI_SIZE];
    token_identity_uri(&token->identity, uri);
    probe_report(probe, "token.found", CHECK_PASS, NULL, "%.200s, firmware %s", uri,
                 token->firmware);
    bool low = (token->flags & (CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY)) != 0;
    probe_report(probe, "token.login", low ? CHECK_WARN : CHECK_PASS,
                 "somebody used a wrong PIN; find out who before the token locks",
                 low ? "logged in; the token counts failed tries" : "logged in");
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

/* The required checks, on a key that ends with the session. */
static void probe_evidence(struct probe *probe, struct generation_key *trial, CK_OBJECT_HANDLE key)
{
    struct session *session = probe->session;
    struct evidence evidence;
    struct sso_error err = {0};
    char check[64];
    snprintf(check, sizeof check, "evidence.%s", suite_name(trial->suite));
    enum sso_code code = canary_make(session, key, suite_by_id(trial->suite), trial, &err);
    if (code == SSO_OK)
        code = evidence_take(session, trial, key, probe->weak_accepted, &evidence, &err);
    if (code == SSO_OK)
        code = evidence_verdict(&evidence, session->token, &err);
    if (code != SSO_OK)
        probe_report(probe, check, CHECK_FAIL, "use a token that keeps keys in", "%.200s",
                     err.detail);
    else if (evidence.weak[0] != '\0')
        probe_report(probe, check, CHECK_WARN, "use a token that keeps keys in",
                     "accepted as weak: %s", evidence.weak);
    else
        probe_report(probe, check, CHECK_PASS, NULL, "every required check holds");
}

static void probe_release_way(struct probe *probe, enum release_way way, const char *id)
{
    char name[CKR_NAME_SIZE];
    struct outcome call = release_try(probe->session, way);
    if (call.rv == CKR_OK)
        probe_report(probe, id, CHECK_PASS, NULL,
                     way == RELEASE_READ ? "row keys enter and leave in the clear"
                                         : "row keys enter and leave under a transport key");
    else
        probe_report(probe, id, CHECK_SKIP, "none is needed where the other way works",
                     "not here: %s says %s", module_function_name(call.function),
                     ckr_name(call.rv, name));
}

static void probe_releases(struct probe *probe)
{
    size_t before = probe->count;
    probe_release_way(probe, RELEASE_READ, "release.read");
    probe_release_way(probe, RELEASE_TRANSPORT, "release.transport");
    /* Neither: then no row key would come out. */
    if (probe->out[before].result == CHECK_SKIP && probe->out[before + 1].result == CHECK_SKIP) {
        struct check *last = &probe->out[before + 1];
        last->result = CHECK_FAIL;
        snprintf(last->remedy, sizeof last->remedy, "use aes256-gcm or another token");
    }
}

static void probe_gcm_iv(struct probe *probe)
{
    struct gcm_way way;
    if (gcm_way(probe->session, &way).rv != CKR_OK)
        return; /* the suite has failed, and said so */
    if (way.iv == GCM_IV_CALLER)
        probe_report(probe, "gcm.iv", CHECK_PASS, NULL, "the caller's, of %zu bytes", way.iv_bytes);
    else
        probe_report(probe, "gcm.iv", CHECK_PASS, NULL,
                     "the token's own, of %zu bytes (%s): an aes256-gcm generation lives in this "
                     "token only",
                     way.iv_bytes, gcm_iv_name(way.iv));
}

/* What hangs on a suite once it works. */
static void probe_working_suite(struct probe *probe, const struct suite *suite,
                                struct generation_key *trial, CK_OBJECT_HANDLE key)
{
    probe->suites_usable++;
    if (suite->wraps)
        probe_releases(probe);
    else
        probe_gcm_iv(probe);
    probe_evidence(probe, trial, key);
    probe_speed(probe, suite, key);
}

static void probe_suite(struct probe *probe, const struct suite *suite)
{
    const char *id = suite->wraps ? "mechanism.aes-key-wrap" : "mechanism.aes-gcm";
    const char *remedy = suite->wraps ? "use aes256-gcm, without backup by shares, or another token"
                                      : "use aes256-kw or another token";
    struct session *session = probe->session;
    struct generation_key trial = {.number = 1, .suite = suite->id};
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    struct sso_error err = {0};
    char text[96];
    if (RAND_bytes(trial.system_id, sizeof trial.system_id) != 1 ||
        RAND_bytes(trial.secret_id, sizeof trial.secret_id) != 1)
        return;
    if (!token_has(session->token, suite->mechanism, suite->mechanism_flags)) {
        probe_report(probe, id, CHECK_WARN, remedy, "the token does not have it: no %s",
                     suite_name(suite->id));
        return;
    }
    if (key_generate_trial(session, &trial, &key, &err) != SSO_OK) {
        probe_report(probe, id, CHECK_WARN, remedy, "%.200s", err.detail);
        return;
    }
    const char *fault = try_suite(session, suite, key, text);
    probe_report(probe, id, fault == NULL ? CHECK_PASS : CHECK_WARN, remedy, "%s: %s",
                 suite_name(suite->id), fault == NULL ? "made, opened and rewrapped a key" : fault);
    if (fault == NULL)
        probe_working_suite(probe, suite, &trial, key);
    (void)CALL(session->token->module, DestroyObject, session->handle, key);
}

/* The first step of a backup by shares, and of every restoration. */
static void probe_backup(struct probe *probe)
{
    struct session *session = probe->session;
    struct sso_error err = {0};
    uint8_t bytes[WRAPPING_KEY_BYTES];
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    enum sso_code code = RAND_bytes(bytes, sizeof bytes) == 1
                             ? wrapping_key_enter(session, bytes, &key, &err)
                             : SSO_INTERNAL;
    if (code == SSO_OK)
        (void)CALL(session->token->module, DestroyObject, session->handle, key);
    probe_report(probe, "backup.wrapping-key", code == SSO_OK ? CHECK_PASS : CHECK_WARN,
                 "only --no-backup is possible here: use another token for backups by shares",
                 "%.200s",
                 code == SSO_OK ? "a backup's wrapping key enters the token" : err.detail);
}

static void probe_signing(struct probe *probe)
{
    struct sso_error err = {0};
    bool signs = audit_signing_try(probe->session, &err) == SSO_OK;
    probe_report(probe, "mechanism.ecdsa-p256", signs ? CHECK_PASS : CHECK_WARN,
                 "the audit is not signed by this token: keep its heads elsewhere (audit anchor)",
                 "%.200s", signs ? "made a key and signed with it" : err.detail);
}

size_t probe_token(struct session *session, bool weak_accepted,
                   struct check out[static PROBE_CHECKS_MAX])
{
    struct probe probe = {.session = session, .out = out, .weak_accepted = weak_accepted};
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    char name[CKR_NAME_SIZE];
    probe_identity(&probe);
    probe_sessions(&probe);
    probe_search(&probe);
    struct outcome makes = key_generate_session(session, 0, &key);
    if (makes.rv == CKR_OK)
        (void)CALL(session->token->module, DestroyObject, session->handle, key);
    probe_report(&probe, "mechanism.aes-key-gen", makes.rv == CKR_OK ? CHECK_PASS : CHECK_FAIL,
                 "this token cannot make a master secret: use another", "%s%s",
                 makes.rv == CKR_OK ? "made an AES-256 key" : "C_GenerateKey says ",
                 makes.rv == CKR_OK ? "" : ckr_name(makes.rv, name));
    for (size_t n = 0; suite_at(n) != NULL; n++)
        probe_suite(&probe, suite_at(n));
    probe_report(&probe, "suite.usable", probe.suites_usable > 0 ? CHECK_PASS : CHECK_FAIL,
                 "this token has neither key wrap nor GCM: use another",
                 "%u of the suites work here", probe.suites_usable);
    probe_backup(&probe);
    probe_signing(&probe);
    return probe.count;
}
