/* What this node has seen of its database, as direct commands keep it. */
#include "cli/ceremony/installation.h"

enum sso_code installation_check_marks(const struct ceremony *ceremony, struct sso_error *err)
{
    const struct config *config = ceremony->config;
    HIGH_WATER_AUTO marks = {0};
    struct sso_error problem = {0};
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_high_water_marks(config->system.state_directory, config->cluster.node,
                                              &marks, &problem);
    if (rc == SSO_NOT_FOUND)
        return SSO_OK;
    if (rc != SSO_OK)
        return sso_fail(err, rc, "%s", problem.detail);
    const struct policy *policy = ceremony->policy.key.length_bytes > 0 ? &ceremony->policy : NULL;
    rc = store_begin(ceremony->store, STORE_READ, &tx, err);
    return rc == SSO_OK ? store_high_water_check(tx, &marks, config->cluster.node, policy, err)
                        : rc;
}

void console_keep_marks(const struct ceremony *ceremony, bool first)
{
    const char *folder = ceremony->config->system.state_directory;
    HIGH_WATER_AUTO now = {0};
    struct sso_error problem = {0};
    STORE_TX_AUTO tx = NULL;
    if (ceremony->policy.key.length_bytes == 0)
        return; /* a command that trusts no row keeps nothing of them */
    if (!first && installation_check_marks(ceremony, &problem) != SSO_OK)
        return; /* told where it matters: nothing is raised on a database that went back */
    enum sso_code rc = store_begin(ceremony->store, STORE_READ, &tx, &problem);
    if (rc == SSO_OK)
        rc = store_high_water_trusted(tx, &ceremony->policy, &now, &problem);
    store_rollback(&tx);
    if (rc == SSO_OK)
        rc = first ? high_water_replace(folder, &now, &problem)
                   : high_water_raise(folder, &now, &problem);
    if (rc != SSO_OK)
        console_warn("%s: that the database was put back may go unseen", problem.detail);
}
