#include "cli/prepare.h"

#include "common/secret.h"

/* For values on their way between the terminal and a request. */
#define API_SECRET_HEAP_BYTES ((size_t)1 << 20)

enum sso_code prepare_config(struct cli *cli, struct sso_error *err)
{
    if (cli->config != NULL)
        return SSO_OK;
    return config_load(config_path(cli->config_option), &cli->config, err);
}

enum sso_code prepare_api(struct cli *cli, struct sso_error *err)
{
    enum sso_code rc = prepare_config(cli, err);
    if (rc != SSO_OK || cli->kind != COMMAND_API || cli->has_secret_memory)
        return rc;
    rc = secret_memory_init(API_SECRET_HEAP_BYTES, err);
    cli->has_secret_memory = rc == SSO_OK;
    return rc;
}

enum sso_code prepare_ceremony(struct cli *cli, unsigned needs, struct ceremony **out,
                               struct sso_error *err)
{
    enum sso_code rc = prepare_config(cli, err);
    return rc == SSO_OK ? ceremony_begin(cli->config, needs, out, err) : rc;
}
