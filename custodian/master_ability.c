/* Whether a node can become the master: it opens every generation that rows are on or go to. */
#include <stdlib.h>

#include "custodian/high_water_watch.h"
#include "custodian/master_state.h"
#include "custodian/snapshot.h"
#include "custodian/supervision.h"

/* The generation that an unfinished rotation goes to; 0: there is none. */
static enum sso_code read_target(struct store *store, uint32_t *out, struct sso_error *err)
{
    struct rotation rotation;
    STORE_TX_AUTO tx = NULL;
    *out = 0;
    enum sso_code rc = store_begin(store, STORE_READ, &tx, err);
    if (rc != SSO_OK)
        return rc;
    rc = store_rotation_latest(tx, &rotation, err);
    if (rc == SSO_NOT_FOUND)
        return SSO_OK;
    if (rc == SSO_OK && !rotation.dry_run &&
        (rotation.state == ROTATION_PREPARING || rotation.state == ROTATION_RUNNING))
        *out = rotation.to;
    return rc;
}

static bool must_open(const struct generation *generation, uint32_t target)
{
    return generation->state == GENERATION_ACTIVE || generation->state == GENERATION_RETIRING ||
           generation->number == target;
}

static enum sso_code all_open(struct custodian *custodian, struct sso_error *err)
{
    struct snapshot now = {0};
    uint32_t target = 0;
    enum sso_code rc = snapshot_read(custodian->store, &now, err);
    if (rc == SSO_OK)
        rc = read_target(custodian->store, &target, err);
    for (size_t i = 0; rc == SSO_OK && i < now.generation_count; i++) {
        const struct generation *generation = &now.generation[i];
        if (must_open(generation, target) && !keyring_has(custodian->keyring, generation->number))
            rc = sso_fail(err, SSO_NO_MASTER_SECRET,
                          "generation %u (%s) does not open in a token of this node: restore it "
                          "there with sso-hsm key restore, or configure the token that holds it",
                          generation->number, generation_state_name(generation->state));
    }
    snapshot_free(&now);
    return rc;
}

enum sso_code master_ability(struct custodian *custodian, bool anew, struct sso_error *err)
{
    if (custodian->config->hsm_count == 0)
        return sso_fail(err, SSO_NO_MASTER_SECRET,
                        "this node has no HSM ([hsm] is not configured)");
    enum sso_code rc = anew ? installation_refresh(custodian, err) : SSO_OK;
    if (rc == SSO_OK)
        rc = custodian_ready(custodian, err);
    if (rc == SSO_OK)
        rc = custodian_went_back(custodian, err);
    if (rc == SSO_OK)
        rc = all_open(custodian, err);
    if (rc == SSO_OK && anew)
        rc = supervision_test_decrypt(custodian, err);
    return rc;
}
