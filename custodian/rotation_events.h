/* The latest rotation as the database has it, and the events that it leaves on the board. */
#ifndef SSO_CUSTODIAN_ROTATION_EVENTS_H
#define SSO_CUSTODIAN_ROTATION_EVENTS_H

#include "common/error.h"
#include "custodian/custodian.h"
#include "store/store.h"

/* SSO_NOT_FOUND where there never was one. */
enum sso_code rotation_latest(struct custodian *custodian, struct rotation *out,
                              struct sso_error *err) __attribute__((warn_unused_result));

/* Raises and clears rotation_unfinished, rotation_failed and quarantine_not_empty. */
void rotation_events_refresh(struct custodian *custodian);

#endif
