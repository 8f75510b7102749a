#include "custodian/rotation_events.h"

#include <stdlib.h>

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

/* A wrong tag takes no mark away. */
static uint32_t highest_compromised(struct store_tx *tx)
{
    struct generation *list = NULL;
    size_t count = 0;
    uint32_t highest = 0;
    if (store_generation_list(tx, &list, &count, NULL) != SSO_OK)
        return 0;
    for (size_t i = 0; i < count; i++)
        if (list[i].compromised && list[i].number > highest)
            highest = list[i].number;
    free(list);
    return highest;
}

static void tell_of_disclosure(struct custodian *custodian, struct store_tx *tx)
{
    uint32_t compromised = highest_compromised(tx), renewed = 0;
    uint64_t exposed = 0;
    if (store_rotation_renewed(tx, &renewed, NULL) != SSO_OK ||
        store_exposed_count(tx, &exposed, NULL) != SSO_OK)
        return;
    if (compromised > renewed)
        event_raise(custodian->events, EVENT_RENEWAL_DUE,
                    "generation %u is marked compromised, and rows born up to it are not renewed",
                    compromised);
    else
        event_clear(custodian->events, EVENT_RENEWAL_DUE);
    if (exposed != 0)
        event_raise(custodian->events, EVENT_CREDENTIALS_EXPOSED,
                    "%llu credentials that a compromised generation opened are still in use: "
                    "sso-hsm key exposed %u",
                    (unsigned long long)exposed, compromised);
    else
        event_clear(custodian->events, EVENT_CREDENTIALS_EXPOSED);
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
    tell_of_disclosure(custodian, tx);
    if (rc == SSO_OK && store_quarantine_count(tx, &quarantine, NULL) == SSO_OK)
        events_update(custodian, &rotation, quarantine.rows);
}
