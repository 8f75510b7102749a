#include "pkcs11/session.h"

#include <openssl/rand.h>
#include <string.h>
#include <time.h>

#include "pkcs11/canary.h"
#include "pkcs11/ckr.h"
#include "pkcs11/key.h"
#include "pkcs11/session_copy.h"
#include "pkcs11/suite.h"

#define RENEW_TRIES_MAX 7
#define PAUSE_FIRST_NS 2000000L
#define PAUSE_DOUBLINGS_MAX 8

/* Without a handle yet. */
static enum sso_code prepare(struct session *session, struct token *token,
                             struct generation_table *table, struct sso_error *err)
{
    if (session->row_key == NULL)
        session->row_key = secret_alloc(ROW_KEY_BYTES);
    if (session->scratch == NULL)
        session->scratch = secret_alloc(SESSION_SCRATCH_BYTES);
    if (session->row_key == NULL || session->scratch == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no locked memory is left for a session");
    session->token = token;
    session->table = table;
    session->key_count = 0;
    session->handle = CK_INVALID_HANDLE;
    session->pinned = false;
    session->edition = atomic_load(&table->edition);
    return SSO_OK;
}

static struct outcome open_now(struct session *session)
{
    struct token *token = session->token;
    struct outcome call = CALL(token->module, OpenSession, token->slot,
                               CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session->handle);
    if (call.rv != CKR_OK)
        session->handle = CK_INVALID_HANDLE;
    return call;
}

enum sso_code session_open(struct session *session, struct token *token,
                           struct generation_table *table, struct sso_error *err)
{
    enum sso_code code = prepare(session, token, table, err);
    if (code != SSO_OK)
        return code;
    struct outcome call = open_now(session);
    return call.rv == CKR_OK ? SSO_OK : ckr_fail(err, call, "opening a session");
}

enum sso_code session_take_login(struct session *session, struct token *token,
                                 struct generation_table *table, struct sso_error *err)
{
    enum sso_code code = prepare(session, token, table, err);
    session->handle = token->login;
    session->pinned = true;
    return code;
}

void session_close(struct session *session)
{
    if (session->token != NULL && session->handle != CK_INVALID_HANDLE && session->pinned)
        session_copies_drop(session); /* it stays open, and they would with it */
    if (session->token != NULL && session->handle != CK_INVALID_HANDLE && !session->pinned)
        (void)CALL(session->token->module, CloseSession, session->handle);
    session->handle = CK_INVALID_HANDLE;
    session->key_count = 0;
    transport_forget(&session->transport);
    secret_dealloc(session->row_key);
    secret_dealloc(session->scratch);
    session->row_key = NULL;
    session->scratch = NULL;
}

enum sso_code session_renew(struct session *session, struct sso_error *err)
{
    struct outcome call;
    session_close(session);
    enum sso_code code = prepare(session, session->token, session->table, err);
    if (code != SSO_OK)
        return code;
    for (unsigned tries = 0;; tries++) {
        call = open_now(session);
        if (call.rv == CKR_OK)
            return SSO_OK;
        if (ckr_class(call) != CKR_CLASS_RETRY || tries == RENEW_TRIES_MAX)
            return ckr_fail(err, call, "opening a session");
        session_pause(tries);
    }
}

void session_pause(unsigned tries)
{
    uint8_t chance = 0;
    (void)RAND_bytes(&chance, 1);
    long most = PAUSE_FIRST_NS << (tries < PAUSE_DOUBLINGS_MAX ? tries : PAUSE_DOUBLINGS_MAX);
    struct timespec pause = {.tv_nsec = most / 2 + most / 512 * chance};
    nanosleep(&pause, NULL);
}

void session_refresh(struct session *session)
{
    unsigned edition = atomic_load(&session->table->edition);
    if (edition != session->edition) {
        session_copies_drop(session);
        session->key_count = 0;
        session->edition = edition;
    }
}

static enum sso_code find(struct session *session, uint32_t generation,
                          const struct session_key **out, struct sso_error *err)
{
    struct session_key *key = &session->keys[session->key_count];
    if (session->key_count == GENERATIONS_MAX ||
        !generation_table_get(session->table, generation, &key->generation))
        return sso_fail(err, SSO_NO_MASTER_SECRET, "generation %u is not open here", generation);
    key->suite = suite_by_id(key->generation.suite);
    if (key->suite == NULL)
        return sso_fail(err, SSO_NO_MASTER_SECRET, "generation %u has a suite that is not known",
                        generation);
    enum sso_code code = key_find(session, &key->generation, &key->handle, err);
    /* The token may be another than before: nothing is done with a key that has not proved itself
     * on this session. */
    if (code == SSO_OK)
        code = canary_open(session, key->handle, key->suite, &key->generation, err);
    if (code != SSO_OK)
        return code;
    CK_OBJECT_HANDLE copy = session_copy_make(session, key);
    key->is_copy = copy != CK_INVALID_HANDLE;
    if (key->is_copy)
        key->handle = copy;
    session->key_count++;
    *out = key;
    return SSO_OK;
}

enum sso_code session_key(struct session *session, uint32_t generation,
                          const struct session_key **out, struct sso_error *err)
{
    for (size_t i = 0; i < session->key_count; i++) {
        if (session->keys[i].generation.number == generation) {
            *out = &session->keys[i];
            return SSO_OK;
        }
    }
    return find(session, generation, out, err);
}
