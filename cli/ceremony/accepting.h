/*
 * The steps of `db accept-restore` (DESIGN §6): what marks and tokens know that the database does
 * not, what is to become of each generation, and the one transaction that writes it.
 *
 * A generation that is found is one of three:
 *   known    the database has it; marks may show it as further than it is here
 *   marked   the node's marks have its row, with a policy tag that fits: its canary is the proof
 *            that a key in a token is the one it was
 *   strange  only a token has it: canary and evidence are made anew and prove nothing of before, so
 *            nothing is ever wrapped under it
 */
#ifndef SSO_CLI_CEREMONY_ACCEPTING_H
#define SSO_CLI_CEREMONY_ACCEPTING_H

#include "cli/ceremony/journal.h"
#include "cli/ceremony/signing.h"

enum finding_kind { FINDING_KNOWN, FINDING_MARKED, FINDING_STRANGE };

struct found_generation {
    enum finding_kind kind;
    struct generation row;       /* as it is to be */
    enum generation_state state; /* as the database has it; 0: it has none */
    const struct generation *mark;
    uint64_t wraps_added;           /* to a known one */
    bool changed;                   /* is to be written */
    bool proven;                    /* a token holds the key, and the canary as it was opens */
    bool in_token;                  /* a token holds a key of this number and id */
    struct generation_token *token; /* malloc: rows that are to be added */
    size_t token_count;
};

struct accepting {
    struct ceremony *ceremony;
    struct high_water marks;
    bool marks_known;       /* false: this node has none, or they are damaged */
    struct sso_error found; /* what is wrong with the database; SSO_OK: nothing that is known */
    struct audit_head kept; /* the end of this node's chain as it was */
    struct found_generation *generation; /* malloc, by number */
    size_t count;
    uint32_t highest;   /* number that was ever used, as far as anybody knows */
    uint32_t active;    /* from now on */
    json_t *left_alone; /* keys in tokens that are taken for nothing: texts */
    uint64_t revocation, rotation_cancelled;
    struct journal journal;
    struct signer signer;
    struct audit_record record;
};

/* Everything that is known of every generation: database, marks, tokens. Calls the HSM. */
enum sso_code accepting_gather(struct accepting *self, struct sso_error *err)
    __attribute__((warn_unused_result));
/* What becomes of each. */
enum sso_code accepting_decide(struct accepting *self, struct sso_error *err)
    __attribute__((warn_unused_result));
/* One transaction, then the marks and the head of the audit as they are from now on. */
enum sso_code accepting_write(struct accepting *self, struct sso_error *err)
    __attribute__((warn_unused_result));
void accepting_free(struct accepting *self);

#endif
