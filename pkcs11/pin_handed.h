/*
 * PIN sources that only the spawner can reach, before it becomes the token's user. Their PIN comes
 * to the worker as descriptor WORKER_PIN_FD.
 *
 *   credential:NAME   the file NAME in $CREDENTIALS_DIRECTORY, as systemd's LoadCredential= puts it
 *   prompt:           asked for at the terminal, once in the life of the program; kept in locked
 *                     memory of the spawner, which parses nothing that comes from outside
 */
#ifndef SSO_PKCS11_PIN_HANDED_H
#define SSO_PKCS11_PIN_HANDED_H

#include <stdbool.h>
#include <string.h>

#include "common/config.h"
#include "common/error.h"

#define WORKER_PIN_FD 4
#define PIN_CREDENTIAL "credential:"
#define PIN_PROMPT "prompt:"

static inline bool pin_is_handed(const char *source)
{
    return strncmp(source, PIN_CREDENTIAL, sizeof PIN_CREDENTIAL - 1) == 0 ||
           strcmp(source, PIN_PROMPT) == 0;
}

/* What was typed for one section; zeros: nothing yet. */
struct pin_typed {
    int fd; /* a file in memory, with the PIN; 0: none */
};

/* *out: a descriptor to hand over, the caller's (close it), or -1 where the source of this section
 * is none of these. `owner`: asking ends when that socket does. SSO_CONFIG_ERROR. */
enum sso_code pin_hand_over(const struct config_hsm *section, struct pin_typed *typed, int owner,
                            int *out, struct sso_error *err) __attribute__((warn_unused_result));

#endif
