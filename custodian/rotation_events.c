#include "custodian/rotation_events.h"

#include "custodian/events.h"

enum sso_code rotation_latest(struct custodian *custodian, struct rotation *out,
                              struct sso_error *err)
{
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(custodian->store, STORE_READ, &tx, err);
    return rc == SSO_OK ? store_rotation_latest(tx, out, err) : rc;
}

static void events_update(struct custodian *custodian, const struct rotation *rotation,
                          uint64_t quarantined)
{
    struct event_board *events = custodian->events;
    unsigned long long id = rotation->id;
    if (rotation->state == ROTATION_CANCELLED)
        event_raise(events, EVENT_ROTATION_UNFINISHED,
                    "rotation %llu to generation %u was cancelled", id, rotation->to);
    else
        event_clear(events, EVENT_ROTATION_UNFINISHED);
    if (rotation->state == ROTATION_FAILED)
        event_raise(events, EVENT_ROTATION_FAILED, "rotation %llu to generation %u failed: %s", id,
                    rotation->to, rotation->error);
    else
        event_clear(events, EVENT_ROTATION_FAILED);
    if (quarantined != 0)
        event_raise(events, EVENT_QUARANTINE_NOT_EMPTY,
                    "%llu rows could not be moved to generation %u",
                    (unsigned long long)quarantined, rotation->to);
    else
        event_clear(events, EVENT_QUARANTINE_NOT_EMPTY);
}

void rotation_events_refresh(struct custodian *custodian)
{
    struct rotation rotation = {0};
    struct sso_error problem = {0};
    struct quarantine_count quarantine = {0};
    STORE_TX_AUTO tx = NULL;
    if (store_begin(custodian->store, STORE_READ, &tx, NULL) != SSO_OK)
        return;
    enum sso_code rc = store_rotation_latest(tx, &rotation, &problem);
    if (rc == SSO_NOT_FOUND && rotation.id != 0)
        event_raise(custodian->events, EVENT_POLICY_TAMPERED, "%s", problem.detail);
    if (rc == SSO_OK && store_quarantine_count(tx, &quarantine, NULL) == SSO_OK)
        events_update(custodian, &rotation, quarantine.rows);
}
