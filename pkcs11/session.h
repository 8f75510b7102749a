/*
 * A session with the token, and the handles found in it. One thread uses it at a time: an operation
 * of PKCS#11 has state in its session.
 *
 * Handles live as long as the session and the edition of the generation table do: a handle from
 * before may, after a reconnection, be some other object's.
 */
#ifndef SSO_PKCS11_SESSION_H
#define SSO_PKCS11_SESSION_H

#include "pkcs11/generation_table.h"
#include "pkcs11/hsm.h"
#include "pkcs11/token.h"
#include "pkcs11/transport.h"

#define SESSION_SCRATCH_BYTES 64

struct suite;

/* A generation's key as this session knows it. */
struct session_key {
    struct generation_key generation;
    const struct suite *suite;
    CK_OBJECT_HANDLE handle;
    bool is_copy; /* the handle is of a session object (session_copy.h) */
};

struct session {
    struct token *token;
    struct generation_table *table;
    CK_SESSION_HANDLE handle;
    bool pinned;          /* it is token->login, and not ours to close */
    uint8_t *row_key;     /* ROW_KEY_BYTES of locked memory, for keys that pass through */
    uint8_t *scratch;     /* SESSION_SCRATCH_BYTES of it, for what a token writes */
    uint8_t random[1024]; /* for IVs: one call of the generator for many of them */
    size_t random_left_bytes;
    struct transport transport;
    unsigned edition;
    struct session_key keys[GENERATIONS_MAX];
    size_t key_count;
};

/* `session` is all zero or closed before. */
enum sso_code session_open(struct session *session, struct token *token,
                           struct generation_table *table, struct sso_error *err)
    __attribute__((warn_unused_result));
/* The session of the login, so that a token with few of them loses none to it. It stays open, since
 * the login ends with the last session, even where this one is closed or renewed. */
enum sso_code session_take_login(struct session *session, struct token *token,
                                 struct generation_table *table, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Closes it, with its session objects. Safe twice. */
void session_close(struct session *session);
/* Another one in its place; where the token has none left now, after a few more tries. */
enum sso_code session_renew(struct session *session, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Before the next of several tries: doubling, and half of it left to chance. */
void session_pause(unsigned tries);

/* Forgets handles where the table has changed; once at the start of a frame. */
void session_refresh(struct session *session);
/* SSO_NO_MASTER_SECRET: not in the table, or not (or not alone) in the token. */
enum sso_code session_key(struct session *session, uint32_t generation,
                          const struct session_key **out, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
