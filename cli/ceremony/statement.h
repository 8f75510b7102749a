/* Signed statements of what was done to a generation, for people and auditors. */
#ifndef SSO_CLI_CEREMONY_STATEMENT_H
#define SSO_CLI_CEREMONY_STATEMENT_H

#include "cli/ceremony/signing.h"

struct statement {
    uint32_t generation;
    const char *what; /* "destroyed": the end of the file's name */
    const char *text; /* stands in the audit too */
    bool keep;        /* in the state directory, statements/generation-N-WHAT */
};
/* Adds "statement", "signature" and "public_key" (both null where no token here can sign) to
 * `result`. What does not work out is a warning. */
void statement_sign(const struct ceremony *ceremony, const struct signer *signer,
                    const struct statement *statement, json_t *result);

#endif
