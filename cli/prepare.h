/* What a command needs before its first call; asked for after its arguments were found right, so
 * that wrong use is told of first. Each may be called again. */
#ifndef SSO_CLI_PREPARE_H
#define SSO_CLI_PREPARE_H

#include "cli/ceremony/ceremony.h"
#include "cli/command.h"

/* Reads the configuration into cli->config. */
enum sso_code prepare_config(struct cli *cli, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Configuration, and for a COMMAND_API the memory for secrets. */
enum sso_code prepare_api(struct cli *cli, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Configuration, then ceremony_begin. */
enum sso_code prepare_ceremony(struct cli *cli, unsigned needs, struct ceremony **out,
                               struct sso_error *err) __attribute__((warn_unused_result));

#endif
