/* Reads the INI text of a configuration. For common/config*.c, its tests and its fuzzer only. */
#ifndef SSO_COMMON_CONFIG_FILE_H
#define SSO_COMMON_CONFIG_FILE_H

#include <stdio.h>

#include "common/config.h"

/* Sets in `config`, which holds the defaults, what stands in `stream`. `file` is for texts. */
enum sso_code config_file_read(FILE *stream, const char *file, struct config *config,
                               struct sso_error *err)
    __attribute__((warn_unused_result, nonnull(1, 2, 3)));

/* All keys of a section to their defaults. base: struct config, for "hsm" a struct config_hsm. */
bool config_set_defaults(const char *section, void *base);

/* As config_load, from an open stream. */
enum sso_code config_load_stream(FILE *stream, const char *file, struct config **out,
                                 struct sso_error *err)
    __attribute__((warn_unused_result, nonnull(1, 2, 3)));

#endif
