/* The configuration file: any bytes give a configuration or one error with file and line. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config.h"
#include "common/config_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *config = NULL;
    struct sso_error err = {0};
    if (size == 0)
        return 0;
    FILE *stream = fmemopen((void *)(uintptr_t)data, size, "r");
    if (stream == NULL)
        return 0;
    enum sso_code rc = config_load_stream(stream, "fuzz.conf", &config, &err);
    fclose(stream);
    if (rc == SSO_OK) {
        struct config_setting settings[CONFIG_SETTINGS_MAX];
        if (config_initial_settings(config, settings) == 0 || config->cluster.node == NULL)
            abort();
    } else if (rc != SSO_CONFIG_ERROR || config != NULL ||
               strncmp(err.detail, "fuzz.conf:", strlen("fuzz.conf:")) != 0) {
        abort();
    }
    config_free(&config);
    return 0;
}
