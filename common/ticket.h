/*
 * A ticket (DESIGN 3.5): who it stands for and until when, sealed by AES-256-GCM under a ticket key
 * of the system, as base64url (RFC 4648 section 5, without padding) of
 * format (1) | system id (16) | key id (16) | nonce (12) | ciphertext | tag (16);
 * what stands in front of the nonce is bound by the tag. Whoever has it can use it: it is handled
 * like a password.
 */
#ifndef SSO_COMMON_TICKET_H
#define SSO_COMMON_TICKET_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/generation.h"
#include "common/row.h"

#define TICKET_ID_BYTES 16
#define TICKET_TEXT_SIZE 1024 /* with its NUL */
#define PURPOSE_TICKET "ticket"

struct ticket_claims {
    uint8_t id[TICKET_ID_BYTES]; /* random: what is redeemed once */
    uint32_t uid;                /* of the user in the system's user database, */
    char name[257];              /* and the name that it had */
    char principal[PRINCIPAL_BYTES_MAX + 1];
    int64_t issued_ms, expires_ms; /* wall clock: a ticket goes from node to node */
    bool validated;                /* only to be redeemed by who names the sender */
};

enum sso_code ticket_seal(const uint8_t system_id[static SYSTEM_ID_BYTES],
                          const uint8_t key_id[static SEALED_KEY_ID_BYTES],
                          const uint8_t key[static ROW_KEY_BYTES],
                          const struct ticket_claims *claims, char out[static TICKET_TEXT_SIZE],
                          struct sso_error *err) __attribute__((warn_unused_result));

/* The key that a ticket says it was sealed under. SSO_TICKET_INVALID: it is none;
 * SSO_TICKET_OF_OTHER_SYSTEM. */
enum sso_code ticket_key_id(const uint8_t system_id[static SYSTEM_ID_BYTES], const char *text,
                            uint8_t out[static SEALED_KEY_ID_BYTES], struct sso_error *err)
    __attribute__((warn_unused_result));
/* As above, and SSO_TICKET_FORGED where the key did not seal it. Times are the caller's to judge.
 */
enum sso_code ticket_open(const uint8_t system_id[static SYSTEM_ID_BYTES],
                          const uint8_t key[static ROW_KEY_BYTES], const char *text,
                          struct ticket_claims *out, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
