/* The settings that every system has (INTERFACE §6, §5.3): which there are, what values they take,
 * and which changes want a second administrator. Those that the configuration file initialises take
 * what its keys take. */
#ifndef SSO_COMMON_SETTINGS_H
#define SSO_COMMON_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/config.h"
#include "common/error.h"
#include "common/policy.h"

#define SETTINGS_MAX 24
#define SETTING_DUAL_CONTROL "keys.dual_control"    /* yes, no */
#define SETTING_TICKETS_ALLOWED "tickets.allowed"   /* yes, no */
#define SETTING_TICKETS_VALIDATE "tickets.validate" /* yes: whatever the application says */
#define SETTING_TICKETS_LIFETIME "tickets.lifetime" /* 1m to 525600m */

/* All settings of a new system with their first values; how many. */
size_t settings_initial(const struct config *config,
                        struct config_setting out[static SETTINGS_MAX]);

/* Writes `text` to `out` as it is stored (durations in their largest unit). SSO_NOT_FOUND: there is
 * no such setting; SSO_BAD_REQUEST: it does not take this value, or is not changed by people. */
enum sso_code setting_check(const char *name, const char *text,
                            char out[static SETTING_VALUE_BYTES_MAX + 1], struct sso_error *err)
    __attribute__((warn_unused_result));

/* Does this change weaken what two administrators hold together where dual control is on? Values as
 * setting_check writes them. */
bool setting_needs_two(const char *name, const char *now, const char *wanted);

#endif
