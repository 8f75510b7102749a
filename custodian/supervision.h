/* The thread that keeps a custodian able to serve: opens the token pools, retries what is down with
 * back-off, polls the database, tests the abilities, and keeps the board of events true. */
#ifndef SSO_CUSTODIAN_SUPERVISION_H
#define SSO_CUSTODIAN_SUPERVISION_H

#include "common/error.h"

struct custodian;
struct supervision;

enum sso_code supervision_start(struct custodian *custodian, struct supervision **out,
                                struct sso_error *err) __attribute__((warn_unused_result));
/* Waits until the first round is over, so that whoever comes first is not told of a start that
 * takes a moment; at most `ms`, since a token may hang. */
void supervision_await(struct supervision *supervision, unsigned ms);
/* Ends the current round and waits for it. */
void supervision_stop(struct supervision **supervision);
/* Does a token open a key that is known? Asks the HSM. */
enum sso_code supervision_test_decrypt(struct custodian *custodian, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Something may have changed (a PIN was reset): look now. */
void supervision_wake(struct supervision *supervision);

/* A request found the database away: health says so from now on, and supervision looks at once. */
void supervision_database_failed(struct supervision *supervision, const char *why);

#endif
