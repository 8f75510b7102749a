/* Tickets that were redeemed. A part of store/store.h. */
#ifndef SSO_STORE_TICKETS_H
#define SSO_STORE_TICKETS_H

#include <stdint.h>

#include "common/error.h"
#include "common/ticket.h"

struct store_tx;

/* SSO_ALREADY_EXISTS where the ticket was redeemed before. It is remembered until no application
 * would take it any more: its own end, or the longest lifetime of an application after it was
 * issued. Forgets those whose end was before `forget_ms`. */
enum sso_code store_ticket_redeem(struct store_tx *tx, const struct ticket_claims *claims,
                                  int64_t forget_ms, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
