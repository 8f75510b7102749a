#include "rewrap/engine.h"

#include <time.h>

#include "common/log.h"

#define FIRST_DELAY_MS 20
#define LONGEST_DELAY_MS 5000
#define SLICE_MS 20 /* how long a request to the job may stay unnoticed */

static const char *const service_name[SERVICES] = {
    [SERVICE_HSM] = "hsm", [SERVICE_DATABASE] = "database"};

bool failure_is_transient(enum sso_code code)
{
    switch (code) {
    case SSO_DATABASE_UNAVAILABLE:
    case SSO_AUDIT_UNAVAILABLE:
    case SSO_VERSION_CONFLICT:
    case SSO_HSM_UNAVAILABLE:
    case SSO_MASTER_UNAVAILABLE:
    case SSO_SERVICE_UNAVAILABLE:
    case SSO_PIN_REFUSED:
    case SSO_NO_MASTER_SECRET:
    case SSO_WRONG_MASTER_SECRET:
    case SSO_TOKEN_NOT_FOUND:
    case SSO_TOKEN_AMBIGUOUS:
    case SSO_CONFIG_ERROR:
    case SSO_TOO_MANY_REQUESTS:
    case SSO_NO_MEMORY:
        return true;
    default:
        return false;
    }
}

static void sleep_slice(unsigned milliseconds)
{
    struct timespec t = {milliseconds / 1000, (milliseconds % 1000) * 1000000L};
    nanosleep(&t, NULL);
}

static bool gives_up(const struct patience *patience)
{
    return patience->until_stop ? atomic_load(&patience->engine->job->request) == REWRAP_STOP
                                : engine_is_ending(patience->engine);
}

static enum service service_of(enum sso_code code)
{
    return code == SSO_DATABASE_UNAVAILABLE || code == SSO_AUDIT_UNAVAILABLE ||
                   code == SSO_VERSION_CONFLICT
               ? SERVICE_DATABASE
               : SERVICE_HSM;
}

bool patience_wait(struct patience *patience, const struct sso_error *error)
{
    struct engine *engine = patience->engine;
    enum service service = service_of(error->code);
    if (gives_up(patience))
        return false;
    patience->waited_for[service] = true;
    if (!atomic_exchange(&engine->service_down[service], true))
        log_line(LOG_LEVEL_WARNING, "rotation waits", "for", service_name[service], "code",
                 sso_code_facts(error->code)->name, "detail", error->detail, NULL);
    unsigned delay = patience->delay_ms != 0 ? patience->delay_ms : FIRST_DELAY_MS;
    patience->delay_ms = 2 * delay < LONGEST_DELAY_MS ? 2 * delay : LONGEST_DELAY_MS;
    for (unsigned slept = 0; slept < delay; slept += SLICE_MS) {
        sleep_slice(delay - slept < SLICE_MS ? delay - slept : SLICE_MS);
        if (gives_up(patience))
            return false;
    }
    return true;
}

void patience_over(struct patience *patience)
{
    patience->delay_ms = 0;
    for (int i = 0; i < SERVICES; i++) {
        if (!patience->waited_for[i])
            continue;
        patience->waited_for[i] = false;
        if (atomic_exchange(&patience->engine->service_down[i], false))
            log_line(LOG_LEVEL_INFO, "rotation goes on", "after", service_name[i], NULL);
    }
}

bool engine_sleep(struct engine *engine, unsigned milliseconds)
{
    for (unsigned slept = 0; slept < milliseconds; slept += SLICE_MS) {
        if (engine_is_ending(engine))
            return false;
        sleep_slice(milliseconds - slept < SLICE_MS ? milliseconds - slept : SLICE_MS);
    }
    return !engine_is_ending(engine);
}
