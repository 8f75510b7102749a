/* What a token has to be measured for: sessions, searches, speed. */
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "pkcs11/ckr.h"
#include "pkcs11/frame.h"
#include "pkcs11/probe.h"

#define SPEED_MS 150
#define SEARCHES 3
#define SLOW_SEARCH_US 50000
#define OBJECTS_COUNTED_MAX 10000
#define BATCH 64

static CK_BBOOL yes = CK_TRUE;

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* What the token says, and what it does: for a moment all that a worker could want. */
void probe_sessions(struct probe *probe)
{
    const struct token *token = probe->session->token;
    CK_SESSION_HANDLE open[SESSIONS_MAX];
    CK_TOKEN_INFO info;
    char limit[64] = "names no limit", end[CKR_NAME_SIZE + 16] = "";
    unsigned count = 0;
    struct outcome call = CALL(token->module, GetTokenInfo, token->slot, &info);
    if (call.rv == CKR_OK && info.ulMaxRwSessionCount != CK_EFFECTIVELY_INFINITE &&
        info.ulMaxRwSessionCount != CK_UNAVAILABLE_INFORMATION)
        snprintf(limit, sizeof limit, "names a limit of %lu", info.ulMaxRwSessionCount);
    for (; count < SESSIONS_MAX; count++) {
        call = CALL(token->module, OpenSession, token->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION,
                    NULL, NULL, &open[count]);
        if (call.rv != CKR_OK)
            break;
    }
    for (unsigned i = 0; i < count; i++)
        (void)CALL(token->module, CloseSession, open[i]);
    if (count < SESSIONS_MAX) {
        char name[CKR_NAME_SIZE];
        snprintf(end, sizeof end, ", then %s", ckr_name(call.rv, name));
    }
    probe_report(probe, "token.sessions", count >= 2 ? CHECK_PASS : CHECK_WARN,
                 "end other programs that use this token, or give the service one of its own",
                 "the token %s; %u more were opened at once%s", limit, count, end);
}

/* Of token objects with this template; the number of those that fit in *count. */
static struct outcome search(struct session *session, CK_ATTRIBUTE *template, CK_ULONG size,
                             CK_ULONG maximum, CK_ULONG *count)
{
    struct module *module = session->token->module;
    CK_OBJECT_HANDLE found[BATCH];
    struct outcome call = CALL(module, FindObjectsInit, session->handle, template, size);
    if (call.rv != CKR_OK)
        return call;
    *count = 0;
    for (CK_ULONG n = BATCH; call.rv == CKR_OK && n == BATCH && *count < maximum; *count += n)
        call = CALL(module, FindObjects, session->handle, found, BATCH, &n);
    struct outcome end = CALL(module, FindObjectsFinal, session->handle);
    return call.rv != CKR_OK ? call : end;
}

/* Handles are looked for once in a session's life and never for a request; but each start of a
 * worker waits for it. */
void probe_search(struct probe *probe)
{
    static const char nobody[] = "sso-hsm:looked-for-by-doctor";
    CK_ATTRIBUTE all[] = {{CKA_TOKEN, &yes, sizeof yes}};
    CK_ATTRIBUTE one[] = {{CKA_TOKEN, &yes, sizeof yes},
                          {CKA_LABEL, (void *)nobody, sizeof nobody - 1}};
    CK_ULONG objects = 0, none = 0;
    char name[CKR_NAME_SIZE];
    struct outcome call = search(probe->session, all, 1, OBJECTS_COUNTED_MAX, &objects);
    int64_t took = INT64_MAX; /* the shortest: what else the machine does is not the token's */
    for (unsigned i = 0; call.rv == CKR_OK && i < SEARCHES; i++) {
        int64_t began = now_us();
        call = search(probe->session, one, 2, 1, &none);
        if (now_us() - began < took)
            took = now_us() - began;
    }
    if (call.rv != CKR_OK)
        probe_report(probe, "token.search", CHECK_FAIL,
                     "see the token's own log: keys cannot be found", "%s says %s",
                     module_function_name(call.function), ckr_name(call.rv, name));
    else
        probe_report(probe, "token.search", took > SLOW_SEARCH_US ? CHECK_WARN : CHECK_PASS,
                     "every start of a worker waits for searches: keep other objects in a token of "
                     "their own",
                     "a search takes %ld.%ld ms among %lu%s objects", (long)(took / 1000),
                     (long)(took % 1000 / 100), objects,
                     objects >= OBJECTS_COUNTED_MAX ? " or more" : "");
}

/* How often in a second; 0: it failed. */
static double rate(struct session *session, const struct suite *suite, CK_OBJECT_HANDLE key,
                   bool rewrap, const struct wrapped_key *wrapped)
{
    static const uint8_t binding[BINDING_BYTES];
    int64_t began = now_us(), took = 0;
    unsigned done = 0;
    for (; took < SPEED_MS * 1000; done++, took = now_us() - began) {
        struct wrapped_key out;
        struct outcome call;
        if (rewrap && suite->rewrap != NULL) {
            call = suite->rewrap(session, key, key, wrapped, &out);
        } else {
            call = suite->unwrap(session, key, binding, wrapped, session->row_key);
            if (rewrap && call.rv == CKR_OK)
                call = suite->wrap(session, key, binding, session->row_key, &out);
        }
        if (call.rv != CKR_OK)
            return 0;
    }
    return done * 1e6 / (double)took;
}

void probe_speed(struct probe *probe, const struct suite *suite, CK_OBJECT_HANDLE key)
{
    static const uint8_t binding[BINDING_BYTES];
    struct session *session = probe->session;
    struct wrapped_key wrapped = {0};
    char id[64];
    double release = 0, rewrap = 0;
    if (suite->make(session, key, binding, session->row_key, &wrapped).rv == CKR_OK) {
        release = rate(session, suite, key, false, &wrapped);
        rewrap = rate(session, suite, key, true, &wrapped);
    }
    OPENSSL_cleanse(session->row_key, ROW_KEY_BYTES);
    snprintf(id, sizeof id, "speed.%s", suite_name(suite->id));
    if (release > 0 && rewrap > 0)
        probe_report(probe, id, CHECK_PASS, NULL,
                     "about %.0f releases or %.0f rewraps a second in one session; sso-hsm bench "
                     "measures more",
                     release, rewrap);
    else
        probe_report(probe, id, CHECK_FAIL, "see the token's own log",
                     "what worked once did not go on working");
}
